//! With the real Python module on the same lock, under load: nobody overlaps, nothing is lost, nobody starves.

mod common;

use common::{LineChild, Peer, TestLock, example, wait_until};
use resourcelock::{GetOptions, ResourceLock, Wait};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Three Python and three Rust processes raise one counter in a file: read it, add 1, write it back. A marker file
/// shows whether two were inside at once.
#[test]
fn three_python_and_three_rust_workers_lose_nothing() {
    const PYTHON_ROUNDS: u64 = 300;
    const RUST_ROUNDS: u64 = 1000;
    let (lock, folder) = (TestLock::new("load"), tempfile::tempdir().unwrap());
    fs::write(folder.path().join("counter"), "0").unwrap();
    let mut pythons: Vec<Peer> = (0..3).map(|_| Peer::open(&lock)).collect();
    let mut ours: Vec<LineChild> = (0..3).map(|_| rust_worker(&lock, folder.path(), RUST_ROUNDS)).collect();
    for python in &mut pythons {
        python.send(json!(["work", folder.path(), PYTHON_ROUNDS]));
    }
    for python in &mut pythons {
        assert_eq!(python.answer(), json!(0), "overlaps that a Python worker saw");
    }
    for worker in &mut ours {
        assert_eq!(worker.line(), "overlaps 0");
        assert!(worker.wait().success());
    }
    assert_counter(folder.path(), 3 * (PYTHON_ROUNDS + RUST_ROUNDS));
    assert_eq!(lock.flag_word().value, 1);
    assert_eq!(lock.state().counters.acquisitions, 3 * RUST_ROUNDS);
}

/// The same with commands: each round is a process of its own that starts, waits, runs and ends.
#[test]
fn python_workers_and_commands_lose_nothing() {
    const ROUNDS: u64 = 60;
    let (lock, folder) = (TestLock::new("load"), tempfile::tempdir().unwrap());
    fs::write(folder.path().join("counter"), "0").unwrap();
    let mut python = Peer::open(&lock);
    python.send(json!(["work", folder.path(), ROUNDS]));
    let raise = "mkdir inside || echo overlap; echo $(($(cat counter) + 1)) > counter; rmdir inside || echo overlap";
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let mut run = lock.command(&["run", "--", "sh", "-c", raise]);
                    assert_eq!(common::printed(run.current_dir(folder.path())), "");
                }
            });
        }
    });
    assert_eq!(python.answer(), json!(0), "overlaps that the Python worker saw");
    assert_counter(folder.path(), 3 * ROUNDS);
}

/// A Python process that holds for 20 ms and asks again at once leaves us a fair part.
#[test]
fn a_busy_python_holder_does_not_starve_us() {
    const OURS: u32 = 20;
    let lock = TestLock::new("load");
    let mut python = Peer::open(&lock);
    let ours = lock.open();
    // More rounds than will be needed; the peer is ended when we have had our grants.
    python.send(json!(["hold", 100_000, 0.02]));
    let start = Instant::now();
    for _ in 0..OURS {
        wait_until("Python holds it", || lock.flag_word().value == 0);
        assert!(ours.get_lock(GetOptions::new().wait(Wait::Forever)).unwrap());
        assert!(ours.unget_lock(Default::default()).unwrap());
    }
    let elapsed = start.elapsed();
    python.kill();
    // Its holds fill the time that we do not: so many grants it can have had at most.
    let theirs = elapsed.as_millis() / 20;
    println!("{OURS} grants for us while Python had at most {theirs}, in {elapsed:.1?}");
    assert!(u128::from(OURS) * 10 >= theirs, "{OURS} grants for us against {theirs}");
}

/// Two of our processes in tight loops leave a Python process that waits in the kernel a fair part.
#[test]
fn we_do_not_starve_a_waiting_python() {
    const THEIRS: u64 = 50;
    let lock = TestLock::new("load");
    let mut python = Peer::open(&lock);
    let done = AtomicBool::new(false);
    let ours: u64 = std::thread::scope(|scope| {
        let loops: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| hold_again_and_again(&lock.open(), &done)))
            .collect();
        let answer = python.ask(json!(["hold", THEIRS, 0.0]));
        done.store(true, Ordering::Relaxed);
        assert_eq!(answer, json!(null));
        loops.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("{THEIRS} grants for Python, {ours} for us");
    assert!(THEIRS * 100 >= ours, "{THEIRS} grants for Python against {ours}");
}

/// Holds for 2 ms, asks again at once; returns how often it had the lock.
fn hold_again_and_again(lock: &ResourceLock, done: &AtomicBool) -> u64 {
    let mut grants = 0;
    while !done.load(Ordering::Relaxed) {
        assert!(lock.get_lock(GetOptions::new().wait(Wait::Forever)).unwrap());
        grants += 1;
        std::thread::sleep(Duration::from_millis(2));
        assert!(lock.unget_lock(Default::default()).unwrap());
    }
    grants
}

fn rust_worker(lock: &TestLock, folder: &Path, rounds: u64) -> LineChild {
    LineChild::spawn(example("count").arg(lock.name()).arg(folder).arg(rounds.to_string()))
}

fn assert_counter(folder: &Path, expected: u64) {
    let counter = fs::read_to_string(folder.join("counter")).unwrap();
    assert_eq!(counter.trim(), expected.to_string(), "counts were lost");
}
