//! What describes a request.

use crate::lock::protocol::queue::Kind;
use crate::lock::shm::layout::PackedRequester;
use crate::lock::types::{Detached, Mode};

/// What describes a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) mode: Mode,
    pub(crate) detached: Option<Detached>,
    /// Start time of `detached.pid`.
    pub(crate) bound_start: u64,
    pub(crate) requester: PackedRequester,
    /// When it was made, in monotonic ns.
    pub(crate) queued: u64,
    /// The same by the wall clock, in µs.
    pub(crate) queued_wall_us: u64,
}

/// A mode's kind and number of slots.
pub(crate) fn kind_of(mode: Mode) -> (Kind, u32) {
    match mode {
        Mode::Exclusive => (Kind::Exclusive, 0),
        Mode::Shared => (Kind::Shared, 0),
        Mode::Slots(n) => (Kind::Slot, n.max(1)),
    }
}

/// The reverse of [`kind_of`], for stored values.
pub(crate) fn mode_of(kind: u8, slots: u32) -> Mode {
    match kind {
        1 => Mode::Shared,
        2 => Mode::Slots(slots),
        _ => Mode::Exclusive,
    }
}
