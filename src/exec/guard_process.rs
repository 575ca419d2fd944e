//! The guard process: ends the command in time when the right to run it cannot be renewed.
//!
//! It is a process of its own, in a session of its own, so that it works even while the process that runs the command
//! is stopped or gone. It is forked before the command starts and ends with it. What it has to know is in memory that
//! both share: the kernel itself writes the command's PID there, before the command's first instruction, so that a
//! command never runs unguarded.
//!
//! | what it sees | what it does |
//! |---|---|
//! | no renewal for [`Rules::ask_after`] | sends TERM and CONT |
//! | no renewal for [`Rules::kill_after`] | sends KILL, until nothing is left |
//! | the right is lost ([`Line::lost`]) | sends KILL at once; a command that has not started yet never does |
//! | a connection that it keeps open has ended | the same, even while its parent is stopped or gone |
//! | its parent is gone | goes on as before, and ends when the command is gone |
//!
//! Its parent starts another guard when this one is killed, continues it when it is stopped, and kills it in the end.
//! If somebody kills or stops both, the parent first, nothing is left to end the command.
//!
//! Times are counted on CLOCK_BOOTTIME: a machine that wakes from a sleep kills first.
//!
//! It never signals a process that it does not mean. It knows the command by a descriptor or, while there can be none,
//! by its PID until it is reaped; and a process group by the command's PID as long as this does not mean another
//! process (which it cannot while the group has a member). It counts as gone only what the kernel says does not exist:
//! what cannot be seen may be running.
//!
//! It asks each process to end only once (again only after a renewal), because a program may take a second TERM as an
//! order to stop cleaning up. It stops all processes before it kills the first one: a shell whose command ends first
//! would start the next one. It stops the command and its group before it looks for the rest, which takes a while.

mod duty;
mod wakeup;

use super::processes;
use super::sys::daemon;
use super::sys::shared_page::{Number, Page, UNSEEN};
use super::sys::signal;
use super::sys::spawn::{self, Block, Change, Report, Whose};
use duty::Duty;
use resourcelock::system::boottime;
use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use wakeup::Timer;

/// What the guard has done: it has asked the command to end.
const ASKED: c_int = 1;
/// It has killed the command, or would: no command may be started any more.
pub(super) const KILLED: c_int = 2;

/// What the guard ends, and when, counted from the last renewal.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The guard's own name in `ps`, so that nobody who kills the program or the command by name hits the guard.
    pub name: &'static CStr,
    /// The command is asked to end.
    pub ask_after: Duration,
    /// It is killed.
    pub kill_after: Duration,
    /// What belongs to the command besides its descendants and its group: the guard waits until that is gone, too.
    pub mark: Option<Mark>,
}

impl Rules {
    /// How long the command has between being asked to end and being killed.
    fn grace(&self) -> Duration {
        self.kill_after.saturating_sub(self.ask_after)
    }
}

/// Another sign that a process belongs to the command: in its environment the list `variable` (joined by `/`) contains
/// `word`, which no other command has. It finds what the command has left behind even when nobody is left whose child
/// that is.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Name of the environment variable.
    pub variable: &'static str,
    /// Its new word.
    pub word: String,
}

impl Mark {
    /// A word that nobody else on this machine has used since it was started.
    pub fn new(variable: &'static str) -> Self {
        let word = format!("{}-{}", std::process::id(), boottime());
        Self { variable, word }
    }
}

/// A guard process that stands by.
pub struct GuardProcess {
    line: Line,
    reader: OwnedFd,
    rules: Rules,
    keep: Vec<OwnedFd>,
    /// Its PID, which means no other process: only this one reaps it. It changes when the guard is killed and replaced.
    /// `None`: it was killed, and another one could not be started.
    process: Cell<Option<u32>>,
}

/// Tells the guard what happens; may be used from any thread, and never blocks.
#[derive(Clone)]
pub struct Line {
    page: Arc<Page>,
    writer: Arc<OwnedFd>,
}

impl Line {
    /// The right was renewed; the request for it was sent at `begun` (CLOCK_BOOTTIME, ns).
    pub fn renewed(&self, begun: u64) {
        // The deadlines only move away: the guard finds that out when it wakes up.
        self.page.begun.store(begun);
    }

    /// The right is lost: the command is killed at once.
    pub fn lost(&self) {
        self.page.begun.store(0);
        wakeup::notify(&self.writer);
    }
}

impl GuardProcess {
    /// Starts it. `begun`: as in [`Line::renewed`]. `keep` are descriptors that it keeps open until the command
    /// is gone, even if this process dies before.
    ///
    /// # Errors
    /// No process, descriptor or memory is left.
    pub fn start(rules: Rules, begun: u64, keep: &[BorrowedFd<'_>]) -> io::Result<Self> {
        let page = Arc::new(Page::new()?);
        page.begun.store(begun);
        let (reader, writer) = wakeup::pipe()?;
        let guard = Self {
            line: Line {
                page,
                writer: Arc::new(writer),
            },
            reader,
            rules,
            keep: keep
                .iter()
                .map(BorrowedFd::try_clone_to_owned)
                .collect::<io::Result<_>>()?,
            process: Cell::new(None),
        };
        guard.process.set(Some(guard.fork()?));
        Ok(guard)
    }

    fn fork(&self) -> io::Result<u32> {
        let timer = Timer::new()?;
        let keep: Vec<BorrowedFd<'_>> = self.keep.iter().map(AsFd::as_fd).collect();
        daemon::fork(|| {
            let open = [self.reader.as_fd(), timer.as_fd()]
                .into_iter()
                .chain(keep.iter().copied());
            daemon::detach(self.rules.name, open, self.line.writer.as_fd());
            Duty::new(&self.rules, &self.line.page, self.reader.as_fd(), &timer, &keep).perform();
        })
    }

    /// For whoever renews the right.
    pub fn line(&self) -> Line {
        self.line.clone()
    }

    /// True if it has asked the command to end, or killed it.
    pub fn has_acted(&self) -> bool {
        self.line.page.acted.load() != 0
    }

    /// True if it has killed the command.
    pub fn has_killed(&self) -> bool {
        self.line.page.acted.load() == KILLED
    }

    /// It is not needed any more: it ends, and closes what it keeps open.
    pub fn dismiss(&self) {
        self.line.page.done.store(1);
        if let Some(pid) = self.process.get() {
            let _ = signal::kill(pid, libc::SIGKILL);
        }
    }

    /// Checks that nobody has killed or stopped it. Returns the PID of the new one that was started, if any.
    pub(super) fn check(&self) -> Option<u32> {
        let pid = self.process.get()?;
        match spawn::wait(Whose::Child(pid), Block::No) {
            Report::Of(pid, change) => self.child_changed(pid, change),
            Report::Nothing => None,
            Report::NoChildren => self.replace(),
        }
    }

    /// A change of a child that may be the guard was reported. Returns the same as [`check`](Self::check).
    pub(super) fn child_changed(&self, pid: u32, change: Change) -> Option<u32> {
        self.process.get().filter(|own| *own == pid)?;
        match change {
            Change::Exited(_) | Change::Killed(_) => self.replace(),
            Change::Stopped(_) => {
                let _ = signal::kill(pid, libc::SIGCONT);
                None
            }
            Change::Continued => None,
        }
    }

    fn replace(&self) -> Option<u32> {
        log::warn!("the guard process was killed: starting another one");
        let again = self
            .fork()
            .inspect_err(|error| log::warn!("it could not be started: {error}"));
        self.process.set(again.ok());
        self.process.get()
    }

    /// Its PID; `None`: there is none.
    pub(super) fn pid(&self) -> Option<u32> {
        self.process.get()
    }

    /// Where the kernel writes the command's PID.
    pub(super) fn pid_cell(&self) -> &Number {
        &self.line.page.command
    }

    /// Nobody may start a command while this is [`KILLED`].
    pub(super) fn bar(&self) -> &Number {
        &self.line.page.acted
    }

    /// Tells it whether the command leads a group of its own. To be called before the command is started.
    pub(super) fn set_own_group(&self, own_group: bool) {
        self.line.page.own_group.store(i32::from(own_group));
    }

    /// The command was started as process `pid`, and has not been reaped yet: from now on the guard knows it by a
    /// descriptor.
    pub(super) fn command_started(&self, pid: u32) {
        let page = &self.line.page;
        page.start_time.store(processes::start_time(pid).unwrap_or(UNSEEN));
        wakeup::notify(&self.line.writer);
    }

    /// The command was reaped; its number may still be that of its group.
    pub(super) fn command_reaped(&self) {
        self.line.page.reaped.store(1);
    }

    /// The command and its group are gone: its number means nothing any more.
    pub(super) fn command_ended(&self) {
        self.line.page.command.store(0);
    }

    /// How long the command has between being asked to end and being killed.
    pub(super) fn grace(&self) -> Duration {
        self.rules.grace()
    }
}

impl Drop for GuardProcess {
    fn drop(&mut self) {
        self.dismiss();
        if let Some(pid) = self.process.take() {
            // Reaped here: this process's parent may reap nothing (process 1 of a container).
            let _ = spawn::wait(Whose::Child(pid), Block::Yes);
        }
    }
}
