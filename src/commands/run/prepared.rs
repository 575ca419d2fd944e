//! Everything before the wait, and the wait itself.

use super::granted::Granted;
use super::inherited::Inherited;
use super::{CANCEL, Run, Stop, replace};
use crate::cli::{Payload, Until};
use crate::commands::Failure;
use crate::commands::job::{self, Job};
use crate::exec::{self, Program, Signals};
use resourcelock::GetOptions;
use resourcelock::system::boottime;
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
        let program = match &run.args.payload {
            Payload::Words(words) => exec::resolve(words.clone()),
            Payload::Shell(text) => Program::shell(text.clone()),
        };
        let program = program.map_err(|not_run| Stop::With(run.not_run(&not_run)))?;
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
        if !self.job.mentions(&run.lock, remote) {
            return Ok(Request::New(self));
        }
        run.engine.check_trust(&run.lock).map_err(|error| run.failed(error))?;
        let seen = boottime();
        let state = run
            .engine
            .state(&run.lock, &CANCEL)
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
        run.waiting
            .check_self_wait(&state, &self.own, run.args.request.mode, run.args.request.wait)?;
        Ok(Request::New(self))
    }

    /// Waits for the lock.
    pub(super) fn acquire(self) -> Result<Granted<'r>, Stop> {
        let run = self.run;
        let args = run.args;
        let command = self.program.name();
        let note = run.note(&command);
        let asked = match args.replace {
            true => replace::ask_holders_to_end(run, &self.own)?,
            false => Vec::new(),
        };
        let mut options = GetOptions::new()
            .wait(args.request.wait)
            .mode(args.request.mode)
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
        let options = run.waiting.told_by(options, run.engine.capabilities().remote);
        match run.engine.acquire(&run.lock, &options) {
            Ok(Some(held)) => {
                run.waiting.over();
                Ok(Granted::new(self, held))
            }
            Ok(None) => {
                let state = run.engine.peek(&run.lock);
                Err(Stop::With(
                    run.waiting.timed_out(&state, args.request.conflict_exit_code),
                ))
            }
            Err(error) => Err(run.failed(error)),
        }
    }
}
