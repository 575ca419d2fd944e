//! Fault 13: requests that ended without the lock are in the history among the others, and are reported as they happen.

use crate::common::{LineChild, TestLock, printed, wait_until};
use resourcelock::{Cancel, Ended, Error, GetOptions, ResourceLock, Wait};
use serde_json::Value;
use std::time::Duration;

fn status(lock: &TestLock, arguments: &[&str]) -> Option<i32> {
    lock.command(arguments).status().unwrap().code()
}

fn done(lock: &TestLock, arguments: &[&str]) {
    assert_eq!(status(lock, arguments), Some(0), "{arguments:?}");
}

/// How the requests for a lock ended, according to the library, the tables and the JSON.
fn endings(lock: &TestLock) -> Vec<String> {
    let viewer = ResourceLock::builder(lock.name()).open_existing().unwrap();
    let ended: Vec<String> = viewer
        .history()
        .unwrap()
        .iter()
        .map(|r| r.how.as_str().to_owned())
        .collect();
    let text = printed(&mut lock.command(&["history"]));
    let rows: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(rows.len(), ended.len(), "{text}");
    for (row, how) in rows.iter().zip(&ended) {
        assert!(row.contains(how), "{row}: {how}");
    }
    let json: Value = serde_json::from_str(&printed(&mut lock.command(&["history", "--json"]))).unwrap();
    let records = json["records"].as_array().unwrap();
    for (record, how) in records.iter().zip(&ended) {
        assert_eq!(record["how"], how.as_str());
        let granted = !matches!(how.as_str(), "refused" | "timed out" | "cancelled");
        assert_eq!(record["token"].is_u64(), granted, "{record}");
        assert_eq!(record["granted"].is_string(), granted, "{record}");
    }
    ended
}

#[test]
fn they_are_among_the_others_in_order_of_time() {
    let lock = TestLock::new("f13");
    assert_eq!(status(&lock, &["run", "--", "true"]), Some(0));
    done(&lock, &["get", "-q"]);
    assert_eq!(status(&lock, &["run", "-n", "-q", "--", "true"]), Some(75));
    assert_eq!(status(&lock, &["run", "-n", "-E", "0", "--", "true"]), Some(0));
    assert_eq!(status(&lock, &["run", "-t", "0.02", "-q", "--", "true"]), Some(75));
    assert_eq!(status(&lock, &["get", "-n", "-q"]), Some(75));
    done(&lock, &["unget", "-q"]);
    assert_eq!(status(&lock, &["run", "--", "true"]), Some(0));
    let expected = [
        "released",
        "refused",
        "refused",
        "timed out",
        "refused",
        "released",
        "released",
    ];
    assert_eq!(endings(&lock), expected);
    let picture = printed(&mut lock.command(&["history", "--svg", "-"]));
    assert_eq!(picture.matches(", refused").count(), 3, "{picture}");
}

/// By a signal, as people cancel a wait.
#[test]
fn a_cancelled_wait_is_not_one_that_timed_out() {
    let lock = TestLock::new("f13");
    done(&lock, &["get", "-q"]);
    let mut waiting = LineChild::spawn(&mut lock.command(&["run", "--", "true"]));
    wait_until("it waits", || lock.state().waiters.len() == 1);
    let kill = std::process::Command::new("kill")
        .args(["-INT", &waiting.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    waiting.wait();
    assert_eq!(endings(&lock), ["cancelled"]);
}

/// Through the library, in each way in which a request may end: in the short spin with which a wait begins, in the
/// queue, and cancelled before it began.
#[test]
fn whatever_way_a_request_takes() {
    let lock = TestLock::new("f13");
    let handle = lock.open();
    let guard = handle.acquire().unwrap();
    let wait = |wait| handle.acquire_with(&GetOptions::new().wait(wait)).unwrap().is_none();
    assert!(wait(Wait::No));
    assert!(wait(Wait::For(Duration::from_nanos(1))));
    assert!(wait(Wait::For(Duration::from_millis(20))));
    let cancelled = Cancel::new();
    std::thread::scope(|scope| {
        let options = GetOptions::new().wait(Wait::Forever).cancel(&cancelled);
        let handle = &handle;
        let request = scope.spawn(move || handle.acquire_with(&options).map(|_| ()));
        wait_until("it waits", || handle.state().unwrap().waiters.len() == 1);
        cancelled.cancel();
        assert!(matches!(request.join().unwrap(), Err(Error::Cancelled)));
    });
    drop(guard);
    let ended: Vec<Ended> = handle.history().unwrap().iter().map(|record| record.how).collect();
    let expected = [
        Ended::Refused,
        Ended::TimedOut,
        Ended::TimedOut,
        Ended::Cancelled,
        Ended::Released,
    ];
    assert_eq!(ended, expected);
    for record in handle.history().unwrap().iter().filter(|record| record.how.gave_up()) {
        assert!(
            record.token.is_none() && record.held.is_none() && record.granted().is_none(),
            "{record:?}"
        );
    }
}

#[test]
fn a_refusal_is_told_as_it_happens() {
    let lock = TestLock::new("f13");
    done(&lock, &["get", "-q"]);
    let mut trace = LineChild::spawn(&mut lock.command(&["trace", "-f"]));
    let mut line = None;
    wait_until("it follows", || {
        assert_eq!(status(&lock, &["run", "-n", "-q", "--", "true"]), Some(75));
        line = trace.try_line();
        line.is_some()
    });
    let line = line.unwrap();
    assert!(line.contains(" refused ") && line.contains("(true, "), "{line}");
    done(&lock, &["unget", "-q"]);
    while !trace.wait_for_line_with(" ").contains(" released ") {}
}
