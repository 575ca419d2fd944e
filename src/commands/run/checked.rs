//! The command, started right after the last check of the hold; and the release.

use super::granted::Granted;
use super::holds::{Holds, Released, say};
use super::{LOST_BEFORE, Run, STILL_HELD, Stop, command_end, exit_of, lost, was_asked_to_end};
use crate::exec::{self, Ended, GuardProcess, Sent, Watcher};
use crate::exit::Exit;
use resourcelock::system::boottime;
use resourcelock::{Error, Guard, LockName, Lost};
use std::time::Duration;

const ENDED: &str = "the lock was lost, or could not be renewed in time: the command was ended";
const ASKED: &str = "the lock could not be renewed for so long that the command was asked to end";

/// How often it is tried to record the command's process, as long as that was not possible; and how often a guard process
/// is looked at.
const OFTEN: Duration = Duration::from_secs(1);

/// Ready to start the command.
pub(super) struct Checked<'r> {
    granted: Granted<'r>,
    /// Ends the command if the hold's lease cannot be renewed, where there is one.
    guard: Option<GuardProcess>,
}

impl<'r> Checked<'r> {
    pub(super) fn new(granted: Granted<'r>, guard: Option<GuardProcess>) -> Self {
        Self { granted, guard }
    }

    /// Starts the command, follows it to its end, and releases.
    pub(super) fn start(mut self) -> Result<Exit, Stop> {
        let run = self.granted.prepared.run;
        let prepared = &mut self.granted.prepared;
        if run.args.no_fork {
            let not_run = exec::exec_here(&prepared.signals, &prepared.program, &self.granted.environment);
            self.release(Left::AsFound, None);
            return Ok(run.not_run(&not_run));
        }
        let mut plan = run.plan(&prepared.program, &self.granted.environment);
        plan.guard = self.guard.as_ref();
        // A guard process acts on a loss by itself.
        let mut watching = Watching::new(run, &self.granted.holds, self.guard.is_none());
        let began = boottime();
        match exec::run(&mut prepared.signals, &plan, &mut watching) {
            Ok(ended) => {
                let lost = watching.check();
                let acted = self.dismiss_guard();
                if ended.well() && lost.is_none() && acted == Acted::Not {
                    self.granted
                        .mark_done(Duration::from_nanos(boottime().saturating_sub(began)));
                    self.granted.reset_skips();
                }
                let exit = self.finish(ended, lost, acted);
                run.log_end(exit, Some(ended));
                Ok(exit)
            }
            Err(not_run) => {
                let barred = self.guard.as_ref().is_some_and(GuardProcess::has_acted);
                self.release(Left::AsFound, None);
                let exit = if barred {
                    run.say(LOST_BEFORE);
                    Exit::Lost
                } else {
                    run.not_run(&not_run)
                };
                run.log_end(exit, None);
                Ok(exit)
            }
        }
    }

    /// The command has ended: what its guard has done to it. Before anything is asked of a server that may be gone:
    /// while that is waited for, the guard would find that it is time to end what has ended by itself.
    fn dismiss_guard(&self) -> Acted {
        let Some(guard) = &self.guard else {
            return Acted::Not;
        };
        let acted = match (guard.has_killed(), guard.has_acted()) {
            (true, _) => Acted::Killed,
            (false, true) => Acted::Asked,
            (false, false) => Acted::Not,
        };
        guard.dismiss();
        acted
    }

    /// After the command's end. `lost_before`: which hold was lost before that, how, and true if that was reported.
    /// `acted`: what the guard had done by then.
    fn finish(mut self, ended: Ended, lost_before: Option<(LockName, Lost, bool)>, acted: Acted) -> Exit {
        let run = self.granted.prepared.run;
        if was_asked_to_end(ended) {
            self.granted.holds.iter_mut().for_each(Guard::shorten_release);
        }
        for hold in self.granted.holds.iter() {
            hold.command_ended(command_end(ended.how), ended.limit_reached);
        }
        let remote = run.engine.capabilities().remote;
        let left = if ended.crashed() {
            Left::Crashed
        } else if ended.well() {
            Left::InOrder
        } else {
            Left::AsFound
        };
        let is_lost = acted != Acted::Not || lost_before.is_some();
        let until = self.granted.held_until.filter(|_| !is_lost);
        let released = self.release(left, until);
        if acted != Acted::Not {
            let kept = lost_before.is_none() && released.lost.is_none() && !released.unknown;
            let which = lost_before.map(|(lock, ..)| lock).or(released.lost);
            say(
                which.as_ref().unwrap_or(&run.wanted.lock),
                if acted == Acted::Killed || !kept { ENDED } else { ASKED },
            );
            return Exit::Lost;
        }
        match (lost_before, released.lost) {
            (Some((_, _, true)), _) => Exit::Lost,
            (Some((lock, how, false)), _) => {
                say(&lock, lost(how));
                Exit::Lost
            }
            (None, Some(lock)) => {
                say(&lock, lost(if remote { Lost::Lease } else { Lost::Forced }));
                Exit::Lost
            }
            (None, None) => exit_of(ended),
        }
    }

    /// `until`: see [`Holds::release`].
    fn release(self, left: Left, until: Option<u64>) -> Released {
        let holds = self.granted.holds;
        for hold in holds.iter() {
            match left {
                Left::InOrder if hold.abandoned() => match hold.mark_recovered() {
                    Ok(()) | Err(Error::NotHeld) => {} // the release tells
                    Err(error) => log::warn!("<{}> still marked as abandoned: {}", hold.name(), error.with_source()),
                },
                Left::InOrder | Left::AsFound => {}
                Left::Crashed => hold.mark_crashed(),
            }
        }
        holds.release(until)
    }
}

/// What the guard has done to the command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acted {
    Not,
    /// Asked it to end.
    Asked,
    Killed,
}

/// How the command leaves what the lock protects.
#[derive(Clone, Copy)]
enum Left {
    /// In order, also if a previous holder had left it half done: the mark of that goes.
    InOrder,
    /// As far as is known, as it was found: a mark stays.
    AsFound,
    /// Perhaps half done: it crashed, and the next holder is told.
    Crashed,
}

/// Looks after the holds while a command runs under it.
pub(super) struct Watching<'a> {
    run: &'a Run<'a>,
    holds: &'a Holds,
    /// Nobody else acts on a loss, so it is reported as soon as it is found.
    speaks: bool,
    lost: Option<(LockName, Lost)>,
    /// The command's process, as long as it could not be recorded.
    unrecorded: Option<u32>,
}

impl<'a> Watching<'a> {
    pub(super) fn new(run: &'a Run<'a>, holds: &'a Holds, speaks: bool) -> Self {
        Self {
            run,
            holds,
            speaks,
            lost: None,
            unrecorded: None,
        }
    }

    /// Records the command's process: a second proof of life beside the inherited descriptor. Without it a command that
    /// closes all its descriptors is not covered if this program is killed.
    fn record(&mut self, pid: u32) {
        self.unrecorded = None;
        if let Err((lock, error)) = self.holds.each(|hold| hold.bind(pid)) {
            // Most often: it has ended already. If the hold is lost, `check` finds out how.
            log::info!("<{lock}> {}", error.with_source());
            self.unrecorded = matches!(error, Error::Busy { .. }).then_some(pid);
        }
    }

    /// Which hold was lost, and how, if one was, and true if that was reported.
    pub(super) fn check(&mut self) -> Option<(LockName, Lost, bool)> {
        if self.lost.is_none()
            && let Some((lock, how)) = self.holds.lost()
        {
            if self.speaks {
                say(&lock, lost(how));
            }
            self.lost = Some((lock, how));
        }
        self.lost.clone().map(|(lock, how)| (lock, how, self.speaks))
    }
}

impl Watcher for Watching<'_> {
    fn started(&mut self, pid: u32) {
        self.record(pid);
    }

    fn ended(&mut self) {
        self.unrecorded = None;
    }

    fn tick(&mut self) {
        if let Some(pid) = self.unrecorded {
            self.record(pid);
        }
        if self.speaks {
            self.check();
        }
    }

    fn every(&self) -> Duration {
        if self.unrecorded.is_some() || !self.speaks {
            OFTEN
        } else {
            STILL_HELD
        }
    }

    fn limit_enforced(&mut self, pid: u32, ended: bool, sent: Sent) {
        self.run.say_limit(pid, ended, sent);
    }

    fn kept_alive_elsewhere(&mut self) -> bool {
        self.holds.kept_alive_elsewhere()
    }
}
