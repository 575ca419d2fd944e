//! `--replace`: ask the holder's command to end.

use super::CANCEL;
use crate::exec;
use crate::output;
use resourcelock::engines::Engine;
use resourcelock::system::Process;
use resourcelock::{Error, Holder, LockName};
use std::io;
use std::time::Duration;

/// How long a new holder may take to start its command and to say which process that is.
const STARTING: Duration = Duration::from_secs(1);

/// Sends TERM to the commands that run under the lock now, once to each. What cannot be asked is said (unless
/// `quiet`) and waited for. `own` are this job's tokens: a job does not end itself.
///
/// # Errors
/// The lock's state cannot be read.
pub fn ask_holders_to_end(engine: &dyn Engine, lock: &LockName, own: &[u64], quiet: bool) -> Result<(), Error> {
    let say = |what: &str| {
        if !quiet {
            output::message(&format!("resourcelock: {lock}: {what}; waiting for it"));
        }
    };
    let Some(state) = engine.state(lock, &CANCEL)? else {
        return Ok(());
    };
    if state.foreign {
        say("its holder uses the Python module and cannot be asked to end");
    }
    for holder in state
        .holders
        .iter()
        .filter(|h| h.alive && !h.token.is_some_and(|token| own.contains(&token)))
    {
        let Some(holder) = when_started(engine, lock, holder)? else {
            continue; // it has ended
        };
        if let Err(why) = ask(&holder) {
            let pid = output::names::pid(&holder.requester);
            let command = holder.requester.command.as_deref().unwrap_or("?");
            say(&format!("{pid} ({command}) was not asked to end: {why}"));
        }
    }
    Ok(())
}

/// The holder as it is when its command has been started: it is granted the lock before. `None`: it has released it.
fn when_started(engine: &dyn Engine, lock: &LockName, holder: &Holder) -> Result<Option<Holder>, Error> {
    let mut holder = holder.clone();
    while holder.bound_pid.is_none() && holder.held.is_some_and(|held| held < STARTING) {
        std::thread::sleep(Duration::from_millis(2));
        let state = engine.state(lock, &CANCEL)?;
        let holders = state.map(|state| state.holders).unwrap_or_default();
        match holders.into_iter().find(|now| now.token == holder.token) {
            Some(now) => holder = now,
            None => return Ok(None),
        }
    }
    Ok(Some(holder))
}

/// Signals the command of one holder, after making sure that its PID still means that command.
fn ask(holder: &Holder) -> Result<(), String> {
    let (Some(pid), false) = (holder.bound_pid, holder.detached) else {
        return Err("it does not run a command for the lock".to_owned());
    };
    if !holder.requester.same_pid_namespace {
        return Err("it is in another PID namespace".to_owned());
    }
    // Once it is opened it cannot come to mean another process; so the start time, which is looked at after that, is
    // that of the process which is signalled.
    let process = match Process::open(pid) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(()), // it has ended
        opened => opened.map_err(|e| e.to_string())?,
    };
    if holder.bound_start.is_none() || exec::start_time(pid) != holder.bound_start {
        return Ok(()); // it has ended, and its number has been given to another process
    }
    match process.signal(libc::SIGTERM) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err("this user may not signal it".to_owned()),
        result => result.map_err(|e| e.to_string()),
    }
}
