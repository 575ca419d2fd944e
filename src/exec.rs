//! Running a command: finding it, starting it, passing signals on, limits, how it ended. Knows nothing of locks.
//!
//! The order of things in a program that waits for something and then runs a command:
//! 1. [`resolve`] (or [`Program::shell`]): a command that does not exist is noticed before the wait.
//! 2. [`Signals::while_waiting`]: a signal that would end the program ends the wait.
//! 3. [`Signals::settle`]: from here on signals are for the command.
//! 4. [`run`], or [`exec_here`] to become the command.
//! 5. [`die_of`] the signal that killed the command, at the very end.
//!
//! Reading order: this file, `supervise.rs` (what happens while the command runs), `sys/spawn.rs` (how it starts).

mod guard_process;
mod processes;
mod resolve;
mod screen;
mod signal_queue;
mod signals;
mod supervise;
pub mod sys;
mod terminal;
mod tree;
mod variables;

pub use guard_process::{GuardProcess, Mark, Rules};
pub use processes::{are_seen as processes_are_seen, environment, marked as processes_marked};
pub use resolve::{NotRun, Program, resolve};
pub use screen::{Screen, give_back};
pub use signal_queue::SignalQueue;
pub use signals::{
    Signals, asks_to_end, catch_interrupts, die_of, ignore_broken_pipes, ignore_file_limit, interrupt, pause,
};
pub use supervise::run;
pub use variables::variable;

use std::ffi::{OsString, c_int};
use std::time::Duration;
use sys::spawn::{self, Image};

/// Environment variables to set, or to remove (`None`).
pub type Environment = [(&'static str, Option<OsString>)];

/// What to run, and how.
pub struct Plan<'a> {
    /// The command.
    pub program: &'a Program,
    /// Changes of its environment.
    pub environment: &'a Environment,
    /// When and how to end it. With a limit the command gets a process group of its own, unless this process is in the
    /// terminal's foreground group (where a command in another group could not use the terminal).
    pub limit: Option<Limit>,
    /// A process that ends the command in time if this one does not. With it the command gets a group of its own as
    /// with a limit.
    pub guard: Option<&'a GuardProcess>,
    /// Wait for all processes that the command leaves behind, too.
    pub whole_tree: bool,
}

/// A time limit, as in timeout(1).
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Counted from the command's start, on the monotonic clock; includes the time that the command is stopped.
    pub after: Duration,
    /// The signal that is sent then.
    pub signal: c_int,
    /// Time from then until SIGKILL, if it still runs.
    pub kill_after: Option<Duration>,
}

/// Is told what happens while the command runs.
pub trait Watcher {
    /// The command has been executed, as this process.
    fn started(&mut self, pid: u32);
    /// The command has ended: its number may come to mean another process.
    fn ended(&mut self);
    /// Called at intervals of about [`every`](Self::every).
    fn tick(&mut self);
    /// The time until the next [`tick`](Self::tick); it may change.
    fn every(&self) -> Duration;
    /// The command, process `pid`, was sent a signal since it reached its [`Limit`]; or, if it has `ended`, what it has
    /// left behind was ([`Plan::whole_tree`]).
    fn limit_enforced(&mut self, pid: u32, ended: bool, sent: Sent);
    /// True if, in the watcher's view, processes that do not descend from the command keep it alive. Asked with
    /// [`Plan::whole_tree`] when all descendants have ended, until the answer is no.
    fn kept_alive_elsewhere(&mut self) -> bool;
}

/// What was sent to a command that reached its [`Limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// [`Limit::signal`], when it had run for [`Limit::after`].
    Signal(c_int, Duration),
    /// SIGKILL, as it still ran so long after that.
    Kill(Duration),
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status, or the signal that killed it.
    pub how: How,
    /// It reached its limit.
    pub limit_reached: bool,
    /// A signal that [asks to end](asks_to_end) came when it had ended already, and reached nothing.
    pub asked_too_late: Option<c_int>,
}

/// The signals after which nothing is known of what the command has left half done.
const CRASHES: [c_int; 10] = [
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGKILL,
    libc::SIGSEGV,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGSYS,
];

/// See [`Ended::how`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// With this status.
    Exited(c_int),
    /// Killed by this signal.
    Killed(c_int),
}

impl Ended {
    /// True if it crashed, as far as can be seen: it was killed by a signal that nobody sends to ask for an orderly end, or
    /// has the status that a shell makes of that. Who sent the signal does not count: that could be a fault of its own, the
    /// kernel for lack of memory, a person, or this program at the end of a [`Limit`].
    pub fn crashed(&self) -> bool {
        let signal = match self.how {
            How::Killed(signal) => signal,
            How::Exited(status) => status - 128,
        };
        CRASHES.contains(&signal)
    }

    /// True if it ended by itself with status 0.
    pub fn well(&self) -> bool {
        self.how == How::Exited(0) && !self.limit_reached
    }
}

/// Turns this process into the command. Returns only if that failed.
pub fn exec_here(signals: &Signals, program: &Program, environment: &Environment) -> NotRun {
    let failure = match Image::new(&program.paths, &program.args, environment) {
        Ok(image) => spawn::exec_here(&image, signals.for_exec()),
        Err(e) => e,
    };
    program.not_run(spawn::Failure::NotExecuted(failure))
}
