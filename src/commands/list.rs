//! `list`: all locks of this machine that the user may see.

use super::Failure;
use crate::cli::{Common, ListArgs};
use crate::exit::Exit;
use crate::output::{self, metrics, text, view};
use resourcelock::{Error, LockName, ResourceLock, State};

/// Carries it out.
pub fn perform(_common: &Common, args: &ListArgs) -> Result<Exit, Failure> {
    let (states, unreadable) = look_at_all()?;
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
        output::print(&metrics::prometheus(&states))?;
    } else {
        output::print(&text::list(&states, &unreadable, output::width()))?;
    }
    Ok(Exit::Done)
}

/// What can be seen of all locks, and why some cannot be looked at; sorted by name.
pub fn look_at_all() -> Result<(Vec<State>, Vec<(LockName, String)>), Failure> {
    let names = resourcelock::list().map_err(|error| Failure::general(error.to_string()))?;
    let (mut states, mut unreadable) = (Vec::with_capacity(names.len()), Vec::new());
    for name in names {
        match ResourceLock::builder(name.as_str()).open_existing() {
            Ok(lock) => states.push(lock.state()),
            Err(Error::NotFound { .. }) => {} // removed since the folder was read
            Err(Error::Permission { .. }) => unreadable.push((name, "no permission".to_owned())),
            Err(error) => unreadable.push((name, error.to_string())),
        }
    }
    Ok((states, unreadable))
}
