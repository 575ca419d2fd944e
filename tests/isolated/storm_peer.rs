//! The Python module's part in the storm: it forces releases at any moment, and our waiters die while they wait for a
//! Python holder.

use crate::common::worker::{Hands, Skill};
use crate::common::{Ask, Peer, TestLock, Worker, wait_until};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Loops until the file `stop` appears; answers with how often it had the lock.
fn rounds(hands: &mut Hands, arguments: &[Value]) -> Value {
    let folder = Path::new(arguments[0].as_str().expect("a folder"));
    let mut rounds = 0u64;
    let mut token = 0;
    while !folder.join("stop").exists() {
        let guard = hands.lock().acquire().expect("no error");
        assert!(guard.token() > token);
        token = guard.token();
        std::thread::sleep(Duration::from_micros(50));
        let _ = guard.release().expect("no error"); // false if it was released by force
        rounds += 1;
    }
    json!(rounds)
}

/// Further requests that this file's workers understand.
pub const SKILLS: &[(&str, Skill)] = &[("rounds", rounds)];

#[test]
fn forced_releases_by_python_at_any_moment_leave_a_working_lock() {
    let (lock, folder) = (TestLock::new("force"), tempfile::tempdir().unwrap());
    let mut peer = Peer::open(&lock);
    let mut ours: Vec<Worker> = (0..3).map(|_| Worker::open(&lock)).collect();
    for worker in &mut ours {
        worker.send(json!(["rounds", folder.path()]));
    }
    let mut forced = 0;
    wait_until("many holds were ended by force", || {
        forced += u32::from(peer.force());
        forced >= 200
    });
    std::fs::write(folder.path().join("stop"), "").unwrap();
    let rounds: Vec<u64> = ours
        .iter_mut()
        .map(|worker| worker.answer().as_u64().unwrap())
        .collect();
    println!("{forced} forced releases by Python during {rounds:?} rounds of ours");
    assert!(rounds.iter().all(|&rounds| rounds > 0));
    lock.open().repair().unwrap();
    assert_eq!(lock.flag_word().value, 1, "free, and only once");
    assert!(peer.get(Some(0.0), "after the storm") && peer.unget());
    let [one, other, ..] = &mut ours[..] else {
        unreachable!("three")
    };
    assert!(one.get(Ask::now()).is_some());
    assert_eq!(other.get(Ask::now()), None);
    assert!(!peer.get(Some(0.0), "taken"));
}

/// Such a waiter stays counted among the semaphore's waiters forever: that must not slow anybody down for good.
#[test]
fn waiters_that_die_while_python_holds_do_no_harm() {
    let lock = TestLock::new("leak");
    let mut peer = Peer::open(&lock);
    let _made = lock.open();
    for _ in 0..5 {
        assert!(peer.get(None, "holds"));
        let mut waiter = Worker::open(&lock);
        waiter.send_get(Ask::default());
        wait_until("it waits for the flag", || {
            lock.flag_word().waiters > 0 && lock.state().waiters.len() == 1
        });
        waiter.kill();
        assert!(peer.unget());
    }
    let leaked = lock.flag_word().waiters;
    let mut ours: Vec<Worker> = (0..2).map(|_| Worker::open(&lock)).collect();
    let folder = tempfile::tempdir().unwrap();
    for worker in &mut ours {
        worker.send(json!(["rounds", folder.path()]));
    }
    wait_until("a thousand grants of ours", || {
        lock.state().counters.unwrap().acquisitions > 1000
    });
    for _ in 0..10 {
        assert!(peer.get(None, "holds"));
        assert!(peer.unget());
    }
    std::fs::write(folder.path().join("stop"), "").unwrap();
    let rounds: u64 = ours.iter_mut().map(|worker| worker.answer().as_u64().unwrap()).sum();
    println!("{leaked} counts leaked; {rounds} grants of ours, 10 of Python's");
    assert_eq!(lock.flag_word().value, 1);
}
