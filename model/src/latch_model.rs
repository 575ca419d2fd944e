//! The latch under the checker: in one step with what follows, or (where it is explored by itself) by single actions.

use crate::Mutant;
use crate::lock::protocol::latch::{LatchWorld, SLEEPERS, Slept};
use crate::lock::protocol::word::Stage;
use crate::states::State;
use crate::world::{Replay, Seen, Stop};

/// The id of any other process in a log: processes are sorted, so it keeps no numbers.
const OTHER: u32 = 99;
/// The process's own id there.
const ME: u32 = 98;

impl Replay<'_> {
    /// True if this process seems to be alive to a process that probes its beacon.
    fn seems_alive(&self, state: &State, number: u8) -> bool {
        // Under an inherited beacon, the process that inherited it makes the dead one seem alive.
        let inherited = self.mutant(Mutant::InheritedBeacon);
        state.is_alive(number) || (inherited && state.process(number).is_some_and(|process| process.child))
    }

    fn entered(&self, state: &mut State) {
        if state.processes.iter().any(|process| process.inside) {
            state.break_invariant(0);
        }
        let waiting = |i: &usize| state.words[*i].stage() == Stage::Waiting;
        let waiting = (0..self.rules.capacity).filter(waiting).map(|i| 1 << i).sum();
        let process = &mut state.processes[self.me];
        process.waiting = waiting;
        process.inside = true;
    }

    fn change(&self, state: &mut State, from: u32, to: u32) -> bool {
        if from != word(state) {
            return false;
        }
        if to & !SLEEPERS == u32::from(self.number()) {
            self.entered(state);
        } else if to == 0 {
            state.processes[self.me].inside = false;
        }
        state.latch = (to & !SLEEPERS) as u8;
        state.latch_sleepers = to & SLEEPERS != 0;
        true
    }
}

fn word(state: &State) -> u32 {
    u32::from(state.latch) | if state.latch_sleepers { SLEEPERS } else { 0 }
}

impl LatchWorld for Replay<'_> {
    fn me(&self) -> u32 {
        match self.rules.latch_alone {
            true => u32::from(self.number()),
            false => ME,
        }
    }

    /// Read and change of the latch are one step, except in `latch_alone`: a change that fails because another process
    /// was faster only leads to another read.
    fn latch(&self) -> Result<u32, Stop> {
        if self.rules.latch_alone {
            return self.act(|_| Seen::Visible, false, |state| Ok(word(state)));
        }
        let give_up = self.left.get().give_up;
        self.act(
            |_| Seen::Hidden,
            false,
            |state| match state.latch {
                0 if give_up => Err(Stop::Blocked),
                0 => Ok(0),
                holder if holder == self.number() => Ok(ME),
                holder if self.seems_alive(state, holder) != give_up => Err(Stop::Blocked),
                _ => Ok(OTHER),
            },
        )
    }

    fn swap_latch(&self, from: u32, to: u32) -> Result<bool, Stop> {
        if self.rules.latch_alone {
            let changed = |state: &mut State| Ok(u32::from(self.change(state, from, to)));
            return Ok(self.act(|_| Seen::Visible, true, changed)? != 0);
        }
        if to & !SLEEPERS == OTHER {
            return Ok(true); // that somebody sleeps does not matter here
        }
        self.act(
            |_| Seen::Visible,
            true,
            |state| {
                if to == 0 {
                    state.latch = 0;
                    state.processes[self.me].inside = false;
                } else {
                    state.latch = self.number();
                    self.entered(state);
                }
                Ok(1)
            },
        )?;
        Ok(true)
    }

    fn spin(&self) -> bool {
        false
    }

    fn sleep_on_latch(&self, seen: u32) -> Result<Slept, Stop> {
        if self.rules.latch_alone {
            let slept = self.act(
                |_| Seen::Visible,
                false,
                |state| match state.latch {
                    _ if word(state) != seen => Ok(0),
                    // Before something changes, another check is useless.
                    holder if state.is_alive(holder) && !self.mutant(Mutant::TakenForDead) => Err(Stop::Blocked),
                    _ => Ok(1),
                },
            )?;
            return Ok(if slept == 0 { Slept::Woken } else { Slept::Slice });
        }
        Ok(match self.left.get().give_up {
            true => Slept::Deadline,
            false => Slept::Slice,
        })
    }

    fn wake_latch(&self) {}

    fn is_id_gone(&self, id: u32) -> Result<bool, Stop> {
        if self.rules.latch_alone {
            let gone = |state: &mut State| {
                let alive = state.is_alive(id as u8) && !self.mutant(Mutant::TakenForDead);
                Ok(u32::from(!alive))
            };
            return Ok(self.act(|_| Seen::Visible, false, gone)? != 0);
        }
        Ok(true) // or it would have been blocked
    }
}
