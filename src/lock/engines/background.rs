//! Threads in the background.

use crate::lock::sys;
use crate::lock::types::{Cancel, Error, Result};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Starts a thread.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = Builder::new().name(name.to_owned());
    sys::spawn_without_signals(thread, body).map_err(|source| Error::Os {
        doing: "start a thread for",
        path: PathBuf::from(name),
        source,
    })
}

/// Something that happens in another thread.
#[derive(Debug, Default)]
pub(crate) struct Event(AtomicU32);

impl Event {
    pub(crate) fn set(&self) {
        // Release: who finds it set sees what it stands for.
        self.0.store(1, Ordering::Release);
        sys::futex_wake(&self.0, i32::MAX);
    }

    /// Call this before reading what the event stands for.
    pub(crate) fn clear(&self) {
        // An exchange, because a store could take effect after the read that follows it. Acquire: if it had been set,
        // that read sees what it stood for.
        self.0.swap(0, Ordering::Acquire);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0 // pairs with `set`
    }
}

/// Sleeps until one of `events` (at most 3) is set, until `cancel`, or until the monotonic clock reaches `until` (ns).
/// May return early.
pub(crate) fn sleep(events: &[&Event], cancel: Option<&Cancel>, until: u64) {
    let words = events.iter().map(|event| &event.0);
    let words: Vec<sys::Watched<'_>> = words
        .chain(cancel.map(|cancel| &cancel.0))
        .map(|word| sys::Watched::Word(word, 0))
        .collect();
    sys::futex_wait(&words, until);
}

/// A clock's time that much later, both in nanoseconds.
pub(crate) fn later(time: u64, after: Duration) -> u64 {
    time.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
}
