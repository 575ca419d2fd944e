//! Tests that run themselves once more, in a process with a place of its own.

use std::process::Command;

/// In front of each line that was printed there. The harness in there lists what failed as this one does: unmarked,
/// `scripts/test.sh` would take its list for ours, and the message of a failed test would end at it.
const MARK: &str = "| ";

/// Runs this program's test `name` there: `way` is a command to which this program and its arguments are appended.
///
/// # Panics
/// If it does not pass.
pub fn once_more(mut way: Command, name: &str) {
    let itself = std::env::current_exe().expect("the test's own path");
    way.arg(itself).args(["--exact", name, "--nocapture"]);
    let output = way
        .output()
        .unwrap_or_else(|error| panic!("{way:?}: {error}; scripts/test.sh installs what these tests need"));
    let (printed, said) = (marked(&output.stdout), marked(&output.stderr));
    print!("{printed}");
    let passed = output.status.success() && printed.contains("1 passed");
    assert!(passed, "{}\n{said}", output.status);
}

fn marked(printed: &[u8]) -> String {
    let printed = String::from_utf8_lossy(printed);
    printed.lines().map(|line| format!("{MARK}{line}\n")).collect()
}
