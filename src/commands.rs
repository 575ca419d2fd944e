//! One file per command: each composes the library, `exec` and `output`. What several need is in [`support`].

mod completions;
mod doctor;
mod get;
mod history;
mod list;
mod prune;
mod remove;
mod run;
mod state;
mod stop;
pub mod support;
mod top;
mod trace;
mod unget;

use crate::cli::{Common, Invocation, Task};
use crate::exec;
use crate::exit::Exit;
use resourcelock::{Error, LockName};
use std::fmt;
use support::{access, advice, backend, cycles, job, own_locks, refusals, waiting};

/// Carries out one command, on the engine that it asks for.
pub fn perform(invocation: Invocation) -> Result<Exit, Failure> {
    if let Task::Completions(args) = &invocation.task {
        return completions::perform(args);
    }
    // The end of the process closes it, which is faster and follows at once.
    let engine = &*Box::leak(backend::open(&invocation.common)?);
    refusals::check(engine, &invocation)?;
    let common = &invocation.common;
    match invocation.task {
        Task::Get(args) => get::perform(engine, common, &args),
        Task::Unget(args) => unget::perform(engine, common, &args),
        Task::Stop(args) => stop::perform(engine, common, &args),
        Task::State(args) => state::perform(engine, common, &args),
        Task::Trace(args) => trace::perform(engine, &args),
        Task::Run(args) => run::perform(engine, common, *args),
        Task::History(args) => history::perform(engine, common, &args),
        Task::Remove(args) => remove::perform(engine, common, &args),
        Task::Prune(args) => prune::perform(common, &args),
        Task::List(args) => list::perform(engine, &args),
        Task::Top => top::perform(engine),
        Task::Doctor(args) => doctor::perform(engine, common, &args),
        Task::Completions(args) => completions::perform(&args),
    }
}

/// Why a command could not be carried out: one line that begins with the lock's name.
#[derive(Debug)]
pub struct Failure {
    name: Option<String>,
    cause: Cause,
    /// What to do, where that is more than the error itself tells.
    advice: Option<String>,
}

#[derive(Debug)]
enum Cause {
    Lock(Error),
    Other(String),
}

impl Failure {
    /// The library failed on the lock `name`.
    pub fn lock(name: &str, error: Error) -> Self {
        Self {
            name: Some(name.to_owned()),
            cause: Cause::Lock(error),
            advice: None,
        }
    }

    /// An engine failed, and not on one lock.
    pub fn engine(error: Error) -> Self {
        Self {
            name: None,
            cause: Cause::Lock(error),
            advice: None,
        }
    }

    /// Something else failed on the lock `name`.
    pub fn about(name: &str, what: impl Into<String>) -> Self {
        Self {
            name: Some(name.to_owned()),
            cause: Cause::Other(what.into()),
            advice: None,
        }
    }

    /// Something failed that does not concern one lock.
    pub fn general(what: impl Into<String>) -> Self {
        Self {
            name: None,
            cause: Cause::Other(what.into()),
            advice: None,
        }
    }

    /// With what to do about it.
    pub fn advising(mut self, what: String) -> Self {
        self.advice = Some(what);
        self
    }

    /// The exit status that goes with it.
    pub fn exit(&self) -> Exit {
        match self.cause {
            Cause::Lock(Error::Unreachable { .. } | Error::MayStayTaken { .. }) => Exit::Unavailable,
            _ => Exit::Failed,
        }
    }
}

/// Standard output could not be written.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::general(format!("cannot write to standard output: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.cause, &self.name) {
            // This error names the lock itself.
            (Cause::Lock(error @ Error::Name { .. }), _) => write!(f, "{error}")?,
            (cause, Some(name)) => write!(f, "{}: {cause}", bare(name))?,
            (cause, None) => write!(f, "{cause}")?,
        }
        let of_error = match &self.cause {
            Cause::Lock(error) => advice::advice(error, self.name.as_deref().map(bare)),
            Cause::Other(_) => None,
        };
        match self.advice.as_ref().or(of_error.as_ref()) {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(error) => f.write_str(&advice::fact(error)),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// A lock's name without the leading slash that may be typed.
pub fn bare(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

/// The lock's name, checked.
pub fn name(text: &str) -> Result<LockName, Failure> {
    LockName::new(text).map_err(|error| Failure::lock(text, error))
}

/// The status after the signal that came.
pub fn interrupted() -> Exit {
    Exit::Signal(exec::interrupt().unwrap_or(libc::SIGTERM))
}

/// A lock could not be acquired, or created as it was asked for.
pub fn not_acquired(name: &str, common: &Common, error: Error) -> Failure {
    match (&error, &common.access.group) {
        (Error::NotInGroup { .. }, Some(group)) => Failure::about(
            name,
            format!(
                "you are not a member of group '{group}', and only its members and root can give it a lock; {}",
                advice::JOIN_GROUP
            ),
        ),
        _ => Failure::lock(name, error),
    }
}
