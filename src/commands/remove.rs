//! `remove`: delete idle locks' objects; with `--force` also those of locks in use.

use super::own_locks::own_locks;
use super::{Failure, advice, bare};
use crate::cli::{Common, Name, RemoveArgs, is_pattern};
use crate::exit::Exit;
use crate::output::{self, names, shown};
use resourcelock::engines::Engine;
use resourcelock::{Error, Removed, State};

/// Carries it out.
pub fn perform(engine: &dyn Engine, common: &Common, args: &RemoveArgs) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for word in &args.names {
        let names = if is_pattern(word) {
            let names = own_locks(std::slice::from_ref(word))?;
            if names.is_empty() && !common.quiet {
                output::print(&format!("{}: there is no such lock\n", shown(&word.0)))?;
            }
            names.iter().map(|name| Name(name.to_string())).collect()
        } else {
            vec![word.clone()]
        };
        // One that stays does not keep the others.
        for name in names {
            if let Err(failure) = remove(engine, common, &name, args.force) {
                output::message(&format!("resourcelock: {failure}"));
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}

fn remove(engine: &dyn Engine, common: &Common, typed: &Name, force: bool) -> Result<(), Failure> {
    let name = bare(typed);
    let failed = |error| Failure::lock(typed, error);
    // Root removes everybody's locks, and should see whose it was.
    let before = super::name(typed).and_then(|lock| engine.peek(&lock).map_err(failed));
    let what = match resourcelock::remove(&**typed, force) {
        Ok(Removed::Lock) => format!("removed{}", whose(before.ok().flatten().as_ref())),
        Ok(Removed::Damaged(paths)) => {
            let paths: Vec<String> = paths.iter().map(|path| shown(path.display())).collect();
            format!("deleted {}, and nothing else", paths.join(" and "))
        }
        Ok(_) => {
            let why = reason(engine, common, name)?;
            return Err(Failure::about(name, format!("not removed: {why}")));
        }
        Err(Error::NotFound { .. }) => "there is no such lock".to_owned(),
        Err(error) => return Err(failed(error)),
    };
    if !common.quiet {
        output::print(&format!("{}: {what}\n", shown(name)))?;
    }
    Ok(())
}

/// Why it was not removed.
fn reason(engine: &dyn Engine, common: &Common, name: &str) -> Result<String, Failure> {
    let state = engine
        .peek(&super::name(name)?)
        .map_err(|error| Failure::lock(name, error))?;
    Ok(match state {
        Some(state) if state.locked => output::refusal(&state, &advice::command_line(common, name, "state")),
        Some(state) if !state.waiters.is_empty() => format!("{} waiting for it", state.waiters.len()),
        _ => "it was in use a moment ago: try again".to_owned(),
    })
}

/// Names the owner, unless he is trusted.
pub fn whose(state: Option<&State>) -> String {
    match state.filter(|state| !state.trusted) {
        Some(state) => names::owner(state).map_or_else(String::new, |owner| format!(" (it belongs to {owner})")),
        None => String::new(),
    }
}
