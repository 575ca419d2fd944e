//! The manual page is complete, and its markup is correct.

use crate::common::prompt::{COMMANDS, options_in_help};
use std::path::{Path, PathBuf};
use std::process::Command;

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("man/resourcelock.1")
}

#[test]
fn mandoc_and_groff_have_nothing_to_say() {
    let mandoc = Command::new("mandoc")
        .args(["-T", "lint", "-W", "warning"])
        .arg(page())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&mandoc.stdout), "");
    let groff = Command::new("groff")
        .args(["-man", "-ww", "-Tutf8", "-z"])
        .arg(page())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&groff.stderr), "");
}

#[test]
fn every_option_of_help_is_in_it() {
    let source = std::fs::read_to_string(page()).unwrap().replace("\\-", "-");
    for command in COMMANDS {
        for option in options_in_help(command) {
            assert!(source.contains(&format!("\\fB{option}\\fR")), "{command}: {option}");
        }
    }
}
