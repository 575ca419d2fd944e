//! A hold that is released when it is dropped.

use crate::lock::acquire::hold::Hold;
use crate::lock::api::handle::UNGET_LATCH_NS;
use crate::lock::shm::beacon::Keeper;
use crate::lock::shm::process;
use crate::{Error, ResourceLock, Result};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// A hold: released on drop.
///
/// ```
/// use resourcelock::{GetOptions, ResourceLock};
///
/// # fn main() -> Result<(), resourcelock::Error> {
/// # let name = format!("doc-guard-{}", std::process::id());
/// # let name = name.as_str();
/// let lock = ResourceLock::open(name)?; // e.g. "i2c"
/// {
///     let guard = lock.acquire(GetOptions::new().lock_info("bus scan"))?;
///     if guard.abandoned() {
///         // The previous holder died in the middle: bring things in order first.
///     }
///     // What is written under the lock can bear its number: later grants have larger ones.
///     println!("written under {}", guard.token());
///     assert!(lock.is_locked() && guard.lost().is_none());
/// } // released here, also by `?`, `return` and panics
/// assert!(!lock.is_locked());
/// # lock.close();
/// # resourcelock::remove(name, false)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct Guard<'a> {
    pub(crate) lock: &'a ResourceLock,
    pub(crate) token: u64,
    /// False: the hold is another guard's ([`GetOptions::same_process_ok`](crate::GetOptions::same_process_ok)), or
    /// nobody's (detached).
    pub(crate) owned: bool,
}

/// How a hold was taken away from its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// Somebody released it by force, or it expired.
    Forced,
    /// The lock's files were deleted or replaced.
    Replaced,
    /// On an engine: its lease could not be renewed, or somebody released it by force.
    Lease,
}

impl Guard<'_> {
    /// The grant's number: grows strictly with every grant of this lock (a fencing token). Across reboots it
    /// grows if the wall clock was not set back: a new table counts on from the clock's microseconds.
    pub fn token(&self) -> u64 {
        self.token
    }

    fn with<R>(&self, what: impl FnOnce(&mut Hold) -> R) -> Option<R> {
        self.lock
            .current_unless_stuck()?
            .holds
            .iter_mut()
            .find(|hold| hold.token == self.token)
            .map(what)
    }

    /// Whether a previous holder died while it held the lock, and nobody has finished well since: what the lock
    /// protects may be in disorder. To be asked by who took the lock, not in a forked child.
    pub fn abandoned(&self) -> bool {
        self.with(|hold| hold.abandoned != 0).unwrap_or(false)
    }

    /// Whether the hold was taken away: released by force, or its files deleted. Looks at the semaphore as well, so
    /// that a forced release by the Python module is noticed; if that module's user has taken the lock in the meantime,
    /// it cannot be told from our own hold. Blocks for the table at most 1 s.
    pub fn lost(&self) -> Option<Lost> {
        if self.lock.check_fork().is_err() {
            // A child's copy: what stands in the table is its parent's hold.
            return (!self.lock.is_held(self.token)).then_some(Lost::Forced);
        }
        let Some((objects, held)) = self.with(|hold| (hold.objects.clone(), hold.is_held())) else {
            return self.owned.then_some(Lost::Forced);
        };
        if !self.lock.stand(&objects) {
            return Some(Lost::Replaced);
        }
        let semaphore = objects.semaphore.load();
        if held && (semaphore.value() != 0 || semaphore.mark() != objects.table.mark()) {
            // Released by force: whoever comes first draws the consequences.
            let _ = self.lock.repair();
            return (!self.with(|hold| hold.is_held()).unwrap_or(false)).then_some(Lost::Forced);
        }
        (!held).then_some(Lost::Forced)
    }

    /// Makes a second proof of life, a descriptor numbered >= 100 (where the limit on descriptors allows) without
    /// close-on-exec, for a child process to inherit: should this process die, the hold lasts as long as any process
    /// has that descriptor open. The caller's copy is closed when the hold is released.
    ///
    /// Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Os`] if no descriptor can be had; [`Error::Busy`] if the table stayed busy: then the descriptor would
    /// keep nothing alive.
    pub fn keep_alive_descriptor(&self) -> Result<RawFd> {
        self.lock.check_fork()?;
        self.with(|hold| {
            let keeper = Keeper::light(&hold.objects.table)?;
            let id = keeper.id;
            // A hold that was released by force meanwhile has nothing to keep: see `lost`.
            hold.change(UNGET_LATCH_NS, |_, record| record.keeper.store(id, Release))?;
            let raw = keeper.raw();
            hold.keeper = Some(keeper);
            Ok(raw)
        })
        .unwrap_or(Err(Error::NotHeld))
    }

    /// Whether a process other than this one still has the descriptor of
    /// [`keep_alive_descriptor`](Self::keep_alive_descriptor) open. Closes this process's own copy first, since the
    /// kernel does not tell them apart.
    pub fn kept_alive_elsewhere(&self) -> bool {
        self.with(|hold| {
            let id = hold.keeper.take().map_or(hold.kept, |keeper| keeper.id);
            hold.kept = id;
            id != 0 && !crate::lock::shm::beacon::is_out(&hold.objects.table, id)
        })
        .unwrap_or(false)
    }

    /// Binds the hold to the life of process `pid` as well (a child that was started for it): should this process
    /// die, the hold lasts at least as long as that one. Waits up to 0.25 s for the table.
    ///
    /// # Errors
    /// [`Error::NoProcess`] if it has ended, or cannot be examined; [`Error::Busy`] if the table stayed busy: it is not
    /// bound, and can be asked for again.
    pub fn bind(&self, pid: u32) -> Result<()> {
        self.lock.check_fork()?;
        let start = process::start_of_living(pid).map_err(|source| Error::NoProcess { pid, source })?;
        self.with(|hold| hold.bind(pid, start)).transpose().map(drop)
    }

    fn end(&self, mended: bool) -> Result<bool> {
        self.lock.check_fork()?; // a child's copy: the hold is its parent's
        if !self.owned {
            return Ok(self.with(|hold| hold.is_held()).unwrap_or(false));
        }
        let hold = {
            let mut current = self.lock.current();
            let at = current.holds.iter().position(|hold| hold.token == self.token);
            at.map(|at| current.holds.remove(at))
        };
        hold.map_or(Ok(false), |hold| self.lock.end_hold(hold, mended))
    }

    /// Releases now. False: the hold was no longer ours (released by force, expired). Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn release(self) -> Result<bool> {
        self.end(true)
    }

    /// Releases now, but leaves the mark that a previous holder died (see [`Guard::abandoned`]) for the next holder.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn release_unmended(self) -> Result<bool> {
        self.end(false)
    }

    /// From now on the end of the process (or of what inherits [`Guard::keep_alive_descriptor`]) is the hold's ordinary
    /// end: it counts as released, and the next holder is not told that anybody died. For a process that is about to
    /// exec a command, after which nobody is left to release. Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Forked`]; [`Error::Busy`] if the table stayed busy.
    pub fn let_lapse(&self) -> Result<()> {
        self.lock.check_fork()?;
        self.with(|hold| hold.change(UNGET_LATCH_NS, |_, record| record.lapses.store(1, Relaxed)))
            .transpose()
            .map(drop)
    }

    /// Lets go of the guard without releasing: the hold lasts as long as the lock's handle, or whatever inherits the
    /// descriptor of [`Guard::keep_alive_descriptor`], lives.
    pub fn leave_held(self) {
        self.with(|hold| hold.left = true);
        std::mem::forget(self);
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.owned {
            let _ = self.end(true);
        }
    }
}

impl std::fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("lock", self.lock.name())
            .field("token", &self.token)
            .finish()
    }
}
