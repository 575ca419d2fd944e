//! With the real Python module on the same lock, under load: no overlap, no lost updates, no starvation.

use crate::common::{LineChild, Peer, TestLock, example, wait_until};
use resourcelock::{GetOptions, ResourceLock, Wait};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Three Python and three Rust processes increment a counter in a file: read it, add 1, write it back. They fail if a
/// mark shows that another one is at work, too.
#[test]
fn three_python_and_three_rust_workers_lose_nothing() {
    const PYTHON_ROUNDS: usize = 300;
    const RUST_ROUNDS: usize = 1000;
    let (lock, folder) = (TestLock::new("load"), tempfile::tempdir().unwrap());
    fs::write(folder.path().join("counter"), "0").unwrap();
    let mut pythons: Vec<Peer> = (0..3).map(|_| Peer::open(&lock)).collect();
    let mut ours: Vec<LineChild> = (0..3).map(|_| rust_worker(&lock, folder.path(), RUST_ROUNDS)).collect();
    for python in &mut pythons {
        python.send(json!(["work", folder.path(), PYTHON_ROUNDS]));
    }
    let mut numbers = Numbers::default();
    for worker in &mut ours {
        assert!(worker.wait().success(), "nobody else was at work");
        numbers.add_lines(worker);
    }
    for python in &mut pythons {
        numbers.add_answer(&python.answer());
    }
    let all = 3 * (PYTHON_ROUNDS + RUST_ROUNDS);
    assert_eq!(numbers.0.len(), all);
    assert_counter(folder.path(), all);
    assert_eq!(lock.flag_word().value, 1);
    assert_eq!(lock.state().counters.unwrap().acquisitions, 3 * RUST_ROUNDS as u64);
}

/// Rust workers are killed at random instants and replaced, while others and two Python workers go on.
#[test]
fn with_rust_workers_killed_nothing_is_lost_and_nobody_is_stuck() {
    const KILLS: usize = 150;
    const PYTHON_ROUNDS: usize = 200;
    let (lock, folder) = (TestLock::new("load"), tempfile::tempdir().unwrap());
    fs::write(folder.path().join("counter"), "0").unwrap();
    let mut pythons: Vec<Peer> = (0..2).map(|_| Peer::open(&lock)).collect();
    for python in &mut pythons {
        python.send(json!(["work", folder.path(), PYTHON_ROUNDS]));
    }
    let start = || rust_worker(&lock, folder.path(), 1_000_000);
    let mut ours: Vec<LineChild> = (0..3).map(|_| start()).collect();
    let mut numbers = Numbers::default();
    for kill in 0..KILLS {
        let victim = &mut ours[kill % 3];
        // It is at work by now, and is killed at any instant of its rounds.
        numbers.add(victim.line().parse().unwrap());
        std::thread::sleep(Duration::from_micros(kill as u64 * 7919 % 2000));
        numbers.add_lines_of_killed(victim);
        ours[kill % 3] = start();
    }
    for python in &mut pythons {
        numbers.add_answer(&python.answer());
    }
    for worker in &mut ours {
        numbers.add_lines_of_killed(worker);
    }
    let counter = numbers.assert_complete(folder.path(), KILLS + 3);
    let abandoned = lock.state().counters.unwrap().abandoned;
    println!("{counter} rounds, {KILLS} kills, {abandoned} of them while holding");
    let last = lock.open();
    assert!(last.get_lock(&GetOptions::new().wait(Wait::Forever)).unwrap());
    assert!(last.unget_lock(Default::default()).unwrap());
    assert_eq!(lock.flag_word().value, 1);
}

/// The numbers that workers have written: none may appear twice.
#[derive(Default)]
pub struct Numbers(HashSet<u64>);

impl Numbers {
    pub fn add(&mut self, number: u64) {
        assert!(self.0.insert(number), "{number} was written twice: an update was lost");
    }

    /// Asserts that nearly all up to the counter are there, and returns it: a worker that was killed may have written a
    /// number without printing it.
    pub fn assert_complete(&self, folder: &Path, killed: usize) -> usize {
        let counter = fs::read_to_string(folder.join("counter")).unwrap();
        let counter: usize = counter.parse().unwrap();
        let unsaid = counter - self.0.len();
        assert!(unsaid <= killed, "{unsaid} numbers of {counter} were written by nobody");
        counter
    }

    fn add_answer(&mut self, answer: &Value) {
        answer
            .as_array()
            .expect("a list")
            .iter()
            .for_each(|number| self.add(number.as_u64().unwrap()));
    }

    /// Collects what a worker that has exited printed.
    fn add_lines(&mut self, worker: &mut LineChild) {
        worker.rest().iter().for_each(|line| self.add(line.parse().unwrap()));
    }

    pub fn add_lines_of_killed(&mut self, worker: &mut LineChild) {
        worker.kill();
        assert_eq!(worker.wait().signal(), Some(9), "it had not failed");
        self.add_lines(worker);
    }
}

/// Each round is a separate command that starts, waits, runs and exits.
#[test]
fn python_workers_and_commands_lose_nothing() {
    const ROUNDS: usize = 60;
    let (lock, folder) = (TestLock::new("load"), tempfile::tempdir().unwrap());
    fs::write(folder.path().join("counter"), "0").unwrap();
    let mut python = Peer::open(&lock);
    python.send(json!(["work", folder.path(), ROUNDS]));
    let raise = "echo $$ > pid.$$ && ln pid.$$ inside || exit 9; number=$(($(cat counter) + 1))
                 echo $number > counter.$$; mv counter.$$ counter; rm inside; echo $number";
    let numbers = Mutex::new(Numbers::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let mut run = lock.command(&["run", "--", "sh", "-c", raise]);
                    let number = crate::common::printed(run.current_dir(folder.path()));
                    numbers.lock().unwrap().add(number.trim().parse().unwrap());
                }
            });
        }
    });
    numbers.lock().unwrap().add_answer(&python.answer());
    assert_counter(folder.path(), 3 * ROUNDS);
}

/// A Python process that holds for 20 ms and asks again at once leaves us a fair share.
#[test]
fn a_busy_python_holder_does_not_starve_us() {
    const OURS: u32 = 20;
    let lock = TestLock::new("load");
    let mut python = Peer::open(&lock);
    let ours = lock.open();
    // More rounds than needed; the peer is killed when we have had our grants. Its notes are numbered.
    python.send(json!(["hold", 100_000, 0.02]));
    let mut theirs = 0;
    for _ in 0..OURS {
        wait_until("Python holds it", || {
            let note = lock.note_text();
            let number = note
                .split_once("python holder ")
                .and_then(|(_, number)| number.parse().ok());
            theirs = number.unwrap_or(theirs);
            lock.flag_word().value == 0 && number.is_some()
        });
        assert!(ours.get_lock(&GetOptions::new().wait(Wait::Forever)).unwrap());
        assert!(ours.unget_lock(Default::default()).unwrap());
    }
    python.kill();
    println!("{OURS} grants for us while Python had {theirs}");
    // Without turns, they would never stop. On a busy machine, many of our turns come too late.
    assert!(OURS * 500 >= theirs, "{OURS} grants for us against {theirs}");
}

/// Two of our processes in tight loops leave a fair share to a Python process that waits in the kernel.
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

/// Holds for 2 ms and asks again at once; returns how often it had the lock.
fn hold_again_and_again(lock: &ResourceLock, done: &AtomicBool) -> u64 {
    let mut grants = 0;
    while !done.load(Ordering::Relaxed) {
        assert!(lock.get_lock(&GetOptions::new().wait(Wait::Forever)).unwrap());
        grants += 1;
        std::thread::sleep(Duration::from_millis(2));
        assert!(lock.unget_lock(Default::default()).unwrap());
    }
    grants
}

fn rust_worker(lock: &TestLock, folder: &Path, rounds: usize) -> LineChild {
    LineChild::spawn(example("count").arg(lock.name()).arg(folder).arg(rounds.to_string()))
}

fn assert_counter(folder: &Path, expected: usize) {
    let counter = fs::read_to_string(folder.join("counter")).unwrap();
    assert_eq!(counter.trim(), expected.to_string(), "counts were lost");
}
