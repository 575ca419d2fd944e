//! The guard process: ends the command in time when the right to run it cannot be renewed.
//!
//! It is a process of its own, in a session of its own, so that it works also when the process that runs the command
//! is stopped or killed. It is forked before the command is started and ends with it. What it has to know stands in
//! memory that both share: the command's PID is written there by the kernel itself, before the command's first
//! instruction, so there is no instant at which a command runs unguarded.
//!
//! | what it sees | what it does |
//! |---|---|
//! | no renewal for [`Rules::ask_after`] | TERM, and CONT |
//! | no renewal for [`Rules::kill_after`] | KILL, until nothing is left |
//! | told that the right is lost ([`Line::lost`]) | KILL at once |
//! | the connection that it keeps open is at its end | the same, also while its parent is stopped or gone |
//! | its parent is gone | the same; it ends when the command is gone |
//! | its parent is done | it ends |
//!
//! Times are counted on CLOCK_BOOTTIME: a machine that wakes from a sleep kills first.

use super::sys::guard::{self as sys, Number, Page, Timer};
use super::sys::process::Process;
use super::sys::signal;
use super::{processes, tree};
use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Between looks at what does not report its end (a process group without its leader), and between repeated kills.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// When the command is ended, counted from the last renewal.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// It is asked to end.
    pub ask_after: Duration,
    /// It is killed.
    pub kill_after: Duration,
}

/// A guard process that stands by.
pub struct Guard {
    line: Line,
    ears: OwnedFd,
    rules: Rules,
    keep: Option<OwnedFd>,
    /// Replaced if somebody kills it.
    process: RefCell<Process>,
}

/// How the guard is told what happens; may be used from any thread, and never blocks.
#[derive(Clone)]
pub struct Line {
    page: Arc<Page>,
    mouth: Arc<OwnedFd>,
}

impl Line {
    /// The right was renewed; the request for it was sent at `begun` (CLOCK_BOOTTIME, ns).
    pub fn renewed(&self, begun: u64) {
        // The deadlines only move away: the guard finds that when it looks.
        self.page.begun.store(begun);
    }

    /// The right is lost: the command is killed at once.
    pub fn lost(&self) {
        self.page.begun.store(0);
        sys::poke(&self.mouth);
    }
}

impl Guard {
    /// Starts it. `begun`: as in [`Line::renewed`]. `keep` is a descriptor that it keeps open until the command is
    /// gone, even if this process dies before.
    ///
    /// # Errors
    /// There can be no process, descriptor or memory.
    pub fn start(rules: Rules, begun: u64, keep: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let page = Arc::new(Page::new()?);
        page.begun.store(begun);
        let (ears, mouth) = sys::pipe()?;
        let keep = keep.map(|fd| fd.try_clone_to_owned()).transpose()?;
        let (_, process) = fork(rules, &page, &ears, &mouth, keep.as_ref())?;
        let line = Line {
            page,
            mouth: Arc::new(mouth),
        };
        Ok(Self {
            line,
            ears,
            rules,
            keep,
            process: RefCell::new(process),
        })
    }

    /// To be given to whoever renews.
    pub fn line(&self) -> Line {
        self.line.clone()
    }

    /// Whether it has asked the command to end, or killed it.
    pub fn has_acted(&self) -> bool {
        self.line.page.acted.load() != 0
    }

    /// Starts another one if it has died (somebody killed it); returns its PID.
    pub(super) fn ensure_alive(&self) -> Option<u32> {
        if !self.process.borrow().has_ended() {
            return None;
        }
        log::warn!("the guard process was killed: starting another one");
        let again = fork(
            self.rules,
            &self.line.page,
            &self.ears,
            &self.line.mouth,
            self.keep.as_ref(),
        );
        match again {
            Ok((pid, process)) => {
                self.process.replace(process);
                Some(pid)
            }
            Err(error) => {
                log::warn!("it could not be started: {error}");
                None
            }
        }
    }

    /// Where the kernel writes the command's PID.
    pub(super) fn cell(&self) -> &Number {
        &self.line.page.command
    }

    /// Whether the command leads a group of its own; to be told before it is started.
    pub(super) fn own_group(&self, own_group: bool) {
        self.line.page.own_group.store(i32::from(own_group));
    }

    /// The command has ended and was reaped: its number means nothing any more.
    pub(super) fn command_ended(&self) {
        self.line.page.command.store(0);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.line.page.done.store(1);
        sys::poke(&self.line.mouth);
    }
}

fn fork(
    rules: Rules,
    page: &Arc<Page>,
    ears: &OwnedFd,
    mouth: &OwnedFd,
    keep: Option<&OwnedFd>,
) -> io::Result<(u32, Process)> {
    let timer = Timer::new()?;
    let keep = keep.map(AsFd::as_fd);
    let pid = sys::fork(|| {
        let all = [Some(ears.as_fd()), Some(timer.as_fd()), keep];
        sys::settle(all.into_iter().flatten(), mouth.as_fd());
        let mut duty = Duty {
            rules,
            page,
            ears: ears.as_fd(),
            timer: &timer,
            keep,
            cut: false,
            command: None,
            asked: false,
        };
        duty.stand();
    })?;
    Ok((pid, Process::open(pid)?))
}

/// The guard's own life.
struct Duty<'a> {
    rules: Rules,
    page: &'a Page,
    ears: BorrowedFd<'a>,
    timer: &'a Timer,
    keep: Option<BorrowedFd<'a>>,
    /// That connection is at its end.
    cut: bool,
    command: Option<Command>,
    asked: bool,
}

/// The command, known for good.
struct Command {
    pid: u32,
    process: Option<Process>,
}

impl Duty<'_> {
    fn stand(&mut self) {
        let mut orphaned = false;
        loop {
            self.look_for_command();
            self.look_at_connection();
            // After the look: the parent says that it is done before it ends the connection.
            if self.page.done.load() != 0 || (orphaned && self.is_gone()) {
                return;
            }
            let next = self.enforce();
            let process = self.command.as_ref().and_then(|command| command.process.as_ref());
            let watched = process.filter(|process| orphaned && !process.has_ended());
            let slice = match (next, orphaned) {
                // Something is left that does not report its end.
                (None, _) => Some(LOOK_EVERY),
                (_, true) if watched.is_none() => Some(LOOK_EVERY),
                _ => None,
            };
            if let Some(next) = next {
                self.timer.set(next);
            }
            let ears = (!orphaned).then_some(self.ears);
            let keep = self.keep.filter(|_| !self.cut);
            orphaned |= sys::wait(ears, self.timer, watched.map(AsFd::as_fd), keep, slice);
        }
    }

    /// With the connection's end the right is lost, whether the parent has seen it or not.
    fn look_at_connection(&mut self) {
        if !self.cut && self.keep.is_some_and(sys::is_cut) && self.page.done.load() == 0 {
            self.cut = true;
            self.page.begun.store(0);
        }
    }

    fn look_for_command(&mut self) {
        match u32::try_from(self.page.command.load()).ok().filter(|pid| *pid != 0) {
            None => self.command = None,
            Some(pid) if self.command.as_ref().is_none_or(|command| command.pid != pid) => {
                let process = Process::open(pid).ok();
                self.command = Some(Command { pid, process });
            }
            Some(_) => {}
        }
    }

    /// What its time demands; returns when to look again (CLOCK_BOOTTIME, ns), `None` = soon.
    fn enforce(&mut self) -> Option<u64> {
        let begun = self.page.begun.load();
        let at = |after: Duration| begun.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        let now = sys::boottime();
        if begun == 0 || self.cut || now >= at(self.rules.kill_after) {
            self.page.acted.store(2);
            self.signal(libc::SIGKILL);
            if self.is_gone()
                && let Some(keep) = self.keep
            {
                // The stopped parent has it open, too: it must not keep others waiting any longer.
                sys::shut_down(keep);
            }
            return None;
        }
        if now < at(self.rules.ask_after) {
            self.asked = false;
            return Some(at(self.rules.ask_after));
        }
        if !self.asked {
            self.asked = true;
            self.page.acted.store(1);
            self.signal(libc::SIGTERM);
            self.signal(libc::SIGCONT);
        }
        Some(at(self.rules.kill_after))
    }

    fn signal(&self, signal: c_int) {
        let Some(command) = &self.command else { return };
        if self.page.own_group.load() != 0 {
            let _ = signal::kill_group(command.pid, signal);
        }
        if let Some(process) = command.process.as_ref().filter(|process| !process.has_ended()) {
            // Also what has left the group but still descends from the command.
            tree::signal(|| HashSet::from([command.pid]), signal);
            let _ = process.signal(signal);
        }
    }

    /// Nothing of the command is left, as far as it can be seen.
    fn is_gone(&self) -> bool {
        let Some(command) = &self.command else { return true };
        let process_gone = command.process.as_ref().is_none_or(Process::has_ended);
        let group = self.page.own_group.load() != 0;
        process_gone && !(group && processes::group_lives(command.pid))
    }
}
