//! `unget`: release the lock, whoever has it; with `--pid` or `--token`, only one particular hold.

use super::remove::whose;
use super::{Failure, bare, name};
use crate::cli::{Common, UngetArgs};
use crate::exit::Exit;
use crate::output::{self, shown, view};
use crate::syslog;
use resourcelock::engines::Engine;
use resourcelock::{Holder, State, UngetOptions};

/// Carries it out.
pub fn perform(engine: &dyn Engine, common: &Common, args: &UngetArgs) -> Result<Exit, Failure> {
    let lock = name(&args.name)?;
    let failed = |error| Failure::lock(&args.name, error);
    // On a remote engine the command ends with its hold.
    let before = match engine.capabilities().remote {
        true => None,
        false => engine.peek(&lock).map_err(failed)?,
    };
    let released = engine.break_hold(&lock, options(args)).map_err(failed)?;
    if released {
        syslog::tell(common, bare(&args.name), "released", || {
            [("note", args.message.clone())]
        });
    }
    report(common, args, released, before.as_ref())?;
    if let (false, Some(before)) = (common.quiet, before) {
        if released {
            report_unprotected(args, &before);
        }
        let is_marked = |state: State| state.abandoned.is_some();
        if before.abandoned.is_some() && !engine.peek(&lock).map_err(failed)?.is_some_and(is_marked) {
            let name = bare(&args.name);
            output::message(&format!(
                "resourcelock: {name}: the mark that a holder died while holding it is cleared"
            ));
        }
    }
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

/// Names those who go on without the lock that was taken from them.
fn report_unprotected(args: &UngetArgs, before: &State) {
    let is_meant = |holder: &&Holder| match (args.pid, args.token) {
        (Some(pid), _) => holder.bound_pid == Some(pid),
        (None, Some(token)) => holder.token == Some(token),
        (None, None) => true,
    };
    for holder in before
        .holders
        .iter()
        .filter(|holder| holder.alive && !holder.detached)
        .filter(is_meant)
    {
        output::message(&format!(
            "resourcelock: {}: {}{} goes on without the lock",
            bare(&args.name),
            output::holder(holder),
            holder
                .since
                .map(|since| format!(", which held it since {},", output::text::clock(since)))
                .unwrap_or_default()
        ));
    }
}

/// Reports the result.
fn report(common: &Common, args: &UngetArgs, released: bool, before: Option<&State>) -> Result<(), Failure> {
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
            output::print(&format!("{}: released{}\n", shown(name), whose(before)))?;
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
            output::print(&format!("{}: was not taken\n", shown(name)))?;
        }
    }
    Ok(())
}
