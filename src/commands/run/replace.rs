//! `--replace`: ask the holder's command to end.

use super::{CANCEL, Run, Stop};
use crate::commands::support::ask_to_end::{STARTING, ask_to_end, when_started};
use crate::output;
use resourcelock::{Holder, State, Wait};
use std::time::{Duration, Instant};

/// Sends TERM to the commands that run under the lock now, once to each. What cannot be asked is said (unless `-q` was
/// given) and waited for. `own` are this job's tokens: a job does not end itself. Returns the tokens of all of them, with
/// those of this job.
///
/// # Errors
/// The lock's state cannot be read; a signal came.
pub(super) fn ask_holders_to_end(run: &Run<'_>, own: &[u64]) -> Result<Vec<u64>, Stop> {
    run.engine
        .check_trust(&run.wanted.lock)
        .map_err(|error| run.failed(error))?;
    let state = run
        .engine
        .state(&run.wanted.lock, &CANCEL)
        .map_err(|error| run.failed(error))?;
    let Some(state) = state else { return Ok(own.to_vec()) };
    if state.foreign {
        say_waiting(
            run,
            "its holder, which uses the Python module and cannot be asked to end",
        );
    }
    ask(run, &state, own)?;
    let tokens = state.holders.iter().filter_map(|holder| holder.token);
    Ok(own.iter().copied().chain(tokens).collect())
}

fn say_waiting(run: &Run<'_>, what: &str) {
    if !run.common.quiet {
        run.say(&format!("waiting for {what}"));
    }
}

/// The same for the holders in this state, but not for those with `known` tokens.
pub(super) fn ask(run: &Run<'_>, state: &State, known: &[u64]) -> Result<(), Stop> {
    // One deadline for all of them, on this process's clock: what a table says of times makes nobody wait longer.
    let starting = match run.args.request.wait {
        Wait::No => Duration::ZERO,
        Wait::For(time) => time.min(STARTING),
        Wait::Forever => STARTING,
    };
    let until = Instant::now() + starting;
    let is_known = |holder: &Holder| holder.token.is_some_and(|token| known.contains(&token));
    for holder in state.holders.iter().filter(|holder| holder.alive && !is_known(holder)) {
        let view = || {
            if CANCEL.is_cancelled() {
                return Err(Stop::With(crate::commands::interrupted()));
            }
            let state = run.engine.state(&run.wanted.lock, &CANCEL);
            state.map_err(|error| run.failed(error))
        };
        let Some(holder) = when_started(holder, until, view)? else {
            continue; // it has ended
        };
        if let Err(why) = ask_to_end(&run.wanted.lock, &holder, libc::SIGTERM) {
            let pid = output::names::pid(&holder.requester);
            let command = holder.requester.command.as_deref().unwrap_or("?");
            say_waiting(run, &format!("{pid} ({command}), which was not asked to end: {why}"));
        }
    }
    Ok(())
}
