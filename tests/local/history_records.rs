//! What the history says of each request: its note, how it ended, and how its command did.

use crate::common::{LineChild, TestLock, printed, wait_until};
use resourcelock::{CommandEnd, Ended, GetOptions, HistoryRecord, Mode, ResourceLock, UngetOptions};
use serde_json::{Value, json};

fn run(lock: &TestLock, arguments: &[&str]) -> Option<i32> {
    lock.command(&[&["run", "-q"], arguments].concat())
        .status()
        .unwrap()
        .code()
}

fn records(lock: &TestLock) -> Vec<HistoryRecord> {
    lock.open().history().unwrap()
}

/// How each record ended, the command's status or signal, and the note.
fn told(lock: &TestLock) -> Vec<(Ended, Option<CommandEnd>, String)> {
    let told = |record: HistoryRecord| (record.how, record.command_end, record.note);
    records(lock).into_iter().map(told).collect()
}

/// A handle keeps one hold after the other in the same memory.
#[test]
fn nothing_of_a_hold_passes_to_the_next_one() {
    let lock = TestLock::new("one-after-the-other");
    let handle = lock.open();
    let acquired = |what: &str| {
        let options = GetOptions::new().lock_info(what.to_owned());
        handle.acquire_with(&options).unwrap().expect("the lock is free")
    };
    let crashed = acquired("crashed");
    crashed.command_ended(CommandEnd::Exited(7), true);
    crashed.mark_crashed();
    drop(crashed);
    let told_of_it = acquired("told");
    assert!(told_of_it.abandoned());
    drop(told_of_it);
    let other = lock.open();
    let recovers = other.acquire_with(&GetOptions::new().lock_info("other")).unwrap();
    recovers.expect("the lock is free").mark_recovered().unwrap();
    let plain = acquired("plain");
    assert!(!plain.abandoned() && plain.lost().is_none());
    drop(plain);
    // As the Python module acquires it: by the handle, not by a guard.
    assert!(handle.get_lock(&GetOptions::new().lock_info("words")).unwrap());
    assert!(handle.unget_lock(UngetOptions::new()).unwrap());
    drop(acquired("guard"));
    assert!(!handle.have_the_lock());
    let expected = [
        (Ended::Limit, Some(CommandEnd::Exited(7)), "crashed"),
        (Ended::Released, None, "told"),
        (Ended::Released, None, "other"),
        (Ended::Released, None, "plain"),
        (Ended::Released, None, "words"),
        (Ended::Released, None, "guard"),
    ];
    assert_eq!(
        told(&lock),
        expected.map(|(how, end, note)| (how, end, note.to_owned()))
    );
    assert_eq!(handle.state().unwrap().counters.unwrap().acquisitions, 6);
}

/// The memory of a hold belongs to the files it was a hold of.
#[test]
fn the_first_hold_after_the_files_were_replaced() {
    let lock = TestLock::new("replaced-between");
    let handle = lock.open();
    drop(handle.acquire().unwrap());
    resourcelock::remove(lock.name(), false).unwrap();
    let other = lock.open();
    let guard = handle.acquire().unwrap();
    assert!(guard.lost().is_none() && other.is_locked().unwrap());
    drop(guard);
    assert!(!other.is_locked().unwrap());
    assert_eq!(told(&lock), [(Ended::Released, None, String::new())]);
}

/// Holds of one handle at once, which end in the order in which they began.
#[test]
fn holds_side_by_side_end_in_any_order() {
    let lock = TestLock::new("side-by-side");
    let handle = lock.open();
    for _ in 0..3 {
        let shared = |what: &'static str| {
            let options = GetOptions::new().mode(Mode::Shared).lock_info(what);
            handle.acquire_with(&options).unwrap().expect("it can be shared")
        };
        let (first, second, third) = (shared("first"), shared("second"), shared("third"));
        assert!(first.token() < second.token() && second.token() < third.token());
        drop(second);
        assert!(first.lost().is_none() && third.lost().is_none());
        drop(first);
        assert!(third.lost().is_none() && third.release().unwrap());
    }
    let order = ["second", "first", "third"].repeat(3);
    let notes: Vec<String> = told(&lock).into_iter().map(|(_, _, note)| note).collect();
    assert_eq!(notes, order);
    assert!(!handle.is_locked().unwrap());
}

#[test]
fn how_a_command_ended_and_what_it_was_for() {
    let lock = TestLock::new("records");
    assert_eq!(run(&lock, &["-m", "bus scan", "--", "true"]), Some(0));
    assert_eq!(run(&lock, &["--", "sh", "-c", "exit 7"]), Some(7));
    let killed = &["-m", "dies", "--", "sh", "-c", "ulimit -c 0; kill -SEGV $$"];
    assert_eq!(run(&lock, killed), None);
    assert_eq!(run(&lock, &["--limit", "10ms", "--", "sleep", "60"]), Some(124));
    let deaf = ["--limit", "10ms", "-k", "10ms", "--signal", "CONT", "sleep", "60"];
    assert_eq!(run(&lock, &deaf), Some(137));
    let expected = [
        (Ended::Released, Some(CommandEnd::Exited(0)), "bus scan"),
        (Ended::Released, Some(CommandEnd::Exited(7)), "sh"),
        (Ended::Crashed, Some(CommandEnd::Killed(libc::SIGSEGV)), "dies"),
        (Ended::Limit, Some(CommandEnd::Killed(libc::SIGTERM)), "sleep"),
        (Ended::Limit, Some(CommandEnd::Killed(libc::SIGKILL)), "sleep"),
    ];
    assert_eq!(
        told(&lock),
        expected.map(|(how, end, note)| (how, end, note.to_owned()))
    );
    let failed: Vec<bool> = records(&lock).iter().map(HistoryRecord::failed).collect();
    assert_eq!(failed, [false, true, true, true, true]);
    let table = printed(&mut lock.command(&["history"]));
    let rows: Vec<&str> = table.lines().collect();
    for (row, parts) in rows.iter().zip([
        &[" STATUS ", " NOTE"][..],
        &[" released  0 ", " bus scan"],
        &[" released  7 "],
        &[" crashed   SEGV ", " dies"],
        &[" limit     TERM "],
        &[" limit     KILL "],
    ]) {
        assert!(parts.iter().all(|part| row.contains(part)), "{parts:?}: {table}");
    }
    let json: Value = serde_json::from_str(&printed(&mut lock.command(&["history", "--json"]))).unwrap();
    assert_eq!(
        json["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| json!([record["how"], record["exit_status"], record["signal"]]))
            .collect::<Vec<_>>(),
        [
            json!(["released", 0, null]),
            json!(["released", 7, null]),
            json!(["crashed", null, libc::SIGSEGV]),
            json!(["limit", null, libc::SIGTERM]),
            json!(["limit", null, libc::SIGKILL])
        ]
    );
}

/// The last success is when a command ended with 0 last: not a failure, nor what nobody knows the end of.
#[test]
fn the_last_success() {
    let lock = TestLock::new("success");
    let success = || lock.state().last_success;
    assert_eq!(run(&lock, &["--", "false"]), Some(1));
    assert_eq!(
        lock.command(&["get", "-a", "0.02", "-q"]).status().unwrap().code(),
        Some(0)
    );
    assert_eq!(success(), None);
    assert_eq!(run(&lock, &["--", "true"]), Some(0));
    let first = success().expect("it succeeded");
    assert_eq!(first, records(&lock).last().unwrap().ended);
    assert_eq!(run(&lock, &["--", "false"]), Some(1));
    assert_eq!(success(), Some(first));
}

/// The holder has died, or somebody else has released what a `get` has left: then the note itself tells what for.
#[test]
fn the_note_of_a_hold_that_somebody_else_ended() {
    let lock = TestLock::new("records");
    assert_eq!(
        lock.command(&["get", "-q", "-m", "left"]).status().unwrap().code(),
        Some(0)
    );
    assert_eq!(lock.command(&["unget", "-q"]).status().unwrap().code(), Some(0));
    let mut holder = LineChild::spawn(&mut lock.command(&["get", "-a", "600", "-m", "dies"]));
    holder.line();
    holder.kill();
    holder.wait();
    wait_until("it is found dead", || {
        let _ = run(&lock, &["-n", "-m", "next", "--", "true"]);
        records(&lock).len() >= 3
    });
    let told = told(&lock);
    assert_eq!(told[0], (Ended::Released, None, "left".to_owned()));
    assert_eq!(told[1], (Ended::Abandoned, None, "dies".to_owned()));
    // One of two readers that hold together has died: the note is the other's.
    let handle = lock.open();
    let shared = GetOptions::new().mode(resourcelock::Mode::Shared).lock_info("reads on");
    let mut reader = LineChild::spawn(&mut lock.command(&["get", "--shared", "-a", "600", "-m", "dies"]));
    reader.line();
    let guard = handle.acquire_with(&shared).unwrap().expect("they share");
    reader.kill();
    reader.wait();
    wait_until("it is found dead", || {
        assert_eq!(run(&lock, &["-n", "--", "true"]), Some(75));
        let dead = |record: &&HistoryRecord| record.how == Ended::Abandoned;
        records(&lock).iter().filter(dead).count() == 2
    });
    drop(guard);
    let records = records(&lock);
    let dead = records.iter().rfind(|record| record.how == Ended::Abandoned).unwrap();
    assert_eq!(dead.note, "");
    assert_eq!(records.last().unwrap().note, "reads on");
}

/// Requests that were not granted, in whichever way they gave up.
#[test]
fn the_note_of_a_request_that_gave_up() {
    let lock = TestLock::new("records");
    let handle = lock.open();
    let guard = handle.acquire().unwrap();
    for wait in ["-n", "-t0.02"] {
        assert_eq!(run(&lock, &[wait, "-m", "in vain", "--", "true"]), Some(75));
    }
    drop(guard);
    let notes: Vec<String> = records(&lock).into_iter().map(|record| record.note).collect();
    assert_eq!(notes, ["in vain", "in vain", ""]);
}

/// Whole characters, and nothing that disturbs a terminal.
#[test]
fn a_long_note_is_cut_at_80_bytes() {
    let lock = TestLock::new("records");
    let handle: ResourceLock = lock.open();
    let long = format!("\x1b[2J{}", "é".repeat(60));
    drop(handle.acquire_with(&GetOptions::new().lock_info(long)).unwrap());
    assert_eq!(records(&lock)[0].note, format!("\\u{{1b}}[2J{}", "é".repeat(38)));
}
