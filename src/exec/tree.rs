//! Signals to processes and all that descends from them.

use super::processes::{self, Stat};
use super::sys::process::Process;
use super::sys::signal;
use std::collections::HashSet;
use std::ffi::c_int;

/// Rounds of killing a tree whose processes make new ones meanwhile.
const KILL_ROUNDS: usize = 16;

/// Sends `signal` to the processes `roots` says and their descendants. KILL comes last to the roots: who waits for their
/// end takes it for the end of all.
pub fn signal(roots: impl Fn() -> HashSet<u32>, signal: c_int) {
    let mut done = HashSet::new();
    for _ in 0..KILL_ROUNDS {
        let mut family = processes::descendants(&roots());
        family.retain(|(pid, _)| !done.contains(pid));
        if family.is_empty() {
            return;
        }
        // All are made sure of before any is signalled: when one ends, its children become somebody else's.
        let members = Member::all_of(&family);
        if signal != libc::SIGKILL {
            // Parents first: a shell whose command ends before it would go on with the next one. Those that are made
            // from now on are made by processes that know.
            members.iter().for_each(|member| member.signal(signal));
            return;
        }
        // For the same reason: what is stopped does nothing about the end of others.
        members.iter().for_each(|member| member.signal(libc::SIGSTOP));
        members.iter().rev().for_each(|member| member.signal(libc::SIGKILL));
        done.extend(family.into_iter().map(|(pid, _)| pid));
    }
}

/// Sends `signal`, one that is no order to end at once, to the process group `group` and to `roots` and what descends
/// from them outside of it: once to each, since a second one may mean something else to a program. Not to `but`.
pub fn ask(roots: &HashSet<u32>, group: Option<u32>, but: u32, signal: c_int) {
    let mut apart = processes::descendants(roots);
    apart.retain(|(pid, stat)| *pid != but && Some(stat.group) != group);
    // Before the first one ends.
    let apart = Member::all_of(&apart);
    if let Some(group) = group {
        let _ = signal::kill_group(group, signal);
    }
    apart.iter().for_each(|member| member.signal(signal));
}

/// A process that was seen in /proc.
enum Member {
    Opened(Process),
    /// By PID and start time, where there can be no descriptor.
    Numbered(u32, u64),
}

impl Member {
    /// Those of them that still are what was seen.
    fn all_of(family: &[(u32, Stat)]) -> Vec<Self> {
        let members = family.iter();
        members
            .filter_map(|(pid, stat)| Self::of(*pid, stat.start_time))
            .collect()
    }

    /// The process that has this PID, if it is the one that was started then: the number may have come to mean another
    /// one since /proc was read.
    fn of(pid: u32, start_time: u64) -> Option<Self> {
        let member = match Process::open(pid) {
            Ok(process) => Self::Opened(process),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return None,
            Err(_) => Self::Numbered(pid, start_time),
        };
        (processes::start_time(pid) == Some(start_time)).then_some(member)
    }

    fn signal(&self, signal: c_int) {
        // If it fails it has ended, or may not be signalled by this user.
        let _ = match self {
            Self::Opened(process) => process.signal(signal),
            Self::Numbered(pid, start_time) if processes::start_time(*pid) == Some(*start_time) => {
                signal::kill(*pid, signal)
            }
            Self::Numbered(..) => Ok(()),
        };
    }
}
