//! Waiters that look only when they are told something: that a process has ended on which they depend (`acquire/watching.rs`,
//! `shm/watcher.rs`), a wake-up, or the time of what they depend on. It is `acquire/queued.rs` without the look every few
//! seconds, and without those at the beginning.
//!
//! A *look* is one step: it accepts an offer, and checks. If there is nothing to do, one more step has the processes watched
//! and goes to sleep. A wake-up reaches only who sleeps; an event of a watched process waits until it is heard. (The program
//! visits the table after such an event even before it checks. Here only the check decides, which is less of a help.)

use crate::actor::{Mine, Phase};
use crate::lock::protocol::queue::{Check, Place, check, depends_on, is_unchanged};
use crate::lock::protocol::word::Stage;
use crate::progress::is_admissible;
use crate::states::{MARK, State, Told};
use crate::world::{Far, advance, whole};
use crate::{Mutant, Rules};

impl Rules {
    /// Process `p` goes on with its phase.
    pub(crate) fn go_on(&self, state: State, p: usize) -> Option<State> {
        let begun = state.processes[p].phase.clone();
        if let Phase::Watch { mine, found } = begun {
            return self.watch(state, p, mine, &found);
        }
        let mut state = advance(self, state, p, Far::END)?.state;
        self.follow(&mut state, p, &begun);
        Some(state)
    }

    /// The table was busy when process `p` wanted to change it.
    pub(crate) fn busy(&self, mut state: State, p: usize) -> State {
        let begun = state.processes[p].phase.clone();
        state.processes[p].phase = match begun {
            Phase::Release(mine) => Phase::LetGo { mine, visit: false },
            Phase::Visit { back: Some(mine), .. } => Phase::Queued(mine),
            _ => Phase::Idle,
        };
        self.follow(&mut state, p, &begun);
        state
    }

    /// What comes next, after the phase that was begun has led to the present one.
    fn follow(&self, state: &mut State, p: usize, begun: &Phase) {
        let process = &mut state.processes[p];
        match (begun, &process.phase) {
            (Phase::Poll(_), &Phase::Queued(mine)) => return self.look(state, p, mine),
            (Phase::Ask { .. } | Phase::Visit { .. }, &Phase::Queued(mine)) => {
                process.waits.due = false;
                process.phase = Phase::Poll(mine);
                return;
            }
            (Phase::Withdraw { mine, .. }, Phase::Visit { .. } | Phase::LetGo { .. }) => {
                let behind = matches!(process.phase, Phase::Visit { .. }).then_some(mine.1);
                process.waits.left = Some(behind).filter(|_| self.mutant != Some(Mutant::LeavesSilently));
            }
            (Phase::Visit { .. }, Phase::Idle) => {
                if let Some(behind) = process.waits.left.take() {
                    process.phase = Phase::Tell { behind };
                }
            }
            (Phase::LetGo { visit: false, .. }, Phase::Idle) => process.phase = Phase::Tell { behind: None },
            _ => {}
        }
        if !matches!(process.phase, Phase::Visit { back: Some(_), .. }) {
            // It waits no longer.
            process.waits = Told {
                left: process.waits.left,
                ..Told::default()
            };
            process.watches = 0;
        }
    }

    /// Checks. Nobody knows how long ago the head did so, so others do not do its work.
    fn look(&self, state: &mut State, p: usize, (i, word): Mine) {
        let found = whole(self, state, p, |world| check(world, i, word, false, &mut 0));
        let found = found.expect("nothing is waited for");
        let process = &mut state.processes[p];
        match found.visit {
            Some(what) if process.waits.visited != Some(what) => {
                process.waits.visited = Some(what);
                let back = Some((i, word));
                process.phase = Phase::Visit { what, back };
            }
            // It tries again after a while.
            Some(_) => {
                process.waits.visited = None;
                process.waits.due = true;
            }
            // It looks often.
            None if found.foreign && found.place == Place::Head => {
                process.waits.visited = None;
                process.waits.due = true;
            }
            None => {
                process.waits.visited = None;
                let mine = (i, word);
                process.phase = Phase::Watch { mine, found };
            }
        }
    }

    /// Has itself told of the end of what it depends on, and sleeps.
    fn watch(&self, mut state: State, p: usize, (i, word): Mine, found: &Check) -> Option<State> {
        let requests = whole(self, &state, p, |world| depends_on(world, found, usize::MAX))?;
        let unchanged = whole(self, &state, p, |world| is_unchanged(world, found))?;
        let (mut watches, mut times) = (0, 0);
        // Of no holder: it looks often.
        let mut due = requests.is_empty() || state.words[i] != word;
        due |= !unchanged && self.mutant != Some(Mutant::ChangeUnseen);
        for (k, request) in requests {
            let record = &state.records[k];
            if record.owner == 0 {
                times |= 1 << k;
                due |= record.expired;
            } else if !state.is_gone(k) {
                watches |= 1 << (record.owner - 1);
            } else {
                // The request is not found alive after the process was opened; that may be a stranger by now.
                due |= self.mutant != Some(Mutant::NumberReused);
            }
            if request.stage() == Stage::Offered {
                times |= 1 << k;
                due |= record.overdue;
            }
        }
        let process = &mut state.processes[p];
        process.waits.due |= due;
        process.waits.times = times;
        process.watches = watches;
        process.phase = Phase::Queued((i, word));
        Some(state)
    }

    /// A process ends, or what it leaves behind: `child` = the command that it runs lives on.
    pub(crate) fn ends(&self, state: &mut State, p: usize, child: bool) {
        state.crash(p, child);
        if self.mutant == Some(Mutant::EventLost) {
            return;
        }
        for process in &mut state.processes {
            if process.watches & 1 << p != 0 {
                process.watches &= !(1 << p);
                process.waits.due = true;
            }
        }
    }
}

impl State {
    /// The owner of the request in record `i` is woken. One that does not sleep does not notice.
    pub(crate) fn wake(&mut self, i: usize) {
        for process in &mut self.processes {
            if process.alive && matches!(process.phase, Phase::Queued((own, _)) if own == i) {
                process.waits.due = true;
            }
        }
    }

    /// The time of the request in record `i` is over.
    pub(crate) fn time_is_over(&mut self, i: usize) {
        for process in &mut self.processes {
            process.waits.due |= process.waits.times & 1 << i != 0;
        }
    }
}

/// Invariant 5, with events and without the look every few seconds: if nobody holds the lock, or only holders that it can be
/// shared with, a process is at work, or a waiter has been told something. (If so in each state, one of them is served in the
/// end: what is told is looked at, and what is begun ends.)
pub(crate) fn somebody_is_told(rules: &Rules, state: &State) -> bool {
    let foreign = state.semaphore.value() == 0 && state.semaphore.mark() != MARK;
    if !rules.told || rules.safety || foreign || state.is_alive(state.latch) {
        return true;
    }
    // One that was told of its offer and does not accept it is stopped. It need not be told anything.
    let is_stopped = |p: usize| {
        let passed_over = |i: usize| match state.words[i].stage() {
            Stage::Offered => state.records[i].overdue,
            stage => stage == Stage::Stalled,
        };
        let own = |i: &usize| usize::from(state.records[*i].owner) == p + 1;
        state.processes[p].waits.due && (0..rules.capacity).filter(own).any(passed_over)
    };
    let running = || {
        let processes = state.processes.iter().enumerate();
        processes.filter(|(p, process)| process.alive && !is_stopped(*p))
    };
    let is_told = running().any(|(_, process)| match process.phase {
        Phase::Queued(_) => process.waits.due,
        Phase::Idle | Phase::Holding(_) => false,
        _ => true,
    });
    let is_forgotten = |process: &crate::states::Process| {
        matches!(process.phase, Phase::Queued(_)) && is_admissible(rules, state, process.kind)
    };
    is_told || !running().any(|(_, process)| is_forgotten(process))
}
