//! `list`: all locks that the user may see.

use super::Failure;
use crate::cli::ListArgs;
use crate::exit::Exit;
use crate::output::{self, metrics, text, view};
use resourcelock::engines::{Engine, Listing};
use resourcelock::{Error, LockName};

/// What is shown of a lock that belongs to somebody else.
pub const NO_PERMISSION: &str = "no permission";

/// Carries it out.
pub fn perform(engine: &dyn Engine, args: &ListArgs) -> Result<Exit, Failure> {
    let Listing { states, unreadable } = engine.list().map_err(Failure::engine)?;
    let unreadable = reasons(&unreadable);
    if args.json {
        output::print_json(&view::ListView {
            version: view::VERSION,
            locks: states.iter().map(view::LockView::from).collect(),
            unreadable: unreadable
                .into_iter()
                .map(|(name, reason)| view::UnreadableView {
                    lock: name.to_string(),
                    reason,
                })
                .collect(),
        })?;
    } else if args.prometheus {
        output::print(&metrics::prometheus(&states, !engine.capabilities().remote))?;
    } else {
        output::print(&text::list(&states, &unreadable, output::width()))?;
    }
    Ok(Exit::Done)
}

/// Why locks cannot be viewed, in words.
pub fn reasons(unreadable: &[(LockName, Error)]) -> Vec<(LockName, String)> {
    let reason = |error: &Error| match error {
        Error::Permission { .. } => NO_PERMISSION.to_owned(),
        error => error.to_string(),
    };
    unreadable
        .iter()
        .map(|(name, error)| (name.clone(), reason(error)))
        .collect()
}
