//! What the program reads and prints. `ENTRY` names the function of `src/fuzzing.rs` that is explored: one target for all
//! of them, since each links the whole program.
//!
//! The program's modules are compiled here in their own places; nothing in them is made public, or copied, for this.
#![no_main]

#[path = "../../src"]
#[allow(dead_code, unused_imports, unused_macros)]
mod program {
    pub mod cli;
    pub mod commands;
    pub mod entry;
    pub mod exec;
    pub mod exit;
    pub mod fuzzing;
    pub mod logging;
    pub mod output;
    pub mod syslog;
}

// They name each other by their paths from the root of the program.
use program::{cli, commands, entry, exec, exit, fuzzing, output, syslog};
use std::sync::LazyLock;

/// A function that examines what some bytes do.
type Entry = fn(&[u8]);

const ENTRIES: [(&str, Entry); 7] = [
    ("values", fuzzing::values),
    ("command-line", fuzzing::command_line),
    ("held", fuzzing::held),
    ("text", fuzzing::shown_as_text),
    ("json", fuzzing::shown_as_json),
    ("metrics", fuzzing::shown_as_metrics),
    ("picture", fuzzing::drawn),
];

static CHOSEN: LazyLock<Entry> = LazyLock::new(|| {
    let wanted = std::env::var("ENTRY").unwrap_or_default();
    let found = ENTRIES.into_iter().find(|(name, _)| *name == wanted);
    let names = ENTRIES.map(|(name, _)| name).join(", ");
    found.unwrap_or_else(|| panic!("set ENTRY to one of {names}")).1
});

libfuzzer_sys::fuzz_target!(init: { LazyLock::force(&CHOSEN); }, |bytes: &[u8]| CHOSEN(bytes));
