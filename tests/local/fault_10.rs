//! Faults 9 and 10: an ordinary end is not shown as a death, and a hold that ended while nobody looked is not timed to when
//! somebody did.

use crate::common::run::{hold, lives, signal};
use crate::common::{TestLock, printed, wait_until};
use nix::sys::signal::Signal::SIGKILL;
use resourcelock::{Detached, Ended, GetOptions};
use serde_json::Value;
use std::time::{Duration, SystemTime};

fn json(lock: &TestLock, words: &[&str]) -> Value {
    serde_json::from_slice(&lock.command(words).output().unwrap().stdout).unwrap()
}

/// Sleeps, so that a hold that has ended by then was over long before somebody looks.
fn later(time: Duration) {
    std::thread::sleep(time);
}

#[test]
fn the_ordinary_end_of_a_no_fork_command_is_no_death() {
    let lock = TestLock::new("f9");
    assert!(lock.command(&["run", "-F", "--", "true"]).status().unwrap().success());
    let state = json(&lock, &["state", "--json"]);
    assert_eq!(state["locked"], false);
    assert_eq!(state["holders"], serde_json::json!([]), "it has ended");
    let text = printed(&mut lock.command(&["state"]));
    assert!(
        text.contains(": free\n") && !text.contains("DEAD") && !text.contains("died"),
        "{text}"
    );
    let found = crate::common::binary().args(["doctor", "--json"]).output().unwrap();
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    let about: Vec<&Value> = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["lock"] == lock.name())
        .collect();
    assert!(about.is_empty(), "{about:?}");
    assert!(lock.command(&["run", "-n", "--", "true"]).status().unwrap().success());
    assert_eq!(lock.open().history().unwrap()[0].how, Ended::WithProcess);
}

/// A hold that expired is free, and nobody has died.
#[test]
fn an_expired_hold_ended_at_its_time() {
    let lock = TestLock::new("f10");
    let handle = lock.open();
    let ttl = Duration::from_millis(100);
    let detached = Detached {
        ttl: Some(ttl),
        ..Detached::default()
    };
    let before = SystemTime::now();
    assert!(
        handle
            .acquire_with(&GetOptions::new().detached(detached))
            .unwrap()
            .is_some()
    );
    let after = SystemTime::now();
    wait_until("it has expired", || !lock.state().locked);
    later(Duration::from_millis(900));
    let text = printed(&mut lock.command(&["state"]));
    assert!(
        text.contains(": free\n") && !text.contains("DEAD") && !text.contains("died"),
        "{text}"
    );
    let looked = SystemTime::now();
    assert!(lock.command(&["run", "-n", "--", "true"]).status().unwrap().success());
    let record = &lock.open().history().unwrap()[0];
    assert_eq!(record.how, Ended::Expired);
    let slack = Duration::from_millis(1); // clocks are read one after the other
    assert!(record.ended + slack >= before + ttl, "{record:?}");
    let latest = after + ttl;
    assert!(record.ended < looked, "{record:?}");
    assert!(record.ended <= latest + slack, "{record:?}");
    assert!(
        record.held.unwrap() <= after.duration_since(before).unwrap() + ttl,
        "{record:?}"
    );
    assert!(
        lock.state().counters.unwrap().held < Duration::from_millis(900),
        "{:?}",
        lock.state()
    );
}

/// Nobody was there when it died; what is known is when it last showed that it lives.
#[test]
fn a_dead_hold_lasted_until_it_was_last_known_to_live() {
    let lock = TestLock::new("f10");
    let mut running = hold(&lock, &[]);
    wait_until("it has shown that it lives", || {
        later(Duration::from_millis(20));
        let table = std::fs::read(lock.paths().table_path()).unwrap();
        // `seen_alive` of the first record, see `src/lock/shm/layout.rs`.
        table[5504 + 112..5504 + 120] != [0; 8]
    });
    signal(running.wrapper, SIGKILL);
    signal(running.command, SIGKILL);
    running.child.wait();
    wait_until("it is gone", || !lives(running.command));
    let died = SystemTime::now();
    later(Duration::from_millis(1200));
    let state = lock.state();
    let holder = &state.holders[0];
    assert!(!holder.alive);
    assert!(holder.since.unwrap() + holder.held.unwrap() <= died, "{holder:?}");
    let text = printed(&mut lock.command(&["state"]));
    assert!(text.contains("DEAD (last known alive at "), "{text}");
    let looked = SystemTime::now();
    assert!(
        lock.command(&["run", "-n", "-q", "--", "true"])
            .status()
            .unwrap()
            .success()
    );
    let record = &lock.open().history().unwrap()[0];
    assert_eq!(record.how, Ended::Abandoned);
    let last = record.last_alive().expect("a death that nobody saw");
    assert!(last <= died && last > record.granted().unwrap(), "{record:?}");
    assert!(
        record.ended >= looked - Duration::from_millis(1),
        "when it was found: {record:?}"
    );
    assert!(lock.state().counters.unwrap().held < looked.duration_since(record.granted().unwrap()).unwrap());
    let shown = json(&lock, &["history", "--json"]);
    assert!(
        shown["records"][0]["last_alive"].is_string() && shown["records"][1]["last_alive"].is_null(),
        "{shown}"
    );
    let table = printed(&mut lock.command(&["history"]));
    assert!(table.lines().nth(1).unwrap().contains("≥ "), "{table}");
}
