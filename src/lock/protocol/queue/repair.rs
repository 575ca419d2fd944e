//! In the latch: dropping the dead, repairing what they left, and ending the holds of others.

use super::{Field, Wakes, World, dispatch, high_water, settle};
use crate::lock::protocol::word::{Stage, Word};
use crate::lock::types::Ended;

/// What a sweep examines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sweep {
    /// Holders and offers.
    Active,
    /// And the request in this record.
    With(usize),
    /// And all waiters.
    All,
}

/// In the latch. Drops the dead and the expired, and withdraws offers that nobody accepts. Who may still accept one is woken:
/// whoever offered it may have been killed before it did that. (Of many, the first ones: each wakes the next.)
pub(crate) fn sweep<W: World>(w: &W, what: Sweep, wakes: &mut Wakes) -> Result<(), W::Stop> {
    for i in 0..high_water(w)? {
        let word = w.word(i)?;
        match word.stage() {
            Stage::Vacant => {}
            Stage::Held => {
                let gone = w.is_gone(i)?;
                if gone && w.lapses(i)? {
                    if w.swap_word(i, word, Word::VACANT)? {
                        w.ended(i, Ended::WithProcess)?;
                    }
                } else if gone {
                    if abandon(w, i, word)? {
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
                } else {
                    wakes.request_if_few(i);
                }
            }
            Stage::Waiting | Stage::Stalled => {
                if (what == Sweep::All || what == Sweep::With(i)) && w.is_gone(i)? {
                    w.swap_word(i, word, Word::VACANT)?;
                }
            }
        }
    }
    Ok(())
}

/// In the latch. Ends a hold that leaves its mark for the next holder: true = it was still this one.
fn abandon<W: World>(w: &W, i: usize, held: Word) -> Result<bool, W::Stop> {
    // Before the word, so that the next holder is told at least once.
    mark(w, i)?;
    w.swap_word(i, held, Word::VACANT)
}

/// In the latch. Marks the lock for the next holder of the hold in this record, which stands.
pub(crate) fn mark<W: World>(w: &W, i: usize) -> Result<(), W::Stop> {
    let token = w.token(i)?;
    w.set_field(Field::Abandoned, token)
}

/// In the latch. Releases the holder's own request, under which a command crashed: the next holder is told as of a death.
/// False = it was no longer held; then nothing is marked. After it, a [`dispatch`] is due.
pub(crate) fn let_go_crashed<W: World>(w: &W, i: usize, word: Word) -> Result<bool, W::Stop> {
    let held = word.at(Stage::Held);
    Ok(w.word(i)? == held && abandon(w, i, held)?)
}

/// In the latch. Repairs whatever a crash has left, then dispatches.
pub(crate) fn visit<W: World>(w: &W, what: Sweep, wakes: &mut Wakes) -> Result<(), W::Stop> {
    let owned = settle(w)?;
    sweep(w, what, wakes)?;
    dispatch(w, None, owned, true, wakes)?;
    let semaphore = w.semaphore()?;
    // A process may have died between releasing the semaphore and waking, or we may have taken a wake-up that was meant
    // for another.
    wakes.semaphore |= semaphore.value() != 0 && semaphore.waiters() != 0;
    Ok(())
}

/// In the latch. A holder that was told of a death (by the token that was marked; 0 = of none) says that what the dead
/// holder may have left half done is in order again. If another one has died since, that mark stays.
pub(crate) fn mark_recovered<W: World>(w: &W, told: u64) -> Result<(), W::Stop> {
    if told != 0 && w.field(Field::Abandoned)? == told {
        w.set_field(Field::Abandoned, 0)?;
    }
    Ok(())
}

/// Which holds a release by another process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// All of them, including a foreign holder's.
    Every,
    /// The one in this record, if it is still this one.
    One(usize, Word),
}

/// In the latch. Ends the holds of others: true = something was released. `how` names the end for the history. What has
/// ended already, by a death or by expiry, is no longer there to be released.
pub(crate) fn force<W: World>(
    w: &W,
    which: Which,
    how: impl Fn(usize) -> Ended,
    wakes: &mut Wakes,
) -> Result<bool, W::Stop> {
    let owned = settle(w)?;
    sweep(w, Sweep::Active, wakes)?;
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
        let mut semaphore = w.semaphore()?;
        while semaphore.value() == 0 {
            match w.swap_semaphore(semaphore, semaphore.with(1, 0))? {
                Ok(()) => {
                    wakes.semaphore |= semaphore.waiters() != 0;
                    released = true;
                    break;
                }
                Err(now) => semaphore = now,
            }
        }
    }
    dispatch(w, None, owned, false, wakes)?;
    Ok(released)
}
