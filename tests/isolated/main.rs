//! What loads the whole machine: storms of kills, a full table. These tests run with no others beside them.

#[path = "../common/mod.rs"]
mod common;

mod full_table;
mod storm_commands;
mod storm_library;
mod storm_peer;
mod storm_watch;

/// What a worker process runs, see `common::worker`; run as a test, it tries one out.
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
