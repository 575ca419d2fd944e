//! The locks that the caller may remove, and those of them that nobody uses.

use crate::cli::{Name, fits};
use crate::commands::Failure;
use nix::unistd::geteuid;
use resourcelock::{Error, LockName, Unused};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// After this time without use, a lock is not expected to be used again soon.
pub const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// The caller's own locks, for root everybody's, whose names fit one of `words`; without any, all of them.
///
/// # Errors
/// /dev/shm cannot be read.
pub fn own_locks(words: &[Name]) -> Result<Vec<LockName>, Failure> {
    let me = geteuid();
    let is_own = |name: &LockName| {
        let found = name.semaphore_path().symlink_metadata();
        me.is_root() || found.is_ok_and(|found| found.uid() == me.as_raw())
    };
    let is_asked = |name: &LockName| words.is_empty() || words.iter().any(|word| fits(word, name.as_str()));
    let names = resourcelock::list().map_err(Failure::engine)?;
    Ok(names
        .into_iter()
        .filter(|name| is_asked(name) && is_own(name))
        .collect())
}

/// Those of them that nobody uses, and those of which that is not known.
pub struct Idle {
    /// By name.
    pub unused: Vec<(LockName, Unused)>,
    /// With the reasons.
    pub unknown: Vec<(LockName, Error)>,
}

impl Idle {
    /// Looks at these locks.
    pub fn among(names: Vec<LockName>) -> Self {
        let mut idle = Self {
            unused: Vec::new(),
            unknown: Vec::new(),
        };
        for name in names {
            match resourcelock::unused(name.as_str()) {
                Ok(Some(unused)) => idle.unused.push((name, unused)),
                Ok(None) => {}
                Err(error) => idle.unknown.push((name, error)),
            }
        }
        idle
    }
}

/// How locks that nobody uses can make space, if there are any.
pub fn space_in_idle_locks() -> Option<String> {
    let unused = Idle::among(own_locks(&[]).ok()?).unused;
    let long = unused.iter().filter(|(_, unused)| unused.time >= LONG).count();
    let (all, locks, are) = match unused.len() {
        0 => return None,
        1 => (1, "lock", "is"),
        all => (all, "locks", "are"),
    };
    Some(if long > 0 {
        format!("{all} {locks} {are} idle, {long} of them for a day or longer; remove those: resourcelock prune")
    } else {
        format!("{all} {locks} {are} idle; remove what is no longer needed: resourcelock prune --idle 0")
    })
}
