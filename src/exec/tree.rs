//! Signals to processes and all their descendants.

use super::processes;
use super::sys::signal;
use resourcelock::system::{Process, Stat};
use std::collections::HashSet;
use std::ffi::c_int;

/// Rounds of killing a tree whose processes start new ones meanwhile.
const KILL_ROUNDS: usize = 16;

/// Sends `signal` to the processes that `roots` returns and to their descendants. The roots are killed last: whoever
/// waits for their end takes it for the end of all.
pub fn signal(roots: impl Fn() -> HashSet<u32>, signal: c_int) {
    let mut done = HashSet::new();
    for _ in 0..KILL_ROUNDS {
        let mut family = processes::descendants(&roots());
        family.retain(|(pid, _)| !done.contains(pid));
        if family.is_empty() {
            return;
        }
        // All are identified before any is signalled: when one ends, its children become somebody else's.
        let members = Member::all_of(&family);
        if signal != libc::SIGKILL {
            // Parents first: a shell whose command ended before it would go on with the next one. Whatever is started
            // from now on is started by a process that has got the signal.
            members.iter().for_each(|member| member.signal(signal));
            return;
        }
        // For the same reason: a process that is stopped does nothing when others end.
        members.iter().for_each(|member| member.signal(libc::SIGSTOP));
        members.iter().rev().for_each(|member| member.signal(libc::SIGKILL));
        done.extend(family.into_iter().map(|(pid, _)| pid));
    }
}

/// Sends `signal`, which asks rather than kills, to the process group `group`, and to `roots` and their descendants
/// outside of it, but not to `but`. Each process gets it once, because a second one may mean something else to it.
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
struct Member {
    pid: u32,
    start_time: u64,
    /// `None`: no descriptor can be had.
    process: Option<Process>,
}

impl Member {
    /// Those of them that are still the processes that were seen.
    fn all_of(family: &[(u32, Stat)]) -> Vec<Self> {
        let members = family.iter();
        members
            .filter_map(|(pid, stat)| Self::of(*pid, stat.start_time))
            .collect()
    }

    /// The process with this PID, if it is the one that started then: since /proc was read, the number may have come to
    /// mean another one.
    fn of(pid: u32, start_time: u64) -> Option<Self> {
        let process = match Process::open(pid) {
            Ok(process) => Some(process),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return None,
            Err(_) => None,
        };
        let member = Self {
            pid,
            start_time,
            process,
        };
        member.is_meant().then_some(member)
    }

    /// True if its number still means it.
    fn is_meant(&self) -> bool {
        processes::start_time(self.pid) == Some(self.start_time)
    }

    fn signal(&self, signal: c_int) {
        match self.process.as_ref().map(|process| process.signal(signal)) {
            Some(Ok(())) => {}
            Some(Err(error)) if error.raw_os_error() == Some(libc::ESRCH) => {}
            // Without a descriptor, or the system does not allow its use. If this fails, the process has ended, or this
            // user may not signal it.
            Some(Err(_)) | None if self.is_meant() => drop(signal::kill(self.pid, signal)),
            Some(Err(_)) | None => {}
        }
    }
}
