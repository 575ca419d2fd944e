//! Signals to processes and all that descends from them.

use super::processes;
use super::sys::process::Process;
use super::sys::signal;
use std::collections::HashSet;
use std::ffi::c_int;

/// Rounds of killing a tree whose processes make new ones meanwhile.
const KILL_ROUNDS: usize = 16;

/// Sends `signal` to the processes `roots` says and their descendants.
pub fn signal(roots: impl Fn() -> HashSet<u32>, signal: c_int) {
    let mut done = HashSet::new();
    for _ in 0..KILL_ROUNDS {
        let roots = roots();
        let mut family = processes::descendants(&roots);
        family.retain(|pid, _| !done.contains(pid));
        if family.is_empty() {
            return;
        }
        // All are made sure of before any is signalled: when one ends, its children become somebody else's.
        let mut pids: Vec<u32> = family.keys().copied().collect();
        // The roots come last: who waits for their end takes it for the end of all.
        pids.sort_unstable_by_key(|pid| roots.contains(pid));
        let members: Vec<Member> = pids
            .iter()
            .filter_map(|pid| Member::of(*pid, family.get(pid)?.start_time))
            .collect();
        for member in members {
            member.signal(signal);
        }
        if signal != libc::SIGKILL {
            return; // those that are made from now on are made by processes that know
        }
        done.extend(family.into_keys());
    }
}

/// Sends `signal`, one that is no order to end at once, to the process group `group` and to what descends from `root`
/// outside of it: once to each, since a second one may mean something else to a program. Not to `root` itself.
pub fn ask(root: u32, group: Option<u32>, signal: c_int) {
    let family = processes::descendants(&HashSet::from([root]));
    let apart = family
        .iter()
        .filter(|(pid, stat)| **pid != root && Some(stat.group) != group);
    // Before the first one ends.
    let apart: Vec<Member> = apart
        .filter_map(|(pid, stat)| Member::of(*pid, stat.start_time))
        .collect();
    if let Some(group) = group {
        let _ = signal::kill_group(group, signal);
    }
    for member in apart {
        member.signal(signal);
    }
}

/// A process that was seen in /proc.
enum Member {
    Opened(Process),
    /// By PID and start time, where there can be no descriptor.
    Numbered(u32, u64),
}

impl Member {
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
