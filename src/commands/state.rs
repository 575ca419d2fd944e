//! `state`: who has the lock, who waits. Creates nothing, disturbs nobody.

use super::job::Job;
use super::{Failure, bare, look};
use crate::cli::{Common, StateArgs};
use crate::exit::Exit;
use crate::output::{self, Style, text, view};

/// Carries it out.
pub fn perform(common: &Common, args: &StateArgs) -> Result<Exit, Failure> {
    let lock = look(&args.name)?;
    let state = lock.as_ref().map(resourcelock::Viewer::state);
    if args.json {
        output::print_json(&match &state {
            Some(state) => view::LockView::from(state),
            None => view::LockView::absent(bare(&args.name)),
        })?;
    } else if !common.quiet {
        output::print(&match &state {
            Some(state) => text::state(state, Style::of_stdout()),
            None => format!("{}: free (never used)\n", bare(&args.name)),
        })?;
    }
    let holds = if args.mine {
        lock.is_some_and(|lock| {
            !Job::inherited()
                .tokens(lock.name(), |token| lock.is_held(token))
                .is_empty()
        })
    } else {
        !common.quiet || state.is_some_and(|state| state.locked)
    };
    Ok(if holds { Exit::Done } else { Exit::No })
}
