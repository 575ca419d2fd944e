//! First come, first served.

use crate::common::worker::{Hands, Skill};
use crate::common::{Ask, TestLock, Worker, wait_until};
use resourcelock::Mode;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Acquires the lock a number of times, each time holding and then pausing for the given microseconds. Answers with the
/// longest wait.
fn again_and_again(hands: &mut Hands, arguments: &[Value]) -> Value {
    let [rounds, hold, pause] = [0, 1, 2].map(|i| arguments[i].as_u64().expect("a number"));
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        let asked = Instant::now();
        let guard = hands.lock().acquire().expect("a grant");
        longest = longest.max(asked.elapsed());
        std::thread::sleep(Duration::from_micros(hold));
        assert!(guard.release().expect("released"));
        std::thread::sleep(Duration::from_micros(pause));
    }
    json!(longest.as_micros() as u64)
}

/// Further requests that this file's workers understand.
pub const SKILLS: &[(&str, Skill)] = &[("again_and_again", again_and_again)];

/// A holder, and waiters in queue order, at least 50 ms apart.
fn queue(lock: &TestLock, modes: &[Mode]) -> (Worker, Vec<Worker>) {
    let mut holder = Worker::open(lock);
    assert!(holder.get(Ask::default()).is_some());
    let mut waiters: Vec<Worker> = Vec::new();
    for mode in modes {
        let mut waiter = Worker::open(lock);
        waiter.send_get(Ask {
            mode: Some(*mode),
            patient: true,
            ..Ask::default()
        });
        waiters.push(waiter);
        wait_until("it has waited for 50 ms", || {
            let queued = lock.state().waiters;
            queued.len() == waiters.len()
                && queued
                    .last()
                    .is_some_and(|last| last.waited >= Some(Duration::from_millis(50)))
        });
    }
    (holder, waiters)
}

#[test]
fn eight_waiters_are_served_in_the_order_of_asking() {
    let lock = TestLock::new("order");
    let (mut holder, mut waiters) = queue(&lock, &[Mode::Exclusive; 8]);
    let pids: Vec<u32> = lock
        .state()
        .waiters
        .iter()
        .filter_map(|waiter| waiter.requester.pid)
        .collect();
    assert_eq!(
        pids,
        waiters.iter().map(Worker::id).collect::<Vec<_>>(),
        "shown in this order"
    );
    // All of them release by themselves, so that the queue alone decides.
    waiters.iter_mut().for_each(|waiter| waiter.send(json!(["release"])));
    assert!(holder.release());
    let grants: Vec<_> = waiters.iter_mut().map(|waiter| waiter.granted().unwrap()).collect();
    assert!(
        grants.is_sorted_by(|a, b| a.token < b.token && a.at < b.at),
        "{grants:?}"
    );
    assert!(waiters.iter_mut().all(|waiter| waiter.answer() == json!(true)));
    let served: Vec<u32> = lock
        .open()
        .history()
        .unwrap()
        .iter()
        .filter_map(|record| record.requester.pid)
        .collect();
    assert_eq!(served[1..], pids);
}

#[test]
fn readers_and_writers_are_served_in_the_order_of_asking() {
    let lock = TestLock::new("order");
    let (r, w) = (Mode::Shared, Mode::Exclusive);
    let (mut holder, mut waiters) = queue(&lock, &[r, r, w, r, w, r, r]);
    let mut groups = vec![0..2, 2..3, 3..4, 4..5, 5..7];
    assert!(holder.release());
    let mut last = 0;
    for group in groups.drain(..) {
        let members = &mut waiters[group];
        let mut tokens: Vec<u64> = members
            .iter_mut()
            .map(|member| member.granted().unwrap().token)
            .collect();
        tokens.sort_unstable();
        assert!(tokens[0] > last);
        last = *tokens.last().unwrap();
        assert_eq!(
            lock.state().holders.len(),
            members.len(),
            "the whole group, and nobody else"
        );
        assert!(members.iter_mut().all(Worker::release));
    }
}

/// One process holds for 2 ms and asks again at once, another one asks every 0.5 ms: both make progress. Their shares
/// are printed; `benches/report.rs` compares them with flock(2).
#[test]
fn a_busy_process_does_not_starve_another_one() {
    const ROUNDS: u64 = 100;
    let lock = TestLock::new("order");
    let [mut busy, mut modest] = [0; 2].map(|_| Worker::open(&lock));
    busy.send(json!(["again_and_again", ROUNDS * 20, 2000, 0]));
    wait_until("it is at work", || lock.state().counters.unwrap().acquisitions > 3);
    let longest = modest.ask(json!(["again_and_again", ROUNDS, 0, 500]));
    let all = lock.state().counters.unwrap().acquisitions;
    println!("the modest one had {ROUNDS} of the last {all} grants and waited at most {longest} µs");
    assert_eq!(busy.try_answer(), None, "the busy one still had much to do");
}
