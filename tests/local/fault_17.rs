//! Fault 17: a process that stands still in the middle of changing the table keeps everybody from the lock. Those end as
//! ones that were late, and say so in any case.

use crate::common::{Ask, Inside, TestLock, Worker, wait_until};
use resourcelock::{Error, GetOptions, Wait};
use std::process::Output;
use std::time::Duration;

const SAYS: &str =
    "not acquired: a process that cannot be found from here stands still in the middle of changing its table";

/// A status of the caller's choice does not make it silent: nobody would ever hear of that process.
fn assert_told(output: &Output, lock: &TestLock, status: i32) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(
        errors.starts_with(&format!("resourcelock: {}: {SAYS}", lock.name())),
        "{errors}"
    );
}

#[test]
fn run_and_get_end_as_if_the_lock_were_taken() {
    let lock = TestLock::new("f17");
    drop(lock.open());
    let inside = Inside::enter(&lock);
    for (words, status) in [
        (&["run", "-n", "echo", "ran"][..], 75),
        (&["run", "-n", "-E", "0", "echo", "ran"], 0),
        (&["run", "-q", "-t", "0.3", "-E", "0", "echo", "ran"], 0),
        (&["run", "-F", "-n", "echo", "ran"], 75),
        (&["get", "-n"], 75),
        (&["get", "-E", "3"], 3),
        (&["get", "-n", "-a", "1"], 75),
        (&["get", "-n", "--pid", "1"], 75),
    ] {
        let output = lock.command(words).output().unwrap();
        assert_told(&output, &lock, status);
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    let output = lock.command(&["get", "-n", "--json", "-E", "0"]).output().unwrap();
    assert_told(&output, &lock, 0);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["got"], false, "{answer}");
    drop(inside);
    assert_eq!(lock.command(&["run", "-n", "true"]).status().unwrap().code(), Some(0));
}

/// The stopped process is named, once it has made a request before.
#[test]
fn the_process_is_named() {
    let lock = TestLock::new("f17");
    let mut worker = Worker::open(&lock);
    assert!(worker.get(Ask::now()).is_some());
    let _inside = Inside::of_only_handle(&lock);
    let output = lock.command(&["run", "-n", "-E", "0", "true"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let expected = format!("not acquired: {} (", worker.id());
    assert!(output.status.success() && errors.contains(&expected), "{output:?}");
    assert!(errors.contains(&format!("kill -CONT {}", worker.id())), "{errors}");
}

/// It had queued before. The holder has released the lock by itself, but nobody can pass it on.
#[test]
fn a_waiter_whose_turn_it_would_be() {
    let lock = TestLock::new("f17");
    let mut holder = Worker::open(&lock);
    assert!(holder.get(Ask::now()).is_some());
    let waiter = lock
        .command(&["run", "-t", "3", "-E", "0", "echo", "ran"])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("it waits", || lock.state().waiters.len() == 1);
    let _inside = Inside::enter(&lock);
    assert!(holder.release());
    let output = waiter.wait_with_output().unwrap();
    assert_told(&output, &lock, 0);
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[test]
fn the_library_says_busy() {
    let lock = TestLock::new("f17");
    let handle = lock.open();
    let _inside = Inside::enter(&lock);
    for wait in [Wait::No, Wait::For(Duration::from_millis(300))] {
        let result = handle.acquire_with(&GetOptions::new().wait(wait));
        assert!(matches!(result, Err(Error::Busy { .. })), "{result:?}");
    }
}
