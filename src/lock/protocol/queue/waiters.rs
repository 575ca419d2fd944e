//! Without the latch: what the owner of a request does to it, and what waiters check.

use super::{Field, Kind, Scan, Sweep, World, fits, high_water};
use crate::lock::protocol::staleness;
use crate::lock::protocol::word::{Stage, Word};

/// How many holders one check examines.
const HOLDERS_PER_CHECK: usize = 8;

/// Without the latch. Releases the holder's own request: false = it was no longer held. Then a
/// [`dispatch`](super::dispatch) is due.
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
    /// It had been passed over and is back in the queue: a [`visit`](super::visit) is due.
    Unstalled,
    /// It has left the queue ([`withdraw`] only): a [`visit`](super::visit) is due, because it may have stood in
    /// others' way.
    Withdrawn,
    /// The record is no longer its own: another process has taken it for dead.
    Dropped,
}

/// Without the latch. Checks the caller's request, and accepts an offer.
pub(crate) fn poll<W: World>(w: &W, i: usize, word: Word) -> Result<Poll, W::Stop> {
    step(w, i, word, false)
}

/// Without the latch. Leaves the queue, unless the lock has just been offered: then accepts it.
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

/// Without the latch. True if a later request came to replace others: then the caller's, which came to do so too, is not
/// wanted any more. Asked before [`poll`], so that of all such requests that wait when the lock is offered, the newest alone
/// accepts. One that has died does not count, nor one without the mark (which older versions of this program do not know).
pub(crate) fn is_superseded<W: World>(w: &W, i: usize, word: Word) -> Result<bool, W::Stop> {
    for k in 0..high_water(w)? {
        let other = w.word(k)?;
        let is_later = k != i && other.stage() != Stage::Vacant && word.is_before(other);
        let is_same = |now: Word| now.at(Stage::Waiting) == other.at(Stage::Waiting);
        if is_later && w.replaces(k)? && is_same(w.word(k)?) && !w.is_gone(k)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A waiter's place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Next to be served: checks the holders.
    Head,
    /// Checks the head.
    Second,
    /// Relies on those two, and does their work if they are late.
    Third,
    /// The same, less often.
    Further,
}

/// What a waiter's check has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Check {
    pub(crate) place: Place,
    /// Requests that will be served before this one.
    pub(crate) ahead: usize,
    /// A [`visit`](super::visit) is due.
    pub(crate) visit: Option<Sweep>,
    /// A foreign process has the semaphore.
    pub(crate) foreign: bool,
    /// The request behind the head.
    pub(crate) second: Option<usize>,
    /// The waiting request right before this one, unless this one is the head.
    pub(crate) before: Option<(usize, Word)>,
    /// How many requests are offered or held.
    pub(crate) active: usize,
}

/// Without the latch. What a waiter has to do: the head checks semaphore, holders and offers; each other one checks the
/// request right before it. If the head is late (`head_late`), they check that, too, and do its work: it may be dead or
/// stopped. Each check examines up to 8 holders; `cursor` says where it goes on.
pub(crate) fn check<W: World>(
    w: &W,
    i: usize,
    word: Word,
    head_late: bool,
    cursor: &mut usize,
) -> Result<Check, W::Stop> {
    let top = high_water(w)?;
    let mut head: Option<(usize, Word)> = None;
    let mut before: Option<(usize, Word)> = None;
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
                if before.is_none_or(|(_, b)| b.is_before(other)) {
                    before = Some((k, other));
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
    let mut found = Check {
        place,
        ahead,
        visit: None,
        foreign: false,
        second: second.map(|(k, _)| k),
        before,
        active,
    };
    if let (Some((head, _)), Some((before, _))) = (head, before) {
        // One that is gone is dropped by whoever stands behind it, and then the next one before it, if that is gone, too.
        for k in [before, head] {
            if (k == before || head_late) && w.is_gone(k)? {
                found.visit = Some(Sweep::With(k));
                return Ok(found);
            }
        }
        if !head_late {
            return Ok(found);
        }
    }
    let semaphore = w.semaphore()?;
    let owned = semaphore.mark() == w.mark() && semaphore.value() == 0;
    found.foreign = semaphore.value() == 0 && !owned;
    let odd = if active == 0 {
        // Free and not left to foreign waiters, or ours although nothing is held.
        !found.foreign && (!staleness::lasts(w.field(Field::PauseUntil)?, w.now()?) || semaphore.waiters() == 0)
    } else {
        let s = Scan {
            top,
            active: active as u32,
            active_kind,
            head: None,
            second: None,
            vacant: None,
        };
        !owned || fits(w, w.kind(i)?, &s)? || any_odd(w, top, active, cursor)?
    };
    if odd {
        found.visit = Some(Sweep::Active);
    }
    Ok(found)
}

/// Without the latch. The requests on whose end a waiter's next check depends, after one that found nothing to do: all that
/// is active (but at most so many) if it is the head, else the one right before it.
pub(crate) fn depends_on<W: World>(w: &W, found: &Check, most: usize) -> Result<Vec<(usize, Word)>, W::Stop> {
    if let Some(before) = found.before {
        return Ok(vec![before]);
    }
    let mut active = Vec::new();
    for k in 0..high_water(w)? {
        let word = w.word(k)?;
        if word.is_active() && active.len() < most {
            active.push((k, word));
        }
    }
    Ok(active)
}

/// Without the latch. True if a waiter depends on the same requests as when it checked. Asked last, before it sleeps: whoever
/// changes that wakes it, but one that does not sleep yet does not notice.
pub(crate) fn is_unchanged<W: World>(w: &W, found: &Check) -> Result<bool, W::Stop> {
    if let Some((k, before)) = found.before {
        return Ok(w.word(k)? == before);
    }
    let mut active = 0;
    for k in 0..high_water(w)? {
        active += usize::from(w.word(k)?.is_active());
    }
    Ok(active == found.active)
}

/// Without the latch. Wakes the first waiting request behind this one, or of all: whoever leaves the queue, or cannot serve the
/// next in line, does so, and the next one checks by itself. So does one that was offered the lock: whoever offered it may have
/// been killed before it woke it.
pub(crate) fn wake_next<W: World>(w: &W, behind: Option<Word>) -> Result<(), W::Stop> {
    for i in [
        first(w, behind, |stage| stage == Stage::Waiting)?,
        first(w, None, |stage| stage == Stage::Offered)?,
    ] {
        i.into_iter().for_each(|i| w.wake_request(i));
    }
    Ok(())
}

/// Without the latch. A request that has been granted the lock, and can share it, wakes the next one: whoever granted it may
/// have been killed before it woke both, or offered the lock to both.
pub(crate) fn pass_on<W: World>(w: &W, kind: Kind, word: Word) -> Result<(), W::Stop> {
    if kind != Kind::Exclusive {
        let next = first(w, Some(word), |stage| matches!(stage, Stage::Waiting | Stage::Offered))?;
        next.into_iter().for_each(|i| w.wake_request(i));
    }
    Ok(())
}

/// The first request in one of these stages, behind this one or of all.
fn first<W: World>(w: &W, behind: Option<Word>, is_meant: impl Fn(Stage) -> bool) -> Result<Option<usize>, W::Stop> {
    let mut first: Option<(usize, Word)> = None;
    for k in 0..high_water(w)? {
        let other = w.word(k)?;
        let is_behind = behind.is_none_or(|word| word.is_before(other));
        if is_meant(other.stage()) && is_behind && first.is_none_or(|(_, f)| other.is_before(f)) {
            first = Some((k, other));
        }
    }
    Ok(first.map(|(k, _)| k))
}

/// Without the latch. For a request that found the table full, when the head of the queue does not check: true if a
/// [`visit`](super::visit) is due, as far as the semaphore and up to 8 holders, in turn, tell.
pub(crate) fn check_from_outside<W: World>(w: &W, cursor: &mut usize) -> Result<bool, W::Stop> {
    let top = high_water(w)?;
    let mut active = 0usize;
    for k in 0..top {
        active += usize::from(w.word(k)?.is_active());
    }
    let semaphore = w.semaphore()?;
    let owned = semaphore.mark() == w.mark() && semaphore.value() == 0;
    if active != 0 {
        return Ok(!owned || any_odd(w, top, active, cursor)?);
    }
    let paused = staleness::lasts(w.field(Field::PauseUntil)?, w.now()?) && semaphore.waiters() != 0;
    Ok(owned || semaphore.value() != 0 && !paused)
}

/// Without the latch. True if any request, waiting or held, is a dead process's, or has expired.
pub(crate) fn any_gone<W: World>(w: &W) -> Result<bool, W::Stop> {
    for k in 0..high_water(w)? {
        let stage = w.word(k)?.stage();
        if stage != Stage::Vacant && (w.is_gone(k)? || stage == Stage::Held && w.is_expired(k)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True if one of the active requests (up to 8, in turn) is dead, has expired, or is not accepted.
fn any_odd<W: World>(w: &W, top: usize, active: usize, cursor: &mut usize) -> Result<bool, W::Stop> {
    let skip = if active > HOLDERS_PER_CHECK {
        *cursor % active
    } else {
        0
    };
    *cursor = cursor.wrapping_add(HOLDERS_PER_CHECK);
    let mut nth = 0usize;
    let mut examined = 0usize;
    for k in 0..top {
        let word = w.word(k)?;
        if !word.is_active() {
            continue;
        }
        nth += 1;
        if nth <= skip || examined == HOLDERS_PER_CHECK {
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
