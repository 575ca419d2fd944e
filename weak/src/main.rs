//! The lock under a weak memory model: see `docs/model.md`. `resourcelock-weak --help` shows the usage.

#[path = "../../src/lock"]
#[allow(dead_code, unused_imports)]
mod lock {
    pub mod protocol;
    #[path = "../../weak/src/lock/sys.rs"]
    pub mod sys;
    pub mod types;

    pub mod system {
        mod escape;
        pub mod ids;
        pub use escape::{printable, printable_bytes};
    }

    pub mod shm {
        pub mod deferred_log;
        pub mod ending;
        pub mod events;
        pub mod growth;
        pub mod latched;
        pub mod layout;
        pub mod lifelines;
        pub mod real_world;
        pub mod request;
        pub mod room;
        pub mod semaphore_word;

        pub mod beacon {
            pub(crate) use crate::world::{heir, is_blind, is_keeper_out};
        }
        pub mod note {
            pub(crate) use crate::world::Note;
        }
        pub mod lock_objects {
            pub(crate) use crate::world::Objects;
        }
        pub use crate::world::process;
        pub mod semaphore {
            pub(crate) use crate::world::Semaphore;
        }
        pub mod table {
            pub(crate) use crate::world::Table;
        }
    }

    pub mod inspect {
        pub mod snapshot;
    }
}

#[path = "../../model/src/actor.rs"]
#[allow(dead_code, unused_imports)]
mod actor;
mod armv8;
mod mutant;
mod mutants;
mod scenarios;
mod suite;
mod trace;
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const HELP: &str = "\
Usage: resourcelock-weak [long]
       resourcelock-weak SCENARIO [CHANGES [PREEMPTIONS [SECONDS]]]

Without a scenario, explores all of them, with the shipped orderings and with each of them weakened. CHANGES are weaker
orderings and faults, e.g. WORD_LOAD=Relaxed,WORD_SWAP=Release. TRACE=1 prints the actions of the failing execution.";

/// Stack size of the thread that sets up a scenario, in machine words.
const STACK: usize = 16 << 10;

/// Executions so far.
static EXECUTIONS: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => suite::run(false),
        ["long"] => suite::run(true),
        [word, ..] if word.starts_with('-') => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        [scenario, rest @ ..] => {
            mutant::choose(rest.first().unwrap_or(&""));
            let number = |at: usize, or: u64| rest.get(at).map_or(or, |word| word.parse().expect("a number"));
            explore(scenario, number(1, 2) as usize, Duration::from_secs(number(2, 60)))
        }
    }
}

/// Explores a scenario in this process. Prints the result, and exits with 1 at the first violation.
fn explore(name: &str, preemptions: usize, limit: Duration) -> ExitCode {
    let start = Instant::now();
    std::panic::set_hook(Box::new(move |panic| {
        let why = panic.payload();
        let why = why
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(why.downcast_ref::<&str>().copied());
        let why: String = why.unwrap_or("?").replace('\n', " ").chars().take(140).collect();
        let executions = EXECUTIONS.load(Relaxed);
        println!("VIOLATION after {executions} executions: {why}");
        trace::print();
        std::process::exit(1);
    }));
    let mut whole = true;
    if let Some(scenario) = scenarios::ALL.iter().find(|scenario| scenario.name == name) {
        whole = check(preemptions, limit, scenario.run);
    } else if let Some((_, run)) = scenarios::DEATHS.iter().find(|(death, _)| *death == name) {
        // Let it die later and later, until it gets all its work done.
        for after in 0.. {
            static DIED: AtomicBool = AtomicBool::new(false);
            DIED.store(false, Relaxed);
            whole &= check(preemptions, limit.saturating_sub(start.elapsed()), move || {
                DIED.fetch_or(run(after), Relaxed);
            });
            if !DIED.load(Relaxed) {
                break;
            }
        }
    } else {
        panic!("there is no scenario with this name");
    }
    println!(
        "ok: {} executions, {} sections under the lock, {:.1} s{}",
        EXECUTIONS.load(Relaxed),
        world::SECTIONS.load(Relaxed),
        start.elapsed().as_secs_f64(),
        if whole { "" } else { "; not all: time was up" }
    );
    ExitCode::SUCCESS
}

/// Explores all executions with up to `preemptions` preemptions. False if time was up first.
fn check(preemptions: usize, limit: Duration, run: impl Fn() + Send + Sync + 'static) -> bool {
    let start = Instant::now();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.max_duration = Some(limit);
    builder.checkpoint_interval = 200;
    let run = Arc::new(run);
    builder.check(move || {
        EXECUTIONS.fetch_add(1, Relaxed);
        let run = run.clone();
        // A world does not fit on the stack of loom's first thread.
        let thread = loom::thread::Builder::new().stack_size(STACK).spawn(move || run());
        thread.unwrap().join().unwrap();
    });
    start.elapsed() < limit
}
