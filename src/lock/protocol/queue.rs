//! The protocol: who gets the lock next, and what is repaired after a crash. Pure: every access to the shared objects,
//! the clock and other processes goes through [`World`], so that the same code runs on the real table and under the
//! model checker (`model/`), which stops or kills a process between any two actions.
//!
//! # Objects
//! The *semaphore* is glibc's semaphore word, shared with users of the Python module. The *table* is the latch, a few
//! fields, and up to 1,024 request records, each with a *word* (stage and ticket, [`Word`]).
//!
//! # State table of a request's word
//! | from | to | by | when |
//! |---|---|---|---|
//! | Vacant | Waiting, Held | its owner, in the latch | it requests the lock (`request`) |
//! | Waiting | Offered | anyone, in the latch | it is the head of the queue and fits (`dispatch`) |
//! | Waiting | Held | its owner, in the latch | the same, for the caller's own request |
//! | Offered | Held | its owner, **without** the latch | it accepts (`poll`, `withdraw`) |
//! | Offered | Stalled | anyone, in the latch | it has not accepted for 100 ms: its process is stopped |
//! | Stalled | Waiting | its owner, **without** the latch | it runs again; it has kept its ticket |
//! | Waiting, Stalled | Vacant | its owner, **without** the latch | it gives up, or is superseded (`is_superseded`, `withdraw`) |
//! | Held | Vacant | its owner, if need be **without** the latch | it releases (`let_go`) |
//! | Held | Vacant | its owner, in the latch | it releases after a crash, and leaves the mark (`let_go_crashed`) |
//! | Offered | Waiting | anyone, in the latch | the semaphore was released by force |
//! | Held | Vacant | anyone, in the latch | its holder is gone; it has expired; it was released by force |
//! | any | Vacant | anyone, in the latch | its owner is gone |
//!
//! A word that is Held may change whose life keeps it, in the latch: its owner leaves it to its time (a detached hold that
//! expires). If what ran under it has crashed, the mark is set before that, while it is held.
//!
//! # State table of the semaphore
//! | value, mark | meaning | what we change it to |
//! |---|---|---|
//! | ≥ 1, not ours | free | 0, ours: before the first grant (a value above 1, left by several forced releases at once, is reported) |
//! | 0, ours | taken for this table | 1, none: when nothing is held or offered any more |
//! | 0, not ours | taken by a foreign holder | nothing; only a forced release makes it 1, none |
//! | ≥ 1, ours | released by force, by the Python module | 1, none: **before** the holds are ended, see invariant 2 |
//!
//! # Invariants
//! The model checks each under its number.
//! 1. Exclusion: what is held is compatible at every instant, also with a foreign holder.
//! 2. While anything is held or offered, the semaphore is (0, ours), or somebody has released it by force. So the
//!    semaphore is taken before a word becomes Offered or Held, and released after the last one has become Vacant. A
//!    word that is active while the semaphore is not (0, ours) belongs to a hold that was ended by force: every latch
//!    section begins with `settle`.
//! 3. A hold ends only by its owner, by proof of death, by expiry, or by force.
//! 4. Fail closed: what cannot be proven dead is alive.
//! 5. Nothing depends on being told: waiters check by themselves (`check`), so neither a wake-up that a killed process
//!    owed nor an event is needed. And being told is enough: whenever a waiter could be served, a process is working on
//!    the table, or a waiter has been told. That holds after a death at any instant, and while somebody is stopped, the
//!    table is busy, or a hold is released by force; only where a death coincides with one of these may a check be
//!    needed. With nothing held and a running request waiting, one is offered the lock as soon as the first of these is
//!    told, and otherwise within 6 s if one of the first 25 runs. Where a waiter cannot be told, within 10 ms while
//!    the head runs, 50 ms while the second does, 0.3 s while the third does, else 1.2 s.
//! 6. Order: among queued, running requests grants follow tickets; nobody is granted past a head that waits.
//! 7. Tokens grow strictly: the next token is stored before the grant that uses the current one. The first one is the
//!    wall clock in µs when the table is created, so tokens grow across reboots, too, as long as the wall clock does
//!    not go back (a machine without a battery-backed clock that takes a lock before NTP has set it).
//! 8. No call of ours raises the semaphore above 1.
//! 9. Of the requests that came to replace others (`run --replace`) and wait when one of them is offered the lock, only
//!    the newest accepts it.
//!
//! # Commit rule
//! What matters changes by one atomic operation: a request's word, or the semaphore's. Everything else is written
//! before it or derived from it. After a crash at any instruction, repair is therefore: `settle`, `sweep`, `dispatch`.
//! Doing that twice, or by two processes one after the other, changes nothing more.
//!
//! # Memory orderings
//! Words and semaphore are read with Acquire; they and the latch are changed by compare-exchange with AcqRel. Fields and
//! descriptions are relaxed atomics: those that decisions use are written and read in the latch only, whose exchange
//! orders them; those that are read without it (for display, or in [`check`]) are checked again against the word, between
//! two fences, or are only hints. Each ordering has a name and a reason in `orderings.rs`; `weak/` runs this code under a
//! weak memory model.

mod repair;
mod waiters;

use crate::lock::protocol::staleness;
use crate::lock::protocol::word::{SemaphoreWord, Stage, Word};
use crate::lock::types::Ended;

pub(crate) use repair::{Sweep, Which, force, let_go_crashed, mark, mark_recovered, visit};
pub(crate) use waiters::{
    Check, Place, Poll, any_gone, check, check_from_outside, depends_on, is_superseded, is_unchanged, let_go, pass_on,
    poll, wake_next, withdraw,
};

/// Grants in a row after which processes that wait for the semaphore itself (the Python module) have a turn.
pub(crate) const FOREIGN_TURN_AFTER: u64 = 8;
/// How long the semaphore then stays free for them, in nanoseconds.
pub(crate) const FOREIGN_TURN_NS: u64 = 1_000_000;
/// How long foreign waiters that did not take the semaphore in their turn are ignored, in nanoseconds.
pub(crate) const FOREIGN_IGNORED_NS: u64 = 100_000_000;

/// What a request is compatible with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Nothing.
    Exclusive = 0,
    /// Other shared requests.
    Shared = 1,
    /// Other slot requests, up to the number of slots.
    Slot = 2,
}

/// The table's fields that decisions use. Written in the latch only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// The next request's ticket.
    NextTicket,
    /// The next grant's token.
    NextToken,
    /// All records from here on are vacant. May be too high, never too low.
    HighWater,
    /// The number of slots, while slot requests exist.
    Slots,
    /// Grants in a row while foreign processes waited for the semaphore.
    Streak,
    /// The semaphore is left to foreign waiters until then (monotonic ns, as [`staleness`] reads them); 0 = no such
    /// turn.
    PauseUntil,
    /// Foreign waiters are not counted until then (the same): they did not take the semaphore in their turn, so a
    /// killed waiter has leaked the count, or they are too slow to matter.
    IgnoreUntil,
    /// Token of a hold that left its mark: its holder died, or what ran under it crashed; 0 = none.
    Abandoned,
}

/// The shared world. Each call is one action; a process may be stopped or killed before any of them, so each returns
/// `Err(Stop)` where the model checker cuts the run (`Infallible` in the real world, where it costs nothing).
pub(crate) trait World {
    /// Why a run ends early; no value exists in the real world.
    type Stop;

    /// How many request records there are.
    fn capacity(&self) -> usize;
    /// How many of these the caller can use now.
    fn room(&self) -> usize {
        self.capacity()
    }
    /// This table's mark on the semaphore, never 0.
    fn mark(&self) -> u16;
    /// Monotonic clock, nanoseconds.
    fn now(&self) -> Result<u64, Self::Stop>;

    /// Reads a request's word.
    fn word(&self, i: usize) -> Result<Word, Self::Stop>;
    /// Compare-exchange of a request's word: true = changed.
    fn swap_word(&self, i: usize, from: Word, to: Word) -> Result<bool, Self::Stop>;
    /// Reads the semaphore.
    fn semaphore(&self) -> Result<SemaphoreWord, Self::Stop>;
    /// Compare-exchange of the semaphore; `Err` is what it was instead.
    fn swap_semaphore(&self, from: SemaphoreWord, to: SemaphoreWord) -> Result<Result<(), SemaphoreWord>, Self::Stop>;
    /// Reads a field.
    fn field(&self, field: Field) -> Result<u64, Self::Stop>;
    /// Stores a field.
    fn set_field(&self, field: Field, value: u64) -> Result<(), Self::Stop>;

    /// A request's kind.
    fn kind(&self, i: usize) -> Result<Kind, Self::Stop>;
    /// Writes everything that describes the caller's request, before its word is published as held or waiting.
    fn describe(&self, i: usize, ticket: u64, held: bool) -> Result<(), Self::Stop>;
    /// Stores the token that a request is about to be granted under, and when.
    fn set_grant(&self, i: usize, token: u64) -> Result<(), Self::Stop>;
    /// A request's token.
    fn token(&self, i: usize) -> Result<u64, Self::Stop>;
    /// True if a request's owner, and all that keeps it alive, is proven to be gone.
    fn is_gone(&self, i: usize) -> Result<bool, Self::Stop>;
    /// True if a hold was meant to end with its process: then that is no accident.
    fn lapses(&self, _i: usize) -> Result<bool, Self::Stop> {
        Ok(false)
    }
    /// True if a request came to replace others. For whoever reads it without the latch: counts if the word is the same
    /// afterwards.
    fn replaces(&self, _i: usize) -> Result<bool, Self::Stop> {
        Ok(false)
    }
    /// True if a hold has expired.
    fn is_expired(&self, i: usize) -> Result<bool, Self::Stop>;
    /// True if an offer has not been accepted in time.
    fn is_overdue(&self, i: usize) -> Result<bool, Self::Stop>;
    /// Records, from its record, that a request was ended in the latch: history and counters.
    fn ended(&self, i: usize, how: Ended) -> Result<(), Self::Stop>;
    /// Reports that the semaphore's value was above 1 (racing forced releases by the Python module) and was taken down.
    fn excess(&self, value: u32);

    /// Wakes the owner of a request.
    fn wake_request(&self, i: usize);
    /// Wakes one process that waits for the semaphore.
    fn wake_semaphore(&self);
}

/// What one pass over the words has found.
#[derive(Debug)]
struct Scan {
    /// Only records below this one may be in use.
    top: usize,
    /// Offered or held.
    active: u32,
    /// The kind of the active ones.
    active_kind: Option<Kind>,
    /// The waiting request with the lowest ticket.
    head: Option<(usize, Word)>,
    /// The one behind it.
    second: Option<(usize, Word)>,
    /// The first vacant record.
    vacant: Option<usize>,
}

/// Wake-ups that are due when the latch has been left: a sleeper that runs at once would only run into the latch.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    requests: [u16; 16],
    count: usize,
    semaphore: bool,
}

impl Wakes {
    fn request<W: World>(&mut self, w: &W, i: usize) {
        if !self.try_note(i, self.requests.len()) {
            w.wake_request(i);
        }
    }

    /// The same, unless there are many already.
    fn request_if_few(&mut self, i: usize) {
        self.try_note(i, self.requests.len() / 2);
    }

    /// Notes one; false if there are so many already.
    fn try_note(&mut self, i: usize, most: usize) -> bool {
        let has_room = self.count < most;
        if has_room {
            self.requests[self.count] = i as u16; // records are numbered below 1,024
            self.count += 1;
        }
        has_room
    }

    /// Delivers them.
    pub(crate) fn deliver<W: World>(&self, w: &W) {
        for &i in &self.requests[..self.count] {
            w.wake_request(usize::from(i));
        }
        if self.semaphore {
            w.wake_semaphore();
        }
    }
}

/// What is requested.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) kind: Kind,
    /// For [`Kind::Slot`]: the number of slots.
    pub(crate) slots: u32,
    /// Join the queue if the lock is not free now.
    pub(crate) queue: bool,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Held, in this record, under this token.
    Granted { i: usize, word: Word, token: u64 },
    /// In the queue, or offered already: see [`poll`].
    Queued { i: usize, word: Word },
    /// Taken, and the request is not to be queued.
    Busy,
    /// All records are in use that the caller can use now.
    Full,
    /// In use with another number of slots.
    SlotsDiffer { in_use: u32 },
}

// Everything below that says "in the latch" must run between entering and leaving it.

/// In the latch. Checks the semaphore first: true = it is ours. If it was released by force, what was held is ended,
/// and what was offered goes back into the queue.
pub(crate) fn settle<W: World>(w: &W) -> Result<bool, W::Stop> {
    let mut semaphore = w.semaphore()?;
    let mut forced = false;
    while semaphore.mark() == w.mark() {
        if semaphore.value() == 0 && !forced {
            return Ok(true);
        }
        // Value >= 1: released by force. Value 0 after that: a foreign process has taken it since, under our mark.
        // Either way the mark goes first: if we die now, active words under an unmarked semaphore say the rest.
        forced = true;
        if semaphore.value() > 1 {
            w.excess(semaphore.value());
        }
        match w.swap_semaphore(semaphore, semaphore.with(semaphore.value().min(1), 0))? {
            Ok(()) => break,
            Err(now) => semaphore = now,
        }
    }
    if semaphore.value() == 0 && !forced && w.field(Field::PauseUntil)? != 0 {
        // A foreign process has the semaphore: that was its turn.
        w.set_field(Field::PauseUntil, 0)?;
        w.set_field(Field::Streak, 0)?;
    }
    for i in 0..high_water(w)? {
        let mut word = w.word(i)?;
        loop {
            let to = match word.stage() {
                Stage::Held => Word::VACANT,
                Stage::Offered => word.at(Stage::Waiting),
                _ => break,
            };
            if w.swap_word(i, word, to)? {
                if to == Word::VACANT {
                    w.ended(i, Ended::Forced)?;
                }
                break;
            }
            word = w.word(i)?; // its owner accepted or released in between
        }
    }
    Ok(false)
}

fn high_water<W: World>(w: &W) -> Result<usize, W::Stop> {
    let stored = w.field(Field::HighWater)?;
    Ok(usize::try_from(stored).unwrap_or(usize::MAX).min(w.capacity()))
}

fn scan<W: World>(w: &W) -> Result<Scan, W::Stop> {
    let top = high_water(w)?;
    let mut s = Scan {
        top,
        active: 0,
        active_kind: None,
        head: None,
        second: None,
        vacant: None,
    };
    for i in 0..top {
        let word = w.word(i)?;
        match word.stage() {
            Stage::Vacant => s.vacant = s.vacant.or(Some(i)),
            Stage::Offered | Stage::Held => {
                s.active += 1;
                s.active_kind = Some(w.kind(i)?);
            }
            Stage::Waiting if s.second.is_some_and(|(_, second)| !word.is_before(second)) => {} // nearly all
            Stage::Waiting if s.head.is_some_and(|(_, head)| !word.is_before(head)) => s.second = Some((i, word)),
            Stage::Waiting => (s.head, s.second) = (Some((i, word)), s.head),
            Stage::Stalled => {}
        }
    }
    if s.vacant.is_none() && top < w.room() {
        s.vacant = Some(top);
    }
    Ok(s)
}

/// What a scan would find after the head, which is of this kind, was granted the lock. In a long queue a scan takes time, so
/// there is another one only if it is to be known who comes behind the next one, because that fits, too. (Whoever withdraws
/// meanwhile wakes the one behind it, which watches its process in case it is killed before that.)
fn scan_after<W: World>(w: &W, kind: Kind, s: Scan) -> Result<Scan, W::Stop> {
    let granted = Scan {
        active: s.active + 1,
        active_kind: Some(kind),
        head: s.second,
        second: None,
        ..s
    };
    match granted.head {
        Some((i, _)) if fits(w, w.kind(i)?, &granted)? => scan(w),
        _ => Ok(granted),
    }
}

/// True if there are slot requests, active or waiting.
fn are_slots_used<W: World>(w: &W, top: usize) -> Result<bool, W::Stop> {
    for i in 0..top {
        if w.word(i)?.stage() != Stage::Vacant && w.kind(i)? == Kind::Slot {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True if a request of this kind may be active beside what is active.
fn fits<W: World>(w: &W, kind: Kind, s: &Scan) -> Result<bool, W::Stop> {
    Ok(s.active == 0
        || match kind {
            Kind::Exclusive => false,
            Kind::Shared => s.active_kind == Some(Kind::Shared),
            Kind::Slot => s.active_kind == Some(Kind::Slot) && u64::from(s.active) < w.field(Field::Slots)?,
        })
}

/// True if foreign processes wait for the semaphore and have been passed over often enough.
fn foreign_turn<W: World>(w: &W, semaphore: SemaphoreWord) -> Result<bool, W::Stop> {
    Ok(semaphore.waiters() != 0
        && w.field(Field::Streak)? >= FOREIGN_TURN_AFTER
        && !staleness::lasts(w.field(Field::IgnoreUntil)?, w.now()?))
}

/// In the latch. Takes the semaphore if it is free: false = a foreign process has it, or is to have its turn.
fn take_semaphore<W: World>(w: &W) -> Result<bool, W::Stop> {
    let mut semaphore = w.semaphore()?;
    loop {
        if semaphore.value() == 0 {
            return Ok(false);
        }
        let pause = w.field(Field::PauseUntil)?;
        if pause != 0 {
            if semaphore.waiters() != 0 && staleness::lasts(pause, w.now()?) {
                return Ok(false);
            }
            w.set_field(Field::IgnoreUntil, w.now()?.wrapping_add(FOREIGN_IGNORED_NS))?;
            w.set_field(Field::Streak, 0)?;
            w.set_field(Field::PauseUntil, 0)?;
        }
        if semaphore.value() > 1 {
            w.excess(semaphore.value());
        }
        match w.swap_semaphore(semaphore, semaphore.with(0, w.mark()).with_leaks_bounded())? {
            Ok(()) => return Ok(true),
            Err(now) => semaphore = now,
        }
    }
}

/// In the latch, with nothing active. Releases the semaphore if it is ours.
fn release_semaphore<W: World>(w: &W, wakes: &mut Wakes) -> Result<(), W::Stop> {
    let mut semaphore = w.semaphore()?;
    while semaphore.mark() == w.mark() {
        match w.swap_semaphore(semaphore, semaphore.with(1, 0).with_leaks_bounded())? {
            Ok(()) => {
                wakes.semaphore |= semaphore.waiters() != 0;
                break;
            }
            Err(now) => semaphore = now,
        }
    }
    Ok(())
}

/// Numbers a grant: the next token is stored before this one is used.
fn next_token<W: World>(w: &W) -> Result<u64, W::Stop> {
    let token = w.field(Field::NextToken)?;
    w.set_field(Field::NextToken, token.wrapping_add(1))?;
    Ok(token)
}

/// Counts grants in a row while foreign processes wait.
fn count_streak<W: World>(w: &W) -> Result<(), W::Stop> {
    let streak = w.field(Field::Streak)?;
    let next = if w.semaphore()?.waiters() == 0 {
        0
    } else {
        streak.saturating_add(1)
    };
    if next != streak {
        w.set_field(Field::Streak, next)?;
    }
    Ok(())
}

/// In the latch. Requests the lock.
pub(crate) fn request<W: World>(w: &W, ask: Ask, wakes: &mut Wakes) -> Result<Asked, W::Stop> {
    let owned = settle(w)?;
    let s = scan(w)?;
    if ask.kind == Kind::Slot {
        let in_use = w.field(Field::Slots)?;
        if in_use != u64::from(ask.slots) {
            if are_slots_used(w, s.top)? {
                return Ok(Asked::SlotsDiffer { in_use: in_use as u32 });
            }
            w.set_field(Field::Slots, u64::from(ask.slots))?;
        }
    }
    let free = s.head.is_none() && fits(w, ask.kind, &s)? && !(owned && foreign_turn(w, w.semaphore()?)?);
    if !free && !ask.queue {
        dispatch(w, None, owned, false, wakes)?;
        return Ok(Asked::Busy);
    }
    let Some(i) = s.vacant else { return Ok(Asked::Full) };
    // Usually `Word::VACANT`; but in a damaged table, stages that mean nothing count as vacant, too.
    let vacant = w.word(i)?;
    let taken = free && (owned || take_semaphore(w)?);
    if !taken && !ask.queue {
        return Ok(Asked::Busy);
    }
    let ticket = w.field(Field::NextTicket)?;
    w.set_field(Field::NextTicket, ticket.wrapping_add(1))?;
    w.describe(i, ticket, taken)?;
    if i >= s.top {
        w.set_field(Field::HighWater, i as u64 + 1)?;
    }
    if taken {
        let token = next_token(w)?;
        w.set_grant(i, token)?;
        let word = Word::new(Stage::Held, ticket);
        w.swap_word(i, vacant, word)?;
        count_streak(w)?;
        return Ok(Asked::Granted { i, word, token });
    }
    let word = Word::new(Stage::Waiting, ticket);
    w.swap_word(i, vacant, word)?;
    dispatch(w, Some(i), owned, false, wakes)?;
    Ok(Asked::Queued { i, word })
}

/// In the latch, after [`settle`] (whose answer is `owned`). Offers the lock to the head of the queue as long as it
/// fits; releases the semaphore if nothing is active then. `own`: the caller's request, which needs no offer.
/// `new_head`: the head may have changed without a grant, so it is woken to begin its checks.
pub(crate) fn dispatch<W: World>(
    w: &W,
    own: Option<usize>,
    mut owned: bool,
    mut new_head: bool,
    wakes: &mut Wakes,
) -> Result<(), W::Stop> {
    let mut s = scan(w)?;
    loop {
        let mut turn = false;
        if let Some((i, word)) = s.head
            && let kind = w.kind(i)?
            && fits(w, kind, &s)?
        {
            turn = owned && foreign_turn(w, w.semaphore()?)?;
            if !turn && (owned || take_semaphore(w)?) {
                owned = true;
                let token = next_token(w)?;
                w.set_grant(i, token)?;
                let stage = if own == Some(i) { Stage::Held } else { Stage::Offered };
                if w.swap_word(i, word, word.at(stage))? {
                    count_streak(w)?;
                    new_head = true;
                    if own != Some(i) {
                        wakes.request(w, i);
                    }
                    s = scan_after(w, kind, s)?;
                } else {
                    s = scan(w)?; // it has withdrawn: who is the head now?
                }
                continue;
            }
        }
        if owned && s.active == 0 {
            if turn {
                w.set_field(Field::PauseUntil, w.now()?.wrapping_add(FOREIGN_TURN_NS).max(1))?;
                new_head = true; // it sees to the end of the turn
            }
            release_semaphore(w, wakes)?;
        }
        if let Some((i, _)) = s.head
            && new_head
            && own != Some(i)
        {
            wakes.request(w, i);
        }
        let in_use = s.top - trailing_vacant(w, s.top)?;
        if in_use + 8 <= s.top {
            w.set_field(Field::HighWater, in_use as u64)?;
        }
        return Ok(());
    }
}

fn trailing_vacant<W: World>(w: &W, top: usize) -> Result<usize, W::Stop> {
    for i in (0..top).rev() {
        if w.word(i)?.stage() != Stage::Vacant {
            return Ok(top - 1 - i);
        }
    }
    Ok(top)
}
