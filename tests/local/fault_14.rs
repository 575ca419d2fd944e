//! Fault 14: looking at a lock shows the one that is at its paths now, even after somebody else has removed it.

use crate::common::{Ask, LineChild, Peer, TestLock, Worker, wait_until};
use resourcelock::{Cancel, Change, ResourceLock, Viewer, Watch};
use std::fs;

fn done(lock: &TestLock, arguments: &[&str]) {
    assert!(lock.command(arguments).status().unwrap().success(), "{arguments:?}");
}

/// The ways to remove a lock.
const WAYS: [fn(&TestLock); 2] = [
    |lock| done(lock, &["remove", "-q", "--force"]),
    |lock| lock.objects().iter().for_each(|path| fs::remove_file(path).unwrap()),
];

fn viewer(lock: &TestLock) -> Viewer {
    ResourceLock::builder(lock.name()).open_existing().unwrap()
}

#[test]
fn a_followed_lock_is_followed_through_its_removal() {
    for remove in WAYS {
        let lock = TestLock::new("f14");
        done(&lock, &["run", "--", "true"]);
        let mut trace = LineChild::spawn(&mut lock.command(&["trace", "-f"]));
        wait_until("it follows", || {
            done(&lock, &["run", "--", "true"]);
            trace.try_line().is_some()
        });
        remove(&lock);
        trace.wait_for_line_with(" removed ");
        for _ in 0..3 {
            done(&lock, &["run", "--", "true"]);
            trace.wait_for_line_with(" granted ");
            trace.wait_for_line_with(" released ");
        }
    }
}

/// A lock that only the Python module has used has no table until somebody else uses it.
#[test]
fn a_table_that_comes_later_is_seen() {
    let lock = TestLock::new("f14");
    let mut peer = Peer::open(&lock);
    assert!(peer.get(Some(5.0), "first") && peer.unget());
    let seen = viewer(&lock);
    let mut trace = LineChild::spawn(&mut lock.command(&["trace", "-f"]));
    wait_until("it follows", || {
        assert!(peer.get(Some(5.0), "again"));
        let told = trace.try_line().is_some();
        assert!(peer.unget());
        told
    });
    done(&lock, &["run", "--", "true"]);
    trace.wait_for_line_with(" granted ");
    assert_eq!(seen.history().unwrap().len(), 1);
}

#[test]
fn a_viewer_and_a_handle_see_what_is_there() {
    for remove in WAYS {
        let lock = TestLock::new("f14");
        let handle = lock.open();
        done(&lock, &["get", "-q"]);
        let seen = viewer(&lock);
        assert!(handle.is_locked().unwrap() && seen.state().unwrap().locked);
        remove(&lock);
        // Open handles check the paths every 10 ms.
        wait_until("it is free", || !handle.is_locked().unwrap());
        assert_eq!(handle.lock_value().unwrap(), 1);
        assert!(
            !handle.state().unwrap().locked
                && handle.history().unwrap().is_empty()
                && handle.get_lock_info().unwrap().is_empty()
        );
        assert!(
            !seen.state().unwrap().locked
                && seen.state().unwrap().holders.is_empty()
                && seen.history().unwrap().is_empty()
        );
        assert!(lock.objects().is_empty(), "who looks creates nothing");

        let mut other = Worker::open(&lock);
        let grant = other.get(Ask::now()).unwrap();
        for state in [seen.state(), handle.state()] {
            let state = state.unwrap();
            assert!(state.locked && state.holders[0].token == Some(grant.token), "{state:?}");
        }
        assert!(
            seen.is_held(grant.token).unwrap() && handle.is_held(grant.token).unwrap() && handle.is_locked().unwrap()
        );
        assert_eq!(handle.lock_value().unwrap(), 0);
        assert!(other.release());
        assert!(!handle.is_locked().unwrap() && !handle.is_held(grant.token).unwrap());
        assert_eq!((seen.history().unwrap().len(), handle.history().unwrap().len()), (1, 1));
    }
}

/// A watch reports what came before a removal, the removal, and everything about the new lock from its beginning.
#[test]
fn nothing_is_missed_around_a_removal() {
    for remove in WAYS {
        let lock = TestLock::new("f14");
        drop(lock.open());
        let seen = viewer(&lock);
        let mut watch = seen.watch().unwrap();
        done(&lock, &["run", "--", "true"]);
        remove(&lock);
        for _ in 0..2 {
            done(&lock, &["run", "--", "true"]);
        }
        let events = until_so_many_ended(&mut watch, 3);
        assert_eq!(
            events,
            ["granted", "ended", "removed", "granted", "ended", "granted", "ended"]
        );
    }
}

fn until_so_many_ended(watch: &mut Watch, ends: usize) -> Vec<&'static str> {
    let never = Cancel::new();
    let mut events = Vec::new();
    while events.iter().filter(|event| **event == "ended").count() < ends {
        events.push(match watch.next(&never).unwrap().unwrap() {
            Change::Queued(_) => "queued",
            Change::Granted(_) => "granted",
            Change::Ended(_) => "ended",
            Change::Removed => "removed",
            other => panic!("{other:?}"),
        });
    }
    events
}

/// If only the semaphore was replaced, the table goes on with the new one, and its past is not reported again.
#[test]
fn a_table_that_goes_on_is_followed_on() {
    let lock = TestLock::new("f14");
    let handle = lock.open();
    done(&lock, &["run", "--", "true"]);
    let seen = viewer(&lock);
    let mut watch = seen.watch().unwrap();
    fs::remove_file(lock.paths().semaphore_path()).unwrap();
    done(&lock, &["run", "--", "true"]);
    let events = until_so_many_ended(&mut watch, 1);
    assert_eq!(
        events.iter().filter(|event| **event == "granted").count(),
        1,
        "{events:?}"
    );
    assert_eq!(seen.history().unwrap().len(), 2);
    drop(handle);
}
