//! `state`: who has the lock, who waits. Creates nothing, disturbs nobody.

use super::job::Job;
use super::{Failure, bare, name};
use crate::cli::{Common, StateArgs};
use crate::exit::Exit;
use crate::output::{self, Style, shown, text, view};
use resourcelock::Cancel;
use resourcelock::engines::Engine;

/// Carries it out.
pub fn perform(engine: &dyn Engine, common: &Common, args: &StateArgs) -> Result<Exit, Failure> {
    let lock = name(&args.name)?;
    let state = engine
        .state(&lock, &Cancel::new())
        .map_err(|error| Failure::lock(&args.name, error))?;
    if args.json {
        output::print_json(&match &state {
            Some(state) => view::LockView::from(state),
            None => view::LockView::absent(bare(&args.name)),
        })?;
    } else if !common.quiet {
        output::print(&match &state {
            Some(state) => text::state(state, Style::of_stdout()),
            None => format!("{}: free (never used)\n", shown(bare(&args.name))),
        })?;
    }
    if args.mine || common.quiet {
        // The answer is the status, which would be a stranger's word.
        engine
            .check_trust(&lock)
            .map_err(|error| Failure::lock(&args.name, error))?;
    }
    let holds = if args.mine {
        state.is_some_and(|state| !Job::inherited().holds(&state, engine.capabilities().remote).is_empty())
    } else {
        !common.quiet || state.is_some_and(|state| state.locked)
    };
    Ok(if holds { Exit::Done } else { Exit::No })
}
