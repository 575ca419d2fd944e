//! Several locks at once.

use crate::lock::api::resource_lock::{Opened, ResourceLock};
use crate::lock::engines::{Guard, Undelivered};
use crate::lock::types::{Error, GetOptions, Result, Wait};
use std::time::Instant;

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
        let begun = Instant::now();
        let mut order: Vec<usize> = (0..locks.len()).collect();
        let place = |i: usize| (locks[i].place(), locks[i].name());
        order.sort_by_cached_key(|&i| place(i));
        if let Some(pair) = order.windows(2).find(|pair| place(pair[0]) == place(pair[1])) {
            return Err(Error::Twice {
                name: locks[pair[0]].name().clone(),
            });
        }
        let mut guards: Vec<(usize, Undelivered)> = Vec::with_capacity(locks.len());
        for i in order {
            let mut options = options.clone();
            if let Wait::For(time) = options.wait {
                options.wait = Wait::For(time.saturating_sub(begun.elapsed()));
            }
            let Some(guard) = locks[i].acquire_with(&options)? else {
                return Ok(None);
            };
            guards.push((i, Undelivered::new(guard)));
        }
        guards.sort_by_key(|(i, _)| *i);
        Ok(Some(
            guards.into_iter().filter_map(|(_, guard)| guard.deliver()).collect(),
        ))
    }

    /// Where it is kept.
    fn place(&self) -> String {
        match self.opened() {
            Opened::Local(_) => String::new(),
            Opened::Remote { engine, .. } => engine.place(),
        }
    }
}
