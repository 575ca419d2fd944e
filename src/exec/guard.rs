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
//! | told that the right is lost ([`Line::lost`]) | KILL at once; a command that is not started yet never is |
//! | the connection that it keeps open is at its end | the same, also while its parent is stopped or gone |
//! | its parent is gone | the same; it ends when the command is gone |
//!
//! Its parent starts another one when it is killed, continues it when it is stopped, and kills it in the end. Nothing
//! is left to end the command if somebody kills or stops both, the parent first.
//!
//! Times are counted on CLOCK_BOOTTIME: a machine that wakes from a sleep kills first.
//!
//! Whom it signals is certain: it knows the command by a descriptor, or, while there can be none, by its PID until it is
//! reaped; and a process group by the command's PID as long as this has not come to mean another process (which it
//! cannot while the group has a member). Only what the kernel denies to exist is gone: what cannot be seen may run.
//!
//! Asked to end is everyone once (once more only if the right was renewed meanwhile and runs out again), since a program
//! may take the second TERM for an order to stop cleaning up. Nobody is killed before everybody is stopped: a shell
//! whose command ends first would start the next one.

use super::processes::{self, Group};
use super::sys::guard::{self as sys, Number, Page, Timer};
use super::sys::process::Process;
use super::sys::signal;
use super::sys::spawn::{self, Block, Change, Report, Whose};
use super::tree;
use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Between looks at what does not report its end (a process group without its leader), and between repeated kills.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the guard has done: it has asked the command to end.
const ASKED: c_int = 1;
/// It has killed it, or would: no command may be started any more.
pub(super) const KILLED: c_int = 2;

/// When the command is ended, counted from the last renewal.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// It is asked to end.
    pub ask_after: Duration,
    /// It is killed.
    pub kill_after: Duration,
}

impl Rules {
    /// How long what was asked to end has until it is killed.
    fn grace(&self) -> Duration {
        self.kill_after.saturating_sub(self.ask_after)
    }
}

/// By what else than descent and group the guard knows what belongs to the command: the list `variable` (joined by `/`)
/// in the environment names `word`, which is this command's alone. So it finds what the command has left behind also
/// when nobody is left whose child that is.
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
        let word = format!("{}-{}", std::process::id(), sys::boottime());
        Self { variable, word }
    }
}

/// A guard process that stands by.
pub struct Guard {
    line: Line,
    ears: OwnedFd,
    rules: Rules,
    mark: Option<Mark>,
    keep: Option<OwnedFd>,
    /// Its PID, which means no other process: only this one reaps it. Replaced if somebody kills it. `None`: it was
    /// killed, and there could be no other one.
    process: Cell<Option<u32>>,
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
    /// gone, even if this process dies before. With a `mark` everything that bears it has to be gone.
    ///
    /// # Errors
    /// There can be no process, descriptor or memory.
    pub fn start(rules: Rules, begun: u64, keep: Option<BorrowedFd<'_>>, mark: Option<Mark>) -> io::Result<Self> {
        let page = Arc::new(Page::new()?);
        page.begun.store(begun);
        let (ears, mouth) = sys::pipe()?;
        let keep = keep.map(|fd| fd.try_clone_to_owned()).transpose()?;
        let pid = fork(rules, &page, &ears, &mouth, keep.as_ref(), mark.as_ref())?;
        let line = Line {
            page,
            mouth: Arc::new(mouth),
        };
        Ok(Self {
            line,
            ears,
            rules,
            mark,
            keep,
            process: Cell::new(Some(pid)),
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

    /// Looks whether somebody has killed or stopped it. Returns the PID of another one that was started.
    pub(super) fn look_after(&self) -> Option<u32> {
        let pid = self.process.get()?;
        match spawn::wait(Whose::Child(pid), Block::No) {
            Report::Of(pid, change) => self.changed(pid, change),
            Report::Nothing => None,
            Report::NoChildren => self.replace(),
        }
    }

    /// What was reported of a child that may be the guard. Returns as [`look_after`](Self::look_after).
    pub(super) fn changed(&self, pid: u32, change: Change) -> Option<u32> {
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
        let again = fork(
            self.rules,
            &self.line.page,
            &self.ears,
            &self.line.mouth,
            self.keep.as_ref(),
            self.mark.as_ref(),
        );
        let again = again.inspect_err(|error| log::warn!("it could not be started: {error}"));
        self.process.set(again.ok());
        self.process.get()
    }

    /// It is not needed any more: it ends, and lets go of what it keeps open.
    pub fn dismiss(&self) {
        self.line.page.done.store(1);
        if let Some(pid) = self.process.get() {
            let _ = signal::kill(pid, libc::SIGKILL);
        }
    }

    /// Where the kernel writes the command's PID.
    pub(super) fn cell(&self) -> &Number {
        &self.line.page.command
    }

    /// Nobody may start a command while this is [`KILLED`].
    pub(super) fn bar(&self) -> &Number {
        &self.line.page.acted
    }

    /// It was started, as this process, and was not reaped yet: from now on the guard knows it by a descriptor.
    pub(super) fn command_started(&self, pid: u32) {
        let page = &self.line.page;
        page.born.store(processes::start_time(pid).unwrap_or(sys::UNSEEN));
        sys::poke(&self.line.mouth);
    }

    /// It was reaped; the number of its group may be in use.
    pub(super) fn command_reaped(&self) {
        self.line.page.reaped.store(1);
    }

    /// The guard's own PID; `None`: there is none.
    pub(super) fn pid(&self) -> Option<u32> {
        self.process.get()
    }

    /// Whether the command leads a group of its own; to be told before it is started.
    pub(super) fn own_group(&self, own_group: bool) {
        self.line.page.own_group.store(i32::from(own_group));
    }

    /// Whether it has killed the command.
    pub fn has_killed(&self) -> bool {
        self.line.page.acted.load() == KILLED
    }

    /// How long what was asked to end has until it is killed.
    pub(super) fn grace(&self) -> Duration {
        self.rules.grace()
    }

    /// The command has ended and was reaped: its number means nothing any more.
    pub(super) fn command_ended(&self) {
        self.line.page.command.store(0);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.dismiss();
        if let Some(pid) = self.process.take() {
            // Not left to a parent of ours that may reap nothing (process 1 of a container).
            let _ = spawn::wait(Whose::Child(pid), Block::Yes);
        }
    }
}

fn fork(
    rules: Rules,
    page: &Arc<Page>,
    ears: &OwnedFd,
    mouth: &OwnedFd,
    keep: Option<&OwnedFd>,
    mark: Option<&Mark>,
) -> io::Result<u32> {
    let timer = Timer::new()?;
    let keep = keep.map(AsFd::as_fd);
    sys::fork(|| {
        let all = [Some(ears.as_fd()), Some(timer.as_fd()), keep];
        sys::settle(all.into_iter().flatten(), mouth.as_fd());
        let mut duty = Duty {
            rules,
            page,
            ears: ears.as_fd(),
            timer: &timer,
            keep,
            cut: false,
            mark,
            command: None,
            // By the guard before this one.
            asked: page.acted.load() == ASKED,
            killed: None,
        };
        duty.stand();
    })
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
    mark: Option<&'a Mark>,
    command: Option<Command>,
    /// Since the last renewal.
    asked: bool,
    /// When the command was sent the first KILL (CLOCK_BOOTTIME, ns).
    killed: Option<u64>,
}

/// The command. Its PID stays the number of its group when it has ended.
struct Command {
    pid: u32,
    process: Known,
}

/// How its process is known.
enum Known {
    /// For good.
    Opened(Process),
    /// By its number, so far: there can be no descriptor (too many are open, memory is short, the system refuses it).
    Numbered,
    /// It has ended and was reaped.
    Gone,
}

impl Command {
    /// Opens it, if that could not be done yet.
    fn look(&mut self, page: &Page) {
        if !matches!(self.process, Known::Numbered) {
            return;
        }
        let opened = Process::open(self.pid);
        // Only what is found after that is true of the process that was opened.
        self.process = match opened {
            Err(_) if signal::is_nobodys(self.pid) => Known::Gone,
            _ if !self.is_meant(page) => Known::Gone,
            Ok(process) => Known::Opened(process),
            Err(_) => Known::Numbered,
        };
    }

    /// Whether its number still means this process, if any.
    fn is_meant(&self, page: &Page) -> bool {
        let same = match (page.born.load(), processes::start_time(self.pid)) {
            // 0: its parent has not come to look at it, let alone to reap it.
            (0 | sys::UNSEEN, _) | (_, None) => true,
            (born, Some(now)) => now == born,
        };
        // Its parent may have reaped it and not come to say so; and what starts in the same clock tick has its start
        // time.
        same && page.reaped.load() == 0
    }

    /// It runs, as far as one knows.
    fn runs(&self, page: &Page) -> bool {
        match &self.process {
            Known::Opened(process) => !process.has_ended(),
            Known::Numbered => self.is_meant(page) && !processes::stat(self.pid).is_some_and(|stat| stat.zombie),
            Known::Gone => false,
        }
    }

    fn signal(&self, page: &Page, signal: c_int) {
        // If it fails it has ended, or may not be signalled by this user.
        let _ = match &self.process {
            Known::Opened(process) => process.signal(signal),
            Known::Numbered if self.is_meant(page) => signal::kill(self.pid, signal),
            Known::Numbered | Known::Gone => Ok(()),
        };
    }

    /// The group that it leads, as long as the number means no other one.
    fn group(&self, page: &Page) -> Option<u32> {
        let own = page.own_group.load() != 0;
        (own && (processes::start_time(self.pid).is_none() || self.is_meant(page))).then_some(self.pid)
    }
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
            let process = self.command.as_ref().and_then(|command| match &command.process {
                Known::Opened(process) => Some(process),
                Known::Numbered | Known::Gone => None,
            });
            let watched = process.filter(|process| orphaned && !process.has_ended());
            self.timer.unset();
            let slice = match next {
                Next::Nothing if orphaned => return,
                // Its parent, which may be stopped, has nothing left to end: it would say if that changed.
                Next::Nothing => None,
                // Something is left that does not report its end.
                Next::Soon => Some(LOOK_EVERY),
                Next::At(_) if orphaned && watched.is_none() => Some(LOOK_EVERY),
                Next::At(time) => {
                    self.timer.set(time);
                    None
                }
            };
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
            Some(pid) => {
                let new = || Command {
                    pid,
                    process: Known::Numbered,
                };
                self.command.get_or_insert_with(new).look(self.page);
            }
        }
    }

    /// What its time demands.
    fn enforce(&mut self) -> Next {
        let begun = self.page.begun.load();
        let at = |after: Duration| begun.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        let now = sys::boottime();
        if begun == 0 || self.cut || now >= at(self.rules.kill_after) {
            self.page.acted.store(KILLED);
            if self.command.is_some() {
                self.killed.get_or_insert(now);
            }
            self.kill();
            if !self.is_gone() {
                return Next::Soon;
            }
            if let Some(keep) = self.keep {
                // The stopped parent has it open, too: it must not keep others waiting any longer.
                sys::shut_down(keep);
            }
            return if self.command.is_some() {
                Next::Nothing
            } else {
                // A command that is just being started has not looked at the bar.
                Next::Soon
            };
        }
        if now < at(self.rules.ask_after) {
            self.asked = false;
            return Next::At(at(self.rules.ask_after));
        }
        if !self.asked && self.command.is_some() {
            self.asked = true;
            self.page.acted.store(ASKED);
            self.ask(libc::SIGTERM);
            self.ask(libc::SIGCONT);
        }
        Next::At(at(self.rules.kill_after))
    }

    /// Sends `signal` to the command and all that belongs to it, once to each.
    fn ask(&self, signal: c_int) {
        let Some(command) = &self.command else { return };
        let group = command.group(self.page);
        // It may have left the group, or not come to make it.
        let apart = group.is_none_or(|group| signal::group_of(command.pid) != Some(group));
        if apart {
            command.signal(self.page, signal);
        }
        tree::ask(&self.roots(command), group, command.pid, signal);
    }

    /// Where what belongs to the command begins, as far as it can be seen.
    fn roots(&self, command: &Command) -> HashSet<u32> {
        let mut roots = self.marked();
        if command.runs(self.page) {
            roots.insert(command.pid);
        }
        roots
    }

    fn marked(&self) -> HashSet<u32> {
        let marked = self.mark.map(|mark| processes::marked(mark.variable, &mark.word));
        marked.unwrap_or_default()
    }

    /// Kills the command and all that belongs to it.
    fn kill(&self) {
        let Some(command) = &self.command else { return };
        // First what has left the group but still descends from the command: that is seen while the command lives.
        tree::signal(|| self.roots(command), libc::SIGKILL);
        command.signal(self.page, libc::SIGKILL);
        if let Some(group) = command.group(self.page) {
            let _ = signal::kill_group(group, libc::SIGKILL);
        }
    }

    /// Nothing of the command is left, as far as it can be seen.
    fn is_gone(&self) -> bool {
        let Some(command) = &self.command else { return true };
        if command.runs(self.page) || !self.marked().is_empty() {
            return false;
        }
        match command.group(self.page).map_or(Group::Gone, processes::group) {
            Group::Gone => true,
            Group::Lives => false,
            // What is left when so much time has passed after the first KILL, and many more, waits to be reaped.
            Group::Unseen => self
                .killed
                .is_some_and(|at| Duration::from_nanos(sys::boottime().saturating_sub(at)) >= self.rules.grace()),
        }
    }
}

/// When the guard looks again.
enum Next {
    /// At this time (CLOCK_BOOTTIME, ns).
    At(u64),
    /// After [`LOOK_EVERY`].
    Soon,
    /// When its parent says so, or is gone.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its parent stores the start time before it reaps the command, and that it did so only afterwards.
    #[test]
    fn a_later_process_with_the_number_is_not_meant() {
        let page = Page::new().unwrap();
        let command = Command {
            pid: std::process::id(),
            process: Known::Numbered,
        };
        page.own_group.store(1);
        let start = processes::start_time(command.pid).unwrap();
        for (born, reaped, meant) in [(0, 0, true), (start, 0, true), (start - 1, 0, false), (start, 1, false)] {
            page.born.store(born);
            page.reaped.store(reaped);
            assert_eq!(command.is_meant(&page), meant, "{born} {reaped}");
            assert_eq!(command.group(&page).is_some(), meant, "{born} {reaped}");
            assert_eq!(command.runs(&page), meant, "{born} {reaped}");
        }
    }
}
