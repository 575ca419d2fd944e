//! Several locks, or none of them.

use super::guard::{Guard, Undelivered};
use crate::lock::types::Wait;
use std::time::Instant;

/// Acquires several locks, or none: `None` = one of them was not acquired in time, which is `wait` for all of them together.
/// They are asked for one after the other in the order of their `keys`, which are all different, so that two callers with
/// the same keys never wait for each other in a circle. The guards come in the order of the keys that were given.
///
/// `acquire` makes the request for the key with this index, and is told how long it may wait and what has been acquired
/// before it.
///
/// # Errors
/// Those of `acquire`. What was acquired before is released.
pub fn acquire_all<K: Ord, E>(
    keys: &[K],
    wait: Wait,
    mut acquire: impl FnMut(usize, Wait, &[&Guard]) -> Result<Option<Guard>, E>,
) -> Result<Option<Vec<Guard>>, E> {
    let begun = Instant::now();
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|&i| &keys[i]);
    let mut acquired: Vec<(usize, Undelivered)> = Vec::with_capacity(keys.len());
    for i in order {
        let left = match wait {
            Wait::For(time) => Wait::For(time.saturating_sub(begun.elapsed())),
            wait => wait,
        };
        let before: Vec<&Guard> = acquired.iter().filter_map(|(_, guard)| guard.guard()).collect();
        let Some(guard) = acquire(i, left, &before)? else {
            return Ok(None);
        };
        acquired.push((i, Undelivered::new(guard)));
    }
    acquired.sort_by_key(|(i, _)| *i);
    let delivered = acquired.into_iter().filter_map(|(_, guard)| guard.deliver());
    Ok(Some(delivered.collect()))
}
