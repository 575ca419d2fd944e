//! Stopped processes (SIGSTOP, a debugger, a frozen container): a stopped holder keeps what it holds, a stopped waiter
//! holds up nobody, and limits are kept. (For processes stopped inside the table's latch see
//! `src/lock/testing/failpoint.rs`.)

use crate::common::{Ask, Grant, TestLock, Worker, wait_until};
use serde_json::json;
use std::time::Duration;

fn limited(ms: u64) -> Ask {
    Ask {
        wait: Some(ms),
        ..Ask::default()
    }
}

/// A holder and three waiters, in queue order.
fn queue(lock: &TestLock) -> (Worker, [Worker; 3]) {
    let mut holder = Worker::open(lock);
    assert!(holder.get(Ask::default()).is_some());
    let mut waiting = 0;
    let waiters = [0; 3].map(|_| {
        let mut waiter = Worker::open(lock);
        waiter.send_get(Ask::default());
        waiting += 1;
        wait_until("it waits", || lock.state().waiters.len() == waiting);
        waiter
    });
    (holder, waiters)
}

#[test]
fn nothing_is_stolen_from_a_stopped_holder() {
    let lock = TestLock::new("stop");
    let [mut holder, mut first, mut second] = [0; 3].map(|_| Worker::open(&lock));
    let held = holder.get(Ask::default()).unwrap();
    lock.stop(holder.id());
    let asked = crate::common::worker::monotonic();
    // Longer than an offer lasts, and than the intervals at which the first and second in line check.
    first.send_get(limited(700));
    second.send_get(limited(400));
    assert_eq!((second.granted(), first.granted()), (None, None));
    assert!(crate::common::worker::monotonic() - asked >= 700_000_000);
    assert_eq!(first.get(Ask::now()), None);
    let state = lock.state();
    assert!(state.holders[0].alive && state.holders[0].token == Some(held.token));
    holder.resume();
    assert_eq!(holder.ask(json!(["lost"])), json!("held"));
    assert!(holder.release());
    assert!(first.get(Ask::now()).is_some_and(|grant| !grant.abandoned));
}

#[test]
fn a_stopped_holder_that_is_killed_is_followed() {
    let lock = TestLock::new("stop");
    let (mut holder, [mut first, ..]) = queue(&lock);
    lock.stop(holder.id());
    holder.kill();
    assert!(first.granted().is_some_and(|grant| grant.abandoned));
}

/// Stops the waiter at this place, lets the holder release, and asserts that the others are served in order.
fn stopped_waiter(place: usize) {
    let lock = TestLock::new("stop");
    let (mut holder, mut waiters) = queue(&lock);
    lock.stop(waiters[place].id());
    assert!(holder.release());
    let mut grants: Vec<Grant> = Vec::new();
    for (i, waiter) in waiters.iter_mut().enumerate() {
        if i != place {
            grants.push(waiter.granted().expect("its turn"));
            assert!(waiter.release());
        }
    }
    assert!(grants[0].token < grants[1].token);
    // Those who come later get it, too.
    assert!(holder.get(Ask::default()).is_some());
    assert!(holder.release());
    let stopped = &mut waiters[place];
    stopped.resume();
    let grant = stopped.granted().expect("it has kept its place");
    assert!(!grant.abandoned && grant.token > grants[1].token);
    assert_eq!(stopped.ask(json!(["lost"])), json!("held"));
    assert!(stopped.release());
    assert_eq!(lock.flag_word().value, 1);
}

#[test]
fn a_stopped_first_in_line_holds_up_nobody() {
    stopped_waiter(0);
}

#[test]
fn a_stopped_second_in_line_holds_up_nobody() {
    stopped_waiter(1);
}

#[test]
fn a_stopped_last_in_line_holds_up_nobody() {
    stopped_waiter(2);
}

/// A waiter that was passed over resumes. Its ticket is older than those of the others that wait.
#[test]
fn a_resumed_waiter_is_served_before_those_who_came_later() {
    let lock = TestLock::new("stop");
    let (mut holder, [mut first, mut second, mut third]) = queue(&lock);
    lock.stop(first.id());
    assert!(holder.release());
    let passed_over = second.granted().expect("the first one did not react");
    wait_until("the stopped one is marked", || {
        lock.state()
            .waiters
            .iter()
            .any(|w| w.stalled && w.requester.pid == Some(first.id()))
    });
    first.resume();
    wait_until("it is back in the queue", || {
        lock.state().waiters.iter().all(|w| !w.stalled)
    });
    assert!(second.release());
    let back = first.granted().expect("its turn");
    assert!(first.release());
    let last = third.granted().expect("its turn");
    assert!(passed_over.token < back.token && back.token < last.token);
}

#[test]
fn first_and_second_in_line_are_stopped_and_the_holder_dies() {
    let lock = TestLock::new("stop");
    let (mut holder, [mut first, mut second, mut third]) = queue(&lock);
    lock.stop(first.id());
    lock.stop(second.id());
    holder.kill();
    assert!(third.granted().is_some_and(|grant| grant.abandoned));
    assert!(third.release());
    for stopped in [&mut second, &mut first] {
        stopped.resume();
        assert!(stopped.granted().is_some() && stopped.release());
    }
}

#[test]
fn a_waiter_that_was_stopped_past_its_limit_gives_up() {
    let lock = TestLock::new("stop");
    let [mut holder, mut late] = [0; 2].map(|_| Worker::open(&lock));
    assert!(holder.get(Ask::default()).is_some());
    late.send_get(limited(2000));
    wait_until("it waits", || lock.state().waiters.len() == 1);
    lock.stop(late.id());
    wait_until("its time is up", || {
        lock.state()
            .waiters
            .iter()
            .all(|waiter| waiter.waited > Some(Duration::from_millis(2100)))
    });
    late.resume();
    assert_eq!(late.granted(), None);
    assert!(lock.state().waiters.is_empty());
    assert!(holder.release());
}

/// It is stopped between the offer and its acceptance, and resumed after its limit: either outcome is right, but not
/// both.
#[test]
fn an_offer_to_a_stopped_waiter_past_its_limit_is_not_lost() {
    let lock = TestLock::new("stop");
    let [mut holder, mut late, mut other] = [0; 3].map(|_| Worker::open(&lock));
    assert!(holder.get(Ask::default()).is_some());
    late.send_get(limited(50));
    wait_until("it waits", || {
        let state = lock.state();
        state.waiters.len() == 1 || state.counters.is_some_and(|counters| counters.timeouts > 0)
    });
    lock.stop(late.id());
    assert!(holder.release());
    late.resume();
    if late.granted().is_some() {
        assert_eq!(other.get(Ask::now()), None);
        assert!(late.release());
    }
    assert!(other.get(Ask::default()).is_some());
}
