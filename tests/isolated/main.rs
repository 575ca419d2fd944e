//! Tests that load the whole machine: storms of kills, a full table. They run one at a time.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/tested.rs"]
mod tested;

mod full_table;
mod storm_commands;
mod storm_damage;
mod storm_library;
mod storm_peer;
mod storm_watch;
mod stress;

/// What a worker process runs, see `common::worker`; as a test, it starts a worker and tests it.
#[test]
fn worker() {
    common::worker::main(
        &[
            full_table::SKILLS,
            storm_library::SKILLS,
            storm_peer::SKILLS,
            storm_watch::SKILLS,
        ]
        .concat(),
    );
}
