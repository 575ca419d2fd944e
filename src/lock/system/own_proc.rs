//! Is /proc the one of this process's PID namespace?
//!
//! System calls take the numbers that processes have in the caller's namespace; /proc shows those of the namespace that it
//! was mounted in. In a new PID namespace with the old /proc (`unshare --pid --fork` without `--mount-proc`, some
//! sandboxes) a number means one process to pidfd_open(2) and another one to /proc. Whoever asks both has to know first
//! that they speak of the same.

use super::namespaces::{FIRST_PID_NAMESPACE, pid_namespace};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// For which mount of /proc and which process it was found out: see [`proc_is_own`].
static KNOWN: AtomicU64 = AtomicU64::new(0);

/// True if /proc shows this process's own PID namespace: what it says of a number is about the process that system calls
/// mean by it. False if it is not mounted, or shows another namespace's processes. Does not block.
pub fn proc_is_own() -> bool {
    let pid = std::process::id();
    let own = fs::read_link("/proc/self").ok();
    if own.and_then(|own| own.to_str()?.parse().ok()) != Some(pid) {
        return false;
    }
    // A process of the first namespace is in the /proc of no other one.
    if pid_namespace() == FIRST_PID_NAMESPACE {
        return true;
    }
    // The number might be the same in both. That need not be examined twice.
    let Ok(mount) = fs::metadata("/proc") else { return false };
    let key = (mount.dev() << 22 | u64::from(pid)).wrapping_add(1);
    if KNOWN.load(Relaxed) == key {
        return true;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_own = !status.is_empty() && numbers(&status).is_none_or(|numbers| numbers == [pid]);
    if is_own {
        KNOWN.store(key, Relaxed);
    }
    is_own
}

/// True if /proc may hide processes (its option `hidepid`), or if that cannot be found out.
pub(crate) fn has_hidden_processes() -> bool {
    fs::read_to_string("/proc/self/mountinfo").map_or(true, |mounts| hides(&mounts))
}

/// From /proc/PID/mountinfo (proc_pid_mountinfo(5)).
fn hides(mounts: &str) -> bool {
    let topmost = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/proc"));
    let Some((_, of_the_file_system)) = topmost.and_then(|line| line.split_once(" - ")) else {
        return true;
    };
    let mut options = of_the_file_system.split(' ').flat_map(|field| field.split(','));
    options.any(|option| {
        option
            .strip_prefix("hidepid=")
            .is_some_and(|value| value != "0" && value != "off")
    })
}

/// The numbers of the process that is `pid` in the namespace whose processes /proc shows: see [`numbers`].
pub(crate) fn numbers_of(pid: u32) -> io::Result<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    numbers(&status).ok_or_else(|| io::Error::other("/proc/PID/status does not say which numbers a process has"))
}

/// The numbers that a process has: in the namespace of /proc, and in each one between that and its own. From its status
/// (proc_pid_status(5)); `None`: it does not say (before Linux 4.1, or a kernel without PID namespaces).
fn numbers(status: &str) -> Option<Vec<u32>> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace()
        .map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn here_it_is() {
        assert!(proc_is_own());
        assert!(proc_is_own(), "known by now");
    }

    #[test]
    fn where_processes_are_hidden() {
        let mount = |options: &str| format!("24 30 0:22 / /proc rw,nosuid - proc proc {options}\n");
        let others = "30 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        for (options, hidden) in [
            ("rw", false),
            ("rw,hidepid=0", false),
            ("rw,hidepid=off,subset=pid", false),
            ("rw,gid=4,hidepid=2", true),
            ("rw,hidepid=invisible", true),
            ("rw,hidepid=1", true),
            ("rw,hidepid=ptraceable", true),
        ] {
            assert_eq!(hides(&format!("{others}{}", mount(options))), hidden, "{options}");
        }
        assert!(hides(others), "it is not mounted");
        assert!(!hides(&(mount("rw,hidepid=2") + &mount("rw"))), "the topmost counts");
    }

    #[test]
    fn numbers_of_a_process() {
        let status = "Name:\tx\nNStgid:\t71\t5\nNSpid:\t70\t5\t1\nNSpgid:\t0\n";
        assert_eq!(numbers(status), Some(vec![70, 5, 1]));
        assert_eq!(numbers("Name:\tx\n"), None);
        assert_eq!(numbers("NSpid:\tx\n"), None);
    }
}
