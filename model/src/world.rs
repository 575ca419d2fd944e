//! The world in which the protocol's functions run under the checker, and how they are made to take single steps.
//!
//! They are ordinary functions, so a step is taken by *replay*: the phase's function runs from its beginning, its first
//! actions are answered from a log of their earlier answers, then it acts on the state, and after one *visible* action
//! it is stopped. The log is kept for the next step. Actions that no other process can notice or disturb before the
//! next visible one (on fields and descriptions, which the latch guards, and on words of the dead) belong to the same
//! step; a crash may come after any of them.

use crate::actor::{self, Phase, SLOTS};
use crate::lock::protocol::queue::{Field, Kind, World};
use crate::lock::protocol::word::{SemaphoreWord, Stage, Word};
use crate::lock::types::Ended;
use crate::states::{MARK, State};
use crate::{Mutant, Rules};
use std::cell::{Cell, RefCell};

/// Why a run ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The step is over.
    Cut,
    /// The latch is taken.
    Blocked,
}

/// How far to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Far {
    /// Visible actions.
    pub(crate) visible: u32,
    /// Changes, visible or not.
    pub(crate) changes: u32,
    /// Give up on a latch that is taken.
    pub(crate) give_up: bool,
}

impl Far {
    pub(crate) const STEP: Far = Far {
        visible: 1,
        changes: u32::MAX,
        give_up: false,
    };
    pub(crate) const END: Far = Far {
        visible: u32::MAX,
        ..Far::STEP
    };
}

/// The outcome of one run.
pub(crate) struct Ran {
    pub(crate) state: State,
    /// How many changes it made.
    pub(crate) changes: u32,
}

/// Runs process `me` on; `None` = it cannot.
pub(crate) fn advance(rules: &Rules, mut state: State, me: usize, far: Far) -> Option<Ran> {
    let process = &mut state.processes[me];
    let phase = process.phase.clone();
    let kind = process.kind;
    let log = std::mem::take(&mut process.log);
    let world = Replay {
        rules,
        me,
        state: RefCell::new(state),
        log: RefCell::new(log),
        at: Cell::new(0),
        left: Cell::new(far),
        changes: Cell::new(0),
    };
    let end = actor::run(&world, kind, &phase);
    let changes = world.changes.get();
    let (mut state, log) = (world.state.into_inner(), world.log.into_inner());
    let process = &mut state.processes[me];
    match end {
        Err(Stop::Blocked) => return None,
        Err(Stop::Cut) => process.log = log,
        Ok(next) => {
            let mark = &mut state.fields[Field::Abandoned as usize];
            if rules.mutant == Some(Mutant::ReleaseRepairs) && matches!(phase, Phase::Release(_)) {
                *mark = 0;
            }
            let marked = *mark as u8;
            match (&phase, &next) {
                (Phase::Recover { .. }, _) | (_, Phase::Idle) => process.told = 0,
                (Phase::Leave(_), _) => {}
                (_, Phase::Holding(_)) => process.told = marked,
                _ => {}
            }
            let untold = matches!(next, Phase::Holding(_)) && !matches!(phase, Phase::Recover { .. } | Phase::Leave(_));
            let untold = untold && marked == 0 && state.unrepaired != 0;
            process.waiting = 0;
            let checked = matches!((&phase, &next), (Phase::Poll(_), Phase::Holding(_)));
            process.read = false;
            process.saw_force = false;
            if matches!(next, Phase::Idle | Phase::Visit { back: None, .. }) {
                process.hold = None;
                process.excused = false;
            }
            if let (Phase::Holding((i, word)), None) = (&next, process.hold)
                && state.words[*i] == word.at(Stage::Held)
            {
                process.hold = Some((*i, word.at(Stage::Held)));
            }
            if let (Phase::Leave((i, word)), Phase::Idle) = (&phase, &next)
                && state.words[*i] == word.at(Stage::Held)
            {
                state.records[*i].owner = 0;
            }
            process.phase = next;
            if checked && rules.replaces {
                state.accepted(me);
            }
            state.processes[me].newer = 0;
            if untold {
                state.break_invariant(10);
            }
        }
    }
    Some(Ran { state, changes })
}

/// Runs one of the protocol's functions to its end, outside the phases.
pub(crate) fn whole<R>(
    rules: &Rules,
    state: &State,
    me: usize,
    work: impl FnOnce(&Replay<'_>) -> Result<R, Stop>,
) -> Option<R> {
    let world = Replay {
        rules,
        me,
        state: RefCell::new(state.clone()),
        log: RefCell::default(),
        at: Cell::new(0),
        left: Cell::new(Far::END),
        changes: Cell::new(0),
    };
    work(&world).ok()
}

/// See the module.
pub(crate) struct Replay<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) me: usize,
    state: RefCell<State>,
    log: RefCell<Vec<u32>>,
    at: Cell<usize>,
    pub(crate) left: Cell<Far>,
    changes: Cell<u32>,
}

/// Whether other processes can notice or disturb an action.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Hidden,
    Visible,
}

impl Replay<'_> {
    pub(crate) fn number(&self) -> u8 {
        self.me as u8 + 1
    }

    pub(crate) fn mutant(&self, mutant: Mutant) -> bool {
        self.rules.mutant == Some(mutant)
    }

    /// One action: answered from the log, or done now.
    pub(crate) fn act(
        &self,
        seen: impl FnOnce(&State) -> Seen,
        change: bool,
        work: impl FnOnce(&mut State) -> Result<u32, Stop>,
    ) -> Result<u32, Stop> {
        let at = self.at.get();
        if let Some(&answer) = self.log.borrow().get(at) {
            self.at.set(at + 1);
            return Ok(answer);
        }
        let mut left = self.left.get();
        let mut state = self.state.borrow_mut();
        if left.visible == 0 && left.changes == u32::MAX {
            return Err(Stop::Cut); // the step ends with its visible action
        }
        if seen(&state) == Seen::Visible {
            left.visible = left.visible.checked_sub(1).ok_or(Stop::Cut)?;
        }
        if change {
            left.changes = left.changes.checked_sub(1).ok_or(Stop::Cut)?;
            self.changes.set(self.changes.get() + 1);
        }
        let answer = work(&mut state)?;
        self.left.set(left);
        self.log.borrow_mut().push(answer);
        self.at.set(at + 1);
        Ok(answer)
    }

    fn hidden(&self, change: bool, work: impl FnOnce(&mut State) -> u32) -> Result<u32, Stop> {
        self.act(|_| Seen::Hidden, change, |state| Ok(work(state)))
    }

    /// Visible if a foreign process may still change the semaphore.
    fn semaphore_seen(&self, state: &State) -> Seen {
        let may = state.left.takes + state.left.posts > 0 || state.foreign.holds || state.foreign.posting;
        match may {
            true => Seen::Visible,
            false => Seen::Hidden,
        }
    }

    /// Visible if another process may change this word meanwhile.
    fn word_seen(&self, state: &State, i: usize) -> Seen {
        let in_latch = state.latch == self.number();
        let word = state.words[i];
        let owner = state.records[i].owner;
        let others = match word.stage() {
            Stage::Vacant => false,
            Stage::Held if !self.rules.timeouts && !self.rules.withdrawals => false,
            _ => owner != self.number() && state.is_alive(owner),
        };
        match in_latch && !others {
            true => Seen::Hidden,
            false => Seen::Visible,
        }
    }
}

impl Replay<'_> {
    /// The mark that a holder died is set for each death (`token`), and cleared (0) by a holder that has repaired what was
    /// left.
    fn set_mark(&self, token: u64) -> Result<(), Stop> {
        let crashed = matches!(self.state.borrow().processes[self.me].phase, Phase::Crashed(_));
        if !self.rules.marks || (crashed && self.mutant(Mutant::CrashUnmarked)) {
            return Ok(());
        }
        self.hidden(true, |state| {
            let mut mark = 0;
            if token != 0 {
                state.deaths += 1;
                mark = state.deaths.into();
                if let Phase::Leave(_) = state.processes[self.me].phase {
                    state.unrepaired = state.deaths;
                }
            } else if let Phase::Recover { told, .. } = state.processes[self.me].phase {
                state.recovered(told);
            }
            state.fields[Field::Abandoned as usize] = mark;
            0
        })?;
        Ok(())
    }
}

fn pack(semaphore: SemaphoreWord) -> u32 {
    semaphore.value() | u32::from(semaphore.waiters()) << 8 | u32::from(semaphore.mark()) << 16
}

fn unpack(answer: u32) -> SemaphoreWord {
    SemaphoreWord::new(answer & 0xff, (answer >> 8) as u16 & 0xff, (answer >> 16) as u16)
}

impl World for Replay<'_> {
    type Stop = Stop;

    fn capacity(&self) -> usize {
        self.rules.capacity
    }

    fn mark(&self) -> u16 {
        match self.mutant(Mutant::NoMark) {
            true => 0,
            false => MARK,
        }
    }

    fn now(&self) -> Result<u64, Stop> {
        // A tick is longer than any of the protocol's times.
        Ok(u64::from(self.hidden(false, |state| state.clock as u32)?) * 1_000_000_000)
    }

    fn word(&self, i: usize) -> Result<Word, Stop> {
        let answer = self.act(|state| self.word_seen(state, i), false, |state| Ok(state.words[i].0))?;
        let state = self.state.borrow();
        let own = match state.processes[self.me].phase {
            Phase::Poll(mine) | Phase::Withdraw { mine, .. } => Some(mine.1),
            _ => None,
        };
        Ok(match own {
            Some(own) if self.mutant(Mutant::NoTicket) => own.at(Word(answer).stage()),
            None if self.mutant(Mutant::LastFirst) => {
                let ticket = u64::from(answer >> 3) ^ 0xff;
                Word::new(Word(answer).stage(), if answer == 0 { 0 } else { ticket })
            }
            _ => Word(answer),
        })
    }

    fn swap_word(&self, i: usize, from: Word, to: Word) -> Result<bool, Stop> {
        let changed = self.act(
            |_| Seen::Visible,
            true,
            |state| {
                let old = state.words[i];
                let (mut from, mut to) = (from, to);
                if self.mutant(Mutant::NoTicket) && from.stage() == old.stage() {
                    from = old;
                    if from != Word::VACANT && to != Word::VACANT {
                        to = old.at(to.stage());
                    }
                }
                if self.mutant(Mutant::LastFirst) && from != Word::VACANT && from.stage() == old.stage() {
                    from = old;
                    to = if to == Word::VACANT { to } else { old.at(to.stage()) };
                }
                if self.mutant(Mutant::NoOffers) && to.stage() == Stage::Offered {
                    to = to.at(Stage::Held);
                }
                if old != from {
                    return Ok(0);
                }
                state.words[i] = to;
                state.word_changed(self.me, i, from, to);
                Ok(1)
            },
        )?;
        Ok(changed != 0)
    }

    fn semaphore(&self) -> Result<SemaphoreWord, Stop> {
        let answer = self.act(
            |state| self.semaphore_seen(state),
            false,
            |state| {
                state.semaphore_read(self.me);
                Ok(pack(state.semaphore))
            },
        )?;
        let semaphore = unpack(answer);
        Ok(match semaphore.mark() == MARK && self.mutant(Mutant::ForceNotChecked) {
            true => semaphore.with(0, MARK),
            false => semaphore,
        })
    }

    fn swap_semaphore(&self, from: SemaphoreWord, to: SemaphoreWord) -> Result<Result<(), SemaphoreWord>, Stop> {
        let answer = self.act(
            |state| self.semaphore_seen(state),
            true,
            |state| {
                let mut from = from;
                if self.mutant(Mutant::ForceNotChecked) && from.mark() == MARK && state.semaphore.mark() == MARK {
                    from = state.semaphore;
                }
                if state.semaphore != from {
                    return Ok(pack(state.semaphore));
                }
                let mut to = to;
                if self.mutant(Mutant::SemaphoreNotTaken) && to.value() == 0 {
                    to = from;
                }
                if self.mutant(Mutant::RaisesSemaphore) && to.value() == 1 {
                    to = to.with(from.value() + 2, to.mark());
                }
                state.semaphore_changed(self.me, to);
                Ok(u32::MAX)
            },
        )?;
        Ok(match answer {
            u32::MAX => Ok(()),
            other => Err(unpack(other)),
        })
    }

    fn field(&self, field: Field) -> Result<u64, Stop> {
        if field == Field::NextToken {
            // Used at once, so the log, which could not keep it, need not: tokens grow without end.
            let mut token = 0;
            self.hidden(false, |state| {
                token = state.fields[field as usize];
                0
            })?;
            return Ok(token);
        }
        let value = self.hidden(false, |state| (state.fields[field as usize] / unit(field)) as u32)?;
        if let (Phase::Recover { told, .. }, Field::Abandoned, true) = (
            &self.state.borrow().processes[self.me].phase,
            field,
            self.mutant(Mutant::AnyDeathRepaired),
        ) {
            return Ok((*told).into());
        }
        Ok(u64::from(value) * unit(field))
    }

    fn set_field(&self, field: Field, value: u64) -> Result<(), Stop> {
        if field == Field::Abandoned {
            return self.set_mark(value);
        }
        let skip = field == Field::NextToken && self.mutant(Mutant::TokenKept);
        self.hidden(true, |state| {
            if !skip {
                state.fields[field as usize] = value;
            }
            0
        })?;
        Ok(())
    }

    fn kind(&self, i: usize) -> Result<Kind, Stop> {
        Ok(match self.hidden(false, |state| state.records[i].kind as u32)? {
            1 => Kind::Shared,
            2 => Kind::Slot,
            _ => Kind::Exclusive,
        })
    }

    fn describe(&self, i: usize, _ticket: u64, _held: bool) -> Result<(), Stop> {
        self.hidden(true, |state| {
            let kind = state.processes[self.me].kind;
            let record = &mut state.records[i];
            record.kind = kind;
            record.owner = self.number();
            record.expired = false;
            record.forced = false;
            0
        })?;
        Ok(())
    }

    fn set_grant(&self, i: usize, token: u64) -> Result<(), Stop> {
        self.hidden(true, |state| {
            state.records[i].token = token;
            state.records[i].overdue = false;
            0
        })?;
        Ok(())
    }

    fn token(&self, i: usize) -> Result<u64, Stop> {
        // Never 0, as in the table: old ones are forgotten here.
        Ok(u64::from(self.hidden(false, |state| state.records[i].token as u32)?) + 1)
    }

    fn is_gone(&self, i: usize) -> Result<bool, Stop> {
        let gone = self.hidden(false, |state| {
            let hasty = self.mutant(Mutant::TakenForDead) && state.records[i].owner != self.number();
            u32::from(state.is_gone(i) || hasty)
        })?;
        Ok(gone != 0)
    }

    fn replaces(&self, i: usize) -> Result<bool, Stop> {
        if !self.rules.replaces || !self.mutant(Mutant::MarkUnseen) {
            return Ok(self.rules.replaces);
        }
        Ok(self.hidden(false, |state| u32::from(state.records[i].owner == self.number()))? != 0)
    }

    fn is_expired(&self, i: usize) -> Result<bool, Stop> {
        Ok(self.hidden(false, |state| u32::from(state.records[i].expired))? != 0)
    }

    fn is_overdue(&self, i: usize) -> Result<bool, Stop> {
        Ok(self.hidden(false, |state| u32::from(state.records[i].overdue))? != 0)
    }

    fn ended(&self, _i: usize, _how: Ended) -> Result<(), Stop> {
        Ok(())
    }

    fn excess(&self, _value: u32) {}

    /// If sleepers check at any time, a wake-up is only a hint.
    fn wake_request(&self, i: usize) {
        if !self.rules.told {
            return;
        }
        // Stopped: nothing follows in this run.
        let _ = self.act(
            |_| Seen::Visible,
            true,
            |state| {
                let silent = match state.processes[self.me].phase {
                    Phase::Poll(_) | Phase::Withdraw { .. } => self.mutant(Mutant::NotPassedOn),
                    _ => state.words[i].stage() == Stage::Waiting && self.mutant(Mutant::HeadNotWoken),
                };
                if !silent {
                    state.wake(i);
                }
                Ok(0)
            },
        );
    }

    fn wake_semaphore(&self) {}
}

/// Stored times are whole ticks and a few milliseconds: the log keeps those, in 32 bits.
fn unit(field: Field) -> u64 {
    match field {
        Field::PauseUntil | Field::IgnoreUntil => 1_000_000,
        _ => 1,
    }
}

/// The number of slots, as the table stores it.
pub(crate) fn slots(state: &State) -> u32 {
    match state.fields[Field::Slots as usize] {
        0 => SLOTS,
        stored => stored as u32,
    }
}
