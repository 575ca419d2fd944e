//! A hold that is released when it is dropped.

use crate::lock::acquire::hold::{Hold, RELEASE_LATCH_NS};
use crate::lock::api::resource_lock::ResourceLock;
use crate::lock::shm::beacon::{self, Keeper};
use crate::lock::shm::layout::LAPSES;
use crate::lock::shm::process;
use crate::lock::types::{Error, GetOptions, Result};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;

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
///         // The previous holder died in the middle of its work: repair what it left first.
///     }
///     // What is written under the lock can carry its number: later grants have larger ones.
///     println!("written under {}", guard.token());
///     assert!(lock.is_locked() && guard.lost().is_none());
/// } // released here, also by `?`, `return`, and panics
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

impl ResourceLock {
    /// Like [`get_lock`](Self::get_lock), with a guard that releases on drop. `None` = not acquired in time.
    ///
    /// # Errors
    /// As [`get_lock`](Self::get_lock).
    pub fn try_acquire(&self, options: GetOptions<'_>) -> Result<Option<Guard<'_>>> {
        Ok(self.handle.get(options)?.map(|grant| Guard {
            lock: self,
            token: grant.token,
            owned: grant.owned,
        }))
    }

    /// Like [`try_acquire`](Self::try_acquire), for callers to whom it is an error if the lock is not acquired in time.
    ///
    /// # Errors
    /// [`Error::TimedOut`], and as [`get_lock`](Self::get_lock).
    pub fn acquire(&self, options: GetOptions<'_>) -> Result<Guard<'_>> {
        self.try_acquire(options)?.ok_or(Error::TimedOut)
    }
}

impl Guard<'_> {
    /// The grant's number, which grows strictly with every grant of this lock (a fencing token). Across reboots it
    /// grows if the wall clock was not set back: a new table counts on from the clock's microseconds.
    pub fn token(&self) -> u64 {
        self.token
    }

    fn with<R>(&self, work: impl FnOnce(&mut Hold) -> R) -> Option<R> {
        let mut current = self.lock.handle.current_unless_stuck()?;
        let mut holds = current.holds.iter_mut();
        holds.find(|hold| hold.token == self.token).map(work)
    }

    /// True if a previous holder died while holding the lock, and no holder has finished well since: what the lock
    /// protects may be inconsistent. For the process that acquired the lock, not for a forked child. Does not block.
    pub fn abandoned(&self) -> bool {
        self.with(|hold| hold.abandoned != 0).unwrap_or(false)
    }

    /// How the hold was taken away, if it was: released by force, or its files deleted. Checks the semaphore as well,
    /// so that it notices a forced release by the Python module. If that module's user has taken the lock in the
    /// meantime, that cannot be told from our own hold. Blocks for the table up to 1 s.
    pub fn lost(&self) -> Option<Lost> {
        let handle = &self.lock.handle;
        if handle.check_fork().is_err() {
            // A child's copy: the hold in the table is its parent's.
            return (!self.lock.is_held(self.token)).then_some(Lost::Forced);
        }
        let Some((objects, held)) = self.with(|hold| (hold.objects.clone(), hold.is_held())) else {
            return self.owned.then_some(Lost::Forced);
        };
        if !objects.are_at_their_paths() {
            return Some(Lost::Replaced);
        }
        let semaphore = objects.semaphore.load();
        if held && (semaphore.value() != 0 || semaphore.mark() != objects.table.mark()) {
            // Released by force: the first process that finds out repairs the table.
            let _ = handle.repair();
            return (!self.with(|hold| hold.is_held()).unwrap_or(false)).then_some(Lost::Forced);
        }
        (!held).then_some(Lost::Forced)
    }

    /// Makes a second proof of life for a child process to inherit: a descriptor without close-on-exec, numbered 100 or
    /// above where the limit on descriptors allows. If this process dies, the hold lasts as long as any process has
    /// that descriptor open. It is the semaphore's, open for reading only: nobody can change the lock through it. The
    /// caller's copy is closed when the hold is released.
    ///
    /// Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Os`] if there is no descriptor left; [`Error::Busy`] if the table stayed busy: then the descriptor
    /// would keep nothing alive; [`Error::NotHeld`] if the hold was released by force.
    pub fn keep_alive_descriptor(&self) -> Result<RawFd> {
        self.lock.handle.check_fork()?;
        self.with(|hold| {
            let keeper = Keeper::light(&hold.objects.semaphore, &hold.objects.table)?;
            let id = keeper.id;
            // A hold that was released by force meanwhile has nothing to keep: see `lost`.
            hold.change(RELEASE_LATCH_NS, |real, _| real.keep(hold.i, id))?;
            let raw = keeper.raw();
            hold.keeper = Some(keeper);
            Ok(raw)
        })
        .unwrap_or(Err(Error::NotHeld))
    }

    /// True if a process other than this one still has the descriptor of
    /// [`keep_alive_descriptor`](Self::keep_alive_descriptor) open. Closes this process's own copy first, because the
    /// kernel does not tell them apart. Does not block.
    pub fn kept_alive_elsewhere(&self) -> bool {
        self.with(|hold| {
            let id = hold.keeper.take().map_or(hold.kept, |keeper| keeper.id);
            hold.kept = id;
            // On a semaphore that was deleted nobody can be probed, and there is no lock to keep.
            let semaphore = &hold.objects.semaphore;
            id != 0 && semaphore.is_at_its_path() && !beacon::is_keeper_out(semaphore, id)
        })
        .unwrap_or(false)
    }

    /// Binds the hold to the life of process `pid` as well (a child that was started for it): if this process dies, the
    /// hold lasts at least as long as that one. Waits up to 0.25 s for the table.
    ///
    /// # Errors
    /// [`Error::NoProcess`] if it has ended, or cannot be examined; [`Error::Busy`] if the table stayed busy: the hold
    /// is not bound, and this can be tried again.
    pub fn bind(&self, pid: u32) -> Result<()> {
        self.lock.handle.check_fork()?;
        let start = process::start_of_living(pid).map_err(|source| Error::NoProcess { pid, source })?;
        self.with(|hold| hold.bind(pid, start)).transpose().map(drop)
    }

    fn end(&self, repaired: bool) -> Result<bool> {
        let handle = &self.lock.handle;
        handle.check_fork()?; // a child's copy: the hold is its parent's
        if !self.owned {
            return Ok(self.with(|hold| hold.is_held()).unwrap_or(false));
        }
        let hold = {
            let mut current = handle.current();
            let at = current.holds.iter().position(|hold| hold.token == self.token);
            at.map(|at| current.holds.remove(at))
        };
        hold.map_or(Ok(false), |hold| handle.end_hold(hold, repaired))
    }

    /// Releases now. False: the hold was no longer ours (released by force, expired). Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn release(self) -> Result<bool> {
        self.end(true)
    }

    /// Releases now, but leaves the mark that a previous holder died (see [`Guard::abandoned`]) for the next holder:
    /// what the lock protects was not repaired. Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn release_unrepaired(self) -> Result<bool> {
        self.end(false)
    }

    /// From now on the end of the process (or of what inherits [`Guard::keep_alive_descriptor`]) is the hold's ordinary
    /// end: it counts as released, and the next holder is not told that anybody died. For a process that is about to
    /// exec a command, after which nobody is left to release. Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Forked`]; [`Error::Busy`] if the table stayed busy.
    pub fn let_lapse(&self) -> Result<()> {
        self.lock.handle.check_fork()?;
        self.with(|hold| hold.change(RELEASE_LATCH_NS, |_, record| _ = record.flags.fetch_or(LAPSES, Relaxed)))
            .transpose()
            .map(drop)
    }

    /// Gives up the guard without releasing: the hold lasts as long as the lock's handle, or as whatever inherits the
    /// descriptor of [`Guard::keep_alive_descriptor`]. Does not block.
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
