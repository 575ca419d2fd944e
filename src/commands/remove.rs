//! `remove`: delete an idle lock's objects; with `--force` also those of a lock in use.

use super::{Failure, advice, bare};
use crate::cli::{Common, RemoveArgs};
use crate::exit::Exit;
use crate::output::{self, shown};
use resourcelock::{Error, ResourceLock};

/// Carries it out.
pub fn perform(common: &Common, args: &RemoveArgs) -> Result<Exit, Failure> {
    let name = bare(&args.name);
    match resourcelock::remove(&args.name, args.force) {
        Ok(true) => {
            if !common.quiet {
                output::print(&format!("{}: removed\n", shown(name)))?;
            }
            Ok(Exit::Done)
        }
        Ok(false) => Err(Failure::about(name, format!("not removed: {}", reason(common, name)?))),
        Err(Error::NotFound { .. }) => {
            if !common.quiet {
                output::print(&format!("{}: there is no such lock\n", shown(name)))?;
            }
            Ok(Exit::Done)
        }
        Err(error) => Err(Failure::lock(&args.name, error)),
    }
}

/// Why it was not removed.
fn reason(common: &Common, name: &str) -> Result<String, Failure> {
    let viewer = match ResourceLock::builder(name).open_existing() {
        Ok(viewer) => Some(viewer),
        Err(Error::NotFound { .. }) => None,
        Err(error) => return Err(Failure::lock(name, error)),
    };
    Ok(match viewer.map(|viewer| viewer.state()) {
        Some(state) if state.locked => output::refusal(&state, &advice::command_line(common, name, "state")),
        Some(state) if !state.waiters.is_empty() => format!("{} waiting for it", state.waiters.len()),
        _ => "it was in use a moment ago: try again".to_owned(),
    })
}
