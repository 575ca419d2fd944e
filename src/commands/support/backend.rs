//! The one place that turns `--backend` into an engine.

use super::access::Access;
use crate::cli::Common;
use crate::commands::Failure;
use crate::exec;
use resourcelock::engines::{self, Engine, Local};

/// Environment variable: as `--backend`.
pub const VARIABLE: &str = "RESOURCELOCK_BACKEND";

/// The engine that a command asks for.
pub fn open(common: &Common) -> Result<Box<dyn Engine>, Failure> {
    let engine = match url(common)? {
        Some(url) => engines::open(&url).map_err(Failure::engine)?,
        None => Box::new(Local::new()),
    };
    Ok(if engine.capabilities().files {
        Box::new(Access::new(&common.access)?.engine())
    } else {
        engine
    })
}

/// The URL, if one was given; without one it is this machine.
fn url(common: &Common) -> Result<Option<String>, Failure> {
    let (url, place, unless) = match (&common.backend, exec::variable(VARIABLE)) {
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
