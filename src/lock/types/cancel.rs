//! Ending a wait from another thread or from a signal handler.

use crate::lock::sys;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ends the waits that it was passed to (see [`GetOptions::cancel`](crate::GetOptions::cancel)).
#[derive(Debug, Default)]
pub struct Cancel(pub(crate) AtomicU32);

impl Cancel {
    /// Not cancelled yet.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Ends these waits, now and in future. Never blocks; may be called from a signal handler.
    pub fn cancel(&self) {
        // Release: what the caller did before is seen by the thread whose wait it ends.
        self.0.store(1, Ordering::Release);
        // Waits sleep on this word as well, so none is missed, not even one that is just about to sleep.
        sys::futex_wake(&self.0, i32::MAX);
    }

    /// True if [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0 // pairs with `cancel`
    }
}
