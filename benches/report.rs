//! What the lock costs, beside what others use, measured in one run.
//!
//! `scripts/benchmarks.sh` runs all of it and writes `docs/benchmarks.md`. One part, printed only:
//!
//! ```sh
//! cargo bench --bench report -- pair loops             # these parts
//! cargo bench --bench report -- --quick startup        # with few repetitions
//! cargo bench --bench report -- --write python         # and its section of the page; this part alone has one
//! ```
//! The environment names what the script has prepared: `RESOURCELOCK_BENCH_PROGRAM`, the program with the default
//! features; `RESOURCELOCK_BENCH_ENGINES`, the one with the engines; `RESOURCELOCK_BENCH_PYTHON`, a Python with the modules
//! that are compared; `RESOURCELOCK_BENCH_CRATES`, the program made from `benches/crates`; `RESOURCELOCK_BENCH_SUITE`, how
//! many seconds `scripts/test.sh` took from a fresh clone. What is missing is reported as left out. Nothing here is
//! asserted: what a figure means depends on the machine.

#[path = "report/calls.rs"]
mod calls;
#[path = "report/contenders.rs"]
mod contenders;
#[path = "report/crowd.rs"]
mod crowd;
#[path = "report/curve.rs"]
mod curve;
#[path = "report/death.rs"]
mod death;
#[cfg(all(feature = "etcd", feature = "postgres"))]
#[path = "../tests/engine_common/mod.rs"]
mod engine_common;
#[cfg(all(feature = "etcd", feature = "postgres"))]
#[path = "report/engines.rs"]
mod engines;
#[path = "report/figures.rs"]
mod figures;
#[path = "report/growth.rs"]
mod growth;
#[path = "report/loops.rs"]
mod loops;
#[path = "report/machine.rs"]
mod machine;
#[path = "report/missed.rs"]
mod missed;
#[path = "report/page.rs"]
mod page;
#[path = "report/pair.rs"]
mod pair;
#[path = "report/programs.rs"]
mod programs;
#[path = "report/python.rs"]
mod python;
#[path = "report/sleepers.rs"]
mod sleepers;
#[path = "report/startup.rs"]
mod startup;
#[path = "report/team.rs"]
mod team;
#[cfg(all(feature = "etcd", feature = "postgres"))]
#[path = "../tests/common/tested.rs"]
mod tested;

use contenders::Place;
use figures::Report;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

type Part = fn(&Place, &mut Report);

/// In the order of the page.
const PARTS: [(&str, Part); 14] = [
    ("startup", startup::measure),
    ("pair", pair::measure),
    ("loops", loops::throughput),
    ("fairness", loops::fairness),
    ("handover", loops::handover),
    ("death", death::measure),
    ("sleepers", sleepers::measure),
    ("crowd", crowd::measure),
    ("reader", loops::reader),
    ("growth", growth::measure),
    ("engines", ENGINES),
    ("python", python::measure),
    ("build", machine::measure),
    ("calls", calls::measure),
];

#[cfg(all(feature = "etcd", feature = "postgres"))]
const ENGINES: Part = engines::measure;
#[cfg(not(all(feature = "etcd", feature = "postgres")))]
const ENGINES: Part = |_, report| report.left_out("engines", "built without --features etcd,postgres");

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("worker", order)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        team::work(order);
        return;
    }
    let has = |option: &str| arguments.iter().any(|word| word == option);
    let wanted = |name: &str| has(name) || !PARTS.iter().any(|(part, _)| has(part));
    let mut report = Report::new(has("--quick"));
    let place = Place::new();
    for (name, part) in PARTS.into_iter().filter(|(name, _)| wanted(name)) {
        report.begin(name);
        // One that fails, because of a peer or because of the machine, is reported; the others are measured all the same.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| part(&place, &mut report))) {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            report.left_out("the rest of this part", text.unwrap_or("it failed"));
        }
    }
    if has("--write") {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        if PARTS.iter().any(|(part, _)| has(part)) {
            page::update_python(&report, root);
        } else {
            page::write(&report, root);
        }
    }
}
