//! What has to be true in each state: which holds are compatible, and that nobody is forgotten.

use crate::actor::Phase;
use crate::lock::protocol::queue::{Kind, Sweep, check};
use crate::lock::protocol::word::Stage;
use crate::states::{MARK, Process, State};
use crate::world::{Far, Ran, advance, slots, whole};
use crate::{Mutant, Rules};

/// Invariant 1.
pub(crate) fn exclusive(rules: &Rules, state: &State) -> bool {
    let words = state.words.iter().zip(&state.records);
    let active = words
        .filter(|(word, _)| word.is_active())
        .map(|(_, record)| record.kind);
    let counted = |process: &&Process| process.believes() && !process.excused;
    let believing = state.processes.iter().filter(counted);
    let table = compatible(active, slots(state));
    let ours = compatible(believing.clone().map(|process| process.kind), slots(state));
    // A hold that was not ended by force is in the table.
    let in_table = believing.clone().all(|process| {
        let held = |(i, word): (usize, crate::lock::protocol::word::Word)| state.words[i] == word.at(Stage::Held);
        process.hold.is_some_and(held)
    });
    let foreign = state.foreign.holds && !state.foreign.excused && believing.count() > 0;
    let table = table || rules.mutant == Some(Mutant::NoTicket); // there, only what is believed counts
    table && ours && !foreign && (in_table || rules.mutant.is_some())
}

fn compatible(kinds: impl Iterator<Item = Kind> + Clone, slots: u32) -> bool {
    let count = kinds.clone().count();
    let all = |kind: Kind| kinds.clone().all(|other| other == kind);
    count <= 1 || all(Kind::Shared) || (all(Kind::Slot) && count <= slots as usize)
}

/// Invariant 2.
pub(crate) fn semaphore_taken(state: &State) -> bool {
    let owned = state.semaphore.value() == 0 && state.semaphore.mark() == MARK;
    let words = state.words.iter().zip(&state.records);
    owned
        || state.force_unseen
        || words
            .filter(|(word, _)| word.is_active())
            .all(|(_, record)| record.forced)
}

/// Invariant 5: if nobody holds the lock, or only holders that it can be shared with, each running waiter gets it
/// although all others sleep for ever; and so does a process that requests it only now.
pub(crate) fn nobody_forgotten(rules: &Rules, state: &State) -> bool {
    if state.is_alive(state.latch) {
        return true; // it will leave; or it is stopped inside: then the waiters time out
    }
    if state.semaphore.value() == 0 && state.semaphore.mark() != MARK {
        return true; // a foreign holder
    }
    let used = || (0..rules.capacity).filter(|&i| state.words[i].stage() != Stage::Vacant);
    let processes = state.processes.iter().enumerate();
    processes.filter(|(_, process)| process.alive).all(|(p, process)| {
        let waits = process.log.is_empty()
            && match process.phase {
                Phase::Queued(_) => true,
                // If all records are in use by the living, it has to wait outside.
                Phase::Idle => used().count() < rules.capacity || used().any(|i| state.is_gone(i)),
                _ => false,
            };
        !waits || !is_admissible(rules, state, process.kind) || served_alone(rules, state, p)
    })
}

/// True if nobody holds the lock, or only holders that a request of this kind can share it with.
pub(crate) fn is_admissible(rules: &Rules, state: &State, kind: Kind) -> bool {
    let used = || (0..rules.capacity).filter(|&i| state.words[i].stage() != Stage::Vacant);
    let kept = used().filter(|&i| is_kept(state, i)).count();
    let most = match kind {
        Kind::Exclusive => 0,
        Kind::Shared => usize::MAX,
        Kind::Slot => slots(state) as usize,
    };
    kept == 0 || (kept < most && used().all(|i| state.records[i].kind == kind))
}

/// True if this is a hold that a process has, or that was detached.
fn is_kept(state: &State, i: usize) -> bool {
    let held = state.words[i].stage() == Stage::Held;
    let detached = state.records[i].owner == 0 && !state.records[i].expired;
    let believes = |process: &Process| process.believes() && process.hold == Some((i, state.words[i]));
    held && (detached || state.processes.iter().any(believes))
}

/// True if process `me` gets the lock if only it runs, and time passes.
fn served_alone(rules: &Rules, state: &State, me: usize) -> bool {
    let mut state = state.clone();
    let mut cursor = 0;
    let late = rules.mutant != Some(Mutant::NobodyStandsIn);
    for _ in 0..4 * rules.capacity + 4 {
        for (word, record) in state.words.iter().zip(&mut state.records) {
            record.overdue |= word.stage() == Stage::Offered && usize::from(record.owner) != me + 1;
        }
        state.clock += 1;
        let begun = state.processes[me].phase.clone();
        let next = match begun {
            Phase::Idle => Phase::Ask { queue: true },
            Phase::Queued(mine) => Phase::Poll(mine),
            Phase::Holding(_) => return true,
            other => other,
        };
        let polled = matches!(next, Phase::Poll(_));
        state.processes[me].phase = next;
        let Some(Ran { state: after, .. }) = advance(rules, state, me, Far::END) else {
            return false; // a dead process has the latch
        };
        state = after;
        if let (true, Phase::Queued((i, word))) = (polled, &state.processes[me].phase) {
            let (i, word) = (*i, *word);
            let checked = whole(rules, &state, me, |world| check(world, i, word, late, &mut cursor));
            if let Some(what) = checked.and_then(|found| found.visit) {
                let back = Some((i, word));
                state.processes[me].phase = Phase::Visit { what, back };
            }
        }
    }
    false
}

/// Invariant 9: after a crash in the latch, a second repair finds nothing more to do.
pub(crate) fn repair_settles(rules: &Rules, state: &State) -> bool {
    if state.latch == 0 || state.is_alive(state.latch) || rules.latch_alone {
        return true;
    }
    let free = |process: &Process| process.alive && process.phase == Phase::Idle;
    let Some(p) = state.processes.iter().position(free) else {
        return true;
    };
    let repair = |mut state: State| {
        state.processes[p].phase = Phase::Visit {
            what: Sweep::All,
            back: None,
        };
        advance(rules, state, p, Far::END).map(|ran| ran.state)
    };
    let once = repair(state.clone());
    once.clone().is_some_and(|once| repair(once.clone()) == Some(once))
}
