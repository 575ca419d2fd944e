//! One file a command: composes the library, `exec` and `output`.

mod completions;
mod doctor;
mod engine;
mod get;
mod history;
mod job;
mod list;
mod remove;
mod run;
mod state;
mod trace;
mod unget;
mod waiting;

use crate::cli::{Common, Create, Task};
use crate::exit::Exit;
use crate::output::names;
use resourcelock::{Error, ResourceLock, Viewer};
use std::fmt;

/// Carries out one command.
pub fn perform(common: &Common, task: Task) -> Result<Exit, Failure> {
    if let Some(engine) = engine::chosen(common)? {
        return engine::perform(&*engine, common, task);
    }
    match task {
        Task::Get(args) => get::perform(common, &args),
        Task::Unget(args) => unget::perform(common, &args),
        Task::State(args) => state::perform(common, &args),
        Task::Trace(args) => trace::perform(common, &args),
        Task::Run(args) => run::perform(common, *args),
        Task::History(args) => history::perform(common, &args),
        Task::Remove(args) => remove::perform(common, &args),
        Task::List(args) => list::perform(common, &args),
        Task::Doctor(args) => doctor::perform(common, &args),
        Task::Completions(args) => completions::perform(&args),
    }
}

/// Why a command could not be carried out: one line, with the lock's name in front.
#[derive(Debug)]
pub struct Failure {
    name: Option<String>,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Lock(Error),
    Other(String),
}

impl Failure {
    /// The library failed for the lock `name`.
    pub fn lock(name: &str, error: Error) -> Self {
        Self {
            name: Some(name.to_owned()),
            cause: Cause::Lock(error),
        }
    }

    /// An engine failed, not about one lock.
    pub fn engine(error: Error) -> Self {
        Self {
            name: None,
            cause: Cause::Lock(error),
        }
    }

    /// Something else failed for the lock `name`.
    pub fn about(name: &str, what: impl Into<String>) -> Self {
        Self {
            name: Some(name.to_owned()),
            cause: Cause::Other(what.into()),
        }
    }

    /// Something failed that is not about one lock.
    pub fn general(what: impl Into<String>) -> Self {
        Self {
            name: None,
            cause: Cause::Other(what.into()),
        }
    }

    /// The exit status that goes with it.
    pub fn exit(&self) -> Exit {
        match self.cause {
            Cause::Lock(Error::Unreachable { .. }) => Exit::Unavailable,
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
            (Cause::Lock(error @ Error::Name { .. }), _) => write!(f, "{error}"),
            (cause, Some(name)) => write!(f, "{}: {cause}", bare(name).escape_debug()),
            (cause, None) => write!(f, "{cause}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(Error::Url { url, reason }) => write!(f, "the URL '{url}' cannot be used: {reason}"),
            Self::Lock(error) => write!(f, "{error}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// A lock's name without the leading slash that may be typed.
pub fn bare(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

/// Opens the lock to use it; creates what is missing.
pub fn open(name: &str, create: &Create) -> Result<ResourceLock, Failure> {
    let mut builder = ResourceLock::builder(name);
    if let Some(mode) = create.mode {
        builder = builder.mode(mode);
    }
    if let Some(group) = &create.group {
        let gid = names::group(group)
            .ok_or_else(|| Failure::about(name, format!("there is no group '{}'", group.escape_debug())))?;
        builder = builder.group(gid);
    }
    builder.open().map_err(|error| match (&error, &create.group) {
        (Error::NotInGroup { .. }, Some(group)) => Failure::about(
            name,
            format!(
                "you are not a member of group '{}', and only its members and root can give it a lock: {}",
                group.escape_debug(),
                Error::JOIN_GROUP
            ),
        ),
        _ => Failure::lock(name, error),
    })
}

/// Opens the lock to look at it. `None`: nobody has used it yet.
pub fn look(name: &str) -> Result<Option<Viewer>, Failure> {
    match ResourceLock::builder(name).open_existing() {
        Ok(lock) => Ok(Some(lock)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(Failure::lock(name, error)),
    }
}
