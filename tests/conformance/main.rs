//! One suite for every engine: a lock does the same wherever it is kept.

#[path = "../common/mod.rs"]
mod common;
#[path = "../engine_common/mod.rs"]
mod engine_common;
#[path = "../common/tested.rs"]
mod tested;

mod deadlocks;
mod engine_conformance;
mod forks;

/// What a worker process runs, see `common::worker`; as a test, it starts a worker and tests it.
#[test]
fn worker() {
    common::worker::main(forks::SKILLS);
}
