//! This process's namespaces: in which PIDs, and times that count from boot, mean something.
//!
//! Namespaces are told apart by their inodes. The kernel tells these of a process that is known by a descriptor since
//! Linux 6.11, else /proc does. Going through /proc takes ten times as long: the kernel makes files and directories in it
//! for each new process that is asked about, and has to remove them when that ends.

use super::pidfd::Process;
use crate::lock::sys;
use std::ffi::c_ulong;
use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

/// The inode of the machine's first PID namespace (PROC_PID_INIT_INO of the kernel).
pub(crate) const FIRST_PID_NAMESPACE: u64 = 4_026_531_836;

/// Used instead of an inode if the kernel has no time namespaces (before Linux 5.6).
const ONE_TIME: u64 = 1;

/// One of this process's namespaces. What is known of it is kept in atomics: in the child of a fork, a cell that another
/// thread was just filling would stay busy for ever.
struct Namespace {
    kind: c_ulong,
    path: &'static str,
    inode: AtomicU64,
    /// The generation of forks, + 1, for which it was read: a child may be in another namespace.
    of: AtomicU32,
}

static PID: Namespace = Namespace::new(sys::PID_NAMESPACE, "/proc/self/ns/pid");
static TIME: Namespace = Namespace::new(sys::TIME_NAMESPACE, "/proc/self/ns/time");

impl Namespace {
    const fn new(kind: c_ulong, path: &'static str) -> Self {
        Self {
            kind,
            path,
            inode: AtomicU64::new(0),
            of: AtomicU32::new(0),
        }
    }

    /// Its inode. If that cannot be read, what `instead` says of why the kernel did not tell.
    fn inode(&self, instead: impl FnOnce(io::Error) -> u64) -> u64 {
        let known = self.inode_if_known();
        if known != 0 {
            return known;
        }
        sys::watch_forks();
        let generation = sys::fork_generation();
        let inode = self.inode_by_descriptor();
        let inode = inode.unwrap_or_else(|why| self.inode_by_path().unwrap_or_else(|| instead(why)));
        self.inode.store(inode, Relaxed);
        self.of.store(generation.wrapping_add(1), Release); // after the inode that it says is known
        inode
    }

    fn inode_by_descriptor(&self) -> io::Result<u64> {
        let namespace = Process::open(std::process::id())?.namespace(self.kind)?;
        Ok(nix::sys::stat::fstat(namespace)?.st_ino)
    }

    fn inode_by_path(&self) -> Option<u64> {
        Some(nix::sys::stat::stat(self.path).ok()?.st_ino)
    }

    fn inode_if_known(&self) -> u64 {
        // Acquire: pairs with the Release in `inode`.
        if self.of.load(Acquire) == sys::fork_generation().wrapping_add(1) {
            self.inode.load(Relaxed)
        } else {
            0
        }
    }
}

/// The answer of [`pid_namespace`] if it has been called before, else 0.
pub(crate) fn pid_namespace_if_known() -> u64 {
    PID.inode_if_known()
}

/// The inode of this process's PID namespace; 0 if it cannot be read (then no PID can be judged).
pub(crate) fn pid_namespace() -> u64 {
    PID.inode(|_| 0)
}

/// The inode of this process's time namespace; 0 if it cannot be read. The clocks that count from boot, and the start
/// times in /proc, may differ between namespaces.
pub(crate) fn time_namespace() -> u32 {
    let inode = TIME.inode(|why| {
        // No such namespaces: the kernel says so, or /proc, which shows the other kind.
        let one = why.raw_os_error() == Some(libc::EOPNOTSUPP) || PID.inode_by_path().is_some();
        if one { ONE_TIME } else { 0 }
    });
    u32::try_from(inode).unwrap_or(0)
}

/// Finds out this process's namespaces, so that asking for them in the latch takes no system call.
pub(crate) fn look_up_namespaces() {
    pid_namespace();
    time_namespace();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_tell_the_same() {
        let both = [&PID, &TIME].map(|namespace| {
            let by_path = namespace.inode_by_path();
            assert!(by_path.is_some(), "{}", namespace.path);
            let by_descriptor = namespace.inode_by_descriptor().ok();
            assert!(by_descriptor.is_none() || by_descriptor == by_path, "{by_descriptor:?}");
            by_descriptor.is_some()
        });
        // None before Linux 6.11.
        assert_eq!(both[0], both[1]);
    }
}
