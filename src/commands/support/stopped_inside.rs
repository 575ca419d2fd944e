//! What is said of a process that stands still in the middle of changing a lock's table: which one it is, and what to do.

use resourcelock::LockName;
use resourcelock::system::{Stat, printable};
use std::fs;
use std::path::Path;

/// What happened, and what to do. `pid` is the process, if its requests tell.
pub fn told(name: &LockName, pid: Option<u32>) -> (String, String) {
    let pids = processes(name, pid);
    let described: Vec<String> = pids.iter().map(|pid| describe(*pid)).collect();
    let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    match described.as_slice() {
        [] => (
            "a process that cannot be found from here stands still in the middle of changing its table".to_owned(),
            "resourcelock doctor as root, or on the host if this is a container, tells which one".to_owned(),
        ),
        [one] => (
            format!("{one} stands still in the middle of changing its table"),
            format!("continue it: kill -CONT {list}; or end it, then the others repair the table: kill -KILL {list}"),
        ),
        several => (
            format!(
                "one of these processes stands still in the middle of changing its table: {}",
                several.join(", ")
            ),
            format!("continue them: kill -CONT {list}"),
        ),
    }
}

/// The process inside, as its requests tell, or all stopped ones that use the table.
fn processes(name: &LockName, pid: Option<u32>) -> Vec<u32> {
    if let Some(pid) = pid {
        return vec![pid];
    }
    let table = name.table_path();
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| Stat::of(*pid).is_ok_and(|stat| stat.stopped) && maps(*pid, &table))
        .collect();
    pids.sort_unstable();
    pids
}

/// True if the process has the file mapped.
fn maps(pid: u32, path: &Path) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mapped = |line: &str| line.find('/').is_some_and(|at| Path::new(&line[at..]) == path);
    maps.lines().any(mapped)
}

/// `4711 (backup, stopped)`.
fn describe(pid: u32) -> String {
    let command = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let command = printable(String::from_utf8_lossy(&command).trim_end());
    let stopped = Stat::of(pid).is_ok_and(|stat| stat.stopped);
    format!("{pid} ({command}{})", if stopped { ", stopped" } else { "" })
}
