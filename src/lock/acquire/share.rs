//! A user's share of a hold.

use crate::lock::acquire::handle::Handle;
use crate::lock::acquire::hold::{self, Hold, RELEASE_LATCH_NS, User};
use crate::lock::shm::beacon::{self, Keeper};
use crate::lock::shm::done;
use crate::lock::shm::layout::LAPSES;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::process;
use crate::lock::shm::tombstone::{REMOVAL_CHECK, Removal};
use crate::lock::sys;
use crate::lock::types::{CommandEnd, Error, LockName, Lost, Mode, Result};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How long saying what a hold is for may wait for the table.
const DESCRIBE_LATCH_NS: u64 = 250_000_000;
/// How often a removal that has just begun is checked for its end.
const REMOVAL_CHECKS: u32 = 25;

/// A user's share of a hold of this handle. Dropping it gives it up; the hold is released with the last share, unless it
/// is a detached one. It keeps the handle, or (one that is only to be counted) borrows it.
pub(crate) struct Share<H: Deref<Target = Handle> = Arc<Handle>> {
    handle: H,
    token: u64,
    /// `None`: it was given up, or is counted elsewhere.
    user: Option<User>,
    /// If a panic drops it, the next holder is told.
    tells_panics: bool,
}

impl Handle {
    /// True if it has a hold that includes `mode`.
    pub(crate) fn includes(&self, mode: Mode) -> bool {
        self.current().holds.iter().any(|hold| hold.includes(mode))
    }

    /// A share for `user` of its latest hold that includes `mode`.
    pub(crate) fn share_own(&self, mode: Mode, user: User) -> Option<Share<&Self>> {
        let mut current = self.current();
        let mut latest_first = current.holds.iter_mut().rev();
        let own = latest_first.find(|hold| hold.includes(mode))?;
        own.add(user);
        Some(Share::new(self, own.token, user))
    }
}

impl<'h> Share<&'h Handle> {
    /// Of a hold that counts this user already.
    pub(crate) fn new(handle: &'h Handle, token: u64, user: User) -> Self {
        Self {
            handle,
            token,
            user: Some(user),
            tells_panics: false,
        }
    }

    /// The same one, which keeps its handle.
    pub(crate) fn keeping(mut self, handle: &Arc<Handle>) -> Share {
        Share {
            handle: handle.clone(),
            token: self.token,
            user: self.user.take(),
            tells_panics: self.tells_panics,
        }
    }

    /// If it is the handle's own, the handle counts it from now on. Else it is given up.
    pub(crate) fn leave_to_handle(mut self) {
        self.user.take_if(|user| *user == User::Handle);
    }
}

impl<H: Deref<Target = Handle>> Share<H> {
    /// It is the program's from now on: if a panic drops it, the next holder is told. (Unless one unwinds already: then it
    /// was acquired by a destructor, whose end says nothing of the work under the lock.)
    pub(crate) fn hand_over(mut self) -> Self {
        self.tells_panics = !std::thread::panicking();
        self
    }

    /// The lock's name.
    pub(crate) fn name(&self) -> &LockName {
        self.handle.name()
    }

    /// The grant's number.
    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    /// Works with the hold. `None` = the handle no longer has it, or cannot be asked in the child of a fork.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut Hold) -> R) -> Option<R> {
        let mut current = self.handle.current_unless_stuck()?;
        let mut holds = current.holds.iter_mut();
        holds.find(|hold| hold.token == self.token).map(|hold| work(hold))
    }

    /// Does something with a hold that is not lost.
    fn with_held<R>(&self, work: impl FnOnce(&mut Hold) -> Result<Option<R>>) -> Result<R> {
        self.handle.check_fork()?;
        self.with(work).unwrap_or(Ok(None))?.ok_or(Error::NotHeld)
    }

    /// True if a previous holder died, and this holder was told.
    pub(crate) fn abandoned(&self) -> bool {
        self.with(|hold| hold.abandoned != 0).unwrap_or(false)
    }

    /// See [`Hold::mark_recovered`].
    pub(crate) fn mark_recovered(&self) -> Result<()> {
        self.handle.mark_recovered(Some(self.token))
    }

    /// What ran under the hold crashed: the next holder is told.
    pub(crate) fn mark_crashed(&self) {
        self.with(|hold| hold.crashed = true);
    }

    /// The command that ran under the hold ended like this, `at_limit`: at its time limit.
    pub(crate) fn command_ended(&self, end: CommandEnd, at_limit: bool) {
        self.with(|hold| hold.command_end = Some((end, at_limit)));
    }

    /// How the hold was taken away, if it was. Checks the semaphore as well, so that it notices a forced release by the
    /// Python module.
    pub(crate) fn lost(&self) -> Option<Lost> {
        let handle = &*self.handle;
        if handle.check_fork().is_err() {
            // A child's copy: the hold in the table is its parent's.
            return (!handle.is_held(self.token).unwrap_or(true)).then_some(Lost::Forced);
        }
        let Some(objects) = self.with(|hold| hold.objects.clone()) else {
            return Some(Lost::Forced);
        };
        if !objects.are_at_their_paths() || is_removed(&objects) {
            return Some(Lost::Replaced);
        }
        let semaphore = objects.semaphore.load();
        // Last: the semaphore may be another hold's by now.
        let held = self.with(|hold| hold.is_held()).unwrap_or(false);
        // After what was read.
        if !objects.are_intact() {
            return Some(Lost::Damaged);
        }
        if held && (semaphore.value() != 0 || semaphore.mark() != objects.table.mark()) {
            // Released by force: the first process that finds out repairs the table. If it cannot, the next one does.
            let _ = handle.repair();
            return Some(Lost::Forced);
        }
        if held {
            // Should this process die, that is when it was last known to live.
            self.with(|hold| _ = hold.record().map(|record| record.note_life(sys::monotonic())));
        }
        (!held).then_some(Lost::Forced)
    }

    /// Makes a second proof of life for child processes to inherit: a descriptor without close-on-exec, numbered 100 or
    /// above where the limit on descriptors allows. It is the semaphore's, open for reading only: nobody can change the
    /// lock through it.
    pub(crate) fn keep_alive_in_children(&self) -> Result<()> {
        self.with_held(|hold| {
            let Some(keeper) = Keeper::light(&hold.objects.semaphore, &hold.objects.table)? else {
                return Ok(None); // the lock's files were deleted
            };
            let id = keeper.id;
            if !hold.change(RELEASE_LATCH_NS, |real, _| real.keep(hold.i, id))? {
                return Ok(None);
            }
            hold.keeper = Some(keeper);
            Ok(Some(()))
        })
    }

    /// True if a process other than this one still has that descriptor open. Closes this process's own copy first, because
    /// the kernel does not tell them apart.
    pub(crate) fn kept_alive_elsewhere(&self) -> bool {
        self.with(|hold| {
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

    /// Binds the hold to the life of process `pid` as well.
    pub(crate) fn bind(&self, pid: u32) -> Result<()> {
        let start = process::start_of_living(pid).map_err(|source| Error::NoProcess { pid, source })?;
        self.with_held(|hold| Ok(hold.bind(pid, start)?.then_some(())))
    }

    /// From now on the end of the process is the hold's ordinary end.
    pub(crate) fn let_lapse(&self) -> Result<()> {
        self.with_held(|hold| {
            let changed = hold.change(RELEASE_LATCH_NS, |_, record| _ = record.flags.fetch_or(LAPSES, Relaxed))?;
            Ok(changed.then_some(()))
        })
    }

    /// Changes the note, and what the table says of the hold: that the work under it begins now (`begins`), or that it has
    /// not begun, so that the end of the process is the hold's ordinary end.
    pub(crate) fn describe(&self, lock_info: &str, begins: bool) -> Result<()> {
        self.handle.check_fork()?;
        let mut current = self.handle.current();
        let current = &mut *current;
        let hold = current.holds.iter_mut().find(|hold| hold.token == self.token);
        let hold = hold.ok_or(Error::NotHeld)?;
        let now = sys::monotonic();
        let wall_us = current.clock.wall_us(now);
        let objects = hold.objects.clone();
        let text = current.clock.note(wall_us, lock_info, &objects.table.header.zone);
        let changed = hold.change(DESCRIBE_LATCH_NS, |_, record| {
            if begins {
                record.flags.fetch_and(!LAPSES, Relaxed);
                record.granted.store(now, Relaxed);
            } else {
                record.flags.fetch_or(LAPSES, Relaxed);
            }
            objects.note.write(text);
        })?;
        if !changed {
            return Err(Error::NotHeld);
        }
        if begins {
            hold.granted = now;
        }
        Ok(())
    }

    /// See [`Guard::mark_done`](crate::Guard::mark_done).
    pub(crate) fn mark_done(&self, began_ago: Duration, every: Duration) -> Result<()> {
        process::look_up_namespaces();
        self.with_held(|hold| {
            let header = &hold.objects.table.header;
            let changed = hold.change(RELEASE_LATCH_NS, |_, _| done::record(header, began_ago, every))?;
            Ok(changed.then_some(()))
        })
    }

    /// See [`Guard::reset_skips`](crate::Guard::reset_skips).
    pub(crate) fn reset_skips(&self) -> Result<()> {
        self.with_held(|hold| {
            let skips = &hold.objects.table.header.skips;
            let held = hold.is_held();
            if held && skips.load(Relaxed) != 0 {
                skips.store(0, Relaxed);
            }
            Ok(held.then_some(()))
        })
    }

    /// See [`Guard::linger`](crate::Guard::linger).
    pub(crate) fn linger(&self, time: Duration) -> Result<()> {
        self.handle.check_fork()?;
        process::look_up_namespaces();
        hold::can_expire()?;
        let mut current = self.handle.current();
        let current = &mut *current;
        let hold = current.holds.iter_mut().find(|hold| hold.token == self.token);
        // What others share is theirs, too.
        let hold = hold.filter(|hold| hold.guards == 1 && !hold.by_handle);
        let hold = hold.ok_or(Error::NotHeld)?;
        let wall_us = current.clock.wall_us(sys::monotonic());
        if !hold.linger(time, wall_us)? {
            return Err(Error::NotHeld);
        }
        hold.detached = true;
        Ok(())
    }

    /// The user needs it no longer. Now a detached hold is released, too. False = the hold was no longer held.
    pub(crate) fn release(mut self) -> Result<bool> {
        self.with(|hold| hold.detached = false);
        self.give_up()
    }

    fn give_up(&mut self) -> Result<bool> {
        match self.user.take() {
            Some(user) => self.handle.give_up_share(self.token, user),
            None => Ok(false),
        }
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

impl<H: Deref<Target = Handle>> Drop for Share<H> {
    fn drop(&mut self) {
        if self.tells_panics && self.user.is_some() && std::thread::panicking() {
            // What the lock protects may be half done, as after a death.
            self.mark_crashed();
        }
        let _ = self.give_up(); // in the child of a fork it is the parent's
    }
}
