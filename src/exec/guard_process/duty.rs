//! The guard's own life, in its own process.

use super::wakeup::{self, Timer};
use super::{ASKED, KILLED, Rules};
use crate::exec::processes::{self, Group};
use crate::exec::sys::daemon;
use crate::exec::sys::shared_page::{Page, UNSEEN};
use crate::exec::sys::signal;
use crate::exec::tree;
use resourcelock::system::{Process, boottime};
use std::collections::HashSet;
use std::ffi::c_int;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Between checks of what does not report its end (a process group without its leader), and between repeated kills.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// What the guard has, and what it knows.
pub struct Duty<'a> {
    rules: &'a Rules,
    page: &'a Page,
    reader: BorrowedFd<'a>,
    timer: &'a Timer,
    keep: &'a [BorrowedFd<'a>],
    /// One of those connections has ended.
    cut: bool,
    command: Option<Command>,
    /// The command was asked to end since the last renewal.
    asked: bool,
    /// When the command was sent the first KILL (CLOCK_BOOTTIME, ns).
    killed: Option<u64>,
}

/// The command. Its PID stays the number of its group when it has ended.
struct Command {
    pid: u32,
    process: Known,
}

/// How its process is identified.
enum Known {
    /// For good.
    Opened(Process),
    /// By its number, so far: there was no descriptor (too many are open, memory is short, the system refuses it).
    Numbered,
    /// It has ended and was reaped.
    Gone,
}

impl Command {
    /// Opens its process, if that has not been done yet.
    fn identify(&mut self, page: &Page) {
        if !matches!(self.process, Known::Numbered) {
            return;
        }
        let opened = Process::open(self.pid);
        // Only what is found out after that is true of the process that was opened.
        self.process = match opened {
            Err(_) if signal::is_nobodys(self.pid) => Known::Gone,
            _ if !self.is_meant(page) => Known::Gone,
            Ok(process) => Known::Opened(process),
            Err(_) => Known::Numbered,
        };
    }

    /// True if its number still means this process, or none.
    fn is_meant(&self, page: &Page) -> bool {
        let same = match (page.start_time.load(), processes::start_time(self.pid)) {
            // 0: its parent has not read the start time yet, let alone reaped it.
            (0 | UNSEEN, _) | (_, None) => true,
            (recorded, Some(now)) => now == recorded,
        };
        // The start time alone is not enough: a process that starts in the same clock tick has the same one. Nor is
        // `reaped`: the parent may have been stopped between reaping the command and saying so.
        same && page.reaped.load() == 0
    }

    /// True if it runs, as far as can be seen.
    fn runs(&self, page: &Page) -> bool {
        match &self.process {
            Known::Opened(process) => !process.has_ended(),
            Known::Numbered => self.is_meant(page) && !processes::stat(self.pid).is_some_and(|stat| stat.ended),
            Known::Gone => false,
        }
    }

    fn signal(&self, page: &Page, signal: c_int) {
        // If it fails, the command has ended, or this user may not signal it.
        let _ = match &self.process {
            Known::Opened(process) => match process.signal(signal) {
                // Not by a descriptor, as the system has it: by its number.
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) && self.is_meant(page) => {
                    signal::kill(self.pid, signal)
                }
                result => result,
            },
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

impl<'a> Duty<'a> {
    /// `timer` and `reader` wake it up; `keep` are connections; the end of one of them means that the right is
    /// lost.
    pub fn new(
        rules: &'a Rules,
        page: &'a Page,
        reader: BorrowedFd<'a>,
        timer: &'a Timer,
        keep: &'a [BorrowedFd<'a>],
    ) -> Self {
        Self {
            rules,
            page,
            reader,
            timer,
            keep,
            cut: false,
            command: None,
            // By the guard before this one.
            asked: page.acted.load() == ASKED,
            killed: None,
        }
    }

    /// Returns when there is nothing left to end.
    pub fn perform(&mut self) {
        let mut orphaned = false;
        loop {
            self.find_command();
            self.check_connection();
            // After the check: the parent says that it is done before it ends the connection.
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
                // Nothing is left to end. Its parent, which may be stopped, would say if that changed.
                Next::Nothing => None,
                // What is left does not report its end.
                Next::Soon => Some(POLL_EVERY),
                Next::At(_) if orphaned && watched.is_none() => Some(POLL_EVERY),
                Next::At(time) => {
                    self.timer.set(time);
                    None
                }
            };
            let reader = (!orphaned).then_some(self.reader);
            let keep = if self.cut { &[] } else { self.keep };
            orphaned |= wakeup::wait(reader, self.timer, watched.map(AsFd::as_fd), keep, slice);
        }
    }

    /// With a connection's end the right is lost, whether the parent has seen it or not.
    fn check_connection(&mut self) {
        if !self.cut && self.keep.iter().copied().any(wakeup::is_cut) && self.page.done.load() == 0 {
            self.cut = true;
            self.page.begun.store(0);
        }
    }

    fn find_command(&mut self) {
        match u32::try_from(self.page.command.load()).ok().filter(|pid| *pid != 0) {
            None => self.command = None,
            Some(pid) => {
                let new = || Command {
                    pid,
                    process: Known::Numbered,
                };
                self.command.get_or_insert_with(new).identify(self.page);
            }
        }
    }

    /// Does what is due.
    fn enforce(&mut self) -> Next {
        let begun = self.page.begun.load();
        let at = |after: Duration| begun.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        let now = boottime();
        if begun == 0 || self.cut || now >= at(self.rules.kill_after) {
            self.page.acted.store(KILLED);
            if self.command.is_some() {
                self.killed.get_or_insert(now);
            }
            self.kill();
            if !self.is_gone() {
                return Next::Soon;
            }
            for keep in self.keep.iter().copied() {
                // The parent has it open, too, and may be stopped: it must not keep others waiting any longer.
                daemon::shut_down(keep);
            }
            return if self.command.is_some() {
                Next::Nothing
            } else {
                // A command that is just being started may have checked the bar before.
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

    /// Sends `signal` to the command and everything that belongs to it, once to each process.
    fn ask(&self, signal: c_int) {
        let Some(command) = &self.command else { return };
        let group = command.group(self.page);
        // It may have left the group, or not made it yet.
        let apart = group.is_none_or(|group| signal::group_of(command.pid) != Some(group));
        if apart {
            command.signal(self.page, signal);
        }
        tree::ask(&self.roots(command), group, command.pid, signal);
    }

    /// The roots of everything that belongs to the command, as far as it can be seen.
    fn roots(&self, command: &Command) -> HashSet<u32> {
        let mut roots = self.marked();
        if command.runs(self.page) {
            roots.insert(command.pid);
        }
        roots
    }

    fn marked(&self) -> HashSet<u32> {
        let mark = self.rules.mark.as_ref();
        mark.map_or_else(HashSet::new, |mark| processes::marked(mark.variable, &mark.word))
    }

    /// Kills the command and everything that belongs to it.
    fn kill(&self) {
        let Some(command) = &self.command else { return };
        // To look at all processes takes a while, a long one on a busy machine: meanwhile the command does nothing more.
        self.signal_group(command, libc::SIGSTOP);
        // First what has left the group but still descends from the command: while the command lives, it can be found.
        tree::signal(|| self.roots(command), libc::SIGKILL);
        self.signal_group(command, libc::SIGKILL);
    }

    /// Sends `signal` to the command, and to its group if it has one of its own.
    fn signal_group(&self, command: &Command, signal: c_int) {
        command.signal(self.page, signal);
        if let Some(group) = command.group(self.page) {
            let _ = signal::kill_group(group, signal);
        }
    }

    /// True if nothing of the command is left, as far as it can be seen.
    fn is_gone(&self) -> bool {
        let Some(command) = &self.command else { return true };
        if command.runs(self.page) || !self.marked().is_empty() {
            return false;
        }
        match command.group(self.page).map_or(Group::Gone, processes::group) {
            Group::Gone => true,
            Group::Lives => false,
            // What is left so long after the first KILL, and many more, waits to be reaped.
            Group::Unseen => self
                .killed
                .is_some_and(|at| Duration::from_nanos(boottime().saturating_sub(at)) >= self.rules.grace()),
        }
    }
}

/// When the guard wakes up next.
enum Next {
    /// At this time (CLOCK_BOOTTIME, ns).
    At(u64),
    /// After [`POLL_EVERY`].
    Soon,
    /// When its parent wakes it, or is gone.
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
        for (recorded, reaped, meant) in [(0, 0, true), (start, 0, true), (start - 1, 0, false), (start, 1, false)] {
            page.start_time.store(recorded);
            page.reaped.store(reaped);
            assert_eq!(command.is_meant(&page), meant, "{recorded} {reaped}");
            assert_eq!(command.group(&page).is_some(), meant, "{recorded} {reaped}");
            assert_eq!(command.runs(&page), meant, "{recorded} {reaped}");
        }
    }
}
