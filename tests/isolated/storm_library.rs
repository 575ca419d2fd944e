//! Kill storm on the library: processes in tight loops of get and unget are killed (SIGKILL) at random instants. No two
//! overlap, no update is lost, tokens grow, nothing ever hangs.
//!
//! 500 kills, or as many as `RESOURCELOCK_STORM_KILLS` says.

use crate::common::witness::percentile;
use crate::common::worker::{Hands, Skill, monotonic, say};
use crate::common::{Ask, Dice, TestLock, Witness, Worker, wait_until};
use nix::sys::signal::Signal;
use resourcelock::{GetOptions, Guard, Mode, ResourceLock, UngetOptions, Wait};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// How often this run kills.
fn kills() -> usize {
    std::env::var("RESOURCELOCK_STORM_KILLS").map_or(500, |kills| kills.parse().expect("a number of kills"))
}

/// Another storm each time.
fn dice() -> Dice {
    Dice::new(monotonic() ^ u64::from(std::process::id()) << 32)
}

fn busy(ns: u64) {
    let until = monotonic() + ns;
    while monotonic() < until {
        std::hint::spin_loop();
    }
}

/// Stays under the lock for so many ns; says what is wrong there, and how long ago the last visit was if its holder died.
fn visit(witness: &Witness, guard: &Guard, stay: u64) {
    let visit = witness.visit(guard.token(), || busy(stay));
    if let Some(wrong) = visit.wrong {
        say(&json!({ "wrong": wrong }));
        std::process::exit(1);
    }
    if guard.abandoned() {
        say(&json!({ "gap": visit.gap }));
    }
}

/// Gets and ungets in every way until the file `stop` appears; reports the time since the last visit whenever it is
/// told that the previous holder died. Answers with its number of visits.
fn storm(hands: &mut Hands, arguments: &[Value]) -> Value {
    let folder = Path::new(arguments[0].as_str().expect("a folder"));
    let (witness, mut dice) = (Witness::open(folder), dice());
    let mut visits = 0u64;
    while !folder.join("stop").exists() {
        for _ in 0..16 {
            let wait = match dice.below(4) {
                0 => Wait::No,
                1 => Wait::For(Duration::from_micros(dice.below(3000))),
                _ => Wait::Forever,
            };
            let options = GetOptions::new().wait(wait).queue_at_once(dice.below(2) == 0);
            let Some(guard) = hands.lock().acquire_with(&options).expect("no error") else {
                continue;
            };
            let stay = dice.below(50_000);
            visit(&witness, &guard, stay);
            visits += 1;
            match dice.below(3) {
                0 => drop(guard),
                _ => assert!(guard.release().expect("no error"), "it was ours"),
            }
            busy(dice.below(20_000));
        }
    }
    json!({ "visits": visits })
}

/// The same with shared and counted holds, too, which may overlap but must not break anything else.
fn mixed_modes(hands: &mut Hands, arguments: &[Value]) -> Value {
    let folder = Path::new(arguments[0].as_str().expect("a folder"));
    let (witness, mut dice) = (Witness::open(folder), dice());
    let mut visits = 0u64;
    while !folder.join("stop").exists() {
        for _ in 0..16 {
            let mode = match dice.below(3) {
                0 => Mode::Exclusive,
                1 => Mode::Shared,
                _ => Mode::Slots(2),
            };
            let options = GetOptions::new()
                .wait(Wait::Forever)
                .mode(mode)
                .queue_at_once(dice.below(2) == 0);
            let guard = hands.lock().acquire_with(&options).unwrap().expect("no error");
            let stay = dice.below(30_000);
            if mode == Mode::Exclusive {
                visit(&witness, &guard, stay);
                visits += 1;
            } else {
                busy(stay);
            }
        }
    }
    json!({ "visits": visits })
}

/// Loops while others force releases: a hold may be lost, but tokens still grow.
fn forced(hands: &mut Hands, arguments: &[Value]) -> Value {
    let folder = Path::new(arguments[0].as_str().expect("a folder"));
    let (mut visits, mut token) = (0u64, 0);
    while !folder.join("stop").exists() {
        for _ in 0..16 {
            let guard = hands.lock().acquire().expect("no error");
            assert!(guard.token() > token, "{} after {token}", guard.token());
            token = guard.token();
            busy(20_000);
            let _ = guard.release().expect("no error"); // false if it was released by force
            visits += 1;
        }
    }
    json!({ "visits": visits })
}

/// Further requests that this file's workers understand.
pub const SKILLS: &[(&str, Skill)] = &[("storm", storm), ("mixed_modes", mixed_modes), ("forced", forced)];

/// Has `crowd` processes perform `skill`, and kills and replaces one of them `kills` times.
fn survive(skill: &str, crowd: usize, kills: usize) {
    let (lock, folder) = (TestLock::new("storm"), tempfile::tempdir().unwrap());
    let witness = Witness::open(folder.path());
    let mut dice = dice();
    let start = || {
        let mut worker = Worker::start();
        worker.send(json!(["open", lock.name()]));
        worker.send(json!([skill, folder.path()]));
        worker
    };
    let mut workers: Vec<Worker> = (0..crowd).map(|_| start()).collect();
    let mut gaps = Vec::new();
    let mut visits = 0;
    let mut hear = |worker: &mut Worker, answer: Value, gaps: &mut Vec<u64>| {
        if let Some(gap) = answer["gap"].as_u64() {
            gaps.push(gap);
        } else if let Some(own) = answer["visits"].as_u64() {
            visits += own;
            return true;
        } else {
            assert_eq!(answer, Value::Null, "process {}", worker.id());
        }
        false
    };
    for kill in 0..kills {
        let seen = witness.read().value;
        std::thread::sleep(Duration::from_micros(dice.below(4000)));
        let victim = &mut workers[dice.below(crowd as u64) as usize];
        // About half are killed at work, wherever they are; the others perhaps while they start.
        victim.kill();
        while let Some(answer) = victim.try_answer() {
            hear(victim, answer, &mut gaps);
        }
        *victim = start();
        if kill % 16 == 0 {
            wait_until("the storm goes on", || witness.read().value > seen + 16);
        }
    }
    std::fs::write(folder.path().join("stop"), "").unwrap();
    for worker in &mut workers {
        loop {
            let answer = worker.answer();
            if hear(worker, answer, &mut gaps) {
                break;
            }
        }
    }
    let count = witness.read();
    println!(
        "{skill}: {kills} kills, {} visits, {} holders killed; next visit after (ms) p50 {:.2} p99 {:.2} worst {:.2}",
        count.value,
        lock.state().counters.unwrap().abandoned,
        percentile(&mut gaps, 50),
        percentile(&mut gaps, 99),
        percentile(&mut gaps, 100),
    );
    assert!(
        visits <= count.value,
        "{visits} visits were counted, {} are left",
        count.value
    );
    drop(workers);
    lock.open().repair().unwrap();
    let state = lock.state();
    assert!(state.holders.is_empty() && state.waiters.is_empty(), "{state:?}");
    assert_eq!((state.locked, lock.flag_word().value), (false, 1));
    assert!(
        state.counters.as_ref().unwrap().abandoned > 0,
        "none was killed while it held the lock"
    );
}

#[test]
fn a_storm_of_kills_is_survived() {
    survive("storm", 4, kills());
}

#[test]
fn a_storm_of_kills_in_all_modes_is_survived() {
    survive("mixed_modes", 4, kills());
}

/// The holder is killed while the next one sleeps in the queue. Prints how long the next one takes to get the lock.
#[test]
fn the_next_in_line_has_it_soon() {
    let lock = TestLock::new("storm");
    let mut waits = Vec::new();
    let mut holder = Worker::open(&lock);
    holder.get(Ask::default()).unwrap();
    for round in 0..kills().min(1000) / 5 {
        let mut next = Worker::open(&lock);
        next.send_get(Ask::default());
        wait_until("it waits", || lock.state().waiters.len() == 1);
        // Not always at the same point of its polling interval.
        std::thread::sleep(Duration::from_micros(round as u64 * 37 % 2000));
        let killed = monotonic();
        holder.signal(Signal::SIGKILL);
        let grant = next.granted().unwrap();
        assert!(grant.abandoned);
        waits.push(grant.at - killed);
        holder = next;
    }
    println!(
        "the next in line gets it (ms) p50 {:.2} p99 {:.2} worst {:.2} after the kill",
        percentile(&mut waits, 50),
        percentile(&mut waits, 99),
        percentile(&mut waits, 100)
    );
    assert_eq!(lock.state().counters.unwrap().abandoned, waits.len() as u64);
}

/// A forced release at any moment may cost a hold, but never the lock.
#[test]
fn forced_releases_at_random_instants_leave_a_working_lock() {
    let lock = TestLock::new("storm");
    let folder = tempfile::tempdir().unwrap();
    let mut crowd: Vec<Worker> = (0..3).map(|_| Worker::open(&lock)).collect();
    for worker in &mut crowd {
        worker.send(json!(["forced", folder.path()]));
    }
    let handle = ResourceLock::open(lock.name()).unwrap();
    let mut dice = dice();
    for _ in 0..300 {
        std::thread::sleep(Duration::from_micros(dice.below(500)));
        handle.unget_lock(UngetOptions::new().force(true)).unwrap();
    }
    std::fs::write(folder.path().join("stop"), "").unwrap();
    for worker in &mut crowd {
        assert!(worker.answer()["visits"].as_u64().is_some_and(|visits| visits > 0));
    }
    let state = lock.state();
    assert!(!state.locked && state.value == 1 && state.holders.is_empty() && state.waiters.is_empty());
    assert!(state.counters.as_ref().unwrap().forced > 0);
}
