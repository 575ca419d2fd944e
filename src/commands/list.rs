//! `list`: all locks that the user may see.

use super::{Failure, advice};
use crate::cli::ListArgs;
use crate::exit::Exit;
use crate::output::text::{self, Unreadable};
use crate::output::{self, metrics, view};
use resourcelock::engines::{Engine, Listing};
use resourcelock::{Error, LockName};

/// What is shown of a lock that belongs to somebody else.
pub const NO_PERMISSION: &str = "no permission";

/// Carries it out.
pub fn perform(engine: &dyn Engine, args: &ListArgs) -> Result<Exit, Failure> {
    let Listing { states, unreadable, .. } = engine.list().map_err(Failure::engine)?;
    if args.prometheus {
        let counted = !engine.capabilities().remote;
        output::print(&metrics::prometheus(&states, unreadable.len(), counted))?;
        return Ok(Exit::Done);
    }
    let unreadable = with_reasons(&unreadable);
    if args.json {
        output::print_json(&view::ListView {
            version: view::VERSION,
            locks: states.iter().map(view::LockView::from).collect(),
            unreadable: unreadable.into_iter().map(view::UnreadableView::from).collect(),
        })?;
    } else {
        output::print(&text::list(&states, &unreadable, output::width()))?;
    }
    Ok(Exit::Done)
}

/// Why locks cannot be inspected, in words.
pub fn with_reasons(unreadable: &[(LockName, Error)]) -> Vec<Unreadable> {
    let reasons = unreadable.iter().map(|(name, error)| Unreadable {
        name: name.clone(),
        reason: match error {
            Error::Permission { .. } => NO_PERMISSION.to_owned(),
            error => advice::fact(error),
        },
        owner: advice::owner(error),
    });
    reasons.collect()
}
