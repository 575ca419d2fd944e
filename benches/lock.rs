//! How fast the lock is compared with flock(2), the Python module and a bare POSIX semaphore, measured in one run.
//!
//! ```sh
//! cargo bench --bench lock                    # everything, about two minutes
//! cargo bench --bench lock -- pair loops      # only these
//! ```
//! The parts are `pair`, `loops`, `fairness`, `handover`, `death`, `crowd`, `reader`. `RESOURCELOCK_TEST_PYTHON`
//! names the Python to use (`scripts/test.sh` makes one in `.venv`); without it, those lines say so.

#[path = "lock/contenders.rs"]
mod contenders;
#[path = "lock/crowd.rs"]
mod crowd;
#[path = "lock/death.rs"]
mod death;
#[path = "lock/figures.rs"]
mod figures;
#[path = "lock/loops.rs"]
mod loops;
#[path = "lock/pair.rs"]
mod pair;
#[path = "lock/team.rs"]
mod team;

use contenders::Place;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("worker", order)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        team::work(order);
        return;
    }
    let wanted: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let place = Place::new();
    println!("processor: {} ({} seen)", figures::processor(), figures::processors());
    println!("{}", figures::HEAD);
    type Part = (&'static str, fn(&Place));
    let parts: [Part; 7] = [
        ("pair", pair::measure),
        ("loops", loops::throughput),
        ("fairness", loops::fairness),
        ("handover", loops::handover),
        ("death", death::measure),
        ("crowd", crowd::measure),
        ("reader", loops::reader),
    ];
    for (name, part) in parts {
        if wanted.is_empty() || wanted.contains(&name) {
            part(&place);
        }
    }
}
