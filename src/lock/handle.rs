//! The handle: what a process opens to use a lock.

use crate::{GetOptions, Guard, HistoryRecord, LockName, Result, State, UngetOptions};

/// How to open a lock: what is used if it has to be created.
#[derive(Debug, Clone)]
pub struct Builder {
    name: String,
}

impl Builder {
    /// Permission bits for a lock that is created now (default 0o600). Not subject to the umask.
    pub fn mode(self, mode: u32) -> Self {
        let _ = mode;
        self
    }

    /// Group (number) for a lock that is created now.
    pub fn group(self, gid: u32) -> Self {
        let _ = gid;
        self
    }

    /// Size in bytes of a note that is created now (default 4096).
    pub fn note_size(self, bytes: usize) -> Self {
        let _ = bytes;
        self
    }

    /// Opens the lock; creates what is missing.
    pub fn open(self) -> Result<ResourceLock> {
        unimplemented!()
    }

    /// Opens an existing lock to look at it; creates nothing, needs read permission only.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such lock.
    pub fn open_existing(self) -> Result<ResourceLock> {
        let _ = self.name;
        unimplemented!()
    }
}

/// A named lock between processes.
pub struct ResourceLock {
    _private: (),
}

impl ResourceLock {
    /// Opens the lock `name`; creates it, free, if it does not exist.
    pub fn open(name: &str) -> Result<Self> {
        Self::builder(name).open()
    }

    /// Opens with choices.
    pub fn builder(name: &str) -> Builder {
        Builder { name: name.to_owned() }
    }

    /// The lock's name.
    pub fn name(&self) -> &LockName {
        unimplemented!()
    }

    /// The seed's `get_lock`: true = this handle has the lock now; false = not had in time.
    pub fn get_lock(&self, options: GetOptions<'_>) -> Result<bool> {
        let _ = options;
        unimplemented!()
    }

    /// Like [`get_lock`](Self::get_lock), with a guard that releases on drop. `None` = not had in time.
    pub fn try_acquire(&self, options: GetOptions<'_>) -> Result<Option<Guard<'_>>> {
        let _ = options;
        unimplemented!()
    }

    /// The seed's `unget_lock`: true = released; false = nothing to release, or not ours.
    pub fn unget_lock(&self, options: UngetOptions<'_>) -> Result<bool> {
        let _ = options;
        unimplemented!()
    }

    /// The seed's `I_have_the_lock`.
    pub fn have_the_lock(&self) -> bool {
        unimplemented!()
    }

    /// Turns this handle's hold into a detached one: it stays taken, this handle has it no longer.
    pub fn leave_taken(&self) -> Result<bool> {
        unimplemented!()
    }

    /// Token of this handle's hold, if it has one.
    pub fn token(&self) -> Option<u64> {
        unimplemented!()
    }

    /// The seed's `is_locked`.
    pub fn is_locked(&self) -> bool {
        unimplemented!()
    }

    /// The seed's `lock_value`.
    pub fn lock_value(&self) -> u32 {
        unimplemented!()
    }

    /// The seed's `get_lock_info`.
    pub fn get_lock_info(&self) -> String {
        unimplemented!()
    }

    /// The seed's `set_lock_info`.
    pub fn set_lock_info(&self, text: &str) {
        let _ = text;
        unimplemented!()
    }

    /// Whether a hold with this token stands in the table now and its holder is alive.
    pub fn is_held(&self, token: u64) -> bool {
        let _ = token;
        unimplemented!()
    }

    /// Holders, waiters, note, counters. Takes no lock and disturbs nobody.
    pub fn state(&self) -> State {
        unimplemented!()
    }

    /// The last ended requests, oldest first.
    pub fn history(&self) -> Vec<HistoryRecord> {
        unimplemented!()
    }

    /// The seed's `close`.
    pub fn close(self) {
        unimplemented!()
    }
}

/// Names of all locks of this machine that this user can see, sorted.
pub fn list() -> Result<Vec<LockName>> {
    unimplemented!()
}
