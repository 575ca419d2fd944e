//! `list`: all locks of this machine that the user may see.

use super::Failure;
use crate::cli::{Common, ListArgs};
use crate::exit::Exit;
use crate::output::{self, metrics, text, view};
use resourcelock::{Error, LockName, ResourceLock, State};

/// Said of a lock that belongs to somebody else.
pub const NO_PERMISSION: &str = "no permission";

/// Carries it out.
pub fn perform(_common: &Common, args: &ListArgs) -> Result<Exit, Failure> {
    let Seen { states, unreadable } = look_at_all()?;
    if args.json {
        output::print_json(&view::ListView {
            version: view::VERSION,
            locks: states.iter().map(view::LockView::from).collect(),
            unreadable: unreadable
                .iter()
                .map(|(name, reason)| view::UnreadableView {
                    lock: name.to_string(),
                    reason: reason.clone(),
                })
                .collect(),
        })?;
    } else if args.prometheus {
        output::print(&metrics::prometheus(&states, true))?;
    } else {
        output::print(&text::list(&states, &unreadable, output::width()))?;
    }
    Ok(Exit::Done)
}

/// What can be seen of all locks, by name.
#[derive(Default)]
pub struct Seen {
    pub states: Vec<State>,
    /// Those that cannot be looked at, and why.
    pub unreadable: Vec<(LockName, String)>,
}

/// Looks at all locks of this machine.
pub fn look_at_all() -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    for name in resourcelock::list().map_err(|error| Failure::general(error.to_string()))? {
        match ResourceLock::builder(name.as_str()).open_existing() {
            Ok(lock) => seen.states.push(lock.state()),
            Err(Error::NotFound { .. }) => {} // removed since the folder was read
            Err(Error::Permission { .. }) => seen.unreadable.push((name, NO_PERMISSION.to_owned())),
            Err(error) => seen.unreadable.push((name, error.to_string())),
        }
    }
    Ok(seen)
}
