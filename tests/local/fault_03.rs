//! Fault 3: the mark of a holder's death is cleared only by a holder who was told and says that the damage is repaired,
//! or by hand.

use crate::common::run::{Running, lives, signal};
use crate::common::{Ask, TestLock, Worker, wait_until};
use nix::sys::signal::Signal;
use resourcelock::{Error, GetOptions, Wait, engines};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Output;

/// Lets a holder die; returns its token.
fn die(lock: &TestLock) -> u64 {
    let mut dying = Worker::open(lock);
    let token = dying.get(Ask::default()).unwrap().token;
    dying.kill();
    wait_until("it is dead", || !lock.state().locked);
    token
}

fn now() -> GetOptions<'static> {
    GetOptions::new().wait(Wait::No)
}

fn run(lock: &TestLock, words: &[&str]) -> Output {
    lock.command(words).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_end_of_a_guard_says_nothing() {
    let lock = TestLock::new("f3");
    die(&lock);
    let handle = lock.open();
    let gives_up = || -> Result<(), Error> {
        let _guard = handle.acquire_with(&now())?.unwrap();
        Err(Error::TimedOut) // in the middle of the repair
    };
    assert!(gives_up().is_err());
    let mut panicked = 0;
    let panics = catch_unwind(AssertUnwindSafe(|| {
        let guard = handle.acquire_with(&now()).unwrap().unwrap();
        panicked = guard.token();
        panic!("in the middle of the repair");
    }));
    assert!(panics.is_err());
    drop(handle.acquire_with(&now()).unwrap().unwrap());
    assert!(handle.acquire_with(&now()).unwrap().unwrap().release().unwrap());
    assert!(handle.get_lock(&now()).unwrap());
    assert!(handle.unget_lock(resourcelock::UngetOptions::new()).unwrap());
    assert!(handle.get_lock(&now()).unwrap());
    drop(handle); // still held
    assert_eq!(
        lock.state().abandoned,
        Some(panicked),
        "the panic's mark has taken the death's place"
    );
    assert!(lock.open().acquire_with(&now()).unwrap().unwrap().abandoned());
}

#[test]
fn whoever_was_told_may_say_that_it_is_repaired() {
    let lock = TestLock::new("f3");
    die(&lock);
    let handle = lock.open();
    let guard = handle.acquire_with(&now()).unwrap().unwrap();
    assert!(guard.abandoned());
    guard.mark_recovered().unwrap();
    assert!(!guard.abandoned() && lock.state().abandoned.is_none());
    guard.mark_recovered().unwrap(); // no harm
    drop(guard);
    assert!(!handle.acquire_with(&now()).unwrap().unwrap().abandoned());
    die(&lock);
    assert!(handle.get_lock(&now()).unwrap());
    handle.mark_recovered().unwrap();
    assert_eq!(lock.state().abandoned, None);
}

#[test]
fn whoever_lost_the_lock_may_not() {
    let lock = TestLock::new("f3");
    let died = die(&lock);
    let handle = lock.open();
    let guard = handle.acquire_with(&now()).unwrap().unwrap();
    let status = run(&lock, &["unget", "-q"]).status;
    assert!(status.success());
    assert!(matches!(guard.mark_recovered(), Err(Error::NotHeld)));
    drop(guard);
    assert!(matches!(handle.mark_recovered(), Err(Error::NotHeld)));
    assert_eq!(lock.state().abandoned, Some(died), "it had lost the lock");
}

/// Two readers are told of a death. One of them dies, too, of which the other one knows nothing.
#[test]
fn a_death_that_one_was_not_told_of_stays_marked() {
    let lock = TestLock::new("f3");
    die(&lock);
    let shared = Ask::mode(resourcelock::Mode::Shared);
    let mut other = Worker::open(&lock);
    let handle = lock.open();
    let guard = handle
        .acquire_with(&now().mode(resourcelock::Mode::Shared))
        .unwrap()
        .unwrap();
    let second = other.get(shared).unwrap().token;
    other.kill();
    wait_until("its death is seen", || {
        handle.repair().unwrap();
        lock.state().abandoned == Some(second)
    });
    guard.mark_recovered().unwrap();
    assert_eq!(lock.state().abandoned, Some(second));
}

#[test]
fn a_detached_guard_tells_too() {
    let lock = TestLock::new("f3");
    die(&lock);
    let handle = lock.open();
    let guard = handle
        .acquire_with(&now().detached(resourcelock::Detached::default()))
        .unwrap()
        .unwrap();
    assert!(guard.abandoned());
    guard.mark_recovered().unwrap();
    assert_eq!(lock.state().abandoned, None);
}

#[test]
fn an_engine_releases_repaired_or_not() {
    let lock = TestLock::new("f3");
    die(&lock);
    let engine = engines::open("local:").unwrap();
    let mut held = engine.acquire(lock.paths(), &now()).unwrap().unwrap();
    assert!(held.abandoned() && held.release().unwrap());
    held = engine.acquire(lock.paths(), &now()).unwrap().unwrap();
    assert!(held.abandoned());
    drop(held);
    held = engine.acquire(lock.paths(), &now()).unwrap().unwrap();
    held.mark_recovered().unwrap();
    assert!(!held.abandoned() && held.release().unwrap());
    assert!(!engine.acquire(lock.paths(), &now()).unwrap().unwrap().abandoned());
}

const SHOW: [&str; 6] = ["run", "-n", "--", "sh", "-c", "echo $RESOURCELOCK_ABANDONED; exit 4"];

#[test]
fn the_line_is_printed_once_and_the_variable_set_every_time() {
    let lock = TestLock::new("f3");
    for round in 0..2 {
        die(&lock);
        let quiet = run(&lock, &["run", "-q", "-n", "--", "false"]);
        assert_eq!(told(&quiet), "", "-q prints nothing, so nobody was told");
        for time in 0..3 {
            let output = run(&lock, &SHOW);
            assert_eq!(output.stdout, b"1\n");
            let lines = told(&output).matches("died while holding").count();
            assert_eq!(
                lines,
                usize::from(time == 0),
                "round {round}, {time}: {}",
                told(&output)
            );
        }
        let get = run(&lock, &["get", "-n", "--ttl", "10ms"]);
        assert!(get.status.success() && told(&get).is_empty(), "{get:?}");
    }
}

/// The library's message and the program's do not both appear.
#[test]
fn the_line_is_printed_once_with_a_log_too() {
    for option in ["-v", "-vv"] {
        let lock = TestLock::new("f3");
        die(&lock);
        let output = run(&lock, &["run", option, "-n", "--", "true"]);
        assert_eq!(told(&output).matches("died while holding").count(), 1, "{output:?}");
    }
    let lock = TestLock::new("f3");
    die(&lock);
    let mut logged = lock.command(&["get", "-n"]);
    let output = logged.env("RESOURCELOCK_LOG", "warn").output().unwrap();
    assert_eq!(told(&output).matches("died while holding").count(), 1, "{output:?}");
}

#[test]
fn by_hand_with_unget() {
    let lock = TestLock::new("f3");
    die(&lock);
    // A script that takes and releases the lock does not thereby say that anything was repaired.
    let pid = std::process::id().to_string();
    assert!(run(&lock, &["get", "-n", "-q", "--pid", &pid]).status.success());
    assert!(run(&lock, &["unget", "--pid", &pid]).status.success());
    assert!(run(&lock, &["get", "-n", "-q", "-a", "10ms"]).status.success());
    assert!(run(&lock, &["get", "-n", "-q"]).status.success());
    let token = lock.state().holders[0].token.unwrap().to_string();
    assert!(run(&lock, &["unget", "--token", &token]).status.success());
    assert!(lock.state().abandoned.is_some());
    // A person who takes it, repairs, and releases it does; so does one who ungets it while it is free.
    assert!(run(&lock, &["get", "-n", "-q"]).status.success());
    let output = run(&lock, &["unget"]);
    assert!(
        output.status.success() && told(&output).contains("is cleared"),
        "{output:?}"
    );
    assert_eq!(lock.state().abandoned, None);
    die(&lock);
    assert_eq!(run(&lock, &["run", "-n", "-q", "--", "false"]).status.code(), Some(1));
    let output = run(&lock, &["unget"]);
    assert!(
        output.status.success() && told(&output).contains("is cleared"),
        "{output:?}"
    );
    assert_eq!(lock.state().abandoned, None);
    assert_eq!(told(&run(&lock, &["unget"])), "");
}

/// Taking a lock away from a running command does not repair anything.
#[test]
fn not_by_taking_the_lock_away() {
    let lock = TestLock::new("f3");
    let died = die(&lock);
    let mut running = Running::listener(&lock, &["-q"]);
    let output = run(&lock, &["unget"]);
    assert!(
        output.status.success() && !told(&output).contains("cleared"),
        "{output:?}"
    );
    assert_eq!(lock.state().abandoned, Some(died));
    signal(running.command, Signal::SIGKILL);
    running.child.wait();
    assert!(!lives(running.command));
}
