//! A hold that is released when it is dropped.

use crate::{ResourceLock, Result};
use std::os::fd::RawFd;

/// A hold: released on drop.
pub struct Guard<'a> {
    pub(crate) lock: &'a ResourceLock,
    pub(crate) token: u64,
}

/// How a hold was taken away from its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// Somebody released it by force.
    Forced,
    /// The lock's objects were deleted or replaced.
    Replaced,
}

impl Guard<'_> {
    /// The grant's number: grows with every grant of this lock (a fencing token).
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Whether a previous holder died while it held the lock, and nobody has finished well since.
    pub fn abandoned(&self) -> bool {
        unimplemented!()
    }

    /// Whether the hold was taken away: released by force, or its objects deleted. Does not block.
    pub fn lost(&self) -> Option<Lost> {
        unimplemented!()
    }

    /// Makes a second proof of life, a descriptor numbered >= 100 (where the limit allows) without close-on-exec,
    /// for a child process to inherit: the hold then lasts at least as long as any process has that descriptor open,
    /// unless it is released. Meant for a hold around a command; the caller's copy is closed by [`Guard::release`].
    pub fn keep_alive_descriptor(&self) -> Result<RawFd> {
        unimplemented!()
    }

    /// Binds the hold to the life of process `pid` as well (a child that was started for it).
    pub fn bind(&self, pid: u32) -> Result<()> {
        let _ = pid;
        unimplemented!()
    }

    /// Releases now. False: the hold was no longer ours (released by force or expired).
    pub fn release(self) -> Result<bool> {
        unimplemented!()
    }

    /// Releases now, but leaves the mark that a previous holder died (see [`Guard::abandoned`]) for the next holder.
    pub fn release_unmended(self) -> Result<bool> {
        unimplemented!()
    }

    /// Forgets the guard without releasing: the hold lasts as long as this process, or whatever inherits the
    /// descriptor of [`Guard::keep_alive_descriptor`], lives. For a process that is about to exec.
    pub fn leave_held(self) {
        std::mem::forget(self);
    }
}
