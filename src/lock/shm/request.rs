//! What describes a request.

use crate::lock::protocol::queue::Kind;
use crate::lock::shm::ending::Ending;
use crate::lock::shm::layout::{PackedNote, PackedRequester, pack_what};
use crate::lock::sys;
use crate::lock::types::{Detached, Ended, Mode};

/// What describes a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) mode: Mode,
    pub(crate) detached: Option<Detached>,
    /// It came to replace others.
    pub(crate) replaces: bool,
    /// Start time of `detached.pid`.
    pub(crate) bound_start: u64,
    pub(crate) requester: PackedRequester,
    /// What for, as the history keeps it.
    pub(crate) note: PackedNote,
    /// When it was made, in monotonic ns.
    pub(crate) queued: u64,
    /// The same by the wall clock, in µs.
    pub(crate) queued_wall_us: u64,
}

impl Request {
    /// What the history keeps of it, if it gives up at `now`. `ticket`: 0 if it has not joined the queue.
    pub(crate) fn gave_up(&self, ticket: u64, now: u64, how: Ended) -> Ending {
        let (kind, slots) = kind_of(self.mode);
        Ending {
            ticket,
            token: 0,
            queued_wall_us: self.queued_wall_us,
            waited_ns: if how == Ended::Refused {
                0
            } else {
                now.saturating_sub(self.queued)
            },
            held_ns: 0,
            ended_wall_us: sys::realtime() / 1000,
            requester: self.requester,
            what: pack_what(kind as u8, how, slots),
            command_end: 0,
            note: self.note,
        }
    }
}

/// A mode's kind and number of slots.
pub(crate) fn kind_of(mode: Mode) -> (Kind, u32) {
    match mode {
        Mode::Exclusive => (Kind::Exclusive, 0),
        Mode::Shared => (Kind::Shared, 0),
        Mode::Slots(n) => (Kind::Slot, n),
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
