//! The protocol's real world: one lock's open objects, as one request sees and changes them.

use crate::lock::protocol::orderings::{
    BOUND_STORE, COPIED, DESCRIBE, EXPIRES_LOAD, EXPIRES_STORE, GRANT, HOLDER_STORE, TOKEN_LOAD, WORD_LOAD, WORD_SWAP,
};
use crate::lock::protocol::queue::{Field, Kind, World};
use crate::lock::protocol::staleness;
use crate::lock::protocol::word::{SemaphoreWord, Stage, Word};
use crate::lock::shm::beacon;
use crate::lock::shm::ending::{self, Ending};
use crate::lock::shm::layout::{
    KEEPER_LEFT_BEHIND, LAPSES, LINGERS, PackedNote, REPLACES, REQUESTS, Record, pack_bytes, pack_what, unpack_outcome,
};
use crate::lock::shm::lifelines::{self, Kept};
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::process;
use crate::lock::shm::request::{Request, kind_of};
use crate::lock::shm::table::Table;
use crate::lock::sys;
use crate::lock::sys::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, fence};
use crate::lock::types::{Detached, Ended};
use std::cell::Cell;
use std::time::Duration;

/// How long the owner of an offer has to accept it.
pub(crate) const OFFER_NS: u64 = 100_000_000;

/// See the module.
pub(crate) struct Real<'a> {
    pub(crate) objects: &'a Objects,
    /// The caller's request; `None` if it makes none.
    request: Option<&'a Request>,
    /// The record of a request whose owner is the caller, which need not be woken.
    own: Option<usize>,
    /// Until when to wait for the latch (monotonic ns).
    pub(super) deadline: u64,
    /// The time, read once per visit to the latch.
    now: Cell<u64>,
    pub(super) spins: Cell<u32>,
    /// A value of the semaphore above 1 that was taken down. Reported outside the latch, where a slow log does no harm.
    pub(super) excess: Cell<u32>,
}

/// Why a function of the protocol was stopped: somebody has truncated or overwritten the table, or truncated the
/// semaphore. What stands there now means nothing, so nothing is decided by it: no request is granted, no hold ended, and
/// the semaphore stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// Makes a hold end after this time.
fn expire(record: &Record, time: Duration) {
    let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    record.time_namespace.store(process::time_namespace(), Relaxed);
    record.expires.store(sys::boottime().saturating_add(ns), EXPIRES_STORE);
}

impl<'a> Real<'a> {
    /// `now` and `deadline` (for the latch) are monotonic ns.
    pub(crate) fn new(objects: &'a Objects, now: u64, deadline: u64) -> Self {
        Self {
            objects,
            request: None,
            own: None,
            deadline,
            now: Cell::new(now),
            spins: Cell::new(0),
            excess: Cell::new(0),
        }
    }

    /// The same, to make this request.
    pub(crate) fn requesting(mut self, request: &'a Request) -> Self {
        self.request = Some(request);
        self
    }

    /// The same, as the owner of the request in this record, who is awake and sees by itself what becomes of it.
    pub(crate) fn of_owner(mut self, own: Option<usize>) -> Self {
        self.own = own;
        self
    }

    pub(super) fn table(&self) -> &'a Table {
        &self.objects.table
    }

    /// Comes after what was read of the table, and before what is changed because of it.
    fn check_table(&self) -> Result<(), Gone> {
        if self.table().is_intact() { Ok(()) } else { Err(Gone) }
    }

    /// A semaphore that was truncated is all zero, which would mean that a foreign process has it.
    fn seen_in_semaphore(&self, word: SemaphoreWord) -> Result<SemaphoreWord, Gone> {
        if word.0 == 0 && self.objects.semaphore.is_gone() {
            return Err(Gone);
        }
        Ok(word)
    }

    fn record(&self, i: usize) -> Option<&'a Record> {
        self.table().records().get(i)
    }

    /// Who keeps the request in this record.
    pub(crate) fn kept(&self, record: &Record) -> Kept {
        let is_out = |id: u32| self.objects.is_out(id);
        let is_keeper_out = |keeper: u32| beacon::is_keeper_out(&self.objects.semaphore, keeper);
        lifelines::kept(record, is_out, is_keeper_out)
    }

    /// Reads the time again.
    pub(crate) fn refresh(&self) -> u64 {
        let now = sys::monotonic();
        self.now.set(now);
        now
    }

    /// Says in which PID namespace the PIDs of the caller's request are meant.
    pub(crate) fn name_namespace(&self, i: usize) {
        if let Some(record) = self.record(i) {
            record.pid_namespace.store(process::pid_namespace(), Relaxed);
        }
    }

    /// Binds the caller's hold to a process. Its number comes last: until it is there, nothing depends on it.
    pub(crate) fn bind(&self, i: usize, pid: u32, start: u64) {
        self.name_namespace(i);
        if let Some(record) = self.record(i) {
            record.time_namespace.store(process::time_namespace(), Relaxed);
            record.bound_start.store(start, Relaxed);
            record.bound_pid.store(pid, BOUND_STORE);
        }
    }

    /// Makes the caller's hold last as long as a command that inherits this keeper.
    pub(crate) fn keep(&self, i: usize, keeper: u32) {
        let left_behind = self.table().header.semaphore_inode.load(Relaxed) != self.objects.semaphore.inode;
        if let Some(record) = self.record(i) {
            let keeper = keeper | if left_behind { KEEPER_LEFT_BEHIND } else { 0 };
            record.keeper.store(keeper, Relaxed);
        }
    }

    /// Turns the caller's request, which is held or about to be, into a detached one.
    pub(crate) fn detach(&self, i: usize, detached: Detached, bound_start: u64) {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        let Some(record) = self.record(i) else {
            return;
        };
        if let Some(ttl) = detached.ttl {
            expire(record, ttl);
        }
        if !detached.must_unget {
            record.flags.fetch_or(LAPSES, Relaxed);
        }
        if let Some(pid) = detached.pid {
            self.bind(i, pid, bound_start);
        }
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        record.holder.store(0, HOLDER_STORE); // last: until here the beacon counts
    }

    /// Makes the caller's hold, under which nothing runs any more, last for this time, whoever lives. `outcome`: see
    /// [`Record::outcome`].
    pub(crate) fn linger(&self, i: usize, time: Duration, outcome: u64) {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        let Some(record) = self.record(i) else {
            return;
        };
        expire(record, time);
        record.outcome.store(outcome, Relaxed);
        // Should this process be killed here, the hold ends with it.
        record.flags.fetch_or(LAPSES | LINGERS, Relaxed);
        record.keeper.store(0, Relaxed);
        record.bound_pid.store(0, BOUND_STORE);
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        record.holder.store(0, HOLDER_STORE); // last: until here the beacon counts
    }

    /// The token under which this process's request in record `i` was granted; `None` = it is no longer held.
    pub(crate) fn own_token(&self, i: usize, word: Word) -> Option<u64> {
        let token = self.record(i)?.token.load(TOKEN_LOAD);
        // After the token: it is ours if the record still is.
        let held = self.table().words.get(i)?.load(WORD_LOAD) == word.at(Stage::Held).0;
        held.then_some(token)
    }

    /// What is known of the note of somebody's hold: what the lock's note says, if that is about this very grant. (It is
    /// about the last one, unless that holder died before it wrote it.)
    fn note_of(&self, record: &Record) -> PackedNote {
        let next_token = self.table().header.next_token.load(Relaxed);
        let waited_us = record.granted.load(Relaxed).saturating_sub(record.queued.load(Relaxed)) / 1000;
        let granted_us = record.queued_wall_us.load(Relaxed).saturating_add(waited_us);
        let is_last = record.token.load(Relaxed).wrapping_add(1) == next_token;
        let message = is_last.then(|| self.objects.note.message_written_at(granted_us));
        message
            .flatten()
            .map_or_else(PackedNote::default, |message| pack_bytes(&message))
    }

    /// What the history keeps of the hold in this record, which ends so without its owner.
    pub(crate) fn ending(&self, i: usize, record: &Record, how: Ended) -> Ending {
        let granted = record.granted.load(Relaxed);
        let now = self.now.get();
        let (mut held_ns, mut ended_wall_us) = (now.saturating_sub(granted), sys::realtime() / 1000);
        match how {
            Ended::Expired => {
                let late = sys::boottime().saturating_sub(record.expires.load(Relaxed));
                held_ns = held_ns.saturating_sub(late);
                ended_wall_us = ended_wall_us.saturating_sub(late / 1000);
            }
            // Nobody knows when it ended: what is known is how long it lasted at least, and when it is noticed.
            Ended::Abandoned | Ended::WithProcess => held_ns = record.known_to_last(now),
            _ => {}
        }
        let (how, command_end) = match how {
            // That is what it was left to.
            Ended::Expired | Ended::Released if record.flags.load(Relaxed) & LINGERS != 0 => {
                unpack_outcome(record.outcome.load(Relaxed))
            }
            how => (how, 0),
        };
        let kind = self.table().kinds.get(i).map_or(0, |kind| kind.load(Relaxed));
        Ending {
            ticket: record.ticket.load(Relaxed),
            token: record.token.load(Relaxed),
            queued_wall_us: record.queued_wall_us.load(Relaxed),
            waited_ns: granted.saturating_sub(record.queued.load(Relaxed)),
            held_ns,
            ended_wall_us,
            requester: record.requester(),
            what: pack_what(kind, how, record.slots.load(Relaxed)),
            command_end,
            note: self.note_of(record),
        }
    }

    fn header_field(&self, field: Field) -> &'a AtomicU64 {
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
}

impl World for Real<'_> {
    type Stop = Gone;

    fn capacity(&self) -> usize {
        REQUESTS
    }

    fn room(&self) -> usize {
        self.table().records().len()
    }

    fn mark(&self) -> u16 {
        self.table().mark()
    }

    fn now(&self) -> Result<u64, Gone> {
        Ok(self.now.get())
    }

    fn word(&self, i: usize) -> Result<Word, Gone> {
        Ok(Word(self.table().words.get(i).map_or(0, |word| word.load(WORD_LOAD))))
    }

    fn swap_word(&self, i: usize, from: Word, to: Word) -> Result<bool, Gone> {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        if to.is_active() {
            self.check_table()?; // a grant
        }
        let swapped = |word: &AtomicU32| word.compare_exchange(from.0, to.0, WORD_SWAP, Relaxed).is_ok();
        Ok(self.table().words.get(i).is_some_and(swapped))
    }

    fn semaphore(&self) -> Result<SemaphoreWord, Gone> {
        self.seen_in_semaphore(self.objects.semaphore.load())
    }

    fn swap_semaphore(&self, from: SemaphoreWord, to: SemaphoreWord) -> Result<Result<(), SemaphoreWord>, Gone> {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        self.check_table()?;
        match self.objects.semaphore.swap(from, to) {
            Ok(()) => Ok(Ok(())),
            Err(now) => Ok(Err(self.seen_in_semaphore(now)?)),
        }
    }

    fn field(&self, field: Field) -> Result<u64, Gone> {
        Ok(self.header_field(field).load(Relaxed))
    }

    fn set_field(&self, field: Field, value: u64) -> Result<(), Gone> {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        self.header_field(field).store(value, Relaxed);
        Ok(())
    }

    fn kind(&self, i: usize) -> Result<Kind, Gone> {
        Ok(match self.table().kinds.get(i).map_or(0, |kind| kind.load(Relaxed)) {
            1 => Kind::Shared,
            2 => Kind::Slot,
            _ => Kind::Exclusive,
        })
    }

    fn describe(&self, i: usize, ticket: u64, held: bool) -> Result<(), Gone> {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        let (Some(record), Some(kind), Some(request)) = (self.record(i), self.table().kinds.get(i), self.request)
        else {
            return Ok(());
        };
        fence(DESCRIBE);
        let (k, slots) = kind_of(request.mode);
        kind.store(k as u8, Relaxed);
        record.slots.store(slots, Relaxed);
        record.ticket.store(ticket, Relaxed);
        record.queued.store(request.queued, Relaxed);
        record.queued_wall_us.store(request.queued_wall_us, Relaxed);
        record.set_requester(request.requester);
        record.pid_namespace.store(process::pid_namespace_if_known(), Relaxed);
        record.keeper.store(0, Relaxed);
        record.expires.store(0, Relaxed);
        record.bound_pid.store(0, Relaxed);
        record.flags.store(if request.replaces { REPLACES } else { 0 }, Relaxed);
        record.seen_alive.store(0, Relaxed);
        match request.detached {
            // While it waits, a request that will be detached lives by its beacon like any other.
            Some(detached) if held => self.detach(i, detached, request.bound_start),
            _ => record.holder.store(self.objects.id, Relaxed),
        }
        Ok(())
    }

    fn set_grant(&self, i: usize, token: u64) -> Result<(), Gone> {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        if let Some(record) = self.record(i) {
            fence(GRANT);
            record.token.store(token, Relaxed);
            record.granted.store(self.now.get(), Relaxed);
        }
        Ok(())
    }

    fn token(&self, i: usize) -> Result<u64, Gone> {
        Ok(self.record(i).map_or(0, |record| record.token.load(Relaxed)))
    }

    fn is_gone(&self, i: usize) -> Result<bool, Gone> {
        let Some(record) = self.record(i) else {
            return Ok(false);
        };
        let kept = self.kept(record);
        if matches!(kept, Kept::ByOwner | Kept::ByHeirs | Kept::ByProcess) {
            record.note_life(self.now.get());
        }
        Ok(kept == Kept::ByNobody)
    }

    fn lapses(&self, i: usize) -> Result<bool, Gone> {
        Ok(self
            .record(i)
            .is_some_and(|record| record.flags.load(Relaxed) & LAPSES != 0))
    }

    fn replaces(&self, i: usize) -> Result<bool, Gone> {
        let flags = self.record(i).map_or(0, |record| record.flags.load(Relaxed));
        fence(COPIED);
        Ok(flags & REPLACES != 0)
    }

    fn is_expired(&self, i: usize) -> Result<bool, Gone> {
        let Some(record) = self.record(i) else {
            return Ok(false);
        };
        let expires = record.expires.load(EXPIRES_LOAD);
        Ok(expires != 0 && sys::boottime() >= expires && process::is_own_time(record.time_namespace.load(Relaxed)))
    }

    fn is_overdue(&self, i: usize) -> Result<bool, Gone> {
        let offered = self.record(i).map_or(0, |record| record.granted.load(Relaxed));
        Ok(staleness::is_past(offered, self.now.get(), OFFER_NS))
    }

    fn ended(&self, i: usize, how: Ended) -> Result<(), Gone> {
        let Some(record) = self.record(i) else {
            return Ok(());
        };
        let header = &self.table().header;
        match how {
            Ended::Abandoned => ending::add(&header.abandonments, 1),
            Ended::Forced => ending::add(&header.forced, 1),
            _ => {}
        }
        self.table().record_end(&self.ending(i, record, how));
        Ok(())
    }

    fn excess(&self, value: u32) {
        self.excess.set(value);
    }

    fn wake_request(&self, i: usize) {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        if self.own == Some(i) {
            return;
        }
        if let Some(word) = self.table().words.get(i) {
            sys::futex_wake(word, 1);
        }
        // Where the kernel cannot wait on two words, a head that waits for a foreign holder checks its own word every
        // few milliseconds only. There is nothing to do about that here.
    }

    fn wake_semaphore(&self) {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        sys::futex_wake_low(&self.objects.semaphore.word, 1);
    }
}
