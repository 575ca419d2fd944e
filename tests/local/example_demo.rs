//! The demo program does and prints the same as the Python module's demo program.

use crate::common::{TestLock, example, peer, printed};
use std::path::Path;
use std::process::Command;

/// The listing in the module's documentation, for a lock that is free at first.
const LISTING: &str = include_str!("demo/listing.txt");

#[test]
fn unlocked_at_first_as_in_the_published_listing() {
    let lock = TestLock::new("demo");
    // Version 2.4 of the module printed two of the listing's lines, on a lock with a note from an earlier use.
    let expected = LISTING.replace("<2024-10-20 16:22:06.213743 - cli>", "<>").replace(
        "DEBUG:  <test_lock> lock unget request ignored",
        " INFO:  <test_lock> lock unget request ignored", // since version 3
    );
    assert_eq!(mask(&lock, &our_demo(&lock)), mask(&lock, &expected));
}

#[test]
fn unlocked_at_first_as_the_real_module() {
    let (ours, theirs) = (TestLock::new("demo"), TestLock::new("demo"));
    assert_eq!(mask(&ours, &our_demo(&ours)), mask(&theirs, &their_demo(&theirs)));
}

#[test]
fn locked_at_first_as_the_real_module() {
    let (ours, theirs) = (TestLock::new("demo"), TestLock::new("demo"));
    for lock in [&ours, &theirs] {
        printed(&mut lock.command(&["get"]));
    }
    let shown = mask(&ours, &our_demo(&ours));
    assert_eq!(shown, mask(&theirs, &their_demo(&theirs)));
    assert!(shown.contains("is_lock returned    <True>"), "{shown}");
    assert!(
        shown.contains("lock request timed out  - Current owner   <DATE - cli>"),
        "{shown}"
    );
}

fn our_demo(lock: &TestLock) -> String {
    printed(example("demo").arg(lock.name()))
}

fn their_demo(lock: &TestLock) -> String {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/local/demo/by_the_module.py");
    printed(Command::new(peer::python()).arg(program).arg(lock.name()))
}

/// Replaces what is between `<` and ` - ` by DATE if it looks like a date, and the lock's name by that of the listing.
fn mask(lock: &TestLock, text: &str) -> String {
    let text = text.replace(lock.name(), "test_lock");
    let mut parts = text.split('<');
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push('<');
        match part.split_once(" - ") {
            Some((date, rest)) if is_date(date) => masked.push_str(&format!("DATE - {rest}")),
            _ => masked.push_str(part),
        }
    }
    masked
}

/// `YYYY-MM-DD HH:MM:SS.ffffff`
fn is_date(text: &str) -> bool {
    text.len() == "2024-10-20 16:22:06.213743".len()
        && text.char_indices().all(|(at, c)| match at {
            4 | 7 => c == '-',
            10 => c == ' ',
            13 | 16 => c == ':',
            19 => c == '.',
            _ => c.is_ascii_digit(),
        })
}
