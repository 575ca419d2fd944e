//! A user's share of a hold.

use crate::lock::acquire::handle::Handle;
use crate::lock::acquire::hold::{Hold, User};
use crate::lock::types::{Mode, Result};
use std::mem::ManuallyDrop;

/// A user's share of a hold of this handle. Dropping it gives it up; the hold is released with the last share, unless it
/// is a detached one.
pub(crate) struct Share<'h> {
    handle: &'h Handle,
    token: u64,
    user: User,
}

impl Handle {
    /// True if it has a hold that includes `mode`.
    pub(crate) fn includes(&self, mode: Mode) -> bool {
        self.current().holds.iter().any(|hold| hold.includes(mode))
    }

    /// A share for `user` of its latest hold that includes `mode`.
    pub(crate) fn share_own(&self, mode: Mode, user: User) -> Option<Share<'_>> {
        let mut current = self.current();
        let mut latest_first = current.holds.iter_mut().rev();
        let own = latest_first.find(|hold| hold.includes(mode))?;
        own.add(user);
        Some(Share::new(self, own.token, user))
    }
}

impl<'h> Share<'h> {
    /// Of a hold that counts this user already.
    pub(crate) fn new(handle: &'h Handle, token: u64, user: User) -> Self {
        Self { handle, token, user }
    }

    /// The grant's number.
    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    /// Works with the hold. `None` = the handle no longer has it, or cannot be asked in the child of a fork.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut Hold) -> R) -> Option<R> {
        let mut current = self.handle.current_unless_stuck()?;
        let mut holds = current.holds.iter_mut();
        holds.find(|hold| hold.token == self.token).map(work)
    }

    /// The user needs it no longer. Now a detached hold is released, too. False = the hold was no longer held.
    pub(crate) fn release(self) -> Result<bool> {
        let share = ManuallyDrop::new(self);
        share.with(|hold| hold.detached = false);
        share.give_up()
    }

    /// Leaves the hold to the handle.
    pub(crate) fn leave_to_handle(self) {
        self.with(|hold| {
            hold.add(User::Handle);
            hold.left = true;
        });
    }

    /// The user's share is counted elsewhere from now on.
    pub(crate) fn forget(self) {
        let _ = ManuallyDrop::new(self);
    }

    fn give_up(&self) -> Result<bool> {
        self.handle.give_up_share(self.token, self.user)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let _ = self.give_up(); // in the child of a fork it is the parent's
    }
}
