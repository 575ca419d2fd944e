//! `get`: leaves the lock taken on the engine, for a time or until somebody ungets it; with `-a` it stays and renews.

use super::{is_for_files, name, refuse};
use crate::cli::{Common, GetArgs};
use crate::commands::get::{command_name, not_had, pause, report};
use crate::commands::job::Job;
use crate::commands::waiting::Waiting;
use crate::commands::{Failure, bare};
use crate::exec;
use crate::exit::Exit;
use crate::output::{self, view};
use resourcelock::engines::{Engine, Held, SHORTEST_TTL, Validity};
use resourcelock::{Cancel, Error, GetOptions};
use std::time::{Duration, Instant};

/// Ends the wait; triggered by the signal handler.
static CANCEL: Cancel = Cancel::new();

pub fn perform(engine: &dyn Engine, common: &Common, args: &GetArgs) -> Result<Exit, Failure> {
    exec::catch_interrupts(|| CANCEL.cancel());
    let keeps = args.auto_unget.is_some();
    let can = engine.capabilities().detached;
    let refused = [
        (
            args.pid.is_some(),
            if can {
                "--pid: it does not know this machine's processes; use run, or --ttl"
            } else {
                "--pid: it does not know this machine's processes; use run"
            },
        ),
        (
            is_for_files(&args.create),
            "--mode and --group are for the files of a lock of this machine",
        ),
        (
            !keeps && !can,
            "'get': the lock would not outlive this process; use run, or get -a SECONDS in the background",
        ),
        (
            !keeps && args.ttl.is_none() && !args.forever,
            "a lock that nobody renews needs an end: use --ttl DURATION (or --forever), or run",
        ),
        (keeps && args.forever, "-a and --forever contradict each other"),
        (
            args.ttl.is_some_and(|ttl| ttl < SHORTEST_TTL),
            "--ttl: the shortest lease is 5 s, as renewals need time on a busy machine or network",
        ),
    ];
    refuse(engine, &args.name, &refused)?;
    let lock = name(&args.name)?;
    let failed = |error| Failure::lock(&args.name, error);
    let waiting = Waiting::new(common, &args.name);
    let job = Job::inherited();
    if job.mentions(&lock) {
        let state = match engine.look(&lock, &CANCEL) {
            Err(Error::Cancelled) => return Ok(interrupted()),
            state => state.map_err(failed)?,
        };
        let own = job.tokens_in(&state);
        if let (true, Some(&token)) = (args.same_process_ok, own.last()) {
            return report(common, args, token, "held by this job already");
        }
        waiting.check_self_wait(|| state, &own, args.mode, args.wait)?;
    }
    let command = command_name(None);
    let mut options = GetOptions::new()
        .wait(args.wait)
        .mode(args.mode)
        .lock_info(&args.message)
        .command(&command)
        .cancel(&CANCEL);
    if let (true, Some(ttl)) = (keeps, args.ttl) {
        options = options.lease(ttl);
    }
    let held = match engine.acquire(&lock, waiting.told_from_afar(options)) {
        Ok(Some(held)) => held,
        Ok(None) => {
            let state = engine.glance(&lock);
            return not_had(&waiting, args, state.as_ref(), view::LockView::of_engine);
        }
        Err(Error::Cancelled) => return Ok(interrupted()),
        Err(error) => return Err(failed(error)),
    };
    waiting.over();
    if let Some(signal) = exec::interrupt() {
        return Ok(Exit::Signal(signal)); // it came when the lock was being granted; dropping gives it back
    }
    match args.auto_unget {
        Some(time) => keep(common, args, held, time),
        None => {
            let token = held.token();
            match held.detach(args.ttl, &CANCEL) {
                Ok(()) => report(common, args, token, "taken"),
                Err(Error::Cancelled) => Ok(interrupted()),
                Err(error) if exec::interrupt().is_some() => {
                    // The lock may stay taken, which whoever ended it should know.
                    output::message(&format!("resourcelock: {}", failed(error)));
                    Ok(interrupted())
                }
                Err(error) => Err(failed(error)),
            }
        }
    }
}

/// Ended by the signal that came.
fn interrupted() -> Exit {
    Exit::Signal(exec::interrupt().unwrap_or(libc::SIGTERM))
}

/// `-a`: keeps the lock for `time`, or until a signal comes, or until it is lost or is about to be.
fn keep(common: &Common, args: &GetArgs, mut held: Box<dyn Held>, time: Duration) -> Result<Exit, Failure> {
    let text = format!("taken for {}", output::duration(time));
    report(common, args, held.token(), &text)?;
    let since = Instant::now();
    while exec::interrupt().is_none()
        && lasts(held.validity())
        && let Some(left) = time.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
    {
        pause(left);
    }
    let lasted = lasts(held.validity());
    if !lasted || exec::interrupt().is_some() {
        held.hurry();
    }
    let released = held.release();
    if let Some(signal) = exec::interrupt() {
        return Ok(Exit::Signal(signal));
    }
    // Where it did not last, that is what counts, whatever the answer is and whether there is one.
    let was_ours = lasted && released.map_err(|error| Failure::lock(&args.name, error))?;
    let what = if was_ours { "released" } else { "it was lost before" };
    if !common.quiet && !args.json {
        output::print(&format!("{}: {what}\n", bare(&args.name)))?;
    }
    Ok(if was_ours { Exit::Done } else { Exit::Lost })
}

/// Whether it is still certain, for a while: a command would not be killed yet.
fn lasts(validity: Validity) -> bool {
    match validity {
        Validity::Until(lease) => lease.left() > lease.ttl.saturating_sub(lease.kill_after()),
        other => other.is_certain(),
    }
}
