//! The command, started right after the last check of the hold; and the release.

use super::granted::{Granted, not_released};
use super::{LOST_BEFORE, Run, Stop, command_end, exit_of, lost, was_asked_to_end};
use crate::exec::{self, Ended, GuardProcess, Sent, Watcher};
use crate::exit::Exit;
use resourcelock::{Error, Guard, Lost};

const ENDED: &str = "the lock was lost, or could not be renewed in time: the command was ended";
const ASKED: &str = "the lock could not be renewed for so long that the command was asked to end";

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
            self.release(Left::AsFound);
            return Ok(run.not_run(&not_run));
        }
        let mut plan = run.plan(&prepared.program, &self.granted.environment);
        plan.guard = self.guard.as_ref();
        // A guard process acts on a loss by itself.
        let mut watching = Watching::new(run, &self.granted.held, self.guard.is_none());
        match exec::run(&mut prepared.signals, &plan, &mut watching) {
            Ok(ended) => {
                let lost = watching.check();
                Ok(self.finish(ended, lost))
            }
            Err(not_run) => {
                let barred = self.guard.as_ref().is_some_and(GuardProcess::has_acted);
                self.release(Left::AsFound);
                if barred {
                    run.say(LOST_BEFORE);
                    return Ok(Exit::Lost);
                }
                Ok(run.not_run(&not_run))
            }
        }
    }

    /// After the command's end. `lost_before`: how the hold was lost before that, and true if that was reported.
    fn finish(mut self, ended: Ended, lost_before: Option<(Lost, bool)>) -> Exit {
        let run = self.granted.prepared.run;
        let asked = self.guard.as_ref().is_some_and(GuardProcess::has_acted);
        let killed = self.guard.as_ref().is_some_and(GuardProcess::has_killed);
        // Before waiting for the answer of a server that may be gone.
        if let Some(guard) = &self.guard {
            guard.dismiss();
        }
        if was_asked_to_end(ended) {
            self.granted.held.shorten_release();
        }
        self.granted
            .held
            .command_ended(command_end(ended.how), ended.limit_reached);
        let remote = run.engine.capabilities().remote;
        let released = self.release(if ended.crashed() {
            Left::Crashed
        } else if ended.well() {
            Left::InOrder
        } else {
            Left::AsFound
        });
        if asked {
            let kept = lost_before.is_none() && released == Some(true);
            run.say(if killed || !kept { ENDED } else { ASKED });
            return Exit::Lost;
        }
        match lost_before {
            Some((_, true)) => Exit::Lost,
            Some((how, false)) => {
                run.say(lost(how));
                Exit::Lost
            }
            None if released == Some(false) => {
                run.say(lost(if remote { Lost::Lease } else { Lost::Forced }));
                Exit::Lost
            }
            None => exit_of(ended),
        }
    }

    /// True if it was held until now; `None` = unknown, since the engine cannot be reached.
    fn release(self, left: Left) -> Option<bool> {
        let run = self.granted.prepared.run;
        let held = self.granted.held;
        match left {
            Left::InOrder if held.abandoned() => match held.mark_recovered() {
                Ok(()) | Err(Error::NotHeld) => {} // the release tells
                Err(error) => log::warn!("<{}> still marked as abandoned: {}", run.lock, error.with_source()),
            },
            Left::InOrder | Left::AsFound => {}
            Left::Crashed => held.mark_crashed(),
        }
        match held.release() {
            Ok(released) => Some(released),
            Err(error) => {
                run.say(&not_released(&error));
                None
            }
        }
    }
}

/// How the command leaves what the lock protects.
enum Left {
    /// In order, also if a previous holder had left it half done: the mark of that goes.
    InOrder,
    /// As far as is known, as it was found: a mark stays.
    AsFound,
    /// Perhaps half done: it crashed, and the next holder is told.
    Crashed,
}

/// Looks after the hold while a command runs under it.
pub(super) struct Watching<'a> {
    run: &'a Run<'a>,
    held: &'a Guard,
    /// Nobody else acts on a loss, so it is reported as soon as it is found.
    speaks: bool,
    lost: Option<Lost>,
    /// The command's process, as long as it could not be recorded.
    unrecorded: Option<u32>,
}

impl<'a> Watching<'a> {
    pub(super) fn new(run: &'a Run<'a>, held: &'a Guard, speaks: bool) -> Self {
        Self {
            run,
            held,
            speaks,
            lost: None,
            unrecorded: None,
        }
    }

    /// Records the command's process: a second proof of life beside the inherited descriptor. Without it a command that
    /// closes all its descriptors is not covered if this program is killed.
    fn record(&mut self, pid: u32) {
        self.unrecorded = None;
        if let Err(error) = self.held.bind(pid) {
            // Most often: it has ended already. If the hold is lost, `check` finds out how.
            log::info!("<{}> {}", self.run.lock, error.with_source());
            self.unrecorded = matches!(error, Error::Busy { .. }).then_some(pid);
        }
    }

    /// How the hold was lost, if it was, and true if that was reported.
    pub(super) fn check(&mut self) -> Option<(Lost, bool)> {
        if self.lost.is_none()
            && let Some(how) = self.held.lost()
        {
            self.lost = Some(how);
            if self.speaks {
                self.run.say(lost(how));
            }
        }
        self.lost.map(|how| (how, self.speaks))
    }
}

impl Watcher for Watching<'_> {
    fn started(&mut self, pid: u32) {
        self.record(pid);
    }

    fn tick(&mut self) {
        if let Some(pid) = self.unrecorded {
            self.record(pid);
        }
        if self.speaks {
            self.check();
        }
    }

    fn limit_enforced(&mut self, pid: u32, ended: bool, sent: Sent) {
        self.run.say_limit(pid, ended, sent);
    }

    fn kept_alive_elsewhere(&mut self) -> bool {
        self.held.kept_alive_elsewhere()
    }
}
