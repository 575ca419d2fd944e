//! From asking to holding: a try in the latch, a short spin outside the queue, the queue itself, a table without room.

pub(crate) mod acquisition;
mod full;
pub(crate) mod hold;
mod spin;
pub(crate) mod wait;
