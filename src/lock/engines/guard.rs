//! A hold that is released when it is dropped.

use super::Validity;
#[cfg(feature = "remote")]
use super::held::Held;
use crate::lock::acquire::share::Share;
#[cfg(feature = "remote")]
use crate::lock::sys::OfThisProcess;
#[cfg(feature = "remote")]
use crate::lock::types::Error;
use crate::lock::types::{CommandEnd, LockName, Lost, Result};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// A hold: released on drop, however that comes about (the end of a block, `?`, a panic). If a panic drops it, the next
/// holders are told, as of a crash ([`abandoned`](Self::abandoned)): what the lock protects may be half done. (Where a mutex
/// of the standard library would be poisoned; but nobody is kept out.)
///
/// It owns what it needs: it may be kept in a struct beside its lock, sent to another thread, or live longer than the
/// [`ResourceLock`](crate::ResourceLock) that it came from. Guards that share a hold
/// ([`GetOptions::same_process_ok`](crate::GetOptions::same_process_ok)) release it with the last of them. A
/// [detached](crate::GetOptions::detached) hold stays when its guard is dropped.
///
/// A guard that is forgotten ([`std::mem::forget`], a reference cycle) keeps the lock until the process ends, and
/// so does one that `std::process::exit` leaves: that counts as the holder's death. In the child
/// of a fork a guard is only a copy: it releases nothing, and [`release`](Self::release) fails with
/// [`Error::Forked`](crate::Error::Forked). (Such a child has its parent's connections, too: on PostgreSQL, if the
/// parent dies, the hold lasts until the child has ended or executes another program.)
///
/// ```
/// use resourcelock::ResourceLock;
///
/// # fn main() -> Result<(), resourcelock::Error> {
/// # let name = format!("doc-guard-{}", std::process::id());
/// # let name = name.as_str();
/// let lock = ResourceLock::open(name)?; // e.g. "i2c"
/// {
///     let guard = lock.acquire()?;
///     if guard.abandoned() {
///         // The previous holder died in the middle of its work: repair what it left, and say so.
///         guard.mark_recovered()?;
///     }
///     // What is written under the lock can carry its number: later grants have larger ones.
///     println!("written under {}", guard.token());
///     assert!(lock.is_locked()? && guard.lost().is_none());
/// } // released here, also by `?`, `return`, and panics
/// assert!(!lock.is_locked()?);
/// # lock.close();
/// # resourcelock::remove(name, false)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct Guard {
    hold: Hold,
}

enum Hold {
    Local(Share),
    #[cfg(feature = "remote")]
    Remote(LockName, OfThisProcess<Box<dyn Held>>),
}

impl From<Share> for Guard {
    fn from(share: Share) -> Self {
        Self {
            hold: Hold::Local(share.hand_over()),
        }
    }
}

impl Guard {
    /// Of a hold on another machine.
    #[cfg(feature = "remote")]
    pub(crate) fn remote(name: &LockName, held: impl Held + 'static) -> Self {
        Self {
            hold: Hold::Remote(name.clone(), OfThisProcess::new(Box::new(held))),
        }
    }

    /// The lock's name.
    pub fn name(&self) -> &LockName {
        match &self.hold {
            Hold::Local(share) => share.name(),
            #[cfg(feature = "remote")]
            Hold::Remote(name, _) => name,
        }
    }

    /// The grant's number, which grows strictly with every grant of this lock (a fencing token). On this machine it grows
    /// across reboots, too, if the wall clock was not set back: a new table counts on from the clock's microseconds.
    pub fn token(&self) -> u64 {
        match &self.hold {
            Hold::Local(share) => share.token(),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => held.as_it_is().token(),
        }
    }

    /// True if a previous holder died while holding the lock, and nobody has said since that what the lock protects is in
    /// order again: it may be inconsistent. For the process that acquired the lock, not for a forked child. Always false
    /// on an engine that does not tell ([`Capabilities::abandoned`](crate::engines::Capabilities::abandoned)). Does not
    /// block.
    pub fn abandoned(&self) -> bool {
        match &self.hold {
            Hold::Local(share) => share.abandoned(),
            #[cfg(feature = "remote")]
            Hold::Remote(..) => false,
        }
    }

    /// Says that what a dead holder may have left half done is in order again: later holders are no longer told of that
    /// death, and [`abandoned`](Self::abandoned) is false from now on. Nothing else clears the mark, neither the end of a
    /// guard nor a release, because both happen in the middle of a repair as well, by a panic or `?`. If another holder has
    /// died since this one was told, that mark stays. Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::NotHeld`](crate::Error::NotHeld) if the hold was lost; [`Error::Busy`](crate::Error::Busy) if the table
    /// stayed busy; [`Error::Forked`](crate::Error::Forked).
    pub fn mark_recovered(&self) -> Result<()> {
        match &self.hold {
            Hold::Local(share) => share.mark_recovered(),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => held.get()?.lost().map_or(Ok(()), |_| Err(Error::NotHeld)),
        }
    }

    /// Says that what ran under the hold crashed: what the lock protects may be inconsistent, so when the hold is released,
    /// the next holders are told as of a death ([`abandoned`](Self::abandoned)). For whoever runs a program under the lock
    /// and outlives it. Does nothing if the hold was lost, and on an engine that does not tell. Does not block.
    pub fn mark_crashed(&self) {
        match &self.hold {
            Hold::Local(share) => share.mark_crashed(),
            #[cfg(feature = "remote")]
            Hold::Remote(..) => {}
        }
    }

    /// Says how the command that ran under the hold has ended, for the history ([`HistoryRecord::command_end`]); `at_limit`:
    /// it was ended because it had reached its time limit ([`Ended::Limit`]). Status 0, not at a limit, is the lock's last
    /// success ([`State::last_success`]). Does nothing if the hold was lost, and on an engine, which keeps no history. Does
    /// not block.
    ///
    /// [`HistoryRecord::command_end`]: crate::HistoryRecord::command_end
    /// [`Ended::Limit`]: crate::Ended::Limit
    /// [`State::last_success`]: crate::State::last_success
    pub fn command_ended(&self, end: CommandEnd, at_limit: bool) {
        match &self.hold {
            Hold::Local(share) => share.command_ended(end, at_limit),
            #[cfg(feature = "remote")]
            Hold::Remote(..) => {}
        }
    }

    /// Records that a job which began this long ago under the hold, and is to be done once in `every`, is done: from now on
    /// [`Engine::last_done`](super::Engine::last_done) tells when it began. Until `every` is over, the lock is in use for
    /// [`unused`](crate::unused). Waits up to 1 s for the table, or some seconds for an engine's answer.
    ///
    /// # Errors
    /// [`Error::NotHeld`](crate::Error::NotHeld) if the hold was lost; [`Error::Busy`](crate::Error::Busy) if the table
    /// stayed busy; [`Error::Refused`](crate::Error::Refused) if the engine does not let it be kept; else as
    /// [`confirm`](Self::confirm).
    pub fn mark_done(&self, began_ago: Duration, every: Duration) -> Result<()> {
        match &self.hold {
            Hold::Local(share) => share.mark_done(began_ago, every),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => held.get()?.mark_done(began_ago),
        }
    }

    /// Says that a job under the hold has ended well: runs of it that were skipped before no longer count
    /// ([`Engine::count_skip`](super::Engine::count_skip)). Waits some seconds at most for an engine's answer.
    ///
    /// # Errors
    /// [`Error::NotHeld`](crate::Error::NotHeld) if the hold was lost;
    /// [`Error::Unsupported`](crate::Error::Unsupported) on an engine that does not count; else as
    /// [`confirm`](Self::confirm).
    pub fn reset_skips(&self) -> Result<()> {
        match &self.hold {
            Hold::Local(share) => share.reset_skips(),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => held.get()?.reset_skips(),
        }
    }

    /// How the hold was taken away, if it was. On this machine: released by force, or the lock's files deleted; it checks
    /// the semaphore as well, so that it notices a forced release by the Python module. (If that module's user has taken
    /// the lock in the meantime, that cannot be told from our own hold.) On an engine: its lease is over, or the engine
    /// has said that it is gone; in the child of a fork, which hears nothing of it, [`Lost::Lease`]. Blocks up to 1 s
    /// for the table, and never for an engine.
    pub fn lost(&self) -> Option<Lost> {
        match &self.hold {
            Hold::Local(share) => share.lost(),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => held.get().map_or(Some(Lost::Lease), |held| held.lost()),
        }
    }

    /// As [`lost`](Self::lost), but also notices what an engine has not told yet (a request that was removed from it by
    /// force): if its last answer is older than 0.1 s, it is asked. To be called last before something is done that must not
    /// be done without the lock. Blocks until the answer, up to 5 s.
    ///
    /// # Errors
    /// [`Error::Unreachable`](crate::Error::Unreachable) if the engine does not answer;
    /// [`Error::Forked`](crate::Error::Forked) on an engine.
    pub fn confirm(&self) -> Result<Option<Lost>> {
        match &self.hold {
            Hold::Local(share) => Ok(share.lost()),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => held.get()?.confirm(),
        }
    }

    /// Until when it is certain that nobody else has the lock. As [`lost`](Self::lost), which it asks on this machine.
    pub fn validity(&self) -> Validity {
        match &self.hold {
            Hold::Local(share) => share.lost().map_or(Validity::Unlimited, |_| Validity::Lost),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => held.get().map_or(Validity::Lost, |held| held.validity()),
        }
    }

    /// Has every change of [`validity`](Self::validity) told to `tell`, and the present one at once. `tell` is called
    /// from another thread and must not block. On this machine nothing changes by itself: only the present one is told.
    pub fn on_change(&mut self, tell: impl Fn(Validity) + Send + 'static) {
        match &mut self.hold {
            Hold::Local(_) => tell(self.validity()),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => match held.get_mut() {
                Ok(held) => held.on_change(Box::new(tell)),
                Err(_) => tell(Validity::Lost),
            },
        }
    }

    /// A descriptor that keeps the hold while it is open in any process, should this one die, if the engine is one of
    /// that kind (PostgreSQL): whoever sees to the holder's end keeps it open until then.
    pub fn keep_open(&self) -> Option<BorrowedFd<'_>> {
        match &self.hold {
            Hold::Local(_) => None,
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => held.as_it_is().keep_open(),
        }
    }

    /// Prepares for child processes that work under the hold: should this process die, the hold lasts as long as any
    /// process has what it inherits from now on, a descriptor without close-on-exec, numbered 100 or above where the limit
    /// on descriptors allows. This process's own copy is closed when the hold is released. Nothing happens on an engine,
    /// where a hold depends on its lease. Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os) if there is no descriptor left; [`Error::Busy`](crate::Error::Busy) if the table
    /// stayed busy: then the descriptor would keep nothing alive; [`Error::NotHeld`](crate::Error::NotHeld) if the hold was
    /// lost.
    pub fn keep_alive_in_children(&self) -> Result<()> {
        match &self.hold {
            Hold::Local(share) => share.keep_alive_in_children(),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => Ok(held.get().map(drop)?),
        }
    }

    /// True if a process other than this one still has what it inherited after
    /// [`keep_alive_in_children`](Self::keep_alive_in_children). Closes this process's own copy first, because the kernel
    /// does not tell them apart. Does not block.
    pub fn kept_alive_elsewhere(&self) -> bool {
        match &self.hold {
            Hold::Local(share) => share.kept_alive_elsewhere(),
            #[cfg(feature = "remote")]
            Hold::Remote(..) => false,
        }
    }

    /// Binds the hold to the life of process `pid` as well (a child that was started for it): if this process dies, the
    /// hold lasts at least as long as that one. Nothing happens on an engine, which knows none of this machine's processes.
    /// Waits up to 0.25 s for the table.
    ///
    /// # Errors
    /// [`Error::NoProcess`](crate::Error::NoProcess) if it has ended, or cannot be examined;
    /// [`Error::Busy`](crate::Error::Busy) if the table stayed busy: the hold is not bound, and this can be tried again;
    /// [`Error::NotHeld`](crate::Error::NotHeld) if the hold was lost.
    pub fn bind(&self, pid: u32) -> Result<()> {
        match &self.hold {
            Hold::Local(share) => share.bind(pid),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => Ok(held.get().map(drop)?),
        }
    }

    /// From now on the end of the process (or of what has inherited
    /// [what keeps it alive](Self::keep_alive_in_children)) is the hold's ordinary end: it counts as released, and the
    /// next holder is not told that anybody died. For a process that is about to exec a command, after which nobody is left
    /// to release. Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Forked`](crate::Error::Forked); [`Error::Busy`](crate::Error::Busy) if the table stayed busy;
    /// [`Error::NotHeld`](crate::Error::NotHeld) if the hold was lost; [`Error::Unsupported`](crate::Error::Unsupported)
    /// on an engine whose holds somebody has to renew.
    pub fn let_lapse(&self) -> Result<()> {
        match &self.hold {
            Hold::Local(share) => share.let_lapse(),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => Err(Error::Unsupported {
                engine: held.get()?.engine(),
                what: "a hold that nobody renews while its command runs".to_owned(),
            }),
        }
    }

    /// Says that nothing runs under the hold yet: others are shown `lock_info` as its note, and until
    /// [`begin`](Self::begin), the end of the process is its ordinary end, of which the next holder is not told. For whoever
    /// waits for something else before he begins. Does nothing on an engine. Waits up to 0.25 s for the table.
    ///
    /// # Errors
    /// [`Error::Busy`](crate::Error::Busy) if the table stayed busy; [`Error::NotHeld`](crate::Error::NotHeld) if the hold
    /// was lost; [`Error::Forked`](crate::Error::Forked).
    pub fn set_pending(&self, lock_info: &str) -> Result<()> {
        match &self.hold {
            Hold::Local(share) => share.describe(lock_info, false),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => Ok(held.get().map(drop)?),
        }
    }

    /// Says that what the lock was acquired for begins now, after [`set_pending`](Self::set_pending): others are shown
    /// `lock_info`, and the hold's age counts from now; the time before is time waited. Does nothing on an engine. Waits up
    /// to 0.25 s for the table.
    ///
    /// # Errors
    /// As [`set_pending`](Self::set_pending). Then nothing may begin: the end of the process would be taken for the end of
    /// the work.
    pub fn begin(&self, lock_info: &str) -> Result<()> {
        match &self.hold {
            Hold::Local(share) => share.describe(lock_info, true),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => Ok(held.get().map(drop)?),
        }
    }

    /// Leaves the hold to its time: it stands for so long, whether or not this process lives, and then ends as if it were
    /// released now. Nothing is to run under it any more; the guard can be dropped. What
    /// [`command_ended`](Self::command_ended) and [`mark_crashed`](Self::mark_crashed) have said is recorded now. Waits up to
    /// 1 s for the table, or some seconds for an engine's answer; an engine rounds the time up.
    ///
    /// # Errors
    /// Then the hold is this guard's as before. [`Error::NotHeld`](crate::Error::NotHeld) if it was lost, or other guards
    /// share it; [`Error::Busy`](crate::Error::Busy) if the table stayed busy; [`Error::Os`](crate::Error::Os) without /proc
    /// before Linux 6.11; [`Error::Forked`](crate::Error::Forked); on an engine,
    /// [`Error::Unreachable`](crate::Error::Unreachable) if it is not known if it has heard of it, and
    /// [`Error::Unsupported`](crate::Error::Unsupported) if its holds end with this process.
    pub fn linger(&mut self, time: Duration) -> Result<()> {
        match &mut self.hold {
            Hold::Local(share) => share.linger(time),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => held.get_mut()?.linger(time),
        }
    }

    /// From now on no answer of an engine is waited for longer than a second: this program was asked to end. Where that is
    /// too short, the hold ends with its lease.
    pub fn shorten_release(&mut self) {
        match &mut self.hold {
            Hold::Local(_) => {}
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => _ = held.get_mut().map(|held| held.shorten_release()),
        }
    }

    /// Releases now; if other guards share the hold, it goes on with them. False: it was no longer held (released by force,
    /// expired, its lease over). Waits up to 1 s for the table, or some seconds for an engine's answer.
    ///
    /// # Errors
    /// [`Error::Forked`](crate::Error::Forked); on an engine, [`Error::Unreachable`](crate::Error::Unreachable) if it is not
    /// known whether it has heard of the release: the hold ends with its lease then.
    pub fn release(self) -> Result<bool> {
        match self.hold {
            Hold::Local(share) => share.release(),
            #[cfg(feature = "remote")]
            Hold::Remote(_, held) => held.into_inner()?.release(),
        }
    }
}

/// A guard that the program does not have yet. If it never gets it, the hold is released, a
/// [detached](crate::GetOptions::detached) one as well, and a panic says nothing of what the lock protects: nothing was done
/// under it.
pub(crate) struct Undelivered(Option<Guard>);

impl Undelivered {
    pub(crate) fn new(guard: Guard) -> Self {
        Self(Some(guard))
    }

    /// The guard, before the program has it.
    pub(crate) fn guard(&self) -> Option<&Guard> {
        self.0.as_ref()
    }

    /// The program has it from now on.
    pub(crate) fn deliver(mut self) -> Option<Guard> {
        self.0.take()
    }
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        match self.0.take().map(|guard| guard.hold) {
            Some(Hold::Local(share)) => _ = share.release(),
            // No answer is waited for.
            #[cfg(feature = "remote")]
            Some(Hold::Remote(..)) => {}
            None => {}
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("name", self.name())
            .field("token", &self.token())
            .finish_non_exhaustive()
    }
}
