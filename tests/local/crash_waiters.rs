//! Processes die while they hold or wait, or several do so at once: those that are left get the lock, in order.

use crate::common::{Ask, TestLock, Worker, wait_until};
use resourcelock::{Ended, Mode};

/// A holder and `n` waiters, in queue order.
fn queue(lock: &TestLock, n: usize) -> (Worker, Vec<Worker>) {
    let mut holder = Worker::open(lock);
    assert!(holder.get(Ask::default()).is_some());
    let mut waiters = Vec::new();
    for i in 0..n {
        let mut waiter = Worker::open(lock);
        waiter.send_get(Ask::default());
        wait_until("it waits", || lock.state().waiters.len() == i + 1);
        waiters.push(waiter);
    }
    (holder, waiters)
}

/// Kills all of them before any of the others can look.
fn kill_together(lock: &TestLock, dying: &mut [&mut Worker]) {
    for worker in dying.iter() {
        lock.stop(worker.id());
    }
    for worker in dying.iter_mut() {
        worker.kill();
    }
}

#[test]
fn a_dead_holder_is_followed_by_the_first_in_line() {
    let lock = TestLock::new("crash");
    let (mut holder, mut waiters) = queue(&lock, 3);
    holder.kill();
    let tokens: Vec<u64> = waiters
        .iter_mut()
        .map(|waiter| {
            let grant = waiter.granted().expect("its turn");
            waiter.release();
            grant.token
        })
        .collect();
    assert!(tokens.is_sorted_by(|a, b| a < b));
    assert_eq!(lock.state().counters.unwrap().abandoned, 1);
}

#[test]
fn dead_waiters_are_passed_over() {
    let lock = TestLock::new("crash");
    let (mut holder, mut waiters) = queue(&lock, 4);
    let (first, rest) = waiters.split_first_mut().unwrap();
    kill_together(&lock, &mut [first, &mut rest[1]]);
    assert!(holder.release());
    assert!(
        rest[0].granted().is_some_and(|grant| !grant.abandoned),
        "who never ran abandoned nothing"
    );
    assert!(rest[0].release());
    assert!(rest[2].granted().is_some());
    let ends: Vec<Ended> = lock.open().history().unwrap().iter().map(|record| record.how).collect();
    assert_eq!(ends, [Ended::Released; 2]);
}

#[test]
fn holder_and_first_in_line_die_together() {
    let lock = TestLock::new("crash");
    let (mut holder, mut waiters) = queue(&lock, 3);
    kill_together(&lock, &mut [&mut holder, &mut waiters[0]]);
    assert!(waiters[1].granted().is_some_and(|grant| grant.abandoned));
    assert_eq!(
        waiters[1].ask(serde_json::json!(["release_recovered"])),
        serde_json::json!(true)
    );
    assert!(waiters[2].granted().is_some_and(|grant| !grant.abandoned));
}

/// Neither the first nor the second in line is left to check on the holder.
#[test]
fn holder_first_and_second_in_line_die_together() {
    let lock = TestLock::new("crash");
    let (mut holder, mut waiters) = queue(&lock, 4);
    let (dying, living) = waiters.split_at_mut(2);
    let [first, second] = dying else {
        unreachable!("split at 2")
    };
    kill_together(&lock, &mut [&mut holder, first, second]);
    assert!(living[0].granted().is_some_and(|grant| grant.abandoned));
    assert!(living[0].release());
    assert!(living[1].granted().is_some());
}

/// Eleven processes at once: all but the last in line.
#[test]
fn all_but_the_last_in_line_die_together() {
    let lock = TestLock::new("crash");
    let (mut holder, mut waiters) = queue(&lock, 10);
    let (last, dying) = waiters.split_last_mut().unwrap();
    let mut all: Vec<&mut Worker> = dying.iter_mut().collect();
    all.push(&mut holder);
    kill_together(&lock, &mut all);
    assert!(last.granted().is_some());
    assert_eq!(lock.state().waiters.len(), 0);
}

#[test]
fn a_dead_reader_among_readers_ends_alone() {
    let lock = TestLock::new("crash");
    let mut readers: Vec<Worker> = (0..12).map(|_| Worker::open(&lock)).collect();
    for reader in &mut readers {
        assert!(reader.get(Ask::mode(Mode::Shared)).is_some());
    }
    let mut writer = Worker::open(&lock);
    writer.send_get(Ask::default());
    wait_until("it waits", || lock.state().waiters.len() == 1);
    // More readers than a waiter checks at one time.
    for reader in readers.iter_mut().skip(1) {
        reader.kill();
    }
    wait_until("the dead are dropped", || lock.state().holders.len() == 1);
    assert_eq!(writer.try_granted(), None);
    assert!(readers[0].release());
    assert!(writer.granted().is_some_and(|grant| grant.abandoned));
}

#[test]
fn a_dead_slot_user_makes_room_for_one() {
    let lock = TestLock::new("crash");
    let two = Ask::mode(Mode::Slots(2));
    let mut users: Vec<Worker> = (0..4).map(|_| Worker::open(&lock)).collect();
    assert!(users[0].get(two).is_some() && users[1].get(two).is_some());
    users[2].send_get(two);
    wait_until("it waits", || lock.state().waiters.len() == 1);
    users[3].send_get(two);
    wait_until("both wait", || lock.state().waiters.len() == 2);
    users[0].kill();
    assert!(users[2].granted().is_some());
    assert_eq!(lock.state().holders.len(), 2);
    assert_eq!(users[3].try_granted(), None);
}

/// After a lone holder has crashed, the flag stays at 0; our next request finds out by itself.
#[test]
fn nobody_waits_and_the_next_one_comes() {
    let lock = TestLock::new("crash");
    let [mut holder, mut next] = [0; 2].map(|_| Worker::open(&lock));
    assert!(holder.get(Ask::default()).is_some());
    holder.kill();
    let state = lock.state();
    assert!(!state.locked && !state.holders[0].alive && state.value == 0);
    assert!(next.get(Ask::now()).is_some_and(|grant| grant.abandoned));
}

/// A process that uses the Python module, and waits alone, depends on one of ours looking at the lock.
#[test]
fn repair_gives_back_what_the_dead_left() {
    let lock = TestLock::new("crash");
    let mut holder = Worker::open(&lock);
    assert!(holder.get(Ask::default()).is_some());
    holder.kill();
    let handle = lock.open();
    handle.repair().unwrap();
    assert_eq!(lock.flag_word().value, 1);
    assert!(handle.state().unwrap().abandoned.is_some());
}

/// Nobody is left to notice. Even so, the lock is shown as free to take.
#[test]
fn an_offer_to_the_dead_counts_as_free() {
    let lock = TestLock::new("crash");
    let (mut holder, mut waiters) = queue(&lock, 1);
    lock.stop(waiters[0].id());
    assert!(holder.release());
    waiters[0].kill();
    let state = lock.state();
    assert!(!state.locked && state.value == 0, "{state:?}");
    assert!(holder.get(Ask::now()).is_some_and(|grant| !grant.abandoned));
}
