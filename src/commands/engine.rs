//! The commands on a lock that another machine keeps: the one place that turns `--backend` into an engine.

mod get;
mod look;

use super::{Failure, completions, run};
use crate::cli::{Common, Create, Task};
use crate::exit::Exit;
use resourcelock::LockName;
use resourcelock::engines::{self, Engine};

/// `--backend` by another way.
const VARIABLE: &str = "RESOURCELOCK_BACKEND";

/// Whether there is any engine besides this machine's.
const BUILT_IN: bool = cfg!(feature = "remote");

/// The engine that is asked for; `None` is this machine.
pub fn chosen(common: &Common) -> Result<Option<Box<dyn Engine>>, Failure> {
    let (url, place, unless) = match (&common.backend, std::env::var_os(VARIABLE)) {
        (Some(url), _) => (url.clone(), "--backend", "leave it out"),
        (None, Some(url)) => {
            let url = url.into_string();
            let url = url.map_err(|_| Failure::general(format!("{VARIABLE} is not valid UTF-8")))?;
            (url, VARIABLE, "unset it")
        }
        (None, None) => return Ok(None),
    };
    if url.is_empty() {
        return Err(Failure::general(format!(
            "{place} is empty: name an engine, or local: for this machine (or {unless})"
        )));
    }
    let engine = engines::open(&url).map_err(Failure::engine)?;
    // This machine's commands need no detour; and in a build without engines the compiler leaves out all of this.
    Ok((BUILT_IN && engine.kind() != "local").then_some(engine))
}

/// Carries out one command there.
pub fn perform(engine: &dyn Engine, common: &Common, task: Task) -> Result<Exit, Failure> {
    match task {
        Task::Get(args) => get::perform(engine, common, &args),
        Task::Unget(args) => look::unget(engine, common, &args),
        Task::State(args) => look::state(engine, common, &args),
        Task::Trace(args) => look::trace(engine, &args),
        Task::Run(args) => run::remote::perform(engine, common, &args),
        Task::List(args) => look::list(engine, &args),
        Task::Completions(args) => completions::perform(&args),
        Task::History(args) => {
            let what = format!("{} keeps no history of a lock; 'trace -f' follows it", engine.kind());
            Err(Failure::about(&args.name, what))
        }
        Task::Remove(args) => {
            let what = format!(
                "there is nothing to remove on {}: a lock is there while it is used",
                engine.kind()
            );
            Err(Failure::about(&args.name, what))
        }
        Task::Doctor(_) => Err(Failure::general(format!(
            "not on {}: 'doctor' examines the locks of this machine; leave out --backend ({VARIABLE})",
            engine.kind()
        ))),
    }
}

/// The lock's name, checked.
pub fn name(text: &str) -> Result<LockName, Failure> {
    LockName::new(text).map_err(|error| Failure::lock(text, error))
}

/// Refuses what only a lock of this machine has.
pub fn refuse(engine: &dyn Engine, name: &str, refused: &[(bool, &str)]) -> Result<(), Failure> {
    match refused.iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, what)) => Err(Failure::about(name, format!("not on {}: {what}", engine.kind()))),
    }
}

/// `--mode` and `--group` make files.
pub fn is_for_files(create: &Create) -> bool {
    create.mode.is_some() || create.group.is_some()
}
