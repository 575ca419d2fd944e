//! Reading without disturbing: the table's content is copied record by record, each of which is checked again, a limited
//! number of times. Takes no latch.

use crate::lock::protocol::latch::SLEEPERS;
use crate::lock::protocol::orderings::{BOUND_LOAD, COPIED, ENTRY_LOAD, HOLDER_LOAD, NEXT_LOAD, WORD_LOAD};
use crate::lock::protocol::queue::World;
use crate::lock::protocol::word::{SemaphoreWord, Stage, Word};
use crate::lock::shm::beacon;
use crate::lock::shm::ending::Ending;
use crate::lock::shm::growth::Ring;
use crate::lock::shm::layout::{LINGERS, Past, Record, unpack_end, unpack_text, unpack_what};
use crate::lock::shm::lifelines::{self, Kept};
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::note::Note;
use crate::lock::shm::process::{self, Life};
use crate::lock::shm::real_world::Real;
use crate::lock::shm::request::mode_of;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::shm::table::Table;
use crate::lock::sys;
use crate::lock::sys::atomic::{Ordering::Relaxed, fence};
use crate::lock::system::ids;
use crate::lock::types::{
    Counters, Ended, HistoryRecord, Holder, Inside, LockName, Mode, Requester, State, Survivor, Waiter,
};
use std::time::{Duration, SystemTime};

/// How many times a record that changes while it is read is read.
const TRIES: usize = 8;
/// How many times, for all records together, the reader lets a writer go on before it reads again.
const PAUSES: usize = 4;

/// The beginning of the year 9000. Only a damaged table contains a later time, which is shown as this one: RFC 3339 has
/// no years after 9999, and up to 584 years (2^64 ns) of waiting may be added to it.
const LATEST_US: u64 = 221_845_392_000_000_000;

fn wall(us: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(us.min(LATEST_US))
}

/// A time that is 0 was never written.
fn known(us: u64) -> Option<SystemTime> {
    (us != 0).then(|| wall(us))
}

/// Tokens begin above 0.
fn known_token(token: u64) -> Option<u64> {
    (token != 0).then_some(token)
}

/// A copy of a request.
struct Seen {
    i: usize,
    word: Word,
    mode: Mode,
    requester: Requester,
    queued_wall_us: u64,
    waited: u64,
    held: u64,
    token: Option<u64>,
    ticket: u64,
    bound_pid: u32,
    bound_start: u64,
    detached: bool,
    lingers: bool,
    kept: Kept,
    kept_by: Option<Survivor>,
    expires: u64,
}

impl Seen {
    fn is_alive(&self) -> bool {
        self.kept != Kept::ByNobody
    }
}

/// How many holders, and how many waiters, are shown of each of many locks. To find out whether one lives takes system
/// calls, and a table may claim a thousand.
const BRIEF: usize = 16;

/// How many requests were not copied.
#[derive(Default)]
struct LeftOut {
    holders: usize,
    waiters: usize,
}

/// After a look: has the requests ready, and returns how many records may be in use.
fn renew_requests(table: &Table) -> usize {
    let top = table.in_use();
    if !table.reaches_used_records() {
        // If it cannot, the table is damaged, and its last requests are not shown.
        let _ = table.reach_used_records();
    }
    table.renew_requests();
    top
}

/// The records of the first `most` holders and waiters each.
fn first_ones(table: &Table, top: usize, most: usize) -> (Vec<usize>, LeftOut) {
    let next = table.header.next_ticket.load(Relaxed); // for the order only
    let words = table.words[..top].iter().map(|word| Word(word.load(Relaxed)));
    let standing = words.enumerate().filter(|(_, word)| word.stage() != Stage::Vacant);
    let (mut held, mut waiting): (Vec<_>, Vec<_>) = standing.partition(|(_, word)| word.stage() == Stage::Held);
    let left_out = LeftOut {
        holders: held.len().saturating_sub(most),
        waiters: waiting.len().saturating_sub(most),
    };
    for records in [&mut held, &mut waiting] {
        records.sort_by_key(|(_, word)| std::cmp::Reverse(word.age(next)));
        records.truncate(most);
    }
    let records = held.into_iter().chain(waiting).map(|(i, _)| i).collect();
    (records, left_out)
}

/// Who keeps the request in this record. `thorough`: finds it out also if all processes of the machine have to be
/// examined for that, which is not done for a table that a stranger may have filled.
fn kept(real: &Real<'_>, record: &Record, thorough: bool) -> Kept {
    loop {
        let kept = real.kept(record);
        if kept != Kept::Unknown {
            return kept;
        }
        if !thorough {
            process::drop_doubts();
            return kept;
        }
        if !process::settle_doubts() {
            return kept;
        }
    }
}

/// What keeps the hold in this record, whose owner is gone.
fn survivor(objects: &Objects, record: &Record, kept: Kept) -> Option<Survivor> {
    let bound = record.bound_pid.load(BOUND_LOAD);
    let pid = match kept {
        Kept::ByProcess => Some(bound),
        // The command itself inherited the keeper, too.
        Kept::ByHeirs if bound != 0 && lifelines::process_of(record, bound) == Life::Lives => Some(bound),
        Kept::ByHeirs => beacon::heir(&objects.semaphore, record.keeper.load(Relaxed)),
        _ => return None,
    };
    let command = if pid == Some(bound) {
        record.requester().unpack(true).command
    } else {
        pid.and_then(process::command_of)
    };
    Some(Survivor { pid, command })
}

/// After a look: copies the requests, all of them, or the first `most` holders and waiters each. Left out are holds that
/// have ended in order, with their time or their process, and that nobody has dropped yet. `thorough`: see [`kept`].
fn requests(objects: &Objects, most: Option<usize>, thorough: bool) -> (Vec<Seen>, LeftOut) {
    let table = &objects.table;
    let now = sys::monotonic();
    let real = Real::new(objects, now, now);
    let top = renew_requests(table);
    let (records, left_out) = match most {
        None => ((0..top).collect(), LeftOut::default()),
        Some(most) => first_ones(table, top, most),
    };
    let mut seen = Vec::new();
    let mut pauses = 0..PAUSES;
    for i in records {
        for _ in 0..TRIES {
            let word = Word(table.words[i].load(WORD_LOAD));
            if word.stage() == Stage::Vacant {
                break;
            }
            let Some(record) = table.records().get(i) else { break };
            let granted = record.granted.load(Relaxed);
            let queued = record.queued.load(Relaxed);
            let held = word.stage() == Stage::Held;
            // In the reverse of the order in which a hold is detached: one without a beacon is seen with its process.
            let detached = record.holder.load(HOLDER_LOAD) == 0;
            let bound_pid = record.bound_pid.load(BOUND_LOAD);
            let namespace = record.pid_namespace.load(Relaxed); // 0: not known yet
            let kept = kept(&real, record, thorough);
            let dead = kept == Kept::ByNobody;
            let over = held && (real.is_expired(i) == Ok(true) || dead && real.lapses(i) == Ok(true));
            let one = Seen {
                i,
                word,
                mode: mode_of(table.kinds[i].load(Relaxed), record.slots.load(Relaxed)),
                requester: record
                    .requester()
                    .unpack(namespace == 0 || namespace == process::pid_namespace()),
                queued_wall_us: record.queued_wall_us.load(Relaxed),
                waited: if held { granted } else { now }.saturating_sub(queued),
                held: match held {
                    true if dead => record.known_to_last(now),
                    true => now.saturating_sub(granted),
                    false => 0,
                },
                token: known_token(record.token.load(Relaxed)),
                ticket: record.ticket.load(Relaxed),
                bound_start: record.bound_start.load(Relaxed),
                bound_pid,
                detached,
                lingers: detached && record.flags.load(Relaxed) & LINGERS != 0,
                kept,
                kept_by: (thorough && held && !detached)
                    .then(|| survivor(objects, record, kept))
                    .flatten(),
                expires: record.expires.load(Relaxed),
            };
            fence(COPIED);
            table.renew(&table.words[i]);
            if table.words[i].load(Relaxed) == word.0 {
                if !over {
                    seen.push(one);
                }
                break;
            }
            if pauses.next().is_some() {
                table.give_way();
                table.renew(&table.words[i]);
            }
            table.renew(&table.kinds[i]);
            table.renew(record);
        }
    }
    if seen.len() > 1 {
        table.renew(&table.header.next_ticket);
        // Read after the words (WORD_LOAD): none of the requests seen is younger.
        let next = table.header.next_ticket.load(Relaxed);
        seen.sort_by_key(|one| std::cmp::Reverse(one.word.age(next)));
    }
    (seen, left_out)
}

/// True if anybody alive holds the lock or waits for it, by its table.
pub(crate) fn is_in_use(objects: &Objects) -> bool {
    objects.table.look();
    requests(objects, None, true).0.iter().any(Seen::is_alive)
}

/// The holders, with their record's number and word.
pub(crate) fn holders(objects: &Objects) -> Vec<(usize, Word, Holder)> {
    objects.table.look();
    let (requests, _) = requests(objects, None, true);
    requests
        .into_iter()
        .filter(|seen| seen.word.stage() == Stage::Held)
        .map(holder)
        .collect()
}

fn holder(seen: Seen) -> (usize, Word, Holder) {
    let expires_in = (seen.expires != 0).then(|| Duration::from_nanos(seen.expires.saturating_sub(sys::boottime())));
    let alive = seen.is_alive();
    let holder = Holder {
        token: seen.token,
        ticket: seen.ticket,
        mode: seen.mode,
        requester: seen.requester,
        bound_pid: (seen.bound_pid != 0).then_some(seen.bound_pid),
        bound_start: (seen.bound_pid != 0).then_some(seen.bound_start),
        detached: seen.detached,
        lingers: seen.lingers,
        alive,
        presumed: seen.kept == Kept::Unknown,
        kept_by: seen.kept_by,
        since: known(seen.queued_wall_us.saturating_add(seen.waited / 1000)),
        held: Some(Duration::from_nanos(seen.held)),
        waited: Some(Duration::from_nanos(seen.waited)),
        expires_in,
    };
    (seen.i, seen.word, holder)
}

fn waiter(seen: Seen) -> Waiter {
    let alive = seen.is_alive();
    Waiter {
        ticket: seen.ticket,
        mode: seen.mode,
        requester: seen.requester,
        since: known(seen.queued_wall_us),
        waited: Some(Duration::from_nanos(seen.waited)),
        stalled: seen.word.stage() == Stage::Stalled,
        alive,
    }
}

/// Whose a lock is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owned {
    /// `None` if this user namespace does not know him.
    pub(crate) owner: Option<u32>,
    /// Whether the caller trusts him.
    pub(crate) trusted: bool,
}

impl Owned {
    /// Of a lock that is in use: then he is trusted.
    pub(crate) fn used(semaphore: &Semaphore) -> Self {
        Self {
            owner: semaphore.ownership.uid.filter(|uid| ids::is_user(*uid)),
            trusted: true,
        }
    }
}

/// The handle in the latch, if it lives. (If not, the next one in repairs what it has left.)
fn inside(objects: &Objects) -> Option<Inside> {
    let handle = objects.table.header.latch.load(Relaxed) & !SLEEPERS;
    (handle != 0 && !objects.is_out(handle)).then(|| {
        // Its request may be one that is not there yet, or no longer.
        objects.table.renew(objects.table.used_records());
        Inside {
            handle,
            pid: objects.table.pid_of(handle),
        }
    })
}

/// Everything that can be seen of a lock. If there is no table, that is its semaphore and note.
pub(crate) fn state(
    name: &LockName,
    owned: Owned,
    semaphore: &Semaphore,
    note: &Note,
    objects: Option<&Objects>,
) -> State {
    // One that cannot be read, because it was truncated, is not free.
    let word = semaphore.look().map_or(SemaphoreWord(0), |()| semaphore.load());
    if let Some(objects) = objects {
        objects.table.look();
    }
    state_with(name, owned, word, note.text(), objects, None)
}

/// The same of what has just been opened, with no more holders and waiters, and no longer a note, than a list of many locks
/// needs.
pub(crate) fn brief_state(
    name: &LockName,
    owned: Owned,
    semaphore: &Semaphore,
    note: &Note,
    objects: Option<&Objects>,
) -> State {
    state_with(name, owned, semaphore.load(), note.brief_text(), objects, Some(BRIEF))
}

fn state_with(
    name: &LockName,
    owned: Owned,
    word: SemaphoreWord,
    note: String,
    objects: Option<&Objects>,
    most: Option<usize>,
) -> State {
    let mut left_out = LeftOut::default();
    let mut holders = Vec::new();
    let mut waiters = Vec::new();
    let mut counters = Counters::default();
    let mut slots = None;
    let mut abandoned = None;
    let mut mark = None;
    if let Some(objects) = objects {
        let header = &objects.table.header;
        let (requests, more) = requests(objects, most, owned.trusted);
        left_out = more;
        for seen in requests {
            if let Mode::Slots(n) = seen.mode {
                slots = Some(n);
            }
            match seen.word.stage() {
                Stage::Held => holders.push(holder(seen).2),
                _ => waiters.push(waiter(seen)),
            }
        }
        abandoned = Some(header.abandoned.load(Relaxed)).filter(|&token| token != 0);
        let unqueued = header.unqueued_grants.load(Relaxed);
        counters = Counters {
            acquisitions: unqueued.wrapping_add(header.queued_grants.load(Relaxed)),
            conflicts: header.conflicts.load(Relaxed),
            timeouts: header.timeouts.load(Relaxed),
            consecutive_timeouts: header.consecutive_timeouts.load(Relaxed),
            abandoned: header.abandonments.load(Relaxed),
            crashed: header.crashes.load(Relaxed),
            forced: header.forced.load(Relaxed),
            waited: Duration::from_nanos(header.waited_ns.load(Relaxed)),
            held: Duration::from_nanos(header.held_ns.load(Relaxed)),
        };
        mark = Some(objects.table.mark());
        if !objects.table.is_intact_copy() {
            return state_with(name, owned, word, note, None, most);
        }
    }
    holders.sort_by_key(|holder| holder.token);
    let held_since = holders.iter().filter_map(|holder| holder.since).max();
    let taken = word.value() == 0;
    let ours = mark == Some(word.mark());
    let foreign = taken && !ours;
    // With living holders of ours, or with requests that are just being offered it. Those left out count as alive.
    let is_held = left_out.holders > 0 || holders.iter().any(|h| h.alive);
    let is_offered = holders.is_empty() && (left_out.waiters > 0 || waiters.iter().any(|w| w.alive));
    let held_by_ours = taken && ours && (is_held || is_offered);
    State {
        name: name.clone(),
        owner: owned.owner,
        trusted: owned.trusted,
        locked: foreign || held_by_ours,
        value: word.value(),
        foreign,
        note,
        holders,
        holders_left_out: left_out.holders,
        waiters,
        waiters_left_out: left_out.waiters,
        foreign_waiters: u32::from(word.waiters()),
        slots,
        abandoned,
        last_grant: held_since.max(objects.and_then(|objects| last_ended_grant(&objects.table))),
        last_success: objects.and_then(|objects| known(objects.table.header.success_wall_us.load(Relaxed))),
        inside: objects.and_then(inside),
        counters: Some(counters),
        read_at: SystemTime::now(),
    }
}

/// A lock that does not exist: free.
pub(crate) fn state_of_none(name: &LockName) -> State {
    State {
        name: name.clone(),
        owner: None,
        trusted: true,
        locked: false,
        value: 1,
        foreign: false,
        note: String::new(),
        holders: Vec::new(),
        holders_left_out: 0,
        waiters: Vec::new(),
        waiters_left_out: 0,
        foreign_waiters: 0,
        slots: None,
        abandoned: None,
        last_grant: None,
        last_success: None,
        inside: None,
        counters: Some(Counters::default()),
        read_at: SystemTime::now(),
    }
}

/// The entry in this place, whose sequence has just been renewed, if it has this number.
fn past(table: &Table, past: &Past, number: u64) -> Option<HistoryRecord> {
    for _ in 0..TRIES {
        let sequence = past.sequence.load(ENTRY_LOAD);
        if sequence != number.wrapping_add(1) {
            if sequence == 0 {
                table.renew(&past.sequence);
                continue; // being written
            }
            return None; // overwritten, or not written yet
        }
        table.renew(past);
        let copy = Ending {
            ticket: past.ticket.load(Relaxed),
            token: past.token.load(Relaxed),
            queued_wall_us: past.queued_wall_us.load(Relaxed),
            waited_ns: past.waited_ns.load(Relaxed),
            held_ns: past.held_ns.load(Relaxed),
            ended_wall_us: past.ended_wall_us.load(Relaxed),
            requester: past.requester(),
            what: past.what.load(Relaxed),
            command_end: past.command_end.load(Relaxed),
            note: past.note.each_ref().map(|word| word.load(Relaxed)),
        };
        fence(COPIED);
        table.renew(&past.sequence);
        if past.sequence.load(Relaxed) == sequence {
            return Some(told(&copy, number));
        }
    }
    None
}

/// An entry of the history, with its number.
fn told(end: &Ending, sequence: u64) -> HistoryRecord {
    let (kind, how, slots) = unpack_what(end.what);
    let token = known_token(end.token);
    HistoryRecord {
        sequence,
        ticket: end.ticket,
        token,
        mode: mode_of(kind, slots),
        requester: end.requester.unpack(true),
        queued: known(end.queued_wall_us),
        waited: Some(Duration::from_nanos(end.waited_ns)),
        held: token.map(|_| Duration::from_nanos(end.held_ns)),
        ended: wall(end.ended_wall_us),
        how,
        command_end: unpack_end(end.command_end),
        note: unpack_text(&end.note),
    }
}

/// The holds that have expired, and that nobody has dropped yet.
fn expired(objects: &Objects) -> Vec<Ending> {
    let table = &objects.table;
    table.look();
    let now = sys::monotonic();
    let real = Real::new(objects, now, now);
    let top = renew_requests(table);
    let one = |i: usize| {
        let record = table.records().get(i)?;
        let word = Word(table.words[i].load(WORD_LOAD));
        let over = word.stage() == Stage::Held && real.is_expired(i) == Ok(true);
        let ending = over.then(|| real.ending(i, record, Ended::Expired))?;
        fence(COPIED);
        table.renew(&table.words[i]);
        // If it has changed, somebody has just dropped it.
        (table.words[i].load(Relaxed) == word.0).then_some(ending)
    };
    (0..top).filter_map(one).collect()
}

/// The entry with this number, or the one where it would be, with its sequence renewed. The ring may have had fewer pages
/// when it was written.
fn entry<'t>(table: &Table, ring: &Ring<'_>, entries: &'t [Past], number: u64) -> Option<&'t Past> {
    let at = |pages: u32| entries.get(number.checked_rem(ring.part.fit(pages) as u64)? as usize);
    let is_it = |entry: &&Past| {
        table.renew(&entry.sequence);
        entry.sequence.load(Relaxed) == number.wrapping_add(1)
    };
    let pages = ring.part.needed(entries.len());
    (1..=pages).rev().filter_map(at).find(is_it).or_else(|| at(pages))
}

/// The last entries of a ring, from the one with this number on: as many as it has, and at most so many.
fn ring(table: &Table, ring: &Ring<'_>, from: u64, most: u64) -> Vec<HistoryRecord> {
    let next = ring.next.load(NEXT_LOAD);
    // After that: whoever added the last entry had made room before.
    table.renew(ring.room);
    let entries = table.reach_ring(ring);
    let entries = entries.get(..ring.part.fit(ring.room())).unwrap_or(entries);
    let first = next.saturating_sub(most.min(entries.len() as u64)).max(from);
    (first..next)
        .filter_map(|number| past(table, entry(table, ring, entries, number)?, number))
        .collect()
}

/// The ended requests that the table remembers, in the order in which they ended.
pub(crate) fn history(objects: &Objects) -> Vec<HistoryRecord> {
    let table = &objects.table;
    // Before the history: what is dropped meanwhile is in that.
    let expired = expired(objects);
    let mut holds = history_from(table, 0);
    let next = holds.last().map_or(0, |last| last.sequence + 1);
    let dropped = |end: &&Ending| holds.iter().any(|hold| hold.token == known_token(end.token));
    let expired: Vec<&Ending> = expired.iter().filter(|end| !dropped(end)).collect();
    holds.extend(expired.iter().zip(next..).map(|(end, sequence)| told(end, sequence)));
    let mut gave_up = gave_up_from(table, 0).into_iter().peekable();
    let mut merged = Vec::new();
    // Each ring is in order, whatever the wall clock did.
    for hold in holds {
        while let Some(record) = gave_up.next_if(|record| record.ended <= hold.ended) {
            merged.push(record);
        }
        merged.push(hold);
    }
    merged.extend(gave_up);
    merged
}

/// The ended holds, from this number on, oldest first.
pub(crate) fn history_from(table: &Table, from: u64) -> Vec<HistoryRecord> {
    table.look();
    ring(table, &table.history(), from, u64::MAX)
}

/// When the request that ended last did, with the lock or without.
pub(crate) fn last_end(table: &Table) -> Option<SystemTime> {
    let last = |ends: Ring<'_>| ring(table, &ends, 0, 1).first().map(|record| record.ended);
    let [hold, gave_up] = [table.history(), table.gave_up()].map(last);
    hold.max(gave_up)
}

/// When the hold that ended last was granted.
fn last_ended_grant(table: &Table) -> Option<SystemTime> {
    ring(table, &table.history(), 0, 1).first()?.granted()
}

/// The requests that gave up, from this number on, oldest first: as [`Ended::gave_up`] says, also in a damaged table.
pub(crate) fn gave_up_from(table: &Table, from: u64) -> Vec<HistoryRecord> {
    table.look();
    let mut records = ring(table, &table.gave_up(), from, u64::MAX);
    for record in records.iter_mut().filter(|record| !record.how.gave_up()) {
        record.how = Ended::TimedOut;
    }
    records
}
