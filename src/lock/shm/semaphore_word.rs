//! The semaphore's 64-bit word in shared memory: reading it and changing it.

use crate::lock::protocol::orderings::{SEMAPHORE_FOUND, SEMAPHORE_LOAD, SEMAPHORE_SWAP};
use crate::lock::protocol::word::SemaphoreWord;
use crate::lock::sys;
use crate::lock::sys::atomic::AtomicU64;

sys::shared! {
    /// See the module.
    pub(crate) struct Count {
        pub(crate) word: AtomicU64,
    }
}

impl Count {
    pub(crate) fn load(&self) -> SemaphoreWord {
        SemaphoreWord(self.word.load(SEMAPHORE_LOAD))
    }

    /// Changes it; `Err` = what it was instead of `from`.
    pub(crate) fn swap(&self, from: SemaphoreWord, to: SemaphoreWord) -> Result<(), SemaphoreWord> {
        self.word
            .compare_exchange(from.0, to.0, SEMAPHORE_SWAP, SEMAPHORE_FOUND)
            .map(|_| ())
            .map_err(SemaphoreWord)
    }

    /// Counts the caller among the waiters, as sem_wait(3) does, if the semaphore is taken. False = it is not.
    pub(crate) fn join(&self) -> bool {
        self.change_waiters(|semaphore| {
            (semaphore.value() == 0).then(|| semaphore.with_waiters(semaphore.waiters().wrapping_add(1)))
        })
    }

    /// The reverse of [`join`](Self::join).
    pub(crate) fn leave(&self) {
        self.change_waiters(|semaphore| {
            semaphore
                .waiters()
                .checked_sub(1)
                .map(|rest| semaphore.with_waiters(rest))
        });
    }

    fn change_waiters(&self, change: impl Fn(SemaphoreWord) -> Option<SemaphoreWord>) -> bool {
        let mut semaphore = self.load();
        while let Some(next) = change(semaphore) {
            match self.swap(semaphore, next) {
                Ok(()) => return true,
                Err(now) => semaphore = now,
            }
        }
        false
    }
}
