//! What the table keeps of requests that have ended, and its sums. Written in the latch, but for grants of queued requests.

use crate::lock::protocol::orderings::{ENTRY_BEGUN, ENTRY_COMPLETE, NEXT_STORE};
use crate::lock::shm::growth::Ring;
use crate::lock::shm::layout::{PackedNote, PackedRequester};
use crate::lock::shm::table::Table;
use crate::lock::sys::atomic::{AtomicU64, Ordering::Relaxed, fence};

/// What the history keeps of an ended request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) ticket: u64,
    /// 0 = never granted.
    pub(crate) token: u64,
    pub(crate) queued_wall_us: u64,
    pub(crate) waited_ns: u64,
    pub(crate) held_ns: u64,
    pub(crate) ended_wall_us: u64,
    pub(crate) requester: PackedRequester,
    /// See [`pack_what`](crate::lock::shm::layout::pack_what).
    pub(crate) what: u64,
    /// See [`pack_end`](crate::lock::shm::layout::pack_end).
    pub(crate) command_end: u64,
    pub(crate) note: PackedNote,
}

impl Table {
    /// In the latch. Adds a grant to the sums.
    pub(crate) fn count_grant(&self, waited_ns: u64) {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        add(&self.header.unqueued_grants, 1);
        self.count_wait(waited_ns);
    }

    /// The same for a queued request, which counts its own grant when it accepts, outside the latch.
    pub(crate) fn count_queued_grant(&self, waited_ns: u64) {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        self.header.queued_grants.fetch_add(1, Relaxed);
        self.count_wait(waited_ns);
    }

    fn count_wait(&self, waited_ns: u64) {
        let header = &self.header;
        if waited_ns != 0 {
            header.waited_ns.fetch_add(waited_ns, Relaxed);
        }
        if header.consecutive_timeouts.load(Relaxed) != 0 {
            header.consecutive_timeouts.store(0, Relaxed);
        }
    }

    /// Records the end of a hold.
    pub(crate) fn record_end(&self, hold: &Ending) {
        add(&self.header.held_ns, hold.held_ns);
        self.write(&self.history(), hold);
    }

    /// Records that a request gave up.
    pub(crate) fn record_gave_up(&self, request: &Ending) {
        self.write(&self.gave_up(), request);
    }

    /// As the ring's next entry. Nothing, if it has no space at all.
    fn write(&self, ring: &Ring<'_>, end: &Ending) {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        let entries = ring.entries(self);
        let number = ring.next.load(Relaxed);
        let at = number.checked_rem(entries.len() as u64);
        let Some(past) = at.and_then(|at| entries.get(at as usize)) else {
            return;
        };
        ring.next.store(number.wrapping_add(1), NEXT_STORE);
        past.sequence.store(0, Relaxed);
        fence(ENTRY_BEGUN);
        past.ticket.store(end.ticket, Relaxed);
        past.token.store(end.token, Relaxed);
        past.queued_wall_us.store(end.queued_wall_us, Relaxed);
        past.waited_ns.store(end.waited_ns, Relaxed);
        past.held_ns.store(end.held_ns, Relaxed);
        past.ended_wall_us.store(end.ended_wall_us, Relaxed);
        past.set_requester(end.requester);
        past.what.store(end.what, Relaxed);
        past.command_end.store(end.command_end, Relaxed);
        for (to, &word) in past.note.iter().zip(&end.note) {
            to.store(word, Relaxed);
        }
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        past.sequence.store(number.wrapping_add(1), ENTRY_COMPLETE);
    }
}

/// Adds to a sum that changes in the latch only.
pub(crate) fn add(sum: &AtomicU64, n: u64) {
    sum.store(sum.load(Relaxed).wrapping_add(n), Relaxed);
}
