//! End-to-end tests of locks on this machine: the real binary, the library in separate processes, the real Python
//! module.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/tested.rs"]
mod tested;

mod alerts;
mod bad_input;
mod bad_objects;
mod bad_places;
mod cli_get;
mod cli_json;
mod cli_see;
mod cli_usage;
mod closed_descriptors;
mod completions_bash;
mod completions_fish;
mod completions_many;
mod completions_zsh;
mod crash_fork;
mod crash_waiters;
mod deadlock;
mod deleted;
mod detached;
mod example_accept;
mod example_demo;
mod example_sensor;
mod examples;
mod failing_elsewhere;
mod fault_01;
mod fault_02;
mod fault_03;
mod fault_04;
mod fault_05;
mod fault_06;
mod fault_07;
mod fault_08;
mod fault_10;
mod fault_11;
mod fault_12;
mod fault_13;
mod fault_14;
mod fault_15;
mod fault_16;
mod fault_17;
mod fault_19;
mod fault_21;
mod fault_22;
mod fault_23;
mod fuzz_entries;
mod guides;
mod help_first_minutes;
mod history_of_all;
mod history_records;
mod hold_at_least;
mod man_page;
mod max_skips;
mod messages;
mod misuse;
mod modes;
mod namespaces;
mod no_proc;
mod on_signal;
mod once_every;
mod order;
mod other_builds;
mod peer_load;
mod peer_sees;
mod peer_waits;
mod prune;
mod readme;
mod removal;
mod replace_newest;
mod run_abandoned;
mod run_like_flock;
mod run_limits;
mod run_signals;
mod run_status;
mod run_terminal;
mod several_locks;
mod size;
mod stop;
mod stop_command;
mod stopped_inside;
mod syslog;
mod taken_anew;
mod timeline_page;
#[cfg(feature = "tokio")]
mod tokio_tasks;
mod top;
mod top_endings;
mod trust_claims;
mod trust_t1;
mod trust_t10;
mod trust_t11;
mod trust_t2;
mod trust_t3;
mod trust_t4;
mod trust_t5;
mod trust_t6;
mod trust_t7;
mod trust_t8;
mod trust_t9;
mod versions;
mod wall_clock;
mod watching;

/// What a worker process runs, see `common::worker`; as a test, it starts a worker and tests it.
#[test]
fn worker() {
    common::worker::main(
        &[
            closed_descriptors::SKILLS,
            crash_fork::SKILLS,
            fault_04::SKILLS,
            misuse::SKILLS,
            modes::SKILLS,
            order::SKILLS,
            trust_t6::SKILLS,
        ]
        .concat(),
    );
}
