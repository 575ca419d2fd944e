//! `--replace`: ask the holder's command to end.

use crate::exec::{self, Process};
use crate::output;
use resourcelock::{Holder, State};
use std::io;

/// Sends TERM to the commands that run under the lock. What cannot be asked is said (unless `quiet`) and waited for.
/// `own` are this job's tokens: a job does not end itself.
pub fn ask_holders_to_end(state: &State, own: &[u64], quiet: bool) {
    for holder in state.holders.iter().filter(|h| h.alive && !own.contains(&h.token)) {
        if let Err(why) = ask(holder)
            && !quiet
        {
            let command = &holder.command;
            output::message(&format!(
                "resourcelock: {}: {} ({command}) was not asked to end: {why}; waiting for it",
                state.name, holder.pid
            ));
        }
    }
    if state.foreign && !quiet {
        output::message(&format!(
            "resourcelock: {}: its holder uses the Python module and cannot be asked to end; waiting for it",
            state.name
        ));
    }
}

/// Signals the command of one holder, after making sure that its PID still means that command.
fn ask(holder: &Holder) -> Result<(), String> {
    let (Some(pid), false) = (holder.bound_pid, holder.detached) else {
        return Err("it does not run a command for the lock".to_owned());
    };
    if !holder.same_pid_namespace {
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
