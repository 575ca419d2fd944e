//! The state of a handle, from asking to holding, and the release: a try in the latch, a short spin outside the queue, the
//! queue itself, a table that is full.

mod acquisition;
pub(crate) mod handle;
pub(crate) mod hold;
mod inspection;
pub(crate) mod queued;
mod release;
pub(crate) mod share;
mod spin;
mod table_full;
mod watching;
