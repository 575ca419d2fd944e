//! What `get` and `run` say about a wait: that it would never end, that it lasts, that it timed out.

use super::cycles::{self, Cycle};
use super::{advice, job, stopped_inside};
use crate::cli::Common;
use crate::commands::{Failure, bare};
use crate::exec;
use crate::exit::Exit;
use crate::output;
use crate::syslog;
use resourcelock::engines::{Engine, Listing};
use resourcelock::{Error, GetOptions, LockName, Mode, State, Wait};
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// After this, a wait says that it lasts.
const PATIENCE: Duration = Duration::from_secs(1);
/// When a wait for each other has lasted so long, a request that is part of it says so.
const DEADLOCK: Duration = Duration::from_secs(60);

/// What is made of a request that was not granted in time.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// It ends with the status of `-E`; nothing is said if that is 0.
    Usual(Option<u8>),
    /// It is one of few skips in a row (`--max-skips`): nothing is said, and it ends with the status of `-E`.
    Skip(Option<u8>),
    /// So many skips in a row are worth a word: it ends with status 75.
    Skips(u64),
}

/// The messages about one wait.
pub struct Waiting<'a> {
    name: &'a str,
    common: &'a Common,
    since: Instant,
    said: AtomicBool,
    said_deadlock: AtomicBool,
}

impl<'a> Waiting<'a> {
    /// For the lock `name`, which is asked for now.
    pub fn new(common: &'a Common, name: &'a str) -> Self {
        Self {
            name: bare(name),
            common,
            since: Instant::now(),
            said: AtomicBool::new(false),
            said_deadlock: AtomicBool::new(false),
        }
    }

    /// One line about the lock on standard error.
    fn say(&self, what: &str) {
        output::message(&format!("resourcelock: {}: {what}", self.name));
    }

    /// A request that this job's own holds (with the tokens `own`) exclude: refused without a time limit, else worth a
    /// warning.
    pub fn check_self_wait(&self, state: &State, own: &[u64], mode: Mode, wait: Wait) -> Result<(), Failure> {
        if own.is_empty() || !job::waits_for_itself(state, own, mode) {
            return Ok(());
        }
        match wait {
            Wait::Forever => Err(Failure::about(
                self.name,
                "this job already holds the lock and would wait for itself: use --same-process-ok, or limit the wait (-t)",
            )),
            Wait::For(_) if !self.common.quiet => {
                self.say("this job already holds the lock: it waits for itself until the time is up");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Makes the request say, once, that the wait lasts: on a terminal, or with -v. Where viewing the lock costs a
    /// request, none is made unless it would be shown. One that has no time limit (`wait`) says in any case if it is part of
    /// a deadlock.
    pub fn told_by<'o>(&'o self, options: GetOptions<'o>, engine: &'o dyn Engine, wait: Wait) -> GetOptions<'o> {
        let remote = engine.capabilities().remote;
        if remote && !self.is_read() {
            return options;
        }
        let options = if remote || wait != Wait::Forever || self.common.quiet {
            options
        } else {
            let stands = deadlock();
            options.on_wait_every(stands, move |state| self.look_for_deadlock(engine, state, stands))
        };
        options.on_wait(PATIENCE, |state| {
            // Only now is it worth a system call to find out if standard error is a terminal.
            if self.is_read() {
                output::message(&output::waiting(state));
                self.said.store(true, Ordering::Relaxed);
            }
        })
    }

    /// Says, once, if this process is part of a wait for each other that has lasted for so long.
    fn look_for_deadlock(&self, engine: &dyn Engine, own: &State, stands: Duration) {
        if self.said_deadlock.load(Ordering::Relaxed) {
            return;
        }
        // It is no matter if the others cannot be listed now.
        let Ok(Listing { mut states, .. }) = engine.list() else {
            return;
        };
        states.retain(|state| state.trusted && state.name != own.name);
        states.push(own.clone());
        let cycle = cycles::of_request(&states, &own.name, std::process::id());
        if let Some(cycle) = cycle.filter(|cycle| cycle.stands >= stands) {
            self.said_deadlock.store(true, Ordering::Relaxed);
            let Cycle { what, mend, .. } = cycle;
            self.say(&format!("deadlock: {what}; {}: {mend}", cycles::WHY));
        }
    }

    /// True if messages about the wait are wanted.
    fn is_read(&self) -> bool {
        !self.common.quiet && (self.common.verbose > 0 || io::stderr().is_terminal())
    }

    /// Says how long it took, if it was said that the wait lasts.
    pub fn over(&self) {
        if self.said.load(Ordering::Relaxed) {
            let waited = output::duration(self.since.elapsed());
            output::message(&format!("acquired {} after {waited}", self.name));
        }
    }

    /// The lock was granted: for the system's log.
    pub fn granted(&self, token: u64, command: &str, note: &str) {
        syslog::tell(self.common, self.name, "granted", || {
            [
                ("token", token.to_string()),
                ("waited", self.waited()),
                ("command", command.to_owned()),
                ("note", note.to_owned()),
            ]
        });
    }

    /// The lock was not granted: for the system's log.
    fn refused(&self, why: impl FnOnce() -> String, conflict_exit_code: Option<u8>) -> Exit {
        let exit = Exit::NotAcquired(conflict_exit_code);
        syslog::tell(self.common, self.name, "refused", || {
            let status = exit.status().to_string();
            [("why", why()), ("waited", self.waited()), ("status", status)]
        });
        exit
    }

    /// In seconds.
    fn waited(&self) -> String {
        format!("{:.3}", self.since.elapsed().as_secs_f64())
    }

    /// The lock was not acquired in time: says who holds it, unless that is not worth a word and the user did not give -v.
    /// That the holder cannot be read is said in any case.
    pub fn timed_out(&self, state: &Result<Option<State>, Error>, answer: Answer) -> Exit {
        let skips = match answer {
            Answer::Skips(1) => "skipped: ".to_owned(),
            Answer::Skips(skips) => format!("skipped {skips} times in a row: "),
            Answer::Usual(_) | Answer::Skip(_) => String::new(),
        };
        match state {
            _ if self.common.quiet => {}
            Ok(_) if self.is_silent(answer) => {}
            Ok(Some(state)) => {
                let more = advice::command_line(self.common, self.name, "state");
                self.say(&format!("{skips}{}", output::refusal(state, &more)));
            }
            Ok(None) => self.say(&format!("{skips}not acquired in time; it has been removed since")),
            Err(why) => self.say(&format!(
                "{skips}not acquired in time; who has it cannot be read: {}",
                why.with_source()
            )),
        }
        let conflict_exit_code = match answer {
            Answer::Usual(code) | Answer::Skip(code) => code,
            Answer::Skips(_) => None,
        };
        self.refused(|| held_by(state), conflict_exit_code)
    }

    /// The lock was not acquired, since a newer request with `--replace` came.
    pub fn superseded(&self, conflict_exit_code: Option<u8>) -> Exit {
        if !self.is_silent(Answer::Usual(conflict_exit_code)) {
            self.say("not acquired: replaced by a newer request");
        }
        self.refused(|| "replaced by a newer request".to_owned(), conflict_exit_code)
    }

    /// The job has been done in this period: `what` says by whom.
    pub fn not_due(&self, what: &str, conflict_exit_code: Option<u8>) -> Exit {
        if !self.is_silent(Answer::Usual(conflict_exit_code)) {
            self.say(what);
        }
        self.refused(|| what.to_owned(), conflict_exit_code)
    }

    /// True if nothing is said of a run that is skipped: as the user wants it, or because it is no matter, and -v does not
    /// ask for it all the same.
    fn is_silent(&self, answer: Answer) -> bool {
        let is_no_matter = match answer {
            Answer::Usual(conflict_exit_code) => conflict_exit_code == Some(0),
            Answer::Skip(_) => true,
            Answer::Skips(_) => false,
        };
        self.common.quiet || (is_no_matter && self.common.verbose == 0)
    }

    /// The lock was not acquired in time because its table stayed busy; the process inside is `pid`, if that is known. That is
    /// said even where being late is no matter: until somebody sees to that process, nobody can acquire the lock.
    pub fn stood_still(&self, lock: &LockName, pid: Option<u32>, conflict_exit_code: Option<u8>) -> Exit {
        let (what, mend) = stopped_inside::told(lock, pid);
        self.say(&format!("not acquired: {what}; {mend}"));
        self.refused(|| what, conflict_exit_code)
    }
}

/// See [`DEADLOCK`]. The program's tests cannot wait for so long.
fn deadlock() -> Duration {
    let asked = cfg!(debug_assertions).then(|| exec::variable("RESOURCELOCK_TEST_DEADLOCK_MS"));
    let millis = asked.flatten().and_then(|text| text.to_str()?.parse().ok());
    millis.map_or(DEADLOCK, Duration::from_millis)
}

/// In a word or more, who holds a lock that was not acquired in time.
fn held_by(state: &Result<Option<State>, Error>) -> String {
    match state {
        Ok(Some(state)) => output::brief(state),
        Ok(None) => "it has been removed since".to_owned(),
        Err(why) => why.with_source().to_string(),
    }
}
