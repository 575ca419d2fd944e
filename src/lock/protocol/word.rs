//! The two words that decide: a request's and the semaphore's.
//!
//! Every change that matters is one compare-exchange of one of these; see the protocol in
//! [`queue`](crate::lock::protocol::queue).

use std::fmt;

/// The stage of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(crate) enum Stage {
    /// The record is nobody's.
    Vacant = 0,
    /// In the queue.
    Waiting = 1,
    /// Granted, not yet accepted by its owner.
    Offered = 2,
    /// Holds the lock.
    Held = 3,
    /// In the queue, but its owner did not accept an offer in time: passed over until it runs again.
    Stalled = 4,
}

/// A request's word: its stage (3 bits) and the low 29 bits of its ticket.
///
/// The ticket makes the word of a record that was vacated and taken again a different one: a process that compares the
/// whole word can never mistake a new request for the one that it has seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Word(pub(crate) u32);

impl Word {
    pub(crate) const VACANT: Word = Word(0);
    const STAGE_BITS: u32 = 3;
    const TICKET_MASK: u32 = u32::MAX >> Self::STAGE_BITS;

    pub(crate) fn new(stage: Stage, ticket: u64) -> Self {
        // Truncation is the point: the low 29 bits.
        Self(((ticket as u32) & Self::TICKET_MASK) << Self::STAGE_BITS | stage as u32)
    }

    /// The stage; hostile bits count as vacant.
    pub(crate) fn stage(self) -> Stage {
        match self.0 & ((1 << Self::STAGE_BITS) - 1) {
            1 => Stage::Waiting,
            2 => Stage::Offered,
            3 => Stage::Held,
            4 => Stage::Stalled,
            _ => Stage::Vacant,
        }
    }

    /// The same request in another stage.
    pub(crate) fn at(self, stage: Stage) -> Self {
        Self(self.0 & !((1 << Self::STAGE_BITS) - 1) | stage as u32)
    }

    /// Offered or held: the lock is not free for others.
    pub(crate) fn is_active(self) -> bool {
        matches!(self.stage(), Stage::Offered | Stage::Held)
    }

    /// True if this request's ticket is older than `other`'s. Right as long as fewer than 2^28 tickets lie between two
    /// requests of one table, which 1,024 records guarantee unless one waits through 268 million grants.
    pub(crate) fn is_before(self, other: Word) -> bool {
        let distance = (other.0 >> Self::STAGE_BITS).wrapping_sub(self.0 >> Self::STAGE_BITS) & Self::TICKET_MASK;
        distance != 0 && distance <= Self::TICKET_MASK / 2
    }

    /// How many tickets ago it was given its own, counted back from `next`, the ticket that is given next. For sorting:
    /// a total order of any words, including hostile ones (which [`is_before`](Self::is_before) is not).
    pub(crate) fn age(self, next: u64) -> u32 {
        (next as u32).wrapping_sub(self.0 >> Self::STAGE_BITS) & Self::TICKET_MASK
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}#{}", self.stage(), self.0 >> Self::STAGE_BITS)
    }
}

/// The semaphore's word: on 64-bit little-endian systems, glibc keeps the value in the low half and the number of
/// waiters in the high half (sysdeps/nptl/internaltypes.h, `struct new_sem`; since glibc 2.21). The top 16 bits of the
/// waiter count are our *mark*: the number of the table on whose behalf the semaphore was taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SemaphoreWord(pub(crate) u64);

impl SemaphoreWord {
    const WAITERS_SHIFT: u32 = 32;
    const MARK_SHIFT: u32 = 48;
    const MANY_WAITERS: u16 = 0x8000;

    pub(crate) fn new(value: u32, waiters: u16, mark: u16) -> Self {
        Self(u64::from(value) | u64::from(waiters) << Self::WAITERS_SHIFT | u64::from(mark) << Self::MARK_SHIFT)
    }

    /// The semaphore's value: 0 = taken.
    pub(crate) fn value(self) -> u32 {
        self.0 as u32
    }

    /// Processes asleep in sem_wait(3), including ours that wait for a foreign holder.
    pub(crate) fn waiters(self) -> u16 {
        (self.0 >> Self::WAITERS_SHIFT) as u16
    }

    /// The mark of the table that took it; 0 = none.
    pub(crate) fn mark(self) -> u16 {
        (self.0 >> Self::MARK_SHIFT) as u16
    }

    pub(crate) fn with(self, value: u32, mark: u16) -> Self {
        Self::new(value, self.waiters(), mark)
    }

    /// The same with a waiter count that is far from overflowing into the mark. Each process that is killed in
    /// sem_wait(3) leaves the count one too high for ever. Beyond 32,768, 16,384 are subtracted: so many are never
    /// asleep at once, and at least 16,384 are left for those that may be.
    pub(crate) fn with_leaks_bounded(self) -> Self {
        if self.waiters() > Self::MANY_WAITERS {
            self.with_waiters(self.waiters() - Self::MANY_WAITERS / 2)
        } else {
            self
        }
    }

    pub(crate) fn with_waiters(self, waiters: u16) -> Self {
        Self::new(self.value(), waiters, self.mark())
    }
}

impl fmt::Debug for SemaphoreWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{} mark {:x} +{}}}", self.value(), self.mark(), self.waiters())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_order_by_ticket_across_the_wrap() {
        let a = Word::new(Stage::Waiting, (1 << 29) - 1);
        let b = Word::new(Stage::Held, 1 << 29);
        assert!(a.is_before(b) && !b.is_before(a) && !a.is_before(a));
        assert!(a.age((1 << 29) + 1) > b.age((1 << 29) + 1));
        assert_eq!(a.at(Stage::Held).stage(), Stage::Held);
        assert_ne!(Word::new(Stage::Waiting, 7), Word::new(Stage::Waiting, 8));
    }

    #[test]
    fn hostile_stage_is_vacant() {
        for bits in 5..8 {
            assert_eq!(Word(bits).stage(), Stage::Vacant);
        }
    }

    #[test]
    fn leaked_waiters_do_not_run_over_into_the_mark() {
        let few = SemaphoreWord::new(0, 0x8000, 0xbeef);
        assert_eq!(few.with_leaks_bounded(), few);
        let many = SemaphoreWord::new(1, u16::MAX, 0xbeef).with_leaks_bounded();
        assert_eq!((many.value(), many.waiters(), many.mark()), (1, 0xbfff, 0xbeef));
        assert!(many.with_leaks_bounded().waiters() >= 0x4000);
    }

    #[test]
    fn semaphore_fields_do_not_touch_each_other() {
        let f = SemaphoreWord::new(2, 3, 0xbeef);
        assert_eq!((f.value(), f.waiters(), f.mark()), (2, 3, 0xbeef));
        let g = f.with(0, 0).with_waiters(9);
        assert_eq!((g.value(), g.waiters(), g.mark()), (0, 9, 0));
    }
}
