//! A full table: 1,024 requests at once, and then one more.

use crate::common::{Ask, TestLock, Worker, wait_until};
use resourcelock::{Cancel, Error, GetOptions, Mode, ResourceLock, Wait};
use serde_json::{Value, json};
use std::time::Duration;

const REQUESTS: usize = 1024;

/// Fills the table with the given number of shared holds, and keeps them.
fn fill(hands: &mut crate::common::worker::Hands, arguments: &[Value]) -> Value {
    let wanted = arguments[0].as_u64().expect("a number");
    for _ in 0..wanted {
        let guard = hands
            .lock()
            .acquire_with(&GetOptions::new().mode(Mode::Shared))
            .unwrap()
            .expect("there is room");
        hands.guards.push(guard);
    }
    json!(hands.guards.len())
}

/// Further requests that this file's workers understand.
pub const SKILLS: &[(&str, crate::common::worker::Skill)] = &[("fill", fill)];

#[test]
fn one_thousand_and_twenty_four_requests_wait_and_are_all_served() {
    let lock = TestLock::new("full");
    let handles: Vec<ResourceLock> = (0..32).map(|_| lock.open()).collect();
    let first = handles[0].acquire().unwrap();
    let served = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for n in 1..REQUESTS {
            let (handle, served) = (&handles[n % handles.len()], &served);
            std::thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn_scoped(scope, move || {
                    let guard = handle
                        .acquire_with(&GetOptions::new().wait(Wait::Forever).queue_at_once(true))
                        .unwrap()
                        .unwrap();
                    served.lock().unwrap().push(guard.token());
                })
                .unwrap();
        }
        wait_until("all have queued", || lock.state().waiters.len() == REQUESTS - 1);
        drop(first);
    });
    let tokens = served.into_inner().unwrap();
    assert_eq!(tokens.len(), REQUESTS - 1);
    assert!(tokens.is_sorted_by(|a, b| a < b), "one after the other");
    let state = lock.state();
    assert!(!state.locked && state.value == 1 && state.holders.is_empty() && state.waiters.is_empty());
}

#[test]
fn one_more_waits_outside_until_its_limit_or_until_there_is_room() {
    let lock = TestLock::new("full");
    let mut crowd = Worker::open(&lock);
    assert_eq!(crowd.ask(json!(["fill", REQUESTS])), json!(REQUESTS));
    let handle = lock.open();
    let shared = || GetOptions::new().mode(Mode::Shared);
    assert!(!handle.get_lock(&shared().wait(Wait::No)).unwrap());
    let limited = handle.acquire_with(&shared().wait(Wait::For(Duration::from_millis(60))));
    assert!(matches!(limited, Ok(None)), "{limited:?}");
    assert_eq!(lock.state().holders.len(), REQUESTS, "nobody was pushed out");

    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        let outside = scope.spawn(|| {
            handle
                .acquire_with(&shared().wait(Wait::Forever).cancel(&cancel))
                .map(|g| g.map(|g| g.token()))
        });
        wait_until("it found no room", || lock.state().counters.unwrap().conflicts >= 3);
        cancel.cancel();
        let result = outside.join().unwrap();
        assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
        let outside = scope.spawn(|| {
            handle
                .acquire_with(&shared().wait(Wait::Forever))
                .map(|g| g.map(|g| g.token()))
        });
        wait_until("it found no room", || lock.state().counters.unwrap().conflicts >= 4);
        assert!(crowd.release());
        assert!(outside.join().unwrap().is_ok());
    });
}

/// A request that is already waiting gets room when a single holder has died; one that does not wait finds room, too.
#[test]
fn the_dead_make_room_for_those_outside() {
    let lock = TestLock::new("full");
    let [mut crowd, mut one] = [0; 2].map(|_| Worker::open(&lock));
    assert_eq!(crowd.ask(json!(["fill", REQUESTS - 1])), json!(REQUESTS - 1));
    assert_eq!(one.ask(json!(["fill", 1])), json!(1));
    let mut outside = Worker::open(&lock);
    outside.send_get(Ask::mode(Mode::Shared));
    wait_until("it found no room", || lock.state().counters.unwrap().conflicts >= 1);
    one.kill();
    assert!(outside.granted().is_some_and(|grant| grant.abandoned));
    crowd.kill();
    let mut late = Worker::open(&lock);
    let now = Ask {
        mode: Some(Mode::Shared),
        ..Ask::now()
    };
    assert!(late.get(now).is_some(), "without waiting");
}

#[test]
fn a_table_full_of_the_dead_has_room() {
    let lock = TestLock::new("full");
    let mut crowd = Worker::open(&lock);
    assert_eq!(crowd.ask(json!(["fill", REQUESTS])), json!(REQUESTS));
    crowd.kill();
    let guard = lock.open();
    let guard = guard.acquire().unwrap();
    assert!(guard.abandoned());
    assert_eq!(lock.state().counters.unwrap().abandoned, REQUESTS as u64);
    assert_eq!(lock.state().holders.len(), 1);
}
