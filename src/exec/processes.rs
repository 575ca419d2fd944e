//! Parents, children and groups of processes, read from /proc.

use super::sys::signal;
use resourcelock::system::{Stat, proc_is_own};
use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::{fs, io};

/// True if /proc shows processes, under the numbers that they have for this process.
pub fn are_seen() -> bool {
    proc_is_own()
}

/// What /proc shows of a process. `None`: there is no such process, or it cannot be read.
pub fn stat(pid: u32) -> Option<Stat> {
    are_seen().then(|| read_stat(pid).ok()?)?
}

/// Once it is known that processes [are seen](are_seen). `Ok(None)`: there is no such process, or it is hidden.
fn read_stat(pid: u32) -> io::Result<Option<Stat>> {
    match Stat::shown(pid) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData => Ok(None),
            _ => Err(error), // descriptors or memory are short
        },
    }
}

/// When the process was started, in clock ticks since boot. `None`: no such process, or it cannot be read.
pub fn start_time(pid: u32) -> Option<u64> {
    stat(pid).map(|s| s.start_time)
}

/// True if `pid` is `ancestor` or descends from it, as far as can be seen.
pub fn descends_from(pid: u32, ancestor: u32) -> bool {
    let mut pid = pid;
    // A longer chain can only come from PIDs that are reused meanwhile.
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

/// All processes that are not hidden.
fn all() -> io::Result<Vec<(u32, Stat)>> {
    if !are_seen() {
        return Err(io::Error::other("/proc is not mounted"));
    }
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid
            && let Some(stat) = read_stat(pid)?
        {
            all.push((pid, stat));
        }
    }
    Ok(all)
}

/// The children of `pid`.
///
/// # Errors
/// They cannot be seen.
pub fn children(pid: u32) -> io::Result<HashSet<u32>> {
    let all = all()?.into_iter();
    Ok(all.filter(|(_, s)| s.parent == pid).map(|(child, _)| child).collect())
}

/// What is left of a process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Nothing is left that runs.
    Gone,
    /// A process that runs is left.
    Lives,
    /// Something is left that /proc does not show: it may run, or wait to be reaped.
    Unseen,
}

/// What is left of process group `number`.
pub fn group(number: u32) -> Group {
    if signal::kill_group(number, 0).is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH)) {
        return Group::Gone;
    }
    let Ok(all) = all() else { return Group::Unseen };
    let members: Vec<&Stat> = all.iter().map(|(_, s)| s).filter(|s| s.group == number).collect();
    match members.as_slice() {
        [] => Group::Unseen,
        members if members.iter().any(|s| !s.ended) => Group::Lives,
        _ => Group::Gone,
    }
}

/// The processes `roots` and all their descendants, as far as can be seen; parents before their children.
pub fn descendants(roots: &HashSet<u32>) -> Vec<(u32, Stat)> {
    // Where processes cannot be listed (descriptors are short, a sandbox refuses it), the roots are known all the same.
    let all = all().unwrap_or_else(|_| roots.iter().filter_map(|&pid| Some((pid, stat(pid)?))).collect());
    let by_pid: HashMap<u32, Stat> = all.iter().copied().collect();
    // Steps up to the topmost root. A longer chain can only come from PIDs that are reused meanwhile.
    let depth = |pid: u32| {
        let mut above = pid;
        let mut depth = None;
        for steps in 0..1024_u32 {
            if roots.contains(&above) {
                depth = Some(steps);
            }
            match by_pid.get(&above) {
                Some(stat) if stat.parent > 0 => above = stat.parent,
                _ => break,
            }
        }
        depth
    };
    let mut family: Vec<(u32, (u32, Stat))> = all
        .iter()
        .filter_map(|found| depth(found.0).map(|depth| (depth, *found)))
        .collect();
    family.sort_by_key(|(depth, _)| *depth);
    family.into_iter().map(|(_, found)| found).collect()
}

/// All processes in whose environment, as it was when they were executed, the list `variable` (joined by `/`) contains
/// `mark`, as far as can be seen: those of this user.
pub fn marked(variable: &str, mark: &str) -> HashSet<u32> {
    let names = |text: &[u8]| {
        text.split(|byte| *byte == 0)
            .filter_map(|entry| entry.strip_prefix(variable.as_bytes())?.strip_prefix(b"="))
            .any(|list| list.split(|byte| *byte == b'/').any(|word| word == mark.as_bytes()))
    };
    let all = all().unwrap_or_default();
    let all = all.iter().filter(|(_, stat)| !stat.ended).map(|(pid, _)| *pid);
    all.filter(|pid| environment(*pid).is_ok_and(|text| names(&text)))
        .collect()
}

/// The most that is read of an environment. Those that execve(2) accepts are rarely as long; but afterwards a process may
/// call any memory its environment (prctl(2), PR_SET_MM), terabytes of it.
const MOST_OF_ENVIRONMENT: u64 = 1 << 20;

/// The environment of a process, as it was when it was executed, or the beginning of a longer one.
pub fn environment(pid: u32) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = fs::File::open(format!("/proc/{pid}/environ"))?;
    file.take(MOST_OF_ENVIRONMENT).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_environment_the_beginning_is_read() {
        let long = "x".repeat(100_000);
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .envs((0..14).map(|i| (format!("LONG{i}"), &long)))
            .spawn()
            .unwrap();
        // It has none yet while it is being executed.
        let text = loop {
            let text = environment(child.id()).unwrap();
            if !text.is_empty() {
                break text;
            }
        };
        child.kill().and_then(|()| child.wait()).unwrap();
        assert_eq!(text.len() as u64, MOST_OF_ENVIRONMENT);
    }

    #[test]
    fn this_process_descends_from_its_parent() {
        let me = std::process::id();
        let parent = std::os::unix::process::parent_id();
        assert!(descends_from(me, me));
        assert!(descends_from(me, parent));
        assert!(!descends_from(parent, me));
        assert!(children(parent).unwrap().contains(&me));
        let family = descendants(&HashSet::from([parent]));
        assert_eq!(family.first().map(|(pid, _)| *pid), Some(parent), "parents come first");
        let found = family.iter().find(|(pid, _)| *pid == me).map(|(_, s)| s.start_time);
        assert_eq!(found, start_time(me));
    }
}
