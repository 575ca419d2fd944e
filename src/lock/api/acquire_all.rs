//! Several locks at once.

use crate::lock::api::resource_lock::{Opened, ResourceLock};
use crate::lock::engines::{Guard, acquire_all};
use crate::lock::types::{Error, GetOptions, Result};
use std::collections::BTreeSet;

impl ResourceLock {
    /// Acquires all of these locks, or none: `None` = not all were acquired in time, which is the time for all of them
    /// together. The guards come in the order of the locks. Whatever order the caller gives, they are acquired in one order
    /// (by where they are kept, and by name), so two calls that name the same locks never wait for each other in a circle.
    /// Locks that are already held when this is called are not part of that order: acquire all at once, or always in the
    /// same order by hand.
    ///
    /// # Errors
    /// [`Error::Twice`] if two of them are the same lock, as the second would wait for the first; else as
    /// [`acquire_with`](Self::acquire_with). What was acquired before is released.
    #[must_use = "the locks are released as soon as their guards are dropped"]
    pub fn acquire_all(locks: &[&Self], options: &GetOptions<'_>) -> Result<Option<Vec<Guard>>> {
        let keys: Vec<_> = locks.iter().map(|lock| (lock.place(), lock.name())).collect();
        let mut seen = BTreeSet::new();
        if let Some((_, name)) = keys.iter().find(|key| !seen.insert(*key)) {
            return Err(Error::Twice { name: (*name).clone() });
        }
        acquire_all(&keys, options.wait, |i, wait, _| {
            locks[i].acquire_with(&options.clone().wait(wait))
        })
    }

    /// Where it is kept.
    fn place(&self) -> String {
        match self.opened() {
            Opened::Local(_) => String::new(),
            Opened::Remote { engine, .. } => engine.place(),
        }
    }
}
