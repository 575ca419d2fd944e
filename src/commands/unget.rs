//! `unget`: release the lock, whoever has it; with `--pid` or `--token`, only one particular hold.

use super::{Failure, bare, name};
use crate::cli::{Common, UngetArgs};
use crate::exit::Exit;
use crate::output::{self, view};
use resourcelock::UngetOptions;
use resourcelock::engines::Engine;

/// Carries it out.
pub fn perform(engine: &dyn Engine, common: &Common, args: &UngetArgs) -> Result<Exit, Failure> {
    let released = engine
        .break_hold(&name(&args.name)?, options(args))
        .map_err(|error| Failure::lock(&args.name, error))?;
    report(common, args, released)?;
    // A clean-up trap must not change a script's status: unless one particular hold was meant, a free lock is fine.
    let particular = args.pid.is_some() || args.token.is_some();
    Ok(if released || !particular { Exit::Done } else { Exit::No })
}

fn options(args: &UngetArgs) -> UngetOptions<'_> {
    let options = UngetOptions::new().where_called(&args.message);
    match (args.pid, args.token) {
        (Some(pid), _) => options.bound_to(pid),
        (None, Some(token)) => options.token(token),
        (None, None) => options.force(true),
    }
}

/// Reports the result.
fn report(common: &Common, args: &UngetArgs, released: bool) -> Result<(), Failure> {
    let name = bare(&args.name);
    if args.json {
        output::print_json(&view::ReleasedView {
            version: view::VERSION,
            lock: name.to_owned(),
            released,
        })?;
        return Ok(());
    }
    if common.quiet {
        return Ok(());
    }
    match (released, args.pid, args.token) {
        (true, ..) => {
            output::print(&format!("{name}: released\n"))?;
        }
        (false, Some(pid), _) => {
            output::message(&format!(
                "resourcelock: {name}: not held on behalf of {pid}: nothing released"
            ));
        }
        (false, None, Some(token)) => {
            output::message(&format!(
                "resourcelock: {name}: not held under token {token}: nothing released"
            ));
        }
        (false, None, None) => {
            output::print(&format!("{name}: was not taken\n"))?;
        }
    }
    Ok(())
}
