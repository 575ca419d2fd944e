//! Random numbers for names and marks that must not collide.

use crate::lock::sys;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A random number: unpredictable enough that two processes rarely draw the same one. It does no harm if they do.
pub(crate) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    // A forked child starts with its parent's seeds.
    hasher.write_u32(std::process::id());
    hasher.write_u64(sys::monotonic());
    hasher.finish()
}
