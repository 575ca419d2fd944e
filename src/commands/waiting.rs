//! What `get` and `run` say around a wait: that it would never end, that it lasts, that it was in vain.

use super::job;
use super::{Failure, bare};
use crate::cli::Common;
use crate::exit::Exit;
use crate::output;
use resourcelock::{Error, GetOptions, Mode, State, Wait};
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A wait that lasts longer than this says so.
const PATIENCE: Duration = Duration::from_secs(1);

/// The messages around one wait.
pub struct Waiting<'a> {
    name: &'a str,
    quiet: bool,
    wordy: bool,
    since: Instant,
    said: AtomicBool,
}

impl<'a> Waiting<'a> {
    /// For the lock `name`, which is asked for now.
    pub fn new(common: &Common, name: &'a str) -> Self {
        Self {
            name: bare(name),
            quiet: common.quiet,
            wordy: common.verbose > 0,
            since: Instant::now(),
            said: AtomicBool::new(false),
        }
    }

    /// One line about the lock on standard error.
    fn say(&self, what: &str) {
        output::message(&format!("resourcelock: {}: {what}", self.name.escape_debug()));
    }

    /// A request for what this very job holds already (under the tokens `own`), in a way that excludes it: without a
    /// time limit that is refused, with one it is worth a warning.
    pub fn check_self_wait(&self, state: &State, own: &[u64], mode: Mode, wait: Wait) -> Result<(), Failure> {
        if own.is_empty() || !job::waits_for_itself(state, own, mode) {
            return Ok(());
        }
        match wait {
            Wait::Forever => Err(Failure::about(
                self.name,
                "this job holds the lock itself and would wait for itself: use --same-process-ok, or limit the wait (-t)",
            )),
            Wait::For(_) if !self.quiet => {
                self.say("this job holds the lock itself and now waits for itself, until its time is up");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Makes the request say, once, that the wait lasts: on a terminal, or if the user wants to read more. Where a view
    /// of the lock costs a request (`remote`), none is made if nobody would read of it.
    pub fn told_by<'o>(&'o self, options: GetOptions<'o>, remote: bool) -> GetOptions<'o> {
        if remote && !self.is_read() {
            return options;
        }
        options.on_wait(PATIENCE, |state| {
            // Whether anybody wants to read it is found out when there is something to say.
            if self.is_read() {
                output::message(&output::waiting(state));
                self.said.store(true, Ordering::Relaxed);
            }
        })
    }

    /// Whether anybody wants to read that the wait lasts.
    fn is_read(&self) -> bool {
        !self.quiet && (self.wordy || io::stderr().is_terminal())
    }

    /// Says how long it took, to those who were told that it lasts.
    pub fn over(&self) {
        if self.said.load(Ordering::Relaxed) {
            let waited = output::duration(self.since.elapsed());
            output::message(&format!("got {} after {waited}", self.name.escape_debug()));
        }
    }

    /// The lock was not acquired in time: says who has it, unless the user has chosen status 0 for that; or why that
    /// cannot be read, which nobody has chosen.
    pub fn timed_out(&self, state: &Result<Option<State>, Error>, conflict_exit_code: Option<u8>) -> Exit {
        match state {
            _ if self.quiet => {}
            Ok(_) if conflict_exit_code == Some(0) => {}
            Ok(Some(state)) => self.say(&output::refusal(state)),
            Ok(None) => self.say("not acquired in time; it has been removed since"),
            Err(why) => self.say(&format!("not acquired in time; who has it cannot be read: {why}")),
        }
        Exit::NotAcquired(conflict_exit_code)
    }
}
