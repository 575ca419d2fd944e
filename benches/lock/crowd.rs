//! A thousand waiters on one lock: what they cost while they sleep, and how long a hand-over among them takes.

use crate::contenders::{Contender, Kind, Place};
use crate::figures::{median, print};
use crate::team::Worker;
use std::time::{Duration, Instant};

/// Waiters per process, each a thread with its own handle.
const EACH: usize = 50;
const ASLEEP: Duration = Duration::from_secs(5);
/// How many hand-overs are measured: only the first, while there still is a crowd.
const FIRST: usize = 100;

/// CPU time used by all threads of a process, ns.
fn processor_time(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// The percentage of one CPU that the waiters use while they sleep, and the median time between two grants, µs.
fn crowd(place: &Place, waiters: usize, asleep: Duration) -> (f64, f64) {
    let name = place.of(Kind::Ours);
    let mut lock = Contender::open(&name);
    lock.lock();
    let each = EACH.min(waiters).to_string();
    let mut team: Vec<Worker> = (0..waiters / EACH.min(waiters))
        .map(|_| Worker::start(&["crowd", &name, &each]))
        .collect();
    team.iter_mut().for_each(Worker::go);
    let viewer = resourcelock::ResourceLock::builder(&name)
        .open_existing()
        .expect("the lock is there");
    while viewer.state().unwrap().waiters.len() < waiters {
        std::thread::sleep(Duration::from_millis(10));
    }
    // For its first two seconds the head of the queue checks the holder more often.
    std::thread::sleep(asleep.min(Duration::from_secs(2)));
    let time = || team.iter().map(|worker| processor_time(worker.id())).sum::<u64>();
    let (before, start) = (time(), Instant::now());
    std::thread::sleep(asleep);
    let share = (time() - before) as f64 / start.elapsed().as_nanos() as f64 * 100.0;
    lock.unlock();
    let mut grants: Vec<f64> = team.iter_mut().flat_map(Worker::numbers).collect();
    grants.sort_by(f64::total_cmp);
    let mut gaps: Vec<f64> = grants
        .windows(2)
        .take(FIRST)
        .map(|two| (two[1] - two[0]) / 1e3)
        .collect();
    (share, median(&mut gaps))
}

pub fn measure(place: &Place) {
    let (share, among_many) = crowd(place, 1000, ASLEEP);
    print("1,000 waiters asleep, of one processor", share, None, "%", "<= 2 %");
    let mut few: Vec<f64> = (0..10).map(|_| crowd(place, 10, Duration::from_millis(20)).1).collect();
    print(
        "hand-over among 1,000 waiters, among 10",
        among_many,
        Some(median(&mut few)),
        "us",
        "<= 3 x",
    );
}
