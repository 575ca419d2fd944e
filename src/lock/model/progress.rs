//! What must hold in each state: who may have the lock beside whom, and that nobody is forgotten.

use super::process::Phase;
use super::state::{MARK, State};
use super::world::{Far, Ran, advance, slots, whole};
use super::{Mutant, Rules};
use crate::queue::{Kind, look};
use crate::word::Stage;

/// Invariant 1.
pub(super) fn exclusive(rules: &Rules, state: &State) -> bool {
    let words = state.words.iter().zip(&state.records);
    let active = words
        .filter(|(word, _)| word.is_active())
        .map(|(_, record)| record.kind);
    let counted = |process: &&super::state::Process| process.believes() && !process.excused;
    let believing = state.processes.iter().filter(counted);
    let table = compatible(active, slots(state));
    let ours = compatible(believing.clone().map(|process| process.kind), slots(state));
    // A hold that was not ended by force stands in the table.
    let stand = believing.clone().all(|process| {
        let held = |(i, word): (usize, crate::word::Word)| state.words[i] == word.at(Stage::Held);
        process.hold.is_some_and(held)
    });
    let foreign = state.foreign.holds && !state.foreign.excused && believing.count() > 0;
    let table = table || rules.mutant == Some(Mutant::NoTicket); // there only what is believed counts
    table && ours && !foreign && (stand || rules.mutant.is_some())
}

fn compatible(kinds: impl Iterator<Item = Kind> + Clone, slots: u32) -> bool {
    let count = kinds.clone().count();
    let all = |kind: Kind| kinds.clone().all(|other| other == kind);
    count <= 1 || all(Kind::Shared) || (all(Kind::Slot) && count <= slots as usize)
}

/// Invariant 2.
pub(super) fn flag_taken(state: &State) -> bool {
    let owned = state.flag.value() == 0 && state.flag.mark() == MARK;
    let words = state.words.iter().zip(&state.records);
    owned
        || state.force_unseen
        || words
            .filter(|(word, _)| word.is_active())
            .all(|(_, record)| record.forced)
}

/// Invariant 5: where nobody has the lock, each waiter that runs gets it though all others sleep for ever; and so does
/// a process that asks only now.
pub(super) fn nobody_forgotten(rules: &Rules, state: &State) -> bool {
    if state.is_alive(state.latch) {
        return true; // it will leave, or is stopped inside: then the waiters have their timeouts
    }
    let foreign = state.flag.value() == 0 && state.flag.mark() != MARK;
    let mut held = state
        .words
        .iter()
        .enumerate()
        .filter(|(_, word)| word.stage() == Stage::Held);
    let kept = held.any(|(i, word)| {
        let detached = state.records[i].owner == 0 && !state.records[i].expired;
        let believes = |process: &super::state::Process| process.believes() && process.hold == Some((i, *word));
        detached || state.processes.iter().any(believes)
    });
    if foreign || kept {
        return true;
    }
    let each = state
        .processes
        .iter()
        .enumerate()
        .filter(|(_, process)| process.alive && process.log.is_empty());
    each.into_iter().all(|(p, process)| match process.phase {
        Phase::Queued(_) | Phase::Idle => served_alone(rules, state, p),
        _ => true,
    })
}

/// Whether process `me` gets the lock if only it runs, and time passes.
fn served_alone(rules: &Rules, state: &State, me: usize) -> bool {
    let mut state = state.clone();
    let mut cursor = 0;
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
            return false; // the latch of a dead one
        };
        state = after;
        if let (true, Phase::Queued((i, word))) = (polled, &state.processes[me].phase) {
            let (i, word) = (*i, *word);
            let looked = whole(rules, &state, me, |world| look(world, i, word, true, &mut cursor));
            if let Some(what) = looked.and_then(|found| found.visit) {
                let back = Some((i, word));
                state.processes[me].phase = Phase::Visit { what, back };
            }
        }
    }
    false
}
