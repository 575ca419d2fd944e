//! Processes of other PID namespaces (of containers): are they gone?
//!
//! A number of another namespace says nothing here, with one exception. In the machine's first PID namespace, each process
//! of the machine has a number of its own, and /proc/PID/status shows the ones that it has in the namespaces below. So a
//! process that is not found there under the recorded number and start time is gone. None that lives can be missed: its
//! number here is fixed, and the directory is read in ascending order. That is one scan of /proc; what it finds is kept.
//!
//! In the latch nothing is scanned. Whoever comes upon a process that is not known yet takes it for alive, as everywhere
//! else, and has a *doubt*, which is settled after the latch ([`settle_doubts`]).

use crate::lock::system::namespaces::FIRST_PID_NAMESPACE;
use crate::lock::system::{Stat, has_hidden_processes, numbers_of, proc_is_own};
use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What could not be found out is tried again after this time.
const RETRY: Duration = Duration::from_secs(5);

/// How many processes are remembered; more are forgotten, and looked for again.
const REMEMBERED: usize = 1024;

/// A process as another namespace knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stranger {
    pub(crate) pid: u32,
    /// When it was started: see [`Stat::start_time`].
    pub(crate) start: u64,
    /// Inode of its PID namespace.
    pub(crate) namespace: u64,
}

/// What is known of one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// It is one of these, by their numbers here (one, unless two namespaces began at the same instant).
    Here(Vec<u32>),
    Gone,
    /// Something could not be read.
    Unclear(Instant),
}

/// Behind a lock that nobody waits for: it may be locked for ever in the child of a fork.
static KNOWN: Mutex<Option<HashMap<Stranger, Known>>> = Mutex::new(None);

/// So many doubts are remembered until they are settled. Others come again.
const DOUBTS: usize = 8;

thread_local! {
    /// Those of the thread, in no memory that would have to be allocated in the latch.
    static IN_DOUBT: Cell<[Option<Stranger>; DOUBTS]> = const { Cell::new([None; DOUBTS]) };
}

/// The numbers here under which it may live; none: it is gone. `None`: not known, at least not yet. `own` is the caller's
/// PID namespace. Does not block.
pub(crate) fn find(stranger: Stranger, own: u64) -> Option<Vec<u32>> {
    if own != FIRST_PID_NAMESPACE || stranger.start == 0 {
        return None;
    }
    let known = KNOWN.try_lock().ok()?;
    match known.as_ref().and_then(|known| known.get(&stranger)) {
        Some(Known::Here(pids)) => return Some(pids.clone()),
        Some(Known::Gone) => return Some(Vec::new()),
        Some(Known::Unclear(at)) if at.elapsed() < RETRY => return None,
        Some(Known::Unclear(_)) | None => {}
    }
    let mut doubts = IN_DOUBT.get();
    if let Some(free) = doubts
        .iter_mut()
        .find(|doubt| doubt.is_none_or(|doubt| doubt == stranger))
    {
        *free = Some(stranger);
    }
    IN_DOUBT.set(doubts);
    None
}

/// Looks for the processes that this thread was in doubt about: true = something is known now that was not. Reads all of
/// /proc if there are any, so not in the latch.
pub(crate) fn settle_doubts() -> bool {
    let doubts: Vec<Stranger> = IN_DOUBT.take().into_iter().flatten().collect();
    if doubts.is_empty() {
        return false;
    }
    let found = look_for(&doubts);
    let Ok(mut known) = KNOWN.try_lock() else {
        return false;
    };
    let known = known.get_or_insert_default();
    if known.len() > REMEMBERED {
        known.clear();
    }
    let settled = found.iter().any(|found| !matches!(found, Known::Unclear(_)));
    known.extend(doubts.into_iter().zip(found));
    settled
}

/// Forgets what this thread was in doubt about.
pub(crate) fn drop_doubts() {
    IN_DOUBT.take();
}

/// One scan of /proc for all of them.
fn look_for(strangers: &[Stranger]) -> Vec<Known> {
    let unclear = || Known::Unclear(Instant::now());
    let mut found: Vec<Vec<u32>> = vec![Vec::new(); strangers.len()];
    if !proc_is_own() || has_hidden_processes() {
        return strangers.iter().map(|_| unclear()).collect();
    }
    let scanned = scan(|pid, numbers| {
        for (stranger, found) in strangers.iter().zip(&mut found) {
            if numbers.contains(&stranger.pid) && may_be(pid, numbers, *stranger)? {
                found.push(pid);
            }
        }
        Ok(())
    });
    let all_seen = scanned.is_ok();
    let known = found.into_iter().map(|found| match found {
        found if !found.is_empty() => Known::Here(found),
        _ if all_seen => Known::Gone,
        _ => unclear(),
    });
    known.collect()
}

/// Calls `see` for each process that has numbers in other namespaces than this one, with those.
fn scan(mut see: impl FnMut(u32, &[u32]) -> io::Result<()>) -> io::Result<()> {
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        match numbers_of(pid) {
            Ok(numbers) if numbers.len() > 1 => see(pid, &numbers[1..])?,
            Ok(_) => {}
            Err(error) if has_ended(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// True if process `pid`, which has these numbers in other namespaces, may be the one that is looked for.
fn may_be(pid: u32, numbers: &[u32], stranger: Stranger) -> io::Result<bool> {
    match Stat::shown(pid) {
        Ok(stat) if stat.start_time != stranger.start => return Ok(false),
        Ok(_) => {}
        Err(error) if has_ended(&error) => return Ok(false),
        Err(error) => return Err(error),
    }
    // Its own namespace is the innermost one. A number further out may be that of the recorded namespace.
    let innermost_only = !numbers[..numbers.len() - 1].contains(&stranger.pid);
    let namespace = std::fs::metadata(format!("/proc/{pid}/ns/pid")); // not for everybody to see
    let another = namespace.is_ok_and(|namespace| namespace.ino() != stranger.namespace);
    Ok(!(innermost_only && another))
}

fn has_ended(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever is not in the first namespace cannot tell, nor can anybody of a process whose start is not known.
    #[test]
    fn where_nothing_can_be_told() {
        let stranger = Stranger {
            pid: 2,
            start: 1,
            namespace: 5,
        };
        assert_eq!(find(stranger, FIRST_PID_NAMESPACE + 1), None);
        assert_eq!(find(Stranger { start: 0, ..stranger }, FIRST_PID_NAMESPACE), None);
        assert!(!settle_doubts(), "nothing is in doubt");
    }
}
