//! The protocol: who gets the lock next, and what is mended after a crash. Pure: every access to the shared objects,
//! the clock and the other processes goes through [`World`], so that the same code runs on the real table and under
//! the model checker (`src/lock/model.rs`), which stops or kills a process between any two actions.
//!
//! # Objects
//! The *flag* (glibc's semaphore word, shared with users of the Python module), and the *table*: the latch, a few
//! fields, and up to 1,024 request records, each with a *word* (stage and ticket, [`Word`]).
//!
//! # State table of a request's word
//! | from | to | by whom | when |
//! |---|---|---|---|
//! | Vacant | Waiting, Held | its owner, in the latch | [`request`] |
//! | Waiting | Offered | anyone in the latch | [`dispatch`]: it is the head and fits |
//! | Waiting | Held | its owner, in the latch | the same, for the own request |
//! | Offered | Held | its owner, **without** the latch | [`poll`], [`withdraw`] |
//! | Offered | Stalled | anyone in the latch | not accepted within 100 ms |
//! | Stalled | Waiting | its owner, without the latch | it runs again |
//! | Waiting, Stalled | Vacant | its owner, without the latch | [`withdraw`] |
//! | Held | Vacant | its owner, without the latch | [`let_go`] |
//! | Offered | Waiting | anyone in the latch | the flag was released by force |
//! | Held | Vacant | anyone in the latch | its holder is gone; it expired; the flag was released by force |
//! | any | Vacant | anyone in the latch | its owner is gone |
//!
//! # State table of the flag (value, mark)
//! | state | means | we change it to |
//! |---|---|---|
//! | 1, any mark but ours | free | 0, ours: before the first grant |
//! | 0, ours | taken on behalf of this table | 1, none: when nothing is held or offered |
//! | 0, another or none | a foreign holder | nothing (1, none: only by a forced release) |
//! | ≥ 1, ours | released by force | 1, none: **before** the holds are ended, see invariant 2 |
//!
//! # Invariants (each is checked by the model under its number)
//! 1. Exclusion: what is held is compatible at every instant, also with a foreign holder.
//! 2. While anything is held or offered the flag is (0, ours), or somebody has released it by force. So the flag is
//!    taken before a word becomes Offered or Held and given back after the last one has become Vacant, and a word that
//!    is active under a flag that is not (0, ours) belongs to a hold that was ended by force: whatever comes first in
//!    a latch section is [`settle`].
//! 3. A hold ends only by its owner, by proof of death, by expiry, or by force.
//! 4. Fail closed: what cannot be proven dead is alive.
//! 5. No lost wake-up: waiters look by themselves ([`look`]), so a wake that a killed process owed is not needed.
//! 6. Order: among queued, running requests grants follow tickets; nobody is granted past a head that waits.
//! 7. Tokens grow strictly: the next token is stored before the grant that uses the current one.
//! 8. No call of ours raises the flag above 1.
//!
//! # Commit rule
//! What matters changes by one atomic operation, a request's word or the flag's; everything else is written before it
//! or derived from it. After a crash at any instruction, repair is: [`settle`], [`sweep`], [`dispatch`], and doing it
//! twice, or by two processes one after the other, changes nothing more.
//!
//! # Memory orderings
//! Words, flag and latch are read with Acquire and changed by compare-exchange with AcqRel (SeqCst where it costs
//! nothing, as on x86). Fields and descriptions are relaxed atomics: those that decisions use are written and read in
//! the latch only, whose AcqRel exchange orders them; those read without it (for display, or in [`look`]) are
//! re-checked against the word, or only hints.

use crate::state::Ended;
use crate::word::{FlagWord, Stage, Word};

/// Grants in a row after which processes that wait for the flag itself (the Python module) get a turn.
pub(crate) const FOREIGN_TURN_AFTER: u64 = 8;
/// How long the flag then stays free for them, in nanoseconds.
pub(crate) const FOREIGN_TURN_NS: u64 = 1_000_000;
/// How long foreign waiters that did not take the flag in their turn are left out of account, in nanoseconds.
pub(crate) const FOREIGN_IGNORED_NS: u64 = 100_000_000;
/// Holders that one look examines.
const LOOK_HOLDERS: usize = 8;

/// With whom a request is compatible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Alone.
    Exclusive = 0,
    /// With other shared ones.
    Shared = 1,
    /// With other slots, up to the number of slots.
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
    /// Grants in a row while foreign processes waited for the flag.
    Streak,
    /// The flag is left to foreign waiters until then (monotonic ns); 0 = no such turn.
    PauseUntil,
    /// Foreign waiters are not counted until then (monotonic ns): they did not take the flag in their turn, so the
    /// count was leaked by a killed waiter, or they are too slow to matter.
    IgnoreUntil,
    /// Token of a hold whose holder died; 0 = none.
    Abandoned,
}

/// The shared world. Each call is one action; a process may be stopped or killed before any of them, so each returns
/// `Err(Stop)` where the model checker cuts the run (`Infallible` in the real world, where it costs nothing).
pub(crate) trait World {
    /// Why a run ends early; no value exists in the real world.
    type Stop;

    /// How many request records there are.
    fn capacity(&self) -> usize;
    /// This table's mark on the flag, never 0.
    fn mark(&self) -> u16;
    /// Monotonic clock, nanoseconds.
    fn now(&self) -> Result<u64, Self::Stop>;

    /// Reads a request's word.
    fn word(&self, i: usize) -> Result<Word, Self::Stop>;
    /// Compare-exchange of a request's word: true = changed.
    fn swap_word(&self, i: usize, from: Word, to: Word) -> Result<bool, Self::Stop>;
    /// Reads the flag.
    fn flag(&self) -> Result<FlagWord, Self::Stop>;
    /// Compare-exchange of the flag; `Err` is what stood there.
    fn swap_flag(&self, from: FlagWord, to: FlagWord) -> Result<Result<(), FlagWord>, Self::Stop>;
    /// Reads a field.
    fn field(&self, field: Field) -> Result<u64, Self::Stop>;
    /// Stores a field.
    fn set_field(&self, field: Field, value: u64) -> Result<(), Self::Stop>;

    /// A request's kind.
    fn kind(&self, i: usize) -> Result<Kind, Self::Stop>;
    /// Writes everything that describes the own request, before its word is published as held or waiting.
    fn describe(&self, i: usize, ticket: u64, held: bool) -> Result<(), Self::Stop>;
    /// Stores the token that a request is about to be granted under, and when.
    fn set_grant(&self, i: usize, token: u64) -> Result<(), Self::Stop>;
    /// A request's token.
    fn token(&self, i: usize) -> Result<u64, Self::Stop>;
    /// Whether a request's owner, and all that keeps it alive, is proven to be gone.
    fn is_gone(&self, i: usize) -> Result<bool, Self::Stop>;
    /// Whether a hold was meant to end with its process: then that is no accident.
    fn lapses(&self, _i: usize) -> Result<bool, Self::Stop> {
        Ok(false)
    }
    /// Whether a hold has expired.
    fn is_expired(&self, i: usize) -> Result<bool, Self::Stop>;
    /// Whether an offer has not been accepted in time.
    fn is_overdue(&self, i: usize) -> Result<bool, Self::Stop>;
    /// A request of somebody's was ended in the latch: history and counters, from its record.
    fn ended(&self, i: usize, how: Ended) -> Result<(), Self::Stop>;
    /// The flag's value was found above 1 (racing forced releases of the Python module) and taken down.
    fn excess(&self, value: u32);

    /// Wakes the owner of a request.
    fn wake_request(&self, i: usize);
    /// Wakes one process that waits for the flag.
    fn wake_flag(&self);
}

/// What one pass over the words finds.
#[derive(Debug)]
struct Scan {
    /// Records below this one may be in use.
    top: usize,
    /// Offered or held.
    active: u32,
    /// The kind of those.
    active_kind: Option<Kind>,
    /// Slot requests, active or waiting.
    slot_users: bool,
    /// The waiting request with the lowest ticket.
    head: Option<(usize, Word)>,
    /// The first vacant record.
    vacant: Option<usize>,
}

/// Wakes that are due when the latch has been left: a sleeper that runs at once would only run into the latch.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    requests: [u16; 16],
    count: usize,
    flag: bool,
}

impl Wakes {
    fn request<W: World>(&mut self, w: &W, i: usize) {
        if self.count < self.requests.len() {
            self.requests[self.count] = i as u16; // records are numbered below 1,024
            self.count += 1;
        } else {
            w.wake_request(i);
        }
    }

    /// Delivers what is owed.
    pub(crate) fn deliver<W: World>(&self, w: &W) {
        for &i in &self.requests[..self.count] {
            w.wake_request(usize::from(i));
        }
        if self.flag {
            w.wake_flag();
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) kind: Kind,
    /// For [`Kind::Slot`]: the number of slots.
    pub(crate) slots: u32,
    /// Join the queue if the lock cannot be had now.
    pub(crate) queue: bool,
}

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Held, in this record, under this token.
    Granted { i: usize, word: Word, token: u64 },
    /// In the queue (or offered already): see [`poll`].
    Queued { i: usize, word: Word },
    /// Taken, and not to be queued.
    Busy,
    /// All records are in use.
    Full,
    /// In use with another number of slots.
    SlotsDiffer { in_use: u32 },
}

/// Everything below that says "in the latch" must run between entering and leaving it.
///
/// In the latch. Looks at the flag first: true = it is ours. If it was released by force, what was held is ended and
/// what was offered goes back into the queue.
pub(crate) fn settle<W: World>(w: &W) -> Result<bool, W::Stop> {
    let mut flag = w.flag()?;
    let mut forced = false;
    while flag.mark() == w.mark() {
        if flag.value() == 0 && !forced {
            return Ok(true);
        }
        // Value >= 1: released by force. Value 0 after that was seen: a foreign process has taken it since, under our
        // mark. Either way the mark goes first: if we die now, active words under an unmarked flag say the rest.
        forced = true;
        if flag.value() > 1 {
            w.excess(flag.value());
        }
        match w.swap_flag(flag, flag.with(flag.value().min(1), 0))? {
            Ok(()) => break,
            Err(now) => flag = now,
        }
    }
    if flag.value() == 0 && !forced && w.field(Field::PauseUntil)? != 0 {
        // A foreign process has the flag: it had its turn.
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
        slot_users: false,
        head: None,
        vacant: None,
    };
    for i in 0..top {
        let word = w.word(i)?;
        match word.stage() {
            Stage::Vacant => {
                s.vacant = s.vacant.or(Some(i));
                continue;
            }
            Stage::Offered | Stage::Held => {
                s.active += 1;
                s.active_kind = Some(w.kind(i)?);
            }
            Stage::Waiting if s.head.is_none_or(|(_, head)| word.is_before(head)) => s.head = Some((i, word)),
            Stage::Waiting | Stage::Stalled => {}
        }
        s.slot_users |= w.kind(i)? == Kind::Slot;
    }
    if s.vacant.is_none() && top < w.capacity() {
        s.vacant = Some(top);
    }
    Ok(s)
}

/// Whether a request of this kind may be active beside what is.
fn fits<W: World>(w: &W, kind: Kind, s: &Scan) -> Result<bool, W::Stop> {
    Ok(s.active == 0
        || match kind {
            Kind::Exclusive => false,
            Kind::Shared => s.active_kind == Some(Kind::Shared),
            Kind::Slot => s.active_kind == Some(Kind::Slot) && u64::from(s.active) < w.field(Field::Slots)?,
        })
}

/// Whether foreign processes wait for the flag and have been passed over often enough.
fn foreign_turn<W: World>(w: &W, flag: FlagWord) -> Result<bool, W::Stop> {
    Ok(flag.waiters() != 0
        && w.field(Field::Streak)? >= FOREIGN_TURN_AFTER
        && w.now()? >= w.field(Field::IgnoreUntil)?)
}

/// In the latch. Takes the free flag: false = a foreign process has it, or shall have its turn.
fn take_flag<W: World>(w: &W) -> Result<bool, W::Stop> {
    let mut flag = w.flag()?;
    loop {
        if flag.value() == 0 {
            return Ok(false);
        }
        let pause = w.field(Field::PauseUntil)?;
        if pause != 0 {
            if flag.waiters() != 0 && w.now()? < pause {
                return Ok(false);
            }
            w.set_field(Field::IgnoreUntil, w.now()?.wrapping_add(FOREIGN_IGNORED_NS))?;
            w.set_field(Field::Streak, 0)?;
            w.set_field(Field::PauseUntil, 0)?;
        }
        if flag.value() > 1 {
            w.excess(flag.value());
        }
        match w.swap_flag(flag, flag.with(0, w.mark()))? {
            Ok(()) => return Ok(true),
            Err(now) => flag = now,
        }
    }
}

/// In the latch, with nothing active. Gives the flag back if it is ours.
fn give_back<W: World>(w: &W, wakes: &mut Wakes) -> Result<(), W::Stop> {
    let mut flag = w.flag()?;
    while flag.mark() == w.mark() {
        match w.swap_flag(flag, flag.with(1, 0))? {
            Ok(()) => {
                wakes.flag |= flag.waiters() != 0;
                break;
            }
            Err(now) => flag = now,
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
    let next = if w.flag()?.waiters() == 0 {
        0
    } else {
        streak.saturating_add(1)
    };
    if next != streak {
        w.set_field(Field::Streak, next)?;
    }
    Ok(())
}

/// In the latch. Asks for the lock.
pub(crate) fn request<W: World>(w: &W, ask: Ask, wakes: &mut Wakes) -> Result<Asked, W::Stop> {
    let owned = settle(w)?;
    let s = scan(w)?;
    if ask.kind == Kind::Slot {
        let in_use = w.field(Field::Slots)?;
        if in_use != u64::from(ask.slots) {
            if s.slot_users {
                return Ok(Asked::SlotsDiffer { in_use: in_use as u32 });
            }
            w.set_field(Field::Slots, u64::from(ask.slots))?;
        }
    }
    let free = s.head.is_none() && fits(w, ask.kind, &s)? && !(owned && foreign_turn(w, w.flag()?)?);
    if !free && !ask.queue {
        dispatch(w, None, owned, false, wakes)?;
        return Ok(Asked::Busy);
    }
    let Some(i) = s.vacant else { return Ok(Asked::Full) };
    // Usually `Word::VACANT`; but in a damaged table stages that mean nothing count as vacant, too.
    let vacant = w.word(i)?;
    let taken = free && (owned || take_flag(w)?);
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
/// fits; gives the flag back if nothing is active then. `own`: the caller's request, which needs no offer. `new_head`:
/// the head may have changed without a grant, so it is woken to take up its watch.
pub(crate) fn dispatch<W: World>(
    w: &W,
    own: Option<usize>,
    mut owned: bool,
    mut new_head: bool,
    wakes: &mut Wakes,
) -> Result<(), W::Stop> {
    loop {
        let s = scan(w)?;
        let mut turn = false;
        if let Some((i, word)) = s.head
            && fits(w, w.kind(i)?, &s)?
        {
            turn = owned && foreign_turn(w, w.flag()?)?;
            if !turn && (owned || take_flag(w)?) {
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
                }
                continue; // also after a withdrawal: who is the head now?
            }
        }
        if owned && s.active == 0 {
            if turn {
                w.set_field(Field::PauseUntil, w.now()?.wrapping_add(FOREIGN_TURN_NS).max(1))?;
            }
            give_back(w, wakes)?;
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

/// What a sweep examines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sweep {
    /// Holders and offers.
    Active,
    /// Waiters as well.
    All,
}

/// In the latch. Drops the dead, the expired, and offers that nobody accepts.
pub(crate) fn sweep<W: World>(w: &W, what: Sweep) -> Result<(), W::Stop> {
    for i in 0..high_water(w)? {
        let word = w.word(i)?;
        match word.stage() {
            Stage::Vacant => {}
            Stage::Held => {
                let gone = w.is_gone(i)?;
                if gone && w.lapses(i)? {
                    if w.swap_word(i, word, Word::VACANT)? {
                        w.ended(i, Ended::Released)?;
                    }
                } else if gone {
                    // Before the word: the next holder is told at least once.
                    let token = w.token(i)?;
                    w.set_field(Field::Abandoned, token)?;
                    if w.swap_word(i, word, Word::VACANT)? {
                        w.ended(i, Ended::Abandoned)?;
                    }
                } else if w.is_expired(i)? && w.swap_word(i, word, Word::VACANT)? {
                    w.ended(i, Ended::Expired)?;
                }
            }
            Stage::Offered => {
                if w.is_gone(i)? {
                    w.swap_word(i, word, Word::VACANT)?;
                } else if w.is_overdue(i)? {
                    w.swap_word(i, word, word.at(Stage::Stalled))?;
                }
            }
            Stage::Waiting | Stage::Stalled => {
                if what == Sweep::All && w.is_gone(i)? {
                    w.swap_word(i, word, Word::VACANT)?;
                }
            }
        }
    }
    Ok(())
}

/// In the latch. Repairs whatever a crash left, then dispatches.
pub(crate) fn visit<W: World>(w: &W, what: Sweep, wakes: &mut Wakes) -> Result<(), W::Stop> {
    let owned = settle(w)?;
    sweep(w, what)?;
    dispatch(w, None, owned, true, wakes)?;
    let flag = w.flag()?;
    // Somebody may have died between giving back and waking, or we consumed a wake meant for another.
    wakes.flag |= flag.value() != 0 && flag.waiters() != 0;
    Ok(())
}

/// Without the latch. The holder's own release: false = it was not held any more. Then [`dispatch`] is due.
pub(crate) fn let_go<W: World>(w: &W, i: usize, word: Word) -> Result<bool, W::Stop> {
    w.swap_word(i, word.at(Stage::Held), Word::VACANT)
}

/// What a queued request finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poll {
    /// It holds the lock now.
    Granted,
    /// Still in the queue.
    Waiting,
    /// It had been passed over and is back in the queue: a [`visit`] is due.
    Unstalled,
    /// It left the queue ([`withdraw`] only): a [`visit`] is due, it may have stood in others' way.
    Withdrawn,
    /// The record is no longer ours: somebody took us for dead.
    Dropped,
}

/// Without the latch. Looks at the own request; accepts an offer.
pub(crate) fn poll<W: World>(w: &W, i: usize, word: Word) -> Result<Poll, W::Stop> {
    step(w, i, word, false)
}

/// Without the latch. Leaves the queue, unless the lock has just been offered: then it is accepted.
pub(crate) fn withdraw<W: World>(w: &W, i: usize, word: Word) -> Result<Poll, W::Stop> {
    step(w, i, word, true)
}

fn step<W: World>(w: &W, i: usize, word: Word, leave: bool) -> Result<Poll, W::Stop> {
    loop {
        let now = w.word(i)?;
        let (to, outcome) = match now.stage() {
            _ if now.at(Stage::Waiting) != word.at(Stage::Waiting) => return Ok(Poll::Dropped),
            Stage::Held => return Ok(Poll::Granted),
            Stage::Offered => (now.at(Stage::Held), Poll::Granted),
            Stage::Waiting | Stage::Stalled if leave => (Word::VACANT, Poll::Withdrawn),
            Stage::Stalled => (now.at(Stage::Waiting), Poll::Unstalled),
            Stage::Waiting => return Ok(Poll::Waiting),
            Stage::Vacant => return Ok(Poll::Dropped),
        };
        if w.swap_word(i, now, to)? {
            return Ok(outcome);
        }
    }
}

/// Which holds a release by somebody else ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// All of them, a foreign holder's too.
    Every,
    /// The one in this record, if it is still this one.
    One(usize, Word),
}

/// In the latch. Ends holds of others: true = something was released. `how` names the end for the history.
pub(crate) fn force<W: World>(
    w: &W,
    which: Which,
    how: impl Fn(usize) -> Ended,
    wakes: &mut Wakes,
) -> Result<bool, W::Stop> {
    let owned = settle(w)?;
    let mut released = false;
    for i in 0..high_water(w)? {
        let word = w.word(i)?;
        let meant = match which {
            Which::Every => word.stage() == Stage::Held,
            Which::One(at, held) => at == i && word == held,
        };
        if meant && w.swap_word(i, word, Word::VACANT)? {
            w.ended(i, how(i))?;
            released = true;
        }
    }
    if which == Which::Every && !owned {
        let mut flag = w.flag()?;
        while flag.value() == 0 {
            match w.swap_flag(flag, flag.with(1, 0))? {
                Ok(()) => {
                    wakes.flag |= flag.waiters() != 0;
                    released = true;
                    break;
                }
                Err(now) => flag = now,
            }
        }
    }
    dispatch(w, None, owned, false, wakes)?;
    Ok(released)
}

/// Where a waiter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Next to be served: watches the holders.
    Head,
    /// Watches the head.
    Second,
    /// Relies on those two, and does the same if they are late.
    Third,
    /// The same, less often.
    Further,
}

/// What a waiter's look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) place: Place,
    /// Requests that will be served before this one.
    pub(crate) ahead: usize,
    /// A [`visit`] is due.
    pub(crate) visit: Option<Sweep>,
    /// The flag is taken by a foreign process.
    pub(crate) foreign: bool,
    /// The request behind the head.
    pub(crate) second: Option<usize>,
}

/// Without the latch. What a waiter has to do: the head looks at flag, holders and offers; the second looks at the
/// head, and if that is late (`head_late`), does its work; all others do so, too, for the case that both are dead or
/// stopped. `cursor` takes up to 8 holders a look in turn.
pub(crate) fn look<W: World>(
    w: &W,
    i: usize,
    word: Word,
    head_late: bool,
    cursor: &mut usize,
) -> Result<Look, W::Stop> {
    let top = high_water(w)?;
    let mut head: Option<(usize, Word)> = None;
    let mut ahead = 0usize;
    let mut active = 0usize;
    let mut active_kind = None;
    let mut second: Option<(usize, Word)> = None;
    for k in 0..top {
        let other = w.word(k)?;
        if other.is_active() {
            active += 1;
            active_kind = Some(w.kind(k)?);
        } else if other.stage() == Stage::Waiting && k != i {
            if other.is_before(word) {
                ahead += 1;
                if head.is_none_or(|(_, h)| other.is_before(h)) {
                    head = Some((k, other));
                }
            } else if second.is_none_or(|(_, s)| other.is_before(s)) {
                second = Some((k, other));
            }
        }
    }
    let place = match ahead {
        0 => Place::Head,
        1 => Place::Second,
        2 => Place::Third,
        _ => Place::Further,
    };
    let mut found = Look {
        place,
        ahead,
        visit: None,
        foreign: false,
        second: second.map(|(k, _)| k),
    };
    if let Some((head, _)) = head {
        if place != Place::Second && !head_late {
            return Ok(found);
        }
        if w.is_gone(head)? {
            found.visit = Some(Sweep::All);
            return Ok(found);
        }
        if !head_late {
            return Ok(found);
        }
    }
    let flag = w.flag()?;
    let owned = flag.mark() == w.mark() && flag.value() == 0;
    found.foreign = flag.value() == 0 && !owned;
    let odd = if active == 0 {
        // Free and not left to foreign waiters, or ours though nothing is held.
        !found.foreign && (w.field(Field::PauseUntil)? <= w.now()? || flag.waiters() == 0)
    } else {
        let s = Scan {
            top,
            active: active as u32,
            active_kind,
            slot_users: true,
            head: None,
            vacant: None,
        };
        !owned || fits(w, w.kind(i)?, &s)? || any_odd(w, top, active, cursor)?
    };
    if odd {
        found.visit = Some(Sweep::Active);
    }
    Ok(found)
}

/// Without the latch. What a request that found no room in the table has to do when the head of the queue does not:
/// whether a [`visit`] is due, as far as the flag and up to 8 holders, in turn, tell.
pub(crate) fn look_from_outside<W: World>(w: &W, cursor: &mut usize) -> Result<bool, W::Stop> {
    let top = high_water(w)?;
    let mut active = 0usize;
    for k in 0..top {
        active += usize::from(w.word(k)?.is_active());
    }
    let flag = w.flag()?;
    let owned = flag.mark() == w.mark() && flag.value() == 0;
    if active != 0 {
        return Ok(!owned || any_odd(w, top, active, cursor)?);
    }
    Ok(owned || flag.value() != 0 && (w.field(Field::PauseUntil)? <= w.now()? || flag.waiters() == 0))
}

/// Without the latch. Whether any request, waiting or held, is a dead one's or has expired.
pub(crate) fn any_gone<W: World>(w: &W) -> Result<bool, W::Stop> {
    for k in 0..high_water(w)? {
        let stage = w.word(k)?.stage();
        if stage != Stage::Vacant && (w.is_gone(k)? || stage == Stage::Held && w.is_expired(k)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether one of the (up to 8, in turn) active requests is dead, expired or does not accept.
fn any_odd<W: World>(w: &W, top: usize, active: usize, cursor: &mut usize) -> Result<bool, W::Stop> {
    let skip = if active > LOOK_HOLDERS { *cursor % active } else { 0 };
    *cursor = cursor.wrapping_add(LOOK_HOLDERS);
    let mut nth = 0usize;
    let mut examined = 0usize;
    for k in 0..top {
        let word = w.word(k)?;
        if !word.is_active() {
            continue;
        }
        nth += 1;
        if nth <= skip || examined == LOOK_HOLDERS {
            continue;
        }
        examined += 1;
        if w.is_gone(k)? || (word.stage() == Stage::Held && w.is_expired(k)?) {
            return Ok(true);
        }
        if word.stage() == Stage::Offered && w.is_overdue(k)? {
            return Ok(true);
        }
    }
    Ok(false)
}
