//! What is changed in this run: orderings weaker than the shipped ones, or one of three faults that have nothing to do
//! with orderings.

use crate::lock::protocol::latch::SLEEPERS;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{self, *};

static CHANGES: OnceLock<Vec<(String, Option<Ordering>)>> = OnceLock::new();

/// Parses the changes: `NAME=Ordering` and names of faults, separated by commas.
pub fn choose(text: &str) {
    let change = |word: &str| match word.split_once('=') {
        Some((name, weaker)) => (name.to_owned(), Some(parse(weaker))),
        None => (word.to_owned(), None),
    };
    let changes = text.split(',').filter(|word| !word.is_empty()).map(change);
    let _ = CHANGES.set(changes.collect());
}

fn parse(text: &str) -> Ordering {
    let known = [Relaxed, Acquire, Release, AcqRel, SeqCst];
    let found = known.into_iter().find(|ordering| format!("{ordering:?}") == text);
    found.unwrap_or_else(|| panic!("{text} is not an ordering"))
}

fn changes() -> &'static [(String, Option<Ordering>)] {
    CHANGES.get().map_or(&[], Vec::as_slice)
}

/// What this named ordering is weakened to.
pub fn ordering(name: &str) -> Option<Ordering> {
    changes().iter().find(|(changed, _)| changed == name)?.1
}

pub fn is(fault: &str) -> bool {
    changes()
        .iter()
        .any(|(changed, ordering)| changed == fault && ordering.is_none())
}

/// The value that a compare-exchange of this field writes. Fault `no bit`: a process that has slept on the latch
/// forgets, when it enters, that others may still be asleep.
pub fn exchange(field: &str, current: u64, new: u64) -> u64 {
    if field == "latch" && current == 0 && is("no bit") {
        new & !u64::from(SLEEPERS)
    } else {
        new
    }
}
