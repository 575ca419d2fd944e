//! /proc/PID/stat.

use super::own_proc::proc_is_own;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Some fields of /proc/PID/stat (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its parent's PID; 0 = none in this PID namespace.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// It has ended, with all its threads, and only waits to be reaped.
    pub ended: bool,
    /// It is stopped, by a signal or a debugger.
    pub stopped: bool,
    /// Start time in clock ticks since boot. Together with the PID it identifies one process.
    pub start_time: u64,
}

impl Stat {
    /// Reads what /proc shows of process `pid`, a number of this process's PID namespace. Does not block.
    ///
    /// # Errors
    /// ESRCH: there is no such process, or it is hidden. Others: /proc is not mounted, shows another PID namespace, or has
    /// another format; no descriptor is left.
    pub fn of(pid: u32) -> io::Result<Self> {
        if !proc_is_own() {
            return Err(io::Error::other(if Path::new("/proc/self").is_symlink() {
                "/proc shows the processes of another PID namespace"
            } else {
                "/proc is not mounted"
            }));
        }
        Self::shown(pid)
    }

    /// The same of the process that has the number `pid` in the namespace whose processes /proc shows.
    ///
    /// # Errors
    /// As [`of`](Self::of), which makes sure that this is the caller's namespace.
    pub fn shown(pid: u32) -> io::Result<Self> {
        // One read: the line is never longer, and fs::read would ask for size and end as well.
        let mut line = [0u8; 1024];
        let file = File::open(format!("/proc/{pid}/stat")).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::from_raw_os_error(libc::ESRCH),
            _ => error,
        });
        let length = file?.read(&mut line)?;
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, "unknown format of /proc/PID/stat");
        Self::parse(&line[..length]).ok_or_else(unknown)
    }

    fn parse(line: &[u8]) -> Option<Self> {
        // The second field is the command's name in parentheses and may contain anything, a ')' too.
        let after_name = line.iter().rposition(|byte| *byte == b')')? + 1;
        let mut fields = str::from_utf8(line.get(after_name..)?).ok()?.split_ascii_whitespace();
        // Fields 3 (state), 4 (parent), 5 (group), …, 20 (threads), …, 22 (start time).
        let state = fields.next()?;
        let first_thread_ended = matches!(state, "Z" | "X" | "x");
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let threads: u64 = fields.nth(14)?.parse().ok()?;
        let start_time = fields.nth(1)?.parse().ok()?;
        Some(Self {
            parent,
            group,
            // The state is that of the first thread, which may have ended before others.
            ended: first_thread_ended && threads <= 1,
            stopped: matches!(state, "T" | "t"),
            start_time,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces() {
        let line = b"77 (a) S 1 (b)) S 42 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 1 2 3\n";
        let expected = Stat {
            parent: 42,
            group: 77,
            ended: false,
            stopped: false,
            start_time: 123_456,
        };
        assert_eq!(Stat::parse(line), Some(expected));
        assert_eq!(Stat::parse(b""), None);
        assert_eq!(Stat::parse(b"77 (a) S"), None);
    }

    #[test]
    fn odd_names_do_not_confuse() {
        let line = b"42 (a) Z (b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1 2 3";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.parent, stat.start_time, stat.ended), (1, 9876, false));
        assert_eq!(Stat::parse(b"garbage"), None);
        assert_eq!(Stat::parse(b"1 (x) S 1"), None);
    }

    #[test]
    fn ended_with_all_threads() {
        let ended = [1, 2].map(|threads| {
            let line = format!("77 (a) Z 42 77 77 0 -1 4 1 0 0 0 0 0 0 0 20 0 {threads} 0 123456 1 2 3");
            Stat::parse(line.as_bytes()).unwrap().ended
        });
        assert_eq!(ended, [true, false], "its first thread has ended, not the second one");
    }
}
