//! How watchers are woken: the word `events` in the table's head, whose bit 0 says that a watcher sleeps, or is about to.

use crate::lock::protocol::orderings::{ANNOUNCE, WATCH};
use crate::lock::shm::layout::Header;
use crate::lock::sys;
use crate::lock::sys::atomic::{AtomicU32, Ordering::Relaxed, fence, fence_after_swap};

/// A watcher sleeps.
pub(crate) const WATCHED: u32 = 1;
/// The rest of the word counts the wakes.
const ONE_WAKE: u32 = 2;

impl Header {
    /// Wakes the watchers. Called after every change, which ends with a compare-exchange (leaving the latch).
    pub(crate) fn announce(&self) {
        fence_after_swap(ANNOUNCE);
        if self.events.load(Relaxed) & WATCHED != 0 {
            // A watcher that is about to sleep finds the word changed.
            let woken = |events: u32| Some((events & !WATCHED).wrapping_add(ONE_WAKE));
            let _ = self.events.fetch_update(Relaxed, Relaxed, woken);
            sys::futex_wake(&self.events, i32::MAX);
        }
    }
}

/// Says that a watcher is about to inspect the lock and then to sleep while `events` has the value that is returned: a
/// change that the inspection does not see wakes it.
///
/// Here the kernel does that, with a full barrier ([`UntouchedWord::set`](sys::UntouchedWord::set)), so that the watcher need
/// not touch a file that others may truncate. This is what it does, for `weak/`, which has no kernel.
#[allow(dead_code)]
pub(crate) fn watch(events: &AtomicU32) -> u32 {
    let seen = events.fetch_or(WATCHED, Relaxed) | WATCHED;
    fence(WATCH);
    seen
}
