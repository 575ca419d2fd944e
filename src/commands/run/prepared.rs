//! Everything before the wait, and the wait itself.

use super::granted::Granted;
use super::holds::Holds;
use super::inherited::Inherited;
use super::{CANCEL, Run, Stop, Wanted, replace};
use crate::cli::{Payload, Until};
use crate::commands::Failure;
use crate::commands::job::{self, Job};
use crate::exec::{self, Program, Signals};
use resourcelock::engines::acquire_all;
use resourcelock::system::boottime;
use resourcelock::{GetOptions, LockName};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Ready to request the lock.
pub(super) struct Prepared<'r> {
    pub(super) run: &'r Run<'r>,
    pub(super) program: Program,
    pub(super) signals: Signals,
    pub(super) job: Job,
    /// The tokens of this job's own holds of the lock, outermost first.
    own: Vec<u64>,
}

/// The hold that the command is to run under.
pub(super) enum Request<'r> {
    /// One that this job already has.
    Own(Inherited<'r>),
    /// A new one.
    New(Prepared<'r>),
}

impl<'r> Prepared<'r> {
    /// Finds the command: one that does not exist is not worth waiting for. From here on, a signal ends the wait.
    pub(super) fn new(run: &'r Run<'r>) -> Result<Self, Stop> {
        if run.args.until == Until::Tree && run.engine.capabilities().lease && !exec::processes_are_seen() {
            let what = format!(
                "not on {}: --until tree: what the command leaves behind is seen in /proc, which is not mounted",
                run.engine.kind()
            );
            return Err(Failure::about(&run.args.name, what).into());
        }
        if run.args.hold_at_least.is_some() && run.engine.capabilities().processes && !exec::processes_are_seen() {
            let what = "--hold-at-least: when the time of a lock is over is seen in /proc, which is not mounted";
            return Err(Failure::about(&run.args.name, what).into());
        }
        let program = match &run.args.payload {
            Payload::Words(words) => exec::resolve(words.clone()),
            Payload::Shell(text) => Program::shell(text.clone()),
        };
        let program = program.map_err(|not_run| Stop::With(run.not_run(&not_run)))?;
        if run.args.name.contains(',') && !run.common.quiet && matches!(run.engine.peek(&run.wanted.lock), Ok(None)) {
            run.say("this is one lock, whose name contains a comma; for several locks, see --with");
        }
        Ok(Self {
            run,
            program,
            signals: Signals::while_waiting(|| CANCEL.cancel()),
            job: Job::inherited(),
            own: Vec::new(),
        })
    }

    /// Finds out if this job already holds the lock.
    pub(super) fn request(mut self) -> Result<Request<'r>, Stop> {
        let run = self.run;
        let remote = run.engine.capabilities().remote;
        for other in &run.others {
            self.check_self_wait(other)?;
        }
        if !self.job.mentions(&run.wanted.lock, remote) {
            return Ok(Request::New(self));
        }
        run.engine
            .check_trust(&run.wanted.lock)
            .map_err(|error| run.failed(error))?;
        let seen = boottime();
        let state = run
            .engine
            .state(&run.wanted.lock, &CANCEL)
            .map_err(|error| run.failed(error))?;
        let Some(state) = state else {
            return Ok(Request::New(self));
        };
        self.own = self.job.holds(&state, remote);
        if run.args.request.same_process_ok
            && let Some(token) = job::including(&state, &self.own, run.args.request.mode)
        {
            return Ok(Request::Own(Inherited::new(self, token, seen)));
        }
        run.wanted
            .waiting
            .check_self_wait(&state, &self.own, run.args.request.mode, run.args.request.wait)?;
        Ok(Request::New(self))
    }

    /// Refuses a lock of `--with` that this job already holds.
    fn check_self_wait(&self, other: &Wanted<'_>) -> Result<(), Stop> {
        let run = self.run;
        let remote = run.engine.capabilities().remote;
        if !self.job.mentions(&other.lock, remote) {
            return Ok(());
        }
        let failed = |error| run.failed_on(&other.lock, error);
        run.engine.check_trust(&other.lock).map_err(failed)?;
        let state = run.engine.state(&other.lock, &CANCEL).map_err(failed)?;
        let Some(state) = state else { return Ok(()) };
        let own = self.job.holds(&state, remote);
        other
            .waiting
            .check_self_wait(&state, &own, other.mode, run.args.request.wait)?;
        Ok(())
    }

    /// Waits for the lock, and for those of `--with`.
    pub(super) fn acquire(self) -> Result<Granted<'r>, Stop> {
        let run = self.run;
        let args = run.args;
        run.check_due(false)?;
        let command = self.program.name();
        let note = run.note(&command);
        let asked = match args.replace {
            true => replace::ask_holders_to_end(run, &self.own)?,
            false => Vec::new(),
        };
        let mut options = GetOptions::new()
            .lock_info(&note)
            .command(&command)
            .cancel(&CANCEL)
            .queue_at_once(true)
            .replaces(args.replace);
        if let Some(ttl) = args.ttl {
            options = options.lease(ttl);
        }
        if args.replace {
            // An older request with --replace may have been granted the lock since. Now that this one is in the queue, older
            // ones withdraw. What fails here (a signal, a damaged table) ends the wait, too.
            options = options.on_wait(Duration::ZERO, |state| drop(replace::ask(run, state, &asked)));
        }
        let wanted: Vec<&Wanted<'_>> = run.all().collect();
        let names: Vec<&LockName> = wanted.iter().map(|wanted| &wanted.lock).collect();
        let was_pending = AtomicBool::new(false);
        let holds = acquire_all(&names, args.request.wait, |i, wait, before| {
            let Wanted { lock, mode, waiting } = wanted[i];
            let mut options = waiting
                .told_by(options.clone(), run.engine, wait)
                .wait(wait)
                .mode(*mode);
            if !before.is_empty() {
                // Others wait for these, and read what for.
                options = options.on_wait(Duration::ZERO, |_| {
                    was_pending.store(true, Ordering::Relaxed);
                    for hold in before {
                        // One that was lost meanwhile is reported before the command is started.
                        let _ = hold.set_pending(&format!("taken, waits for {lock}"));
                    }
                });
            }
            let acquired = run.engine.acquire(lock, &options);
            match acquired.map_err(|error| run.failed_on(lock, error))? {
                Some(hold) => {
                    waiting.over();
                    waiting.granted(hold.token(), &command, &note);
                    Ok(Some(hold))
                }
                None => {
                    let state = run.engine.peek(lock);
                    Err(Stop::With(waiting.timed_out(&state, run.count_skip()?)))
                }
            }
        })?;
        let granted = Granted::new(self, Holds::new(holds.unwrap_or_default()));
        if was_pending.into_inner() {
            granted.begin(&note)
        } else {
            Ok(granted)
        }
    }
}
