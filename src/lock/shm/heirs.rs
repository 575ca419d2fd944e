//! Who inherited a keeper: which processes have its descriptor open.

use crate::lock::system::{Stat, proc_is_own};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// The oldest process, other than this one, that has an open file with a lock on byte `byte` of the file with this inode:
/// what a command left behind. `None`: there is none, or it belongs to another user, whose descriptors are not shown.
/// Reads all of /proc.
pub(crate) fn oldest(inode: u64, byte: u64) -> Option<u32> {
    if !proc_is_own() {
        return None;
    }
    let own = std::process::id();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let heirs = pids.filter(|pid| *pid != own && has_open(*pid, inode, byte));
    let aged = heirs.filter_map(|pid| Some((Stat::shown(pid).ok()?.start_time, pid)));
    aged.min().map(|(_, pid)| pid)
}

fn has_open(pid: u32, inode: u64, byte: u64) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors.flatten().any(|entry| {
        let is_file = fs::metadata(entry.path()).is_ok_and(|file| file.ino() == inode);
        is_file
            && entry.file_name().to_str().is_some_and(|number| {
                let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"));
                info.is_ok_and(|info| locks(&info, byte))
            })
    })
}

/// True if /proc/PID/fdinfo/FD (proc_pid_fdinfo(5)) shows a lock of the open file on exactly this byte.
fn locks(info: &str, byte: u64) -> bool {
    let of_files = info
        .lines()
        .filter(|line| line.starts_with("lock:") && line.contains("OFDLCK"));
    of_files
        .map(|line| line.split_ascii_whitespace().rev().take(2))
        .any(|mut range| range.all(|end| end.parse() == Ok(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_of_an_open_file() {
        let info =
            |range: &str| format!("pos:\t0\nflags:\t02100000\nlock:\t1: OFDLCK  ADVISORY  READ -1 00:17:12 {range}\n");
        assert!(locks(&info("1099511627783 1099511627783"), 1_099_511_627_783));
        for other in [
            "1099511627783 1099511627784",
            "1099511627782 1099511627782",
            "1099511627783 EOF",
        ] {
            assert!(!locks(&info(other), 1_099_511_627_783), "{other}");
        }
        assert!(!locks("lock:\t1: POSIX  ADVISORY  READ 5 00:17:12 7 7\n", 7));
        assert!(!locks("", 7));
    }
}
