//! Processes: who we are, and whether the process that a hold is bound to is gone.

use crate::lock::shm::layout::pack_command;
use crate::lock::sys;
use crate::lock::system::{Process, Stat};
use std::io;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

// What is known of this process stands in atomics: in the child of a fork, a cell that another thread was just filling
// would stay busy for ever.

/// One of this process's namespaces.
struct Namespace {
    path: &'static str,
    inode: AtomicU64,
    /// For which generation of forks + 1 it was read: a child may be in another one.
    of: AtomicU32,
}

static PID: Namespace = Namespace::at("/proc/self/ns/pid");
static TIME: Namespace = Namespace::at("/proc/self/ns/time");

impl Namespace {
    const fn at(path: &'static str) -> Self {
        Self {
            path,
            inode: AtomicU64::new(0),
            of: AtomicU32::new(0),
        }
    }

    /// Its inode, 0 if that cannot be read; or what `instead` says.
    fn inode(&self, instead: impl FnOnce() -> u64) -> u64 {
        let known = self.inode_if_known();
        if known != 0 {
            return known;
        }
        sys::watch_forks();
        let generation = sys::fork_generation();
        let inode = nix::sys::stat::stat(self.path).map_or_else(|_| instead(), |stat| stat.st_ino);
        self.inode.store(inode, Release);
        self.of.store(generation.wrapping_add(1), Release);
        inode
    }

    fn inode_if_known(&self) -> u64 {
        if self.of.load(Acquire) == sys::fork_generation().wrapping_add(1) {
            self.inode.load(Acquire)
        } else {
            0
        }
    }
}

/// What [`pid_namespace`] says if it has been asked for before, else 0: asking costs a walk through /proc.
pub(crate) fn pid_namespace_if_known() -> u64 {
    PID.inode_if_known()
}

/// Inode of this process's PID namespace; 0 if it cannot be read (then nobody's PIDs are ours to judge).
pub(crate) fn pid_namespace() -> u64 {
    PID.inode(|| 0)
}

/// In place of an inode, where the kernel has no time namespaces (before Linux 5.6).
const ONE_TIME: u64 = 1;

/// Inode of this process's time namespace; 0 if it cannot be read. Its clocks that count from boot, and the start times
/// in its /proc, may differ from those of another one.
pub(crate) fn time_namespace() -> u32 {
    let inode = TIME.inode(|| if pid_namespace() == 0 { 0 } else { ONE_TIME });
    u32::try_from(inode).unwrap_or(0)
}

/// Whether times that were recorded in this time namespace mean the same here. What is not known is no proof.
pub(crate) fn is_own_time(namespace: u32) -> bool {
    namespace != 0 && namespace == time_namespace()
}

fn read_own_command() -> String {
    let of_the_process = std::fs::read("/proc/self/comm").ok();
    // Without /proc at least the thread's.
    let name = of_the_process.or_else(|| Some(nix::sys::prctl::get_name().ok()?.into_bytes()));
    String::from_utf8_lossy(&name.unwrap_or_default())
        .trim_end_matches('\n')
        .to_owned()
}

/// This process's name, as others see it in comm of proc(5).
#[cfg(feature = "remote")]
pub(crate) fn own_command() -> &'static str {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(read_own_command)
}

/// The same as a table stores it.
pub(crate) fn own_command_packed() -> [u64; 2] {
    static NAME: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    static KNOWN: AtomicBool = AtomicBool::new(false);
    if !KNOWN.load(Acquire) {
        for (word, value) in NAME.iter().zip(pack_command(&read_own_command())) {
            word.store(value, Release);
        }
        KNOWN.store(true, Release);
    }
    [NAME[0].load(Acquire), NAME[1].load(Acquire)]
}

/// Start time of a process that has not ended.
pub(crate) fn start_of_living(pid: u32) -> io::Result<u64> {
    // The descriptor first: as long as it is open and the process runs, the number is not another's.
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

/// Whether process `pid`, started at `start` as it was seen in PID namespace `namespace` and time namespace `time`, is
/// proven to be gone: there is no such process, it is a zombie, or the number belongs to a later one. What cannot be
/// verified counts as alive.
pub(crate) fn is_gone(pid: u32, start: u64, namespace: u64, time: u32) -> bool {
    let own = pid_namespace();
    if own == 0 || namespace != own {
        return false;
    }
    // The descriptor first: what /proc then says is about this process or a later one, never an earlier.
    let held_while_reading = Process::open(pid);
    match &held_while_reading {
        Ok(process) if process.has_ended() => return true,
        Ok(_) => {}
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return true,
        // The number is a thread's by now, descriptors are short, or there are none of processes (before Linux 5.3, or
        // not allowed): whether there is such a process is known all the same; which one, its start time tells.
        Err(_) => {
            let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
            if nix::sys::signal::kill(pid, None) == Err(nix::errno::Errno::ESRCH) {
                return true;
            }
        }
    }
    match Stat::of(pid) {
        Ok(now) => start != 0 && now.start_time != start && is_own_time(time),
        // Gone between the two looks, or hidden (hidepid): the next look will tell.
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_not_gone_and_a_reused_number_is() {
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
