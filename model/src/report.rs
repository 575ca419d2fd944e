//! Runs the checker, reports what it explored, and prints a counter-example for people.

use crate::lock::protocol::word::Stage;
use crate::states::State;
use crate::{Action, Mutant, Rules};
use stateright::{Checker, HasDiscoveries, Model};
use std::io::Write;

/// Prints past the test harness, which captures what tests print.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Explores everything. No property may be violated.
pub(crate) fn verify(name: &str, rules: Rules) {
    let start = std::time::Instant::now();
    let checker = rules
        .clone()
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::Any)
        .spawn_dfs()
        .join();
    say(&format!(
        "model {name}: {} states, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64()
    ));
    if checker.discoveries().is_empty() {
        return;
    }
    // Again, for a short trace.
    let checker = rules
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::Any)
        .spawn_bfs()
        .join();
    for (property, path) in checker.discoveries() {
        say(&trace(property, path.into_vec()));
    }
    panic!("model {name}: a property is violated");
}

/// The mutant must violate `property`.
pub(crate) fn refute(name: &str, rules: Rules, mutant: Mutant, property: &'static str) {
    let rules = Rules {
        mutant: Some(mutant),
        ..rules
    };
    let find = |depth: usize| {
        let checker = rules.clone().checker().target_max_depth(depth);
        let checker = checker.finish_when(HasDiscoveries::AnyOf([property].into()));
        let checker = checker.spawn_bfs().join();
        let path = checker.discovery(property).map(|path| path.into_vec());
        (path, checker.unique_state_count())
    };
    let (Some(mut path), states) = find(usize::MAX) else {
        panic!("mutant {name}: {property} is not violated");
    };
    // The checker goes on for a while and reports what it found last: search for shorter ones.
    while let (Some(shorter), _) = find(path.len()) {
        path = shorter;
    }
    say(&format!(
        "mutant {name}: violates {property} after {} actions, {states} states",
        path.len() - 1
    ));
    if std::env::var_os("RESOURCELOCK_MODEL_TRACE").is_some() {
        say(&trace(property, path));
    }
}

/// One line per action, with the state after it.
fn trace(property: &str, path: Vec<(State, Option<Action>)>) -> String {
    let name = |state: &State, number: u8| match state.process(number) {
        Some(process) => char::from(b'A' + process.name),
        None => '-',
    };
    let mut text = format!("violates {property}:");
    let mut did = "start".to_owned();
    for (state, action) in path {
        let mut words = String::new();
        for (word, record) in state.words.iter().zip(&state.records) {
            if word.stage() != Stage::Vacant {
                words += &format!(" {}:{word:?}", name(&state, record.owner));
            }
        }
        let mut ghost = String::new();
        for process in &state.processes {
            if process.believes() {
                let excused = if process.excused { " (excused)" } else { "" };
                ghost += &format!(" {} has it{excused}", char::from(b'A' + process.name));
            }
        }
        if state.foreign.holds {
            let excused = if state.foreign.excused { " (excused)" } else { "" };
            ghost += &format!(" foreign has it{excused}");
        }
        let latch = name(&state, state.latch);
        text += &format!(
            "\n  {did:<24} latch {latch} semaphore {:?}{words} |{ghost}",
            state.semaphore
        );
        let of = |p: usize| char::from(b'A' + state.processes[p].name);
        did = match action {
            None => break,
            Some(Action::Step(p)) => format!("{} goes on", of(p)),
            Some(Action::Ask(p, queue)) => format!("{} asks{}", of(p), if queue { "" } else { ", no queue" }),
            Some(Action::Poll(p)) => format!("{} polls", of(p)),
            Some(Action::Withdraw(p, cancelled)) => {
                format!("{} {}", of(p), if cancelled { "is cancelled" } else { "withdraws" })
            }
            Some(Action::Visit(p, what)) => format!("{} visits ({what:?})", of(p)),
            Some(Action::Release(p)) => format!("{} releases", of(p)),
            Some(Action::Recover(p)) => format!("{} has repaired", of(p)),
            Some(Action::Force(p)) => format!("{} forces", of(p)),
            Some(Action::ForceOne(p, i)) => format!("{} forces {i}", of(p)),
            Some(Action::GiveUp(p)) => format!("{} gives up the latch", of(p)),
            Some(Action::Crash { p, changes, child }) => {
                let child = if child { ", not its command" } else { "" };
                format!("{} dies {changes} on{child}", of(p))
            }
            Some(Action::ChildEnds(p)) => format!("{}'s command ends", of(p)),
            Some(Action::Leave(p)) => format!("{} leaves its hold to its time", of(p)),
            Some(Action::Detach(p)) => format!("{} detaches", of(p)),
            Some(other) => format!("{other:?}"),
        };
    }
    text
}
