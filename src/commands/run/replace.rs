//! `--replace`: ask the holder's command to end.

use super::{CANCEL, Run, Stop};
use crate::commands::support::ask_to_end::ask_to_end;
use crate::output;
use nix::poll::{PollTimeout, poll};
use resourcelock::{Holder, State, Wait};
use std::time::{Duration, Instant};

/// How long a new holder may take to start its command and to say which process that is.
const STARTING: Duration = Duration::from_secs(1);
/// Between two views of a holder that is starting, in milliseconds.
const VIEW_EVERY_MS: u8 = 2;

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
        let Some(holder) = when_started(run, holder, until)? else {
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

/// The holder as it is when its command has been started: it is granted the lock before. `None`: it has released it.
fn when_started(run: &Run<'_>, holder: &Holder, until: Instant) -> Result<Option<Holder>, Stop> {
    let mut holder = holder.clone();
    let is_recorded = |holder: &Holder| holder.bound_pid.is_some() && holder.bound_start.is_some();
    while !is_recorded(&holder) && !holder.detached && Instant::now() < until {
        // Ends early when a signal comes.
        let _ = poll(&mut [], PollTimeout::from(VIEW_EVERY_MS));
        if CANCEL.is_cancelled() {
            return Err(Stop::With(crate::commands::interrupted()));
        }
        let state = run
            .engine
            .state(&run.wanted.lock, &CANCEL)
            .map_err(|error| run.failed(error))?;
        let holders = state.map(|state| state.holders).unwrap_or_default();
        match holders.into_iter().find(|now| now.token == holder.token) {
            Some(now) => holder = now,
            None => return Ok(None),
        }
    }
    Ok(Some(holder))
}
