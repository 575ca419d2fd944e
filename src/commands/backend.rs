//! The one place that turns `--backend`, `--mode` and `--group` into an engine.

use super::Failure;
use crate::cli::{Common, Create, Task};
use resourcelock::engines::{self, Engine, Local};
use resourcelock::system;

/// Environment variable: as `--backend`.
pub const VARIABLE: &str = "RESOURCELOCK_BACKEND";

/// The engine that a command asks for.
pub fn open(common: &Common, task: &Task) -> Result<Box<dyn Engine>, Failure> {
    let engine = match url(common)? {
        Some(url) => engines::open(&url).map_err(Failure::engine)?,
        None => Box::new(Local::new()),
    };
    if engine.capabilities().files
        && let Some((name, create)) = creates(task)
    {
        return Ok(Box::new(local(name, create)?));
    }
    Ok(engine)
}

/// The URL, if one was given; without one it is this machine.
fn url(common: &Common) -> Result<Option<String>, Failure> {
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
    Ok(Some(url))
}

/// The lock and how to create it, if the command creates locks.
fn creates(task: &Task) -> Option<(&str, &Create)> {
    match task {
        Task::Get(args) => Some((&args.name, &args.request.create)),
        Task::Run(args) => Some((&args.name, &args.request.create)),
        _ => None,
    }
}

fn local(name: &str, create: &Create) -> Result<Local, Failure> {
    let mut local = Local::new();
    if let Some(mode) = create.mode {
        local = local.mode(mode);
    }
    if let Some(group) = &create.group {
        let gid =
            system::group_number(group).ok_or_else(|| Failure::about(name, format!("there is no group '{group}'")))?;
        local = local.group(gid);
    }
    Ok(local)
}
