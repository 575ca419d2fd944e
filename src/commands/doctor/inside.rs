//! A process that is stopped in the middle of changing a lock's table: until it runs again or ends, nobody else can change
//! anything there.

use super::{Finding, Remedy};
use crate::output::view::Level;
use resourcelock::engines::Engine;
use resourcelock::system::{Stat, printable};
use resourcelock::{Cancel, Inside, LockName, State};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Nobody is inside for longer than microseconds, unless his process is stopped, or kept from running on a busy machine.
const LOOKS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(25);

/// Locks whose tables are blocked. Takes half a second if there may be some.
pub fn findings(engine: &dyn Engine, states: &[State]) -> Vec<Finding> {
    let mut inside: Vec<(&LockName, Inside)> = states
        .iter()
        .filter_map(|state| Some((&state.name, state.inside?)))
        .collect();
    for _ in 0..LOOKS {
        if inside.is_empty() {
            break;
        }
        std::thread::sleep(BETWEEN);
        inside.retain(|(name, before)| {
            let state = engine.state(name, &Cancel::new());
            let now = state.ok().flatten().and_then(|state| state.inside);
            now.is_some_and(|now| now.handle == before.handle)
        });
    }
    inside.into_iter().map(|(name, inside)| finding(name, inside)).collect()
}

fn finding(name: &LockName, inside: Inside) -> Finding {
    let pids = processes(name, inside);
    let described: Vec<String> = pids.iter().map(|pid| describe(*pid)).collect();
    let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let (what, mend) = match described.as_slice() {
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
    };
    Finding {
        level: Level::Problem,
        kind: "stopped inside",
        lock: Some(name.to_string()),
        what,
        why: "nobody can acquire the lock meanwhile: requests fail with status 125",
        mend,
        remedy: Remedy::None,
    }
}

/// The process inside, as its requests tell, or all stopped ones that use the table.
fn processes(name: &LockName, inside: Inside) -> Vec<u32> {
    if let Some(pid) = inside.pid {
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
