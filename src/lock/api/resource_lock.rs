//! The handle that a process opens to use a lock.

use crate::lock::acquire::handle::Handle;
use crate::lock::acquire::hold::User;
use crate::lock::types::{GetOptions, LockName, Result, UngetOptions};

/// A handle to a named lock. Several threads may use one handle; two handles in one process compete like two processes.
/// See the [crate's front page](crate) for what is guaranteed.
///
/// Dropping the handle releases what it holds.
pub struct ResourceLock {
    pub(crate) handle: Handle,
}

impl ResourceLock {
    /// The lock's name (Python: `lockname`).
    pub fn name(&self) -> &LockName {
        self.handle.name()
    }

    /// Acquires the lock (Python: `get_lock`): true = this handle holds it now; false = it was not acquired in time.
    /// Blocks up to [`GetOptions::wait`] (1 s by default).
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled), [`Error::SlotsDiffer`](crate::Error::SlotsDiffer), [`Error::NoProcess`](crate::Error::NoProcess), [`Error::Forked`](crate::Error::Forked); [`Error::Busy`](crate::Error::Busy) if a
    /// process that is stopped in the middle of an operation blocks the table until the time is up (even one that does not wait gives it 0.25 s); [`Error::BeingRemoved`](crate::Error::BeingRemoved) if one is stopped
    /// in the middle of the lock's removal; and those of [`Builder::open`](crate::Builder::open) if the lock's files were deleted and have to
    /// be created again.
    pub fn get_lock(&self, options: GetOptions<'_>) -> Result<bool> {
        let detached = options.detached.is_some();
        let Some(share) = self.handle.get(options, User::Handle)? else {
            return Ok(false);
        };
        if !detached {
            share.forget(); // until `unget_lock`
        }
        Ok(true)
    }

    /// Releases the lock (Python: `unget_lock`): true = released; false = it was free, or not this handle's (then it is
    /// left alone, which is logged). Without a [target](UngetOptions), it releases what [`get_lock`](Self::get_lock) has
    /// acquired; what a [`Guard`](crate::Guard) holds, only that guard releases. Waits up to 1 s for the table, never for a
    /// holder.
    ///
    /// # Errors
    /// [`Error::Busy`](crate::Error::Busy) if somebody else's hold is to be released and the table stays busy; [`Error::Forked`](crate::Error::Forked).
    pub fn unget_lock(&self, options: UngetOptions<'_>) -> Result<bool> {
        self.handle.unget(options)
    }

    /// True if this handle holds the lock (Python: `I_have_the_lock`). False in the child of a fork: the hold is its
    /// parent's. Does not block.
    pub fn have_the_lock(&self) -> bool {
        self.handle.check_fork().is_ok() && self.handle.held_token().is_some()
    }

    /// Says that what a dead holder may have left half done is in order again, as
    /// [`Guard::mark_recovered`](crate::Guard::mark_recovered) does, by this handle's latest hold.
    ///
    /// # Errors
    /// [`Error::NotHeld`](crate::Error::NotHeld), [`Error::Busy`](crate::Error::Busy), [`Error::Forked`](crate::Error::Forked).
    pub fn mark_recovered(&self) -> Result<()> {
        self.handle.mark_recovered(None)
    }

    /// Turns the hold that this handle acquired by [`get_lock`](Self::get_lock) into a detached one: the lock stays taken,
    /// and this handle no longer holds it (in Python: `I_have_the_lock = False`). False = there was no such hold, or guards
    /// share it. Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Forked`](crate::Error::Forked); [`Error::Busy`](crate::Error::Busy) if the table stayed busy: the hold is still this handle's.
    pub fn leave_taken(&self) -> Result<bool> {
        self.handle.leave_taken()
    }

    /// Repairs what crashed processes left behind, so that a lone user of the Python module need not wait for that: the
    /// dead are dropped, and the next in line is woken. Every request does this by itself. Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Busy`](crate::Error::Busy), [`Error::Forked`](crate::Error::Forked).
    pub fn repair(&self) -> Result<()> {
        self.handle.check_fork()?;
        self.handle.repair()
    }

    /// Closes the handle (Python: `close`), and releases what it holds. Dropping it does the same without the log line.
    pub fn close(self) {
        log::debug!("<{}> semaphore closed", self.name());
    }
}

impl std::fmt::Debug for ResourceLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResourceLock")
            .field("name", self.name())
            .finish_non_exhaustive()
    }
}
