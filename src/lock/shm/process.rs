//! Processes: what others are told about this one, and proof that the one that a hold is bound to is gone.

use crate::lock::shm::elsewhere::{self, Stranger};
use crate::lock::shm::layout::pack_command;
use crate::lock::system::{Process, Stat, printable_bytes};
use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

pub(crate) use crate::lock::shm::elsewhere::{drop_doubts, settle_doubts};
pub(crate) use crate::lock::system::namespaces::{
    look_up_namespaces, pid_namespace, pid_namespace_if_known, time_namespace,
};

/// True if times that were recorded in this time namespace mean the same here. What is not known is no proof.
pub(crate) fn is_own_time(namespace: u32) -> bool {
    namespace != 0 && namespace == time_namespace()
}

fn read_own_command() -> String {
    let of_the_process = std::fs::read("/proc/self/comm").ok();
    // Without /proc, at least the thread's name.
    let name = of_the_process.or_else(|| Some(nix::sys::prctl::get_name().ok()?.into_bytes()));
    String::from_utf8_lossy(&name.unwrap_or_default())
        .trim_end_matches('\n')
        .to_owned()
}

/// The name of process `pid`, with unprintable characters escaped; `None`: there is none, or it cannot be read.
pub(crate) fn command_of(pid: u32) -> Option<String> {
    let name = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(printable_bytes(name.strip_suffix(b"\n").unwrap_or(&name)))
}

/// This process's name, as others see it in comm of proc(5).
#[cfg(feature = "remote")]
pub(crate) fn own_command() -> &'static str {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(read_own_command)
}

/// The same, packed as a table stores it. (In atomics: in the child of a fork, a cell that another thread was just filling
/// would stay busy for ever.)
pub(crate) fn own_command_packed() -> [u64; 2] {
    static NAME: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    static KNOWN: AtomicBool = AtomicBool::new(false);
    if !KNOWN.load(Acquire) {
        // Two threads may both come here; they store the same.
        for (word, value) in NAME.iter().zip(pack_command(&read_own_command())) {
            word.store(value, Relaxed);
        }
        KNOWN.store(true, Release); // after the name
    }
    [NAME[0].load(Relaxed), NAME[1].load(Relaxed)]
}

/// The start time of process `pid`, unless it has ended.
pub(crate) fn start_of_living(pid: u32) -> io::Result<u64> {
    // The descriptor first: as long as the process runs, the number means no other process.
    let process = Process::open(pid);
    let stat = Stat::of(pid)?;
    let ended = match &process {
        Ok(process) => process.has_ended(),
        Err(_) => stat.ended,
    };
    if ended {
        return Err(io::Error::other("it has ended already"));
    }
    Ok(stat.start_time)
}

/// What can be said of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Proven to be gone.
    Gone,
    Lives,
    /// Nothing: it counts as alive.
    Unknown,
}

/// What can be said of process `pid`, started at `start` as seen in PID namespace `namespace` and time namespace `time`.
/// Gone: there is no such process, it is a zombie, or the number means a later process. A process of another namespace may
/// be unknown until [`settle_doubts`] was called.
pub(crate) fn life(pid: u32, start: u64, namespace: u64, time: u32) -> Life {
    let own = pid_namespace();
    if own == 0 || namespace == 0 {
        return Life::Unknown;
    }
    if namespace == own {
        return life_here(pid, start, time);
    }
    if !is_own_time(time) {
        return Life::Unknown;
    }
    let stranger = Stranger { pid, start, namespace };
    let Some(candidates) = elsewhere::find(stranger, own) else {
        return Life::Unknown;
    };
    let lives = candidates.iter().map(|&pid| life_here(pid, start, time));
    lives.fold(Life::Gone, |all, one| match (all, one) {
        (Life::Lives, _) | (_, Life::Lives) => Life::Lives,
        (Life::Unknown, _) | (_, Life::Unknown) => Life::Unknown,
        (Life::Gone, Life::Gone) => Life::Gone,
    })
}

/// The same of a process of the caller's own PID namespace.
fn life_here(pid: u32, start: u64, time: u32) -> Life {
    // The descriptor first: then what /proc says is about this process or a later one, never an earlier one.
    let held_while_reading = Process::open(pid);
    match &held_while_reading {
        Ok(process) if process.has_ended() => return Life::Gone,
        Ok(_) => {}
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Life::Gone,
        // The number is a thread's by now, there are no descriptors left, or no pidfds (before Linux 5.3, or not
        // allowed). Whether there is such a process can be found out all the same, and its start time tells which one
        // it is.
        Err(_) => {
            let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
            if nix::sys::signal::kill(pid, None) == Err(nix::errno::Errno::ESRCH) {
                return Life::Gone;
            }
        }
    }
    match Stat::of(pid) {
        Ok(_) if start == 0 || !is_own_time(time) => Life::Unknown,
        Ok(now) if now.start_time != start => Life::Gone,
        Ok(_) => Life::Lives,
        // Gone in between, or hidden (hidepid), or /proc is another namespace's: the next check will tell, or nobody.
        Err(_) => Life::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_not_gone_and_a_reused_number_is() {
        let is_gone = |pid, start, namespace, time| life(pid, start, namespace, time) == Life::Gone;
        let pid = std::process::id();
        let start = Stat::of(pid).unwrap().start_time;
        let (namespace, time) = (pid_namespace(), time_namespace());
        assert!(!is_gone(pid, start, namespace, time));
        assert!(is_gone(pid, start + 1, namespace, time));
        for (namespace, time) in [(namespace + 1, time), (namespace, time + 1), (namespace, 0)] {
            assert!(
                !is_gone(pid, start + 1, namespace, time),
                "another namespace: cannot be verified"
            );
        }
        assert!(is_gone(i32::MAX as u32, 1, namespace, time));
        assert!(is_gone(i32::MAX as u32, 1, namespace, 0), "whenever it was started");
    }
}
