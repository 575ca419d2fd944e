//! The kernel's futex: a sleeper is counted before it compares; who wakes looks at that count behind a full barrier, and
//! goes without the bucket's lock if nobody is there (futex_wake() and futex_wait_setup() in kernel/futex/).

use loom::sync::atomic::{AtomicU32, Ordering::*, fence};
use loom::sync::{Condvar, Mutex};

/// Of one word.
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
    /// Sleeps, if the word is the `same`, until somebody wakes it. A wake that is lost is a deadlock, which loom reports.
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
