//! Signals to processes and all that descends from them.

use super::processes;
use super::sys::process::Process;
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
        let mut members: Vec<(u32, u64)> = family.iter().map(|(pid, start)| (*pid, *start)).collect();
        // The roots come last: who waits for their end takes it for the end of all.
        members.sort_unstable_by_key(|(pid, _)| roots.contains(pid));
        let same: Vec<Process> = members
            .iter()
            .filter_map(|(pid, start)| same_process(*pid, *start))
            .collect();
        for process in same {
            let _ = process.signal(signal);
        }
        if signal != libc::SIGKILL {
            return; // those that are made from now on are made by processes that know
        }
        done.extend(family.into_keys());
    }
}

/// The process that has this PID, if it is the one that was started then: the number may have come to mean another
/// one since /proc was read.
fn same_process(pid: u32, start_time: u64) -> Option<Process> {
    let process = Process::open(pid).ok()?;
    (processes::start_time(pid) == Some(start_time)).then_some(process)
}
