//! Runs everything, in as many processes as there are CPUs: each scenario as shipped and with each of its changes, and
//! the patterns of `armv8.rs`.

use crate::lock::protocol::orderings;
use crate::mutants::{APART, MUTANTS};
use crate::scenarios;
use crate::world::foreign;
use std::collections::BTreeSet;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Time limit for exploring a scenario, in seconds, in the ordinary and in the long form.
const LIMITS: (u64, u64) = (60, 1200);
/// Preemptions in the scenarios in which a process dies, in the ordinary and in the long form.
const DEATHS: (usize, usize) = (3, 4);

struct Job {
    scenario: &'static str,
    changes: &'static str,
    preemptions: usize,
}

pub fn run(long: bool) -> ExitCode {
    let mut jobs = Vec::new();
    let preemptions = |scenario: &str| {
        let known = scenarios::ALL.iter().find(|known| known.name == scenario);
        let (ordinary, in_long) = known.map_or(DEATHS, |known| (known.preemptions, known.long));
        if long { in_long } else { ordinary }
    };
    let names = scenarios::ALL.iter().map(|scenario| scenario.name);
    let names = names.chain(scenarios::DEATHS.iter().map(|(name, _)| *name));
    let shipped = names.map(|scenario| (scenario, ""));
    for (scenario, changes) in shipped.chain(MUTANTS.iter().copied()) {
        let preemptions = preemptions(scenario);
        jobs.push(Job {
            scenario,
            changes,
            preemptions,
        });
    }
    // Start with those that take longest.
    jobs.sort_by_key(|job| (!job.changes.is_empty(), job.preemptions));
    let limit = if long { LIMITS.1 } else { LIMITS.0 };
    let (next, well) = (Mutex::new(jobs.iter()), AtomicBool::new(true));
    let work = || {
        loop {
            let Some(job) = next.lock().unwrap().next() else { break };
            well.fetch_and(perform(job, limit), Relaxed);
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..processors).for_each(|_| drop(scope.spawn(work))));
    let well = well.into_inner() & every_ordering_is_weakened() & crate::armv8::run();
    println!("{}", if well { "all as expected" } else { "NOT AS EXPECTED" });
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// True if the result is as expected: a violation if, and only if, something was changed.
fn perform(job: &Job, limit: u64) -> bool {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args([
            job.scenario,
            job.changes,
            &job.preemptions.to_string(),
            &limit.to_string(),
        ])
        .output()
        .expect("this program can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    let said = said.lines().next().unwrap_or("no output");
    let violated = said.starts_with("VIOLATION") && output.status.code() == Some(1);
    let fine = said.starts_with("ok") && output.status.success();
    let expected = if job.changes.is_empty() { fine } else { violated };
    let mark = if expected { "" } else { "NOT EXPECTED: " };
    let (scenario, changes) = (job.scenario, job.changes);
    println!("{mark}{scenario} [{changes}], {} preemptions: {said}", job.preemptions);
    expected
}

/// True if each named ordering is weakened in some mutant, or is listed in [`APART`] with a reason.
fn every_ordering_is_weakened() -> bool {
    let changes = MUTANTS.iter().flat_map(|(_, changes)| changes.split(','));
    let weakened = changes.filter_map(|change| Some(change.split_once('=')?.0));
    let weakened: BTreeSet<&str> = weakened.chain(APART.iter().map(|(name, _)| *name)).collect();
    let all: BTreeSet<&str> = orderings::ALL
        .iter()
        .chain(foreign::ALL)
        .map(|(name, _)| *name)
        .collect();
    for name in all.symmetric_difference(&weakened) {
        println!("NOT EXPECTED: no mutant weakens {name}, or there is no such ordering");
    }
    all == weakened
}
