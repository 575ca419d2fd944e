//! `--same-process-ok` for a lock that this job already holds: the command runs under that hold. Whoever acquired it
//! releases it, and renews its lease if it has one.

use super::prepared::Prepared;
use super::{LOST_BEFORE, Run, STILL_HELD, Stop, exit_of, lost, was_asked_to_end};
use crate::exec::{self, Ended, Sent, Watcher};
use crate::exit::Exit;
use resourcelock::Lost;
use resourcelock::engines::RECENT;
use resourcelock::system::boottime;
use std::time::Duration;

/// A hold of this job, by its token.
pub(super) struct Inherited<'r> {
    prepared: Prepared<'r>,
    token: u64,
    /// When it was last known to stand: CLOCK_BOOTTIME in nanoseconds.
    seen: u64,
}

/// A hold that still stood at the last check, right before the start.
pub(super) struct Standing<'r>(Inherited<'r>);

impl<'r> Inherited<'r> {
    /// `seen`: when it was last known to stand (CLOCK_BOOTTIME, ns).
    pub(super) fn new(prepared: Prepared<'r>, token: u64, seen: u64) -> Self {
        Self { prepared, token, seen }
    }

    /// The last check before the start: the hold still stands.
    pub(super) fn check(mut self) -> Result<Standing<'r>, Stop> {
        let run = self.prepared.run;
        if let Err(signal) = self.prepared.signals.settle() {
            return Err(Stop::With(Exit::Signal(signal)));
        }
        // On a remote engine it has usually just been read; a second request would only take longer.
        let remote = run.engine.capabilities().remote;
        let is_recent = remote && boottime().saturating_sub(self.seen) < RECENT.as_nanos() as u64;
        if !is_recent
            && !run
                .engine
                .is_held(&run.wanted.lock, self.token)
                .map_err(|e| run.failed(e))?
        {
            run.say(LOST_BEFORE);
            return Err(Stop::With(Exit::Lost));
        }
        Ok(Standing(self))
    }
}

impl Standing<'_> {
    /// Starts the command and follows it to its end.
    pub(super) fn start(self) -> Result<Exit, Stop> {
        let Inherited {
            mut prepared, token, ..
        } = self.0;
        let run = prepared.run;
        let environment = prepared.job.environment_of_own(&run.wanted.lock, token);
        if run.args.no_fork {
            let not_run = exec::exec_here(&prepared.signals, &prepared.program, &environment);
            return Ok(run.not_run(&not_run));
        }
        let mut watching = Watching {
            run,
            token,
            lost: false,
        };
        let plan = run.plan(&prepared.program, &environment);
        match exec::run(&mut prepared.signals, &plan, &mut watching) {
            Ok(ended) => Ok(watching.finish(ended)),
            Err(not_run) => Ok(run.not_run(&not_run)),
        }
    }
}

struct Watching<'a> {
    run: &'a Run<'a>,
    token: u64,
    lost: bool,
}

impl Watching<'_> {
    /// Reports the loss, once.
    fn is_lost(&mut self) {
        if !self.lost {
            self.lost = true;
            let remote = self.run.engine.capabilities().remote;
            self.run.say(lost(if remote { Lost::Lease } else { Lost::Forced }));
        }
    }

    fn finish(mut self, ended: Ended) -> Exit {
        let run = self.run;
        let remote = run.engine.capabilities().remote;
        let held = if remote && was_asked_to_end(ended) {
            let state = run.engine.peek(&run.wanted.lock);
            state.map(|state| {
                state.is_some_and(|state| state.holders.iter().any(|holder| holder.token == Some(self.token)))
            })
        } else {
            run.engine.is_held(&run.wanted.lock, self.token)
        };
        match held {
            Ok(true) => {}
            Ok(false) => self.is_lost(),
            // Whoever acquired the lock finds out if it was lost.
            Err(error) => run.say(&format!(
                "it is unknown if the lock was held until the end: {}",
                error.with_source()
            )),
        }
        if self.lost { Exit::Lost } else { exit_of(ended) }
    }
}

impl Watcher for Watching<'_> {
    fn started(&mut self, _pid: u32) {}

    fn ended(&mut self) {}

    fn tick(&mut self) {
        // On a remote engine each check costs a request, and whoever acquired the lock handles its loss.
        let engine = self.run.engine;
        if !engine.capabilities().remote
            && engine
                .is_held(&self.run.wanted.lock, self.token)
                .is_ok_and(|held| !held)
        {
            self.is_lost();
        }
    }

    fn every(&self) -> Duration {
        STILL_HELD
    }

    fn limit_enforced(&mut self, pid: u32, ended: bool, sent: Sent) {
        self.run.say_limit(pid, ended, sent);
    }

    fn kept_alive_elsewhere(&mut self) -> bool {
        false
    }
}
