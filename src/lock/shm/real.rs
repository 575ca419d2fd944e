//! The real world for the pure protocol: one lock's open objects as seen by one request.

use crate::lock::protocol::latch::{Entry, LatchWorld, Slept};
use crate::lock::protocol::queue::{Field, Kind, Wakes, World, visit};
use crate::lock::protocol::staleness;
use crate::lock::protocol::word::{SemaphoreWord, Word};
use crate::lock::shm::beacon::{self, Beacon};
use crate::lock::shm::note::Note;
use crate::lock::shm::process;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::shm::table::{GAVE_UP, HISTORY, PackedRequester, Past, REQUESTS, Table, pack_what};
use crate::lock::sys::{self, Watched};
use crate::lock::types::Ended;
use crate::{Detached, Mode};
use std::cell::Cell;
use std::convert::Infallible;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU64, Ordering};

/// How long the owner of an offer has to accept it.
const OFFER_NS: u64 = 100_000_000;
/// Slice of a sleep for the latch: how fast a dead holder of it is found.
const LATCH_SLICE_NS: u64 = 10_000_000;
/// Tries for the latch before sleeping; each is a few dozen pauses.
const LATCH_SPINS: u32 = 24;

/// The lock's three objects, open, and this handle's beacon.
pub(crate) struct Objects {
    pub(crate) semaphore: Semaphore,
    pub(crate) note: Note,
    pub(crate) table: Table,
    /// Id of the handle's beacon; 0 in one that only looks.
    pub(crate) id: u32,
    pub(crate) beacon: Option<Beacon>,
}

impl Objects {
    /// Whether this is the beacon of this very handle, in the process that opened it: lit, no need to ask.
    fn is_own_beacon(&self, id: u32) -> bool {
        id == self.id && self.beacon.as_ref().is_none_or(Beacon::is_own)
    }
}

/// What describes a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Describe {
    pub(crate) mode: Mode,
    pub(crate) detached: Option<Detached>,
    /// Start time of `detached.pid`.
    pub(crate) bound_start: u64,
    pub(crate) requester: PackedRequester,
    /// When it asked: monotonic ns.
    pub(crate) queued: u64,
    /// The same by the wall clock, µs.
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

/// The reverse of [`kind_of`] for stored values.
pub(crate) fn mode_of(kind: u8, slots: u32) -> Mode {
    match kind {
        1 => Mode::Shared,
        2 => Mode::Slots(slots),
        _ => Mode::Exclusive,
    }
}

/// See the module.
pub(crate) struct Real<'a> {
    pub(crate) objects: &'a Objects,
    /// For the own request; `None` where none is made.
    pub(crate) describe: Option<&'a Describe>,
    /// Until when to wait for the latch (monotonic ns).
    pub(crate) deadline: u64,
    /// The time, read once per visit to the latch.
    now: Cell<u64>,
    spins: Cell<u32>,
    /// A value of the semaphore above 1 that was taken down: reported outside the latch, where a slow log does no harm.
    excess: Cell<u32>,
}

/// The real world never stops.
pub(crate) fn go<T>(done: Result<T, Infallible>) -> T {
    let Ok(value) = done;
    value
}

/// Why work in the latch was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotDone {
    /// The latch stayed taken, by the process with this beacon.
    Busy(u32),
    /// The table has another semaphore by now (ours was deleted): what our semaphore says of the table's holds means
    /// nothing; or the table is retired. The lock has to be opened afresh.
    Stale,
}

impl<'a> Real<'a> {
    pub(crate) fn new(objects: &'a Objects, now: u64, deadline: u64) -> Self {
        Self {
            objects,
            describe: None,
            deadline,
            now: Cell::new(now),
            spins: Cell::new(0),
            excess: Cell::new(0),
        }
    }

    pub(crate) fn describing(mut self, describe: &'a Describe) -> Self {
        self.describe = Some(describe);
        self
    }

    /// Runs `work` in the latch; whoever died inside it is cleaned up after first. Blocks until the deadline. Nothing
    /// is decided in a table that is retired: its semaphore stays at 0.
    pub(crate) fn in_latch<R>(&self, work: impl FnOnce(&Self, &mut Wakes) -> R) -> Result<R, NotDone> {
        self.in_latch_of_any(|real, entry, wakes| {
            let header = &real.table().header;
            if header.semaphore_inode.load(Relaxed) != real.objects.semaphore.inode || header.retired.load(SeqCst) != 0
            {
                return Err(NotDone::Stale);
            }
            if entry == Entry::Repair {
                go(visit(real, crate::lock::protocol::queue::Sweep::All, wakes));
            }
            Ok(work(real, wakes))
        })?
    }

    /// The same without asking whether the table is in use with our semaphore, and without repairing.
    pub(crate) fn in_latch_of_any<R>(&self, work: impl FnOnce(&Self, Entry, &mut Wakes) -> R) -> Result<R, NotDone> {
        let mut wakes = Wakes::default();
        let entry = go(crate::lock::protocol::latch::enter(self));
        if let Entry::Busy(id) = entry {
            return Err(NotDone::Busy(id));
        }
        let result = work(self, entry, &mut wakes);
        go(crate::lock::protocol::latch::leave(self));
        wakes.deliver(self);
        let excess = self.excess.take();
        if excess > 1 {
            log::warn!(
                "the lock's semaphore stood at {excess} (released by force more than once); it counts as 1 = free"
            );
        }
        self.objects.table.announce();
        Ok(result)
    }

    fn table(&self) -> &Table {
        &self.objects.table
    }

    /// Adds to a sum that only changes in the latch.
    fn add(&self, sum: &AtomicU64, n: u64) {
        sum.store(sum.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// A grant's sums; a queued request counts its own when it accepts, outside the latch.
    pub(crate) fn count_grant(&self, waited_ns: u64) {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        let h = &self.table().header;
        h.acquisitions.fetch_add(1, Relaxed);
        if waited_ns != 0 {
            h.waited_ns.fetch_add(waited_ns, Relaxed);
        }
        if h.consecutive_timeouts.load(Relaxed) != 0 {
            h.consecutive_timeouts.store(0, Relaxed);
        }
    }

    /// In the latch: the own hold was released by its holder.
    pub(crate) fn ended_own(&self, hold: &Ending) {
        self.add(&self.table().header.held_ns, hold.held_ns);
        self.record(&self.table().header.history_next, &self.table().history, HISTORY, hold);
    }

    /// In the latch: the own request gave up.
    pub(crate) fn gave_up(&self, request: &Ending) {
        self.record(
            &self.table().header.gave_up_next,
            &self.table().gave_up,
            GAVE_UP,
            request,
        );
    }

    fn record(&self, next: &AtomicU64, ring: &[Past], len: usize, end: &Ending) {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        let number = next.load(Relaxed);
        next.store(number.wrapping_add(1), Relaxed);
        let Some(past) = ring.get(number as usize % len) else {
            return;
        };
        past.sequence.store(0, Relaxed);
        // Readers that see a field of the new record also see that its sequence is not the old one any more.
        std::sync::atomic::fence(Release);
        past.ticket.store(end.ticket, Relaxed);
        past.token.store(end.token, Relaxed);
        past.queued_wall_us.store(end.queued_wall_us, Relaxed);
        past.waited_ns.store(end.waited_ns, Relaxed);
        past.held_ns.store(end.held_ns, Relaxed);
        past.ended_wall_us.store(end.ended_wall_us, Relaxed);
        past.set_requester(end.requester);
        past.what.store(end.what, Relaxed);
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        past.sequence.store(number.wrapping_add(1), Release);
    }
}

/// What the history keeps of an ended request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) ticket: u64,
    pub(crate) token: u64,
    pub(crate) queued_wall_us: u64,
    pub(crate) waited_ns: u64,
    pub(crate) held_ns: u64,
    pub(crate) ended_wall_us: u64,
    pub(crate) requester: PackedRequester,
    pub(crate) what: u64,
}

/// On whose life a request depends: two beacons and a process, 0 = none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lifelines {
    holder: u32,
    keeper: u32,
    bound: u32,
}

/// Whether everything that a request depends on is gone. Asking takes a while, in which its owner may detach it and
/// end: then those who are gone are not those who count.
fn proven_gone(read: impl Fn() -> Lifelines, gone: impl FnOnce(Lifelines) -> bool) -> bool {
    let before = read();
    let detached = before.holder == 0 && before.keeper == 0 && before.bound == 0;
    !detached && gone(before) && read() == before
}

impl World for Real<'_> {
    type Stop = Infallible;

    fn capacity(&self) -> usize {
        REQUESTS
    }

    fn mark(&self) -> u16 {
        self.table().mark()
    }

    fn now(&self) -> Result<u64, Infallible> {
        Ok(self.now.get())
    }

    fn word(&self, i: usize) -> Result<Word, Infallible> {
        Ok(Word(self.table().words.get(i).map_or(0, |word| word.load(Acquire))))
    }

    fn swap_word(&self, i: usize, from: Word, to: Word) -> Result<bool, Infallible> {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        let swapped =
            |word: &std::sync::atomic::AtomicU32| word.compare_exchange(from.0, to.0, AcqRel, Relaxed).is_ok();
        Ok(self.table().words.get(i).is_some_and(swapped))
    }

    fn semaphore(&self) -> Result<SemaphoreWord, Infallible> {
        Ok(self.objects.semaphore.load())
    }

    fn swap_semaphore(&self, from: SemaphoreWord, to: SemaphoreWord) -> Result<Result<(), SemaphoreWord>, Infallible> {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        Ok(self.objects.semaphore.swap(from, to))
    }

    fn field(&self, field: Field) -> Result<u64, Infallible> {
        Ok(self.slot(field).load(Relaxed))
    }

    fn set_field(&self, field: Field, value: u64) -> Result<(), Infallible> {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        self.slot(field).store(value, Relaxed);
        Ok(())
    }

    fn kind(&self, i: usize) -> Result<Kind, Infallible> {
        Ok(match self.table().kinds.get(i).map_or(0, |kind| kind.load(Relaxed)) {
            1 => Kind::Shared,
            2 => Kind::Slot,
            _ => Kind::Exclusive,
        })
    }

    fn describe(&self, i: usize, ticket: u64, held: bool) -> Result<(), Infallible> {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        let (Some(record), Some(kind), Some(d)) =
            (self.table().requests.get(i), self.table().kinds.get(i), self.describe)
        else {
            return Ok(());
        };
        let (k, slots) = kind_of(d.mode);
        kind.store(k as u8, Relaxed);
        record.slots.store(slots, Relaxed);
        record.ticket.store(ticket, Relaxed);
        record.queued.store(d.queued, Relaxed);
        record.queued_wall_us.store(d.queued_wall_us, Relaxed);
        record.set_requester(d.requester);
        record.pid_namespace.store(process::pid_namespace_if_known(), Relaxed);
        record.keeper.store(0, Relaxed);
        record.expires.store(0, Relaxed);
        record.bound_pid.store(0, Relaxed);
        record.lapses.store(0, Relaxed);
        match d.detached {
            // While it waits, a request that will be detached lives by its beacon like any other.
            Some(detached) if held => self.detach(i, detached, d.bound_start),
            _ => record.holder.store(self.objects.id, Relaxed),
        }
        Ok(())
    }

    fn set_grant(&self, i: usize, token: u64) -> Result<(), Infallible> {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        if let Some(record) = self.table().requests.get(i) {
            record.token.store(token, Relaxed);
            record.granted.store(self.now.get(), Relaxed);
        }
        Ok(())
    }

    fn token(&self, i: usize) -> Result<u64, Infallible> {
        Ok(self
            .table()
            .requests
            .get(i)
            .map_or(0, |record| record.token.load(Relaxed)))
    }

    fn is_gone(&self, i: usize) -> Result<bool, Infallible> {
        let Some(record) = self.table().requests.get(i) else {
            return Ok(false);
        };
        let lifelines = || Lifelines {
            holder: record.holder.load(Acquire),
            keeper: record.keeper.load(Acquire),
            bound: record.bound_pid.load(Acquire),
        };
        Ok(proven_gone(lifelines, |on| {
            (on.holder == 0 || go(self.is_id_gone(on.holder)))
                && (on.keeper == 0 || go(self.is_id_gone(on.keeper)))
                && (on.bound == 0
                    || process::is_gone(
                        on.bound,
                        record.bound_start.load(Relaxed),
                        record.pid_namespace.load(Relaxed),
                        record.time_namespace.load(Relaxed),
                    ))
        }))
    }

    fn lapses(&self, i: usize) -> Result<bool, Infallible> {
        Ok(self
            .table()
            .requests
            .get(i)
            .is_some_and(|record| record.lapses.load(Relaxed) == 1))
    }

    fn is_expired(&self, i: usize) -> Result<bool, Infallible> {
        let Some(record) = self.table().requests.get(i) else {
            return Ok(false);
        };
        let expires = record.expires.load(Acquire);
        Ok(expires != 0 && sys::boottime() >= expires && process::is_own_time(record.time_namespace.load(Relaxed)))
    }

    fn is_overdue(&self, i: usize) -> Result<bool, Infallible> {
        let offered = self
            .table()
            .requests
            .get(i)
            .map_or(0, |record| record.granted.load(Relaxed));
        Ok(staleness::is_past(offered, self.now.get(), OFFER_NS))
    }

    fn ended(&self, i: usize, how: Ended) -> Result<(), Infallible> {
        let Some(record) = self.table().requests.get(i) else {
            return Ok(());
        };
        let header = &self.table().header;
        match how {
            Ended::Abandoned => self.add(&header.abandonments, 1),
            Ended::Forced => self.add(&header.forced, 1),
            _ => {}
        }
        let granted = record.granted.load(Relaxed);
        let kind = self.table().kinds.get(i).map_or(0, |kind| kind.load(Relaxed));
        self.ended_own(&Ending {
            ticket: record.ticket.load(Relaxed),
            token: record.token.load(Relaxed),
            queued_wall_us: record.queued_wall_us.load(Relaxed),
            waited_ns: granted.saturating_sub(record.queued.load(Relaxed)),
            held_ns: self.now.get().saturating_sub(granted),
            ended_wall_us: sys::realtime() / 1000,
            requester: record.requester(),
            what: pack_what(kind, how, record.slots.load(Relaxed)),
        });
        Ok(())
    }

    fn excess(&self, value: u32) {
        self.excess.set(value);
    }

    fn wake_request(&self, i: usize) {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        if let Some(word) = self.table().words.get(i) {
            sys::futex_wake(word, 1);
        }
        // Where the kernel cannot wait on two words, a head that waits for a foreign holder looks at its own one
        // only every few milliseconds; nothing to do here.
    }

    fn wake_semaphore(&self) {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        sys::futex_wake_low(self.objects.semaphore.word(), 1);
    }
}

impl Real<'_> {
    fn slot(&self, field: Field) -> &AtomicU64 {
        let header = &self.table().header;
        match field {
            Field::NextTicket => &header.next_ticket,
            Field::NextToken => &header.next_token,
            Field::HighWater => &header.high_water,
            Field::Slots => &header.slots,
            Field::Streak => &header.streak,
            Field::PauseUntil => &header.pause_until,
            Field::IgnoreUntil => &header.ignore_until,
            Field::Abandoned => &header.abandoned,
        }
    }

    /// Says in which PID namespace the own request's PIDs are meant.
    pub(crate) fn name_namespace(&self, i: usize) {
        if let Some(record) = self.table().requests.get(i) {
            record.pid_namespace.store(process::pid_namespace(), Relaxed);
        }
    }

    /// Binds the own hold to a process. Its number comes last: until it stands there, nothing depends on it.
    pub(crate) fn bind(&self, i: usize, pid: u32, start: u64) {
        self.name_namespace(i);
        if let Some(record) = self.table().requests.get(i) {
            record.time_namespace.store(process::time_namespace(), Relaxed);
            record.bound_start.store(start, Relaxed);
            record.bound_pid.store(pid, Release);
        }
    }

    /// Turns the own held (or about to be held) request into a detached one.
    pub(crate) fn detach(&self, i: usize, detached: Detached, bound_start: u64) {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        let Some(record) = self.table().requests.get(i) else {
            return;
        };
        if let Some(ttl) = detached.ttl {
            let ns = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
            record.time_namespace.store(process::time_namespace(), Relaxed);
            record.expires.store(sys::boottime().saturating_add(ns), Release);
        }
        if let Some(pid) = detached.pid {
            self.bind(i, pid, bound_start);
        }
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        record.holder.store(0, Release); // last: until here the beacon counts
    }

    /// Reads the time afresh.
    pub(crate) fn refresh(&self) -> u64 {
        let now = sys::monotonic();
        self.now.set(now);
        now
    }
}

impl LatchWorld for Real<'_> {
    fn me(&self) -> u32 {
        self.objects.id
    }

    fn latch(&self) -> Result<u32, Infallible> {
        Ok(self.table().header.latch.load(Relaxed))
    }

    fn swap_latch(&self, from: u32, to: u32) -> Result<bool, Infallible> {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        Ok(self
            .table()
            .header
            .latch
            .compare_exchange(from, to, AcqRel, Relaxed)
            .is_ok())
    }

    fn spin(&self) -> bool {
        let spins = self.spins.get();
        self.spins.set(spins + 1);
        for _ in 0..(8 << (spins / 4).min(4)) {
            sys::pause();
        }
        spins < LATCH_SPINS
    }

    fn sleep_on_latch(&self, seen: u32) -> Result<Slept, Infallible> {
        let now = self.refresh();
        if now >= self.deadline {
            return Ok(Slept::Deadline);
        }
        let slice = now.saturating_add(LATCH_SLICE_NS);
        sys::futex_wait(
            &[Watched::Word(&self.table().header.latch, seen)],
            slice.min(self.deadline),
        );
        let unchanged = self.table().header.latch.load(Ordering::Acquire) == seen;
        let now = self.refresh();
        Ok(match () {
            () if unchanged && now >= slice => Slept::Slice,
            () if unchanged && now >= self.deadline => Slept::Deadline,
            () => Slept::Woken,
        })
    }

    fn wake_latch(&self) {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        sys::futex_wake(&self.table().header.latch, 1);
    }

    fn is_id_gone(&self, id: u32) -> Result<bool, Infallible> {
        Ok(!self.objects.is_own_beacon(id) && beacon::is_out(self.table(), id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(holder: u32, bound: u32) -> Lifelines {
        Lifelines {
            holder,
            keeper: 0,
            bound,
        }
    }

    #[test]
    fn a_hold_that_is_detached_while_its_owner_ends_stays() {
        let now = Cell::new(on(7, 0));
        assert!(proven_gone(|| now.get(), |_| true));
        for detached in [on(0, 0), on(0, 4242)] {
            now.set(on(7, 0));
            let ends_meanwhile = |_| {
                now.set(detached);
                true
            };
            assert!(!proven_gone(|| now.get(), ends_meanwhile));
        }
        now.set(on(0, 0));
        assert!(!proven_gone(|| now.get(), |_| true), "detached for good");
    }
}
