//! With the real Python module on the same lock: each side sees the other's hold, note and value.

use crate::common::{Peer, TestLock, printed};
use resourcelock::{GetOptions, ResourceLock, UngetOptions, Wait};
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;

fn at_once(text: &str) -> GetOptions<'_> {
    GetOptions::new().wait(Wait::No).lock_info(text)
}

#[test]
fn we_see_what_python_holds() {
    let lock = TestLock::new("peer");
    let mut python = Peer::open(&lock);
    let ours = lock.open();
    assert!(!ours.is_locked().unwrap());

    assert!(python.get(Some(0.0), "bus scan"));
    assert!(ours.is_locked().unwrap());
    assert_eq!(ours.lock_value().unwrap(), 0);
    assert_eq!(ours.get_lock_info().unwrap(), python.info());
    assert!(ours.get_lock_info().unwrap().ends_with(" - bus scan"));
    assert!(!ours.get_lock(&at_once("ours")).unwrap());
    let state = ours.state().unwrap();
    assert!(state.locked && state.foreign && state.holders.is_empty());
    assert!(lock.command(&["state", "-q"]).status().unwrap().success());
    assert!(printed(&mut lock.command(&["state"])).contains("bus scan"));

    assert!(python.unget());
    assert!(!ours.is_locked().unwrap());
    assert_eq!(ours.lock_value().unwrap(), 1);
    assert!(
        ours.get_lock_info().unwrap().ends_with(" - bus scan"),
        "the note stays after the release"
    );
    assert!(!lock.state().foreign);
    assert_eq!(lock.command(&["state", "-q"]).status().unwrap().code(), Some(1));
}

#[test]
fn python_sees_what_the_library_holds() {
    let lock = TestLock::new("peer");
    let ours = lock.open();
    let mut python = Peer::open(&lock);
    assert!(ours.get_lock(&at_once("calibration")).unwrap());
    assert!(python.is_locked());
    assert_eq!(python.value(), 0);
    assert!(!python.get(Some(0.0), "python"));
    assert_eq!(python.info(), ours.get_lock_info().unwrap());
    assert_date_then(&python.info(), "calibration");

    assert!(ours.unget_lock(UngetOptions::new()).unwrap());
    assert!(!python.is_locked());
    assert_eq!(python.value(), 1);
    assert_date_then(&python.info(), "calibration");
}

#[test]
fn python_sees_what_the_command_line_holds() {
    let lock = TestLock::new("peer");
    printed(&mut lock.command(&["get", "-m", "by hand"]));
    let mut python = Peer::open(&lock);
    assert_eq!(python.value(), 0);
    assert_date_then(&python.info(), "by hand");
    printed(&mut lock.command(&["unget"]));
    assert_eq!(python.value(), 1);

    // While a command runs under the lock, and after it.
    let inside = crate::common::peer::common().join("peer.py");
    let mut run = lock.command(&["run", "-m", "a job", "--"]);
    run.arg(crate::common::peer::python()).arg(inside);
    let mut job = crate::common::LineChild::spawn(&mut run);
    job.send(&json!(["open", lock.name(), 4096]).to_string());
    assert_eq!(job.line(), "null");
    job.send(&json!(["value"]).to_string());
    assert_eq!(job.line(), "0");
    assert_date_then(&python.info(), "a job");
    job.close_input();
    assert!(job.wait().success());
    assert_eq!(python.value(), 1);
}

#[test]
fn either_side_creates_the_objects() {
    let by_python = TestLock::new("peer");
    let mut python = Peer::open_sized(&by_python, 256);
    let before = fs::metadata(by_python.paths().note_path()).unwrap().len();
    assert_eq!(before, 256);
    let ours = by_python.open();
    assert!(ours.get_lock(&at_once("ours")).unwrap());
    assert_eq!(
        fs::metadata(by_python.paths().note_path()).unwrap().len(),
        before,
        "its note is used as it is"
    );
    assert_eq!(python.value(), 0);

    let by_us = TestLock::new("peer");
    drop(by_us.open());
    assert_eq!(by_us.flag_word().value, 1);
    assert_eq!(fs::metadata(by_us.paths().note_path()).unwrap().len(), 4096);
    let mut python = Peer::open(&by_us);
    assert_eq!(python.info(), "");
    assert!(python.get(Some(0.0), "python"));
}

#[test]
fn the_note_is_one_text_for_both() {
    let lock = TestLock::new("peer");
    let ours = lock.open();
    let mut python = Peer::open(&lock);
    python.set_info("free text from Python");
    assert_eq!(ours.get_lock_info().unwrap(), "free text from Python");
    ours.set_lock_info("text from Rust").unwrap();
    assert_eq!(python.info(), "text from Rust");
    python.set_info("");
    assert_eq!(ours.get_lock_info().unwrap(), "");
}

#[test]
fn a_large_note_is_read_and_written_whole() {
    let lock = TestLock::new("peer");
    let mut python = Peer::open_sized(&lock, 64 * 1024);
    let ours = lock.open();
    let long = "long ".repeat(10_000);
    python.set_info(&long);
    assert_eq!(ours.get_lock_info().unwrap(), long);
    let longer = "x".repeat(60_000);
    assert!(ours.get_lock(&at_once(&longer)).unwrap());
    assert_date_then(&python.info(), &longer);
}

#[test]
fn a_message_too_long_for_the_note_is_cut_between_characters() {
    let lock = TestLock::new("peer");
    let mut python = Peer::open_sized(&lock, 64);
    let ours = lock.open();
    assert!(
        ours.get_lock(&at_once(&"ü".repeat(100))).unwrap(),
        "a message never prevents the lock"
    );
    let note = lock.note_text();
    // 63 bytes hold the date, " - " and 17 two-byte characters; Python finds the NUL where it expects it.
    assert_date_then(&note, &"ü".repeat(17));
    assert_eq!(
        python.info().chars().count(),
        note.len(),
        "the module shows each byte as one character"
    );

    ours.unget_lock(UngetOptions::new()).unwrap();
    let output = lock.command(&["get", "-m", &"a".repeat(500)]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(lock.note_text().len(), 63);
}

#[test]
fn a_note_without_nul_is_read_to_its_end() {
    let lock = TestLock::new("peer");
    let mut python = Peer::open_sized(&lock, 128);
    drop(lock.open()); // before that, such a segment would be taken for another program's
    let mut note = OpenOptions::new().write(true).open(lock.paths().note_path()).unwrap();
    note.write_all(&[b'n'; 128]).unwrap();
    let ours = lock.open();
    assert_eq!(ours.get_lock_info().unwrap(), "n".repeat(128));
    assert!(printed(&mut lock.command(&["state"])).contains("nnnn"));
    assert!(ours.get_lock(&at_once("ends with NUL again")).unwrap());
    assert_date_then(&python.info(), "ends with NUL again");
}

#[test]
fn what_is_no_text_is_shown_escaped() {
    let lock = TestLock::new("peer");
    let ours = lock.open();
    let mut note = OpenOptions::new().write(true).open(lock.paths().note_path()).unwrap();
    note.write_all(b"a\x1b[31mb\xff\n\0rest").unwrap();
    let shown = ours.get_lock_info().unwrap();
    assert!(shown.starts_with('a') && shown.contains("[31mb"), "{shown}");
    assert!(
        !shown.contains("rest") && !shown.chars().any(char::is_control),
        "{shown:?}"
    );
    let state = printed(&mut lock.command(&["state"]));
    assert!(!state.contains('\x1b'), "{state:?}");
}

/// With the module's own command-line tool, which has the same name as ours.
#[test]
fn both_command_line_tools_on_one_lock() {
    let lock = TestLock::new("peer");
    let theirs = |command: &str| {
        let tool = crate::common::peer::python().with_file_name("resourcelock");
        printed(Command::new(tool).args([lock.name(), command]))
    };
    assert!(theirs("get").contains("Returned <True>"));
    assert_eq!(lock.command(&["get", "-n", "-q"]).status().unwrap().code(), Some(75));
    printed(&mut lock.command(&["unget"]));
    assert!(theirs("state").contains("Currently locked: <False>"));

    printed(&mut lock.command(&["get", "-m", "by ours"]));
    let shown = theirs("state");
    assert!(
        shown.contains("Currently locked: <True>") && shown.contains("by ours"),
        "{shown}"
    );
    assert!(theirs("get").contains("Returned <False>"));
    assert!(theirs("unget").contains("Returned <True>"));
    printed(&mut lock.command(&["get", "-n"]));
    assert!(theirs("unget").contains("Returned <True>"));
    assert!(!lock.open().is_locked().unwrap());
}

/// A value above 1 (left by two simultaneous forced releases) would let two in: it is reduced to 1.
#[test]
fn a_value_above_one_is_taken_down_and_reported() {
    let lock = TestLock::new("peer");
    let mut python = Peer::open(&lock);
    python.ask(json!(["post"]));
    python.ask(json!(["post"]));
    assert_eq!(python.value(), 3);
    let output = lock.command(&["-v", "get"]).output().unwrap();
    assert!(output.status.success());
    let report = String::from_utf8(output.stderr).unwrap();
    assert!(report.contains('3'), "the value is reported: {report:?}");
    assert_eq!(python.value(), 0);
    assert!(!python.get(Some(0.0), "a second one"));
    printed(&mut lock.command(&["unget"]));
    assert_eq!(python.value(), 1);
}

/// The Python module leaves two objects; the third one appears only when we use the lock.
#[test]
fn looking_creates_nothing() {
    let lock = TestLock::new("peer");
    let _python = Peer::open(&lock);
    let before = lock.objects();
    assert_eq!(before.len(), 2);
    printed(&mut lock.command(&["state"]));
    let seen = ResourceLock::builder(lock.name())
        .open_existing()
        .unwrap()
        .state()
        .unwrap();
    assert!(!seen.locked);
    assert_eq!(lock.objects(), before);
}

/// `YYYY-MM-DD HH:MM:SS.ffffff - MESSAGE`
fn assert_date_then(note: &str, message: &str) {
    let (date, rest) = note.split_once(" - ").unwrap_or_else(|| panic!("no date in {note:?}"));
    let shape = date.replace(|c: char| c.is_ascii_digit(), "0");
    assert_eq!((shape.as_str(), rest), ("0000-00-00 00:00:00.000000", message));
}
