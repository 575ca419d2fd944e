//! Follows a lock that is in heavy use: every event is reported once and in order, or counted as missed.

use crate::common::worker::{Hands, Skill};
use crate::common::{Ask, TestLock, Worker};
use resourcelock::{Cancel, Change, Ended, GetOptions, ResourceLock, Wait};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;

/// Gets and ungets a number of times, holding for some microseconds each.
fn rounds(hands: &mut Hands, arguments: &[Value]) -> Value {
    let [rounds, hold_us] = [0, 1].map(|i| arguments[i].as_u64().expect("a number"));
    for _ in 0..rounds {
        let options = GetOptions::new().wait(Wait::Forever).queue_at_once(true);
        let guard = hands.lock().acquire_with(&options).unwrap().expect("a grant");
        if hold_us > 0 {
            std::thread::sleep(std::time::Duration::from_micros(hold_us));
        }
        assert!(guard.release().expect("released"));
    }
    json!(rounds)
}

/// Further requests that this file's workers understand.
pub const SKILLS: &[(&str, Skill)] = &[("watched_rounds", rounds)];

/// What a watcher has seen of each request, by ticket.
#[derive(Debug, Default)]
struct Seen {
    queued: HashMap<u64, u32>,
    granted: HashMap<u64, u32>,
    ended: HashMap<u64, u32>,
    missed: u64,
    disorder: Vec<String>,
}

impl Seen {
    fn take(&mut self, change: Change) {
        let mut count = |of: &str, ticket: u64| {
            let (queued, granted, ended) = (
                self.queued.contains_key(&ticket),
                self.granted.contains_key(&ticket),
                self.ended.contains_key(&ticket),
            );
            let wrong = match of {
                "queued" => queued || granted || ended,
                "granted" => granted || ended,
                _ => ended,
            };
            if wrong {
                self.disorder
                    .push(format!("{of} of {ticket} after {queued} {granted} {ended}"));
            }
        };
        match change {
            Change::Queued(waiter) => {
                count("queued", waiter.ticket);
                *self.queued.entry(waiter.ticket).or_default() += 1;
            }
            Change::Granted(holder) => {
                count("granted", holder.ticket);
                *self.granted.entry(holder.ticket).or_default() += 1;
            }
            Change::Ended(record) => {
                count("ended", record.ticket);
                *self.ended.entry(record.ticket).or_default() += 1;
                if record.how != Ended::TimedOut && !self.granted.contains_key(&record.ticket) {
                    self.disorder.push(format!("end of {} before its grant", record.ticket));
                }
                if record.waited > Some(Duration::ZERO) && !self.queued.contains_key(&record.ticket) {
                    self.disorder
                        .push(format!("end of {} before it was queued", record.ticket));
                }
            }
            Change::Missed(n) => self.missed += n,
            _ => {}
        }
    }
}

/// Watches while `workers` processes do `each` rounds each.
fn watch_load(workers: u64, each: u64, hold_us: u64) -> Seen {
    let lock = TestLock::new("watch");
    let mut crowd: Vec<Worker> = (0..workers).map(|_| Worker::open(&lock)).collect();
    let viewer = ResourceLock::builder(lock.name()).open_existing().unwrap();
    let mut watch = viewer.watch().unwrap();
    let mut seen = Seen::default();
    for worker in &mut crowd {
        worker.send(json!(["watched_rounds", each, hold_us]));
    }
    let stop = Cancel::new();
    while seen.ended.len() as u64 + seen.missed < workers * each {
        seen.take(watch.next(&stop).unwrap().expect("not cancelled"));
    }
    for worker in &mut crowd {
        assert_eq!(worker.answer(), json!(each));
    }
    seen
}

#[test]
fn under_moderate_load_every_event_is_told_once_and_in_order() {
    let seen = watch_load(4, 150, 300);
    println!("{} ended, {} missed", seen.ended.len(), seen.missed);
    assert_eq!(seen.disorder, Vec::<String>::new());
    assert_eq!(seen.ended.len() as u64 + seen.missed, 600);
    assert_eq!(seen.granted.len(), seen.ended.len());
    assert!(
        seen.granted
            .values()
            .chain(seen.queued.values())
            .all(|&times| times == 1)
    );
}

#[test]
fn under_heavy_load_what_is_missed_is_counted() {
    let seen = watch_load(3, 20_000, 0);
    println!("{} ended, {} missed", seen.ended.len(), seen.missed);
    assert_eq!(seen.disorder, Vec::<String>::new());
    assert_eq!(seen.ended.len() as u64 + seen.missed, 60_000);
    assert!(seen.ended.values().all(|&times| times == 1));
}

#[test]
fn waiting_giving_up_force_and_death_are_told() {
    let lock = TestLock::new("watch");
    let [mut one, mut other] = [0; 2].map(|_| Worker::open(&lock));
    let viewer = ResourceLock::builder(lock.name()).open_existing().unwrap();
    let mut watch = viewer.watch().unwrap();
    let stop = Cancel::new();
    let mut next = || watch.next(&stop).unwrap().expect("not cancelled");
    let held = one.get(Ask::default()).unwrap();
    assert!(matches!(next(), Change::Granted(holder) if holder.token == Some(held.token)));
    other.send_get(Ask {
        wait: Some(150),
        ..Ask::default()
    });
    assert!(matches!(next(), Change::Queued(waiter) if waiter.requester.pid == Some(other.id())));
    assert_eq!(other.granted(), None);
    assert!(
        matches!(next(), Change::Ended(record) if record.how == Ended::TimedOut && record.requester.pid == Some(other.id()))
    );
    assert_eq!(other.ask(json!(["force"])), json!(true));
    assert!(matches!(next(), Change::Ended(record) if record.how == Ended::Forced && record.token == Some(held.token)));
    let held = other.get(Ask::now()).unwrap();
    assert!(matches!(next(), Change::Granted(_)));
    one.send_get(Ask::default());
    assert!(matches!(next(), Change::Queued(_)));
    other.kill();
    assert!(
        matches!(next(), Change::Ended(record) if record.how == Ended::Abandoned && record.token == Some(held.token))
    );
    assert!(matches!(next(), Change::Granted(holder) if holder.requester.pid == Some(one.id())));
}

#[test]
fn cancelling_ends_a_watch() {
    let lock = TestLock::new("watch");
    let _open = lock.open();
    let stop = Cancel::new();
    let viewer = ResourceLock::builder(lock.name()).open_existing().unwrap();
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| viewer.watch().unwrap().next(&stop).unwrap().is_none());
        stop.cancel();
        assert!(watching.join().unwrap());
    });
}
