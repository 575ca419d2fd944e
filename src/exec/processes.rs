//! Who is whose child, read from /proc.

use std::collections::{HashMap, HashSet};
use std::fs;

/// Two fields of /proc/PID/stat (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    group: u32,
    /// It has ended and only waits to be reaped.
    zombie: bool,
    /// In clock ticks since boot. Together with the PID it names one process for good.
    start_time: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The second field is the command's name in parentheses and may contain anything, a ')' too.
    let after_name = text.iter().rposition(|b| *b == b')')? + 1;
    let mut fields = str::from_utf8(text.get(after_name..)?).ok()?.split_ascii_whitespace();
    // Fields 3 (state), 4 (parent), 5 (group), …, 22 (start time).
    let zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let start_time = fields.nth(16)?.parse().ok()?;
    Some(Stat {
        parent,
        group,
        zombie,
        start_time,
    })
}

/// When the process was started, in clock ticks since boot. `None`: no such process, or it cannot be read.
pub fn start_time(pid: u32) -> Option<u64> {
    stat(pid).map(|s| s.start_time)
}

/// Whether `pid` is `ancestor` or descends from it. What cannot be read does not.
pub fn descends_from(pid: u32, ancestor: u32) -> bool {
    let mut pid = pid;
    // A chain longer than this is a race with PIDs that are used anew.
    for _ in 0..1024 {
        if pid == ancestor {
            return true;
        }
        match stat(pid) {
            Some(s) if s.parent > 1 => pid = s.parent,
            _ => return false,
        }
    }
    false
}

/// All processes that can be seen.
fn all() -> Vec<(u32, Stat)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// The children of `pid`.
pub fn children(pid: u32) -> HashSet<u32> {
    all()
        .into_iter()
        .filter(|(_, s)| s.parent == pid)
        .map(|(child, _)| child)
        .collect()
}

/// Whether a process of this group runs.
pub fn group_lives(group: u32) -> bool {
    all().iter().any(|(_, s)| s.group == group && !s.zombie)
}

/// All that descend from any of `roots`, the roots included, as far as it can be seen; each with its start time.
pub fn descendants(roots: &HashSet<u32>) -> HashMap<u32, u64> {
    let all = all();
    let in_roots = all.iter().filter(|(pid, _)| roots.contains(pid));
    let mut family: HashMap<u32, u64> = in_roots.map(|(pid, s)| (*pid, s.start_time)).collect();
    loop {
        let before = family.len();
        let next = all.iter().filter(|(_, s)| family.contains_key(&s.parent));
        let next: Vec<(u32, u64)> = next.map(|(pid, s)| (*pid, s.start_time)).collect();
        family.extend(next);
        if family.len() == before {
            return family;
        }
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
            zombie: false,
            start_time: 123_456,
        };
        assert_eq!(parse_stat(line), Some(expected));
        assert_eq!(parse_stat(b""), None);
        assert_eq!(parse_stat(b"77 (a) S"), None);
    }

    #[test]
    fn this_process_descends_from_its_parent() {
        let me = std::process::id();
        let parent = std::os::unix::process::parent_id();
        assert!(descends_from(me, me));
        assert!(descends_from(me, parent));
        assert!(!descends_from(parent, me));
        assert!(children(parent).contains(&me));
        assert_eq!(descendants(&HashSet::from([parent])).get(&me).copied(), start_time(me));
    }
}
