//! What a process of ours does, as phases: the compositions of the protocol's functions in `acquire/acquisition.rs`,
//! `acquire/queued.rs`, `acquire/release.rs`, and `Real::in_latch`. Between
//! two phases only the request's place and word are remembered. What follows from them where waiters look only when they
//! are told something is in `told.rs`.

use crate::lock::protocol::latch::{Entry, LatchWorld, enter, leave};
use crate::lock::protocol::queue::{self, Ask, Asked, Check, Kind, Poll, Sweep, Wakes, Which};
use crate::lock::protocol::word::{Stage, Word};
use crate::lock::types::Ended;

/// A process's request: its record, and its word when it was made.
pub(crate) type Mine = (usize, Word);

/// The number of slots of all slot requests.
pub(crate) const SLOTS: u32 = 2;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Between two requests.
    Idle,
    /// Requests the lock in the latch; `queue`: joins the queue if need be.
    Ask { queue: bool },
    /// Sleeps in the queue.
    Queued(Mine),
    /// Checks its request.
    Poll(Mine),
    /// Its time is up, or (`cancelled`) it no longer wants the lock.
    Withdraw { mine: Mine, cancelled: bool },
    /// Its check found nothing to do: has itself told of the end of what it depends on.
    Watch { mine: Mine, found: Check },
    /// Wakes the next in line (behind this one).
    Tell { behind: Option<Word> },
    /// Repairs and dispatches, then goes back to the queue, or to nothing.
    Visit { what: Sweep, back: Option<Mine> },
    /// Holds the lock.
    Holding(Mine),
    /// Releases it in the latch.
    Release(Mine),
    /// Releases it in the latch after a crash of what ran under it.
    Crashed(Mine),
    /// Leaves it to its time after a crash of what ran under it.
    Leave(Mine),
    /// Releases it without the latch, which stayed taken, or (`visit`) because it was granted after it had been
    /// cancelled.
    LetGo { mine: Mine, visit: bool },
    /// Releases everything by force.
    Force,
    /// Releases this hold by force.
    ForceOne(Mine),
    /// Says that what a dead holder left is in order again, of the death that it was told of.
    Recover { mine: Mine, told: u8 },
    /// Does nothing in the latch.
    Pass,
}

/// Runs a phase from its beginning; returns the next one.
pub(crate) fn run<W: LatchWorld>(w: &W, kind: Kind, phase: &Phase) -> Result<Phase, W::Stop> {
    Ok(match *phase {
        Phase::Ask { queue } => {
            let ask = Ask {
                kind,
                slots: SLOTS,
                queue,
            };
            match in_latch(w, |wakes| queue::request(w, ask, wakes))? {
                Some(Asked::Granted { i, word, .. }) => Phase::Holding((i, word)),
                Some(Asked::Queued { i, word }) => Phase::Queued((i, word)),
                Some(Asked::Full) if queue => Phase::Visit {
                    what: Sweep::All,
                    back: None,
                },
                Some(Asked::Busy) => Phase::Visit {
                    what: Sweep::Active,
                    back: None,
                },
                Some(_) | None => Phase::Idle,
            }
        }
        Phase::Poll(mine) if w.replaces(mine.0)? && queue::is_superseded(w, mine.0, mine.1)? => {
            Phase::Withdraw { mine, cancelled: true }
        }
        Phase::Poll(mine) => match queue::poll(w, mine.0, mine.1)? {
            Poll::Granted => {
                queue::pass_on(w, kind, mine.1)?;
                Phase::Holding(mine)
            }
            Poll::Waiting => Phase::Queued(mine),
            Poll::Unstalled => Phase::Visit {
                what: Sweep::Active,
                back: Some(mine),
            },
            Poll::Withdrawn | Poll::Dropped => Phase::Idle,
        },
        Phase::Withdraw { mine, cancelled } => match queue::withdraw(w, mine.0, mine.1)? {
            Poll::Granted if !cancelled => {
                queue::pass_on(w, kind, mine.1)?;
                Phase::Holding(mine)
            }
            Poll::Granted => Phase::LetGo { mine, visit: true },
            _ => Phase::Visit {
                what: Sweep::Active,
                back: None,
            },
        },
        Phase::Visit { what, back } => {
            in_latch(w, |wakes| queue::visit(w, what, wakes))?;
            back.map_or(Phase::Idle, Phase::Queued)
        }
        Phase::Release((i, word)) => {
            let done = in_latch(w, |wakes| {
                let owned = queue::settle(w)?;
                queue::let_go(w, i, word.at(Stage::Held))?;
                queue::dispatch(w, None, owned, false, wakes)
            })?;
            match done {
                Some(()) => Phase::Idle,
                None => Phase::LetGo {
                    mine: (i, word),
                    visit: false,
                },
            }
        }
        Phase::Crashed((i, word)) => {
            // If the latch stays taken, the hold stays until its process ends.
            in_latch(w, |wakes| {
                let owned = queue::settle(w)?;
                queue::let_go_crashed(w, i, word)?;
                queue::dispatch(w, None, owned, false, wakes)
            })?;
            Phase::Idle
        }
        Phase::Leave((i, word)) => {
            // If the latch stays taken, nothing changes.
            let done = in_latch(w, |wakes| {
                let owned = queue::settle(w)?;
                if w.word(i)? == word.at(Stage::Held) {
                    queue::mark(w, i)
                } else {
                    queue::dispatch(w, None, owned, false, wakes)
                }
            })?;
            done.map_or(Phase::Holding((i, word)), |()| Phase::Idle)
        }
        Phase::LetGo { mine, visit } => {
            queue::let_go(w, mine.0, mine.1.at(Stage::Held))?;
            match visit {
                true => Phase::Visit {
                    what: Sweep::Active,
                    back: None,
                },
                false => Phase::Idle,
            }
        }
        Phase::Force => {
            in_latch(w, |wakes| queue::force(w, Which::Every, |_| Ended::Forced, wakes))?;
            Phase::Idle
        }
        Phase::ForceOne((i, word)) => {
            in_latch(w, |wakes| {
                queue::force(w, Which::One(i, word), |_| Ended::Forced, wakes)
            })?;
            Phase::Idle
        }
        Phase::Recover { mine: (i, word), told } => {
            in_latch(w, |_| {
                if w.word(i)? == word.at(Stage::Held) {
                    queue::mark_recovered(w, told.into())?;
                }
                Ok(())
            })?;
            Phase::Holding((i, word))
        }
        Phase::Pass => {
            in_latch(w, |_| Ok(()))?;
            Phase::Idle
        }
        Phase::Tell { behind } => {
            queue::wake_next(w, behind)?;
            Phase::Idle
        }
        Phase::Idle | Phase::Queued(_) | Phase::Watch { .. } | Phase::Holding(_) => phase.clone(),
    })
}

/// Works in the latch; `None` = it stayed taken.
fn in_latch<W: LatchWorld, R>(
    w: &W,
    work: impl FnOnce(&mut Wakes) -> Result<R, W::Stop>,
) -> Result<Option<R>, W::Stop> {
    let mut wakes = Wakes::default();
    match enter(w)? {
        Entry::Clean => {}
        Entry::Repair => queue::visit(w, Sweep::All, &mut wakes)?,
        Entry::Busy(_) => return Ok(None),
    }
    let result = work(&mut wakes)?;
    leave(w)?;
    wakes.deliver(w);
    Ok(Some(result))
}
