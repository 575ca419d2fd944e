//! Models the kernel's futex: a sleeper is counted before it compares the value; a waker reads that count after a full
//! barrier, and skips the bucket's lock if nobody is there (futex_wake() and futex_wait_setup() in kernel/futex/).

use loom::sync::atomic::{AtomicU32, Ordering::*, fence};
use loom::sync::{Condvar, Mutex};

/// The sleepers on one word.
pub struct Futex {
    pending: AtomicU32,
    bucket: Mutex<()>,
    sleepers: Condvar,
}

impl Default for Futex {
    fn default() -> Self {
        Self {
            pending: AtomicU32::new(0),
            bucket: Mutex::new(()),
            sleepers: Condvar::new(),
        }
    }
}

impl Futex {
    /// Sleeps until woken, if the word is still the `same`. A lost wake-up is a deadlock, which loom reports.
    pub fn wait(&self, same: impl Fn() -> bool) {
        self.pending.fetch_add(1, Relaxed);
        fence(SeqCst);
        let bucket = self.bucket.lock().unwrap();
        if same() {
            drop(self.sleepers.wait(bucket).unwrap());
        } else {
            drop(bucket);
        }
        self.pending.fetch_sub(1, Relaxed);
    }

    pub fn wake(&self, everybody: bool) {
        fence(SeqCst);
        if self.pending.load(Relaxed) == 0 {
            return;
        }
        let bucket = self.bucket.lock().unwrap();
        if everybody {
            self.sleepers.notify_all();
        } else {
            self.sleepers.notify_one();
        }
        drop(bucket);
    }
}
