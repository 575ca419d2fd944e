//! A hold that is released when it is dropped.

use crate::lock::acquire::hold::{Hold, RELEASE_LATCH_NS, User};
use crate::lock::acquire::share::Share;
use crate::lock::api::resource_lock::ResourceLock;
use crate::lock::shm::beacon::{self, Keeper};
use crate::lock::shm::layout::LAPSES;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::process;
use crate::lock::shm::tombstone::{REMOVAL_CHECK, Removal};
use crate::lock::types::{Error, GetOptions, Result};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;

/// A hold: released on drop. Guards that share one ([`GetOptions::same_process_ok`]) release it with the last of them. A
/// [detached](GetOptions::detached) hold stays when its guard is dropped.
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
///         // The previous holder died in the middle of its work: repair what it left, and say so.
///         guard.mark_recovered()?;
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
    lock: &'a ResourceLock,
    share: Share<'a>,
}

/// How often a removal that has just begun is checked for its end.
const REMOVAL_CHECKS: u32 = 25;

/// How a hold was taken away from its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// Somebody released it by force, or it expired.
    Forced,
    /// The lock's files were deleted or replaced.
    Replaced,
    /// The lock's files were truncated or overwritten (see [`survive_truncation`](crate::survive_truncation)).
    Damaged,
    /// On an engine: its lease could not be renewed, or somebody released it by force.
    Lease,
}

impl ResourceLock {
    /// Like [`get_lock`](Self::get_lock), with a guard that releases on drop. `None` = not acquired in time.
    ///
    /// # Errors
    /// As [`get_lock`](Self::get_lock).
    pub fn try_acquire(&self, options: GetOptions<'_>) -> Result<Option<Guard<'_>>> {
        let share = self.handle.get(options, User::Guard)?;
        Ok(share.map(|share| Guard { lock: self, share }))
    }

    /// Like [`try_acquire`](Self::try_acquire), for callers to whom it is an error if the lock is not acquired in time.
    ///
    /// # Errors
    /// [`Error::TimedOut`], and as [`get_lock`](Self::get_lock).
    pub fn acquire(&self, options: GetOptions<'_>) -> Result<Guard<'_>> {
        self.try_acquire(options)?.ok_or(Error::TimedOut)
    }
}

impl<'a> Guard<'a> {
    /// Of a hold that counts this guard already.
    pub(crate) fn of(lock: &'a ResourceLock, token: u64) -> Self {
        let share = Share::new(&lock.handle, token, User::Guard);
        Self { lock, share }
    }
}

impl Guard<'_> {
    /// The grant's number, which grows strictly with every grant of this lock (a fencing token). Across reboots it
    /// grows if the wall clock was not set back: a new table counts on from the clock's microseconds.
    pub fn token(&self) -> u64 {
        self.share.token()
    }

    /// True if a previous holder died while holding the lock, and nobody has said since that what the lock protects is in
    /// order again: it may be inconsistent. For the process that acquired the lock, not for a forked child. Does not block.
    pub fn abandoned(&self) -> bool {
        self.share.with(|hold| hold.abandoned != 0).unwrap_or(false)
    }

    /// Says that what a dead holder may have left half done is in order again: later holders are no longer told of that
    /// death, and [`abandoned`](Self::abandoned) is false from now on. Nothing else clears the mark, neither the end of a
    /// guard nor a release, because both happen in the middle of a repair as well, by a panic or `?`. If another holder has
    /// died since this one was told, that mark stays. Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::NotHeld`] if the hold was lost; [`Error::Busy`] if the table stayed busy; [`Error::Forked`].
    pub fn mark_recovered(&self) -> Result<()> {
        self.lock.handle.mark_recovered(Some(self.token()))
    }

    /// Says that what ran under the hold crashed: what the lock protects may be inconsistent, so when the hold is released,
    /// the next holders are told as of a death ([`abandoned`](Self::abandoned)). For whoever runs a program under the lock
    /// and outlives it. Does nothing if the hold was lost. Does not block.
    pub fn mark_crashed(&self) {
        self.share.with(|hold| hold.crashed = true);
    }

    /// How the hold was taken away, if it was: released by force, or its files deleted. Checks the semaphore as well,
    /// so that it notices a forced release by the Python module. If that module's user has taken the lock in the
    /// meantime, that cannot be told from our own hold. Blocks for the table up to 1 s.
    pub fn lost(&self) -> Option<Lost> {
        let handle = &self.lock.handle;
        if handle.check_fork().is_err() {
            // A child's copy: the hold in the table is its parent's.
            return (!self.lock.is_held(self.token())).then_some(Lost::Forced);
        }
        let Some(objects) = self.share.with(|hold| hold.objects.clone()) else {
            return Some(Lost::Forced);
        };
        if !objects.are_at_their_paths() || is_removed(&objects) {
            return Some(Lost::Replaced);
        }
        let semaphore = objects.semaphore.load();
        // Last: the semaphore may be another hold's by now.
        let held = self.share.with(|hold| hold.is_held()).unwrap_or(false);
        // After what was read.
        if !objects.are_intact() {
            return Some(Lost::Damaged);
        }
        if held && (semaphore.value() != 0 || semaphore.mark() != objects.table.mark()) {
            // Released by force: the first process that finds out repairs the table. If it cannot, the next one does.
            let _ = handle.repair();
            return Some(Lost::Forced);
        }
        (!held).then_some(Lost::Forced)
    }

    /// Does something with a hold that is not lost.
    fn with_held<R>(&self, work: impl FnOnce(&mut Hold) -> Result<Option<R>>) -> Result<R> {
        self.lock.handle.check_fork()?;
        self.share.with(work).unwrap_or(Ok(None))?.ok_or(Error::NotHeld)
    }

    /// Makes a second proof of life for a child process to inherit: a descriptor without close-on-exec, numbered 100 or
    /// above where the limit on descriptors allows. If this process dies, the hold lasts as long as any process has
    /// that descriptor open. It is the semaphore's, open for reading only: nobody can change the lock through it. The
    /// caller's copy is closed when the hold is released.
    ///
    /// Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Os`] if there is no descriptor left; [`Error::Busy`] if the table stayed busy: then the descriptor would
    /// keep nothing alive; [`Error::NotHeld`] if the hold was lost.
    pub fn keep_alive_descriptor(&self) -> Result<RawFd> {
        self.with_held(|hold| {
            let Some(keeper) = Keeper::light(&hold.objects.semaphore, &hold.objects.table)? else {
                return Ok(None); // the lock's files were deleted
            };
            let id = keeper.id;
            if !hold.change(RELEASE_LATCH_NS, |real, _| real.keep(hold.i, id))? {
                return Ok(None);
            }
            let raw = keeper.raw();
            hold.keeper = Some(keeper);
            Ok(Some(raw))
        })
    }

    /// True if a process other than this one still has the descriptor of
    /// [`keep_alive_descriptor`](Self::keep_alive_descriptor) open. Closes this process's own copy first, because the
    /// kernel does not tell them apart. Does not block.
    pub fn kept_alive_elsewhere(&self) -> bool {
        self.share
            .with(|hold| {
                let id = hold.keeper.take().map_or(hold.kept, |keeper| keeper.id);
                hold.kept = id;
                // On a semaphore that was deleted nobody can be probed, and there is no lock to keep.
                let semaphore = &hold.objects.semaphore;
                let lit = id != 0 && semaphore.is_at_its_path() && !beacon::is_keeper_out(semaphore, id);
                // Where nothing can be seen, waiting for it would never end.
                lit && !beacon::is_blind()
            })
            .unwrap_or(false)
    }

    /// Binds the hold to the life of process `pid` as well (a child that was started for it): if this process dies, the
    /// hold lasts at least as long as that one. Waits up to 0.25 s for the table.
    ///
    /// # Errors
    /// [`Error::NoProcess`] if it has ended, or cannot be examined; [`Error::Busy`] if the table stayed busy: the hold is
    /// not bound, and this can be tried again; [`Error::NotHeld`] if the hold was lost.
    pub fn bind(&self, pid: u32) -> Result<()> {
        let start = process::start_of_living(pid).map_err(|source| Error::NoProcess { pid, source })?;
        self.with_held(|hold| Ok(hold.bind(pid, start)?.then_some(())))
    }

    /// Releases now; if other guards share the hold, it goes on with them. False: it was no longer held (released by force,
    /// expired). Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn release(self) -> Result<bool> {
        self.share.release()
    }

    /// From now on the end of the process (or of what inherits [`Guard::keep_alive_descriptor`]) is the hold's ordinary
    /// end: it counts as released, and the next holder is not told that anybody died. For a process that is about to
    /// exec a command, after which nobody is left to release. Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Forked`]; [`Error::Busy`] if the table stayed busy; [`Error::NotHeld`] if the hold was lost.
    pub fn let_lapse(&self) -> Result<()> {
        self.with_held(|hold| {
            let changed = hold.change(RELEASE_LATCH_NS, |_, record| _ = record.flags.fetch_or(LAPSES, Relaxed))?;
            Ok(changed.then_some(()))
        })
    }

    /// Gives up the guard without releasing: the hold lasts as long as the lock's handle, or as whatever inherits the
    /// descriptor of [`Guard::keep_alive_descriptor`]. [`ResourceLock::unget_lock`] releases it. Does not block.
    pub fn leave_held(self) {
        self.share.leave_to_handle();
    }
}

/// True if somebody has removed the lock since its paths were checked. A removal that has begun may still be refused; it
/// takes microseconds, unless the remover is stopped: then the lock is not lost yet.
fn is_removed(objects: &Objects) -> bool {
    for check in 0..REMOVAL_CHECKS {
        match Removal::of(&objects.table) {
            Removal::None | Removal::Abandoned(_) => return check > 0 && !objects.are_at_their_paths(),
            Removal::Over => return true,
            Removal::UnderWay(_) => std::thread::sleep(REMOVAL_CHECK),
        }
    }
    false
}

impl std::fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("lock", self.lock.name())
            .field("token", &self.token())
            .finish()
    }
}
