//! Fault 4: a program's callbacks, its logger included, may panic and may use the handle that calls them.

use crate::common::worker::{Hands, Skill};
use crate::common::{Ask, TestLock, Worker, wait_until};
use log::{LevelFilter, Log, Metadata, Record};
use resourcelock::{Detached, GetOptions, Mode, ResourceLock, UngetOptions, Wait};
use serde_json::{Value, json};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

pub const SKILLS: &[(&str, Skill)] = &[
    ("f4_panics_in_on_wait", panics_in_on_wait),
    ("f4_logs", logs),
    ("f4_panics_in_the_log", panics_in_the_log),
];

fn now() -> GetOptions<'static> {
    GetOptions::new().wait(Wait::No)
}

fn panics_in_on_wait(hands: &mut Hands, _: &[Value]) -> Value {
    let options = GetOptions::new().wait(Wait::Forever);
    let options = options.on_wait(Duration::from_millis(1), |_| panic!("on purpose"));
    let outcome = catch_unwind(AssertUnwindSafe(|| hands.lock().get_lock(&options)));
    json!(outcome.is_err())
}

#[test]
fn a_panic_in_on_wait_leaves_the_queue() {
    let lock = TestLock::new("f4");
    let [mut holder, mut panicking, mut next] = [0; 3].map(|_| Worker::open(&lock));
    assert!(holder.get(Ask::now()).is_some());
    assert_eq!(panicking.ask(json!(["f4_panics_in_on_wait"])), json!(true));
    assert_eq!(
        lock.state().waiters.len(),
        0,
        "the process lives, but its request is gone"
    );
    next.send_get(Ask::default());
    wait_until("it waits", || lock.state().waiters.len() == 1);
    assert!(holder.release());
    assert!(next.granted().is_some() && next.release());
    assert!(panicking.get(Ask::now()).is_some(), "its handle still works");
}

/// A logger that, when called, does to a handle whatever a program may do.
struct Meddling {
    lock: OnceLock<&'static ResourceLock>,
    /// Panics at a message that contains this.
    panics_at: Mutex<String>,
    heard: Mutex<Vec<String>>,
}

static MEDDLING: Meddling = Meddling {
    lock: OnceLock::new(),
    panics_at: Mutex::new(String::new()),
    heard: Mutex::new(Vec::new()),
};

thread_local! {
    static MEDDLES: Cell<bool> = const { Cell::new(false) };
}

impl Log for Meddling {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        self.meddle();
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        self.meddle();
        let panics = self.panics_at.lock().unwrap().clone();
        let panics = !panics.is_empty() && text.contains(&panics);
        self.heard.lock().unwrap().push(text);
        assert!(!panics, "on purpose");
    }

    fn flush(&self) {}
}

impl Meddling {
    fn start(&self, lock: &'static ResourceLock) {
        self.lock.set(lock).expect("once");
        log::set_logger(&MEDDLING).expect("once");
        log::set_max_level(LevelFilter::Trace);
    }

    fn meddle(&self) {
        let Some(lock) = self.lock.get() else { return };
        if MEDDLES.replace(true) {
            return; // what it does is logged, too
        }
        let _ = (
            lock.state(),
            lock.is_locked().unwrap(),
            lock.have_the_lock(),
            lock.token(),
        );
        let _ = (lock.lock_value(), lock.get_lock_info(), lock.repair());
        let _ = lock.unget_lock(UngetOptions::new().token(1));
        MEDDLES.set(false);
    }
}

/// Each of these calls logs something, and returns all the same.
fn logs(hands: &mut Hands, arguments: &[Value]) -> Value {
    let name = arguments[0].as_str().expect("a name");
    let lock = hands.lock();
    MEDDLING.start(lock);
    let long = "x".repeat(5000);
    assert!(lock.get_lock(&now().lock_info(&long)).unwrap());
    assert!(lock.get_lock(&now().same_process_ok(true)).unwrap());
    assert!(lock.acquire_with(&now()).unwrap().is_none());
    lock.set_lock_info("note").unwrap();
    assert!(lock.unget_lock(UngetOptions::new()).unwrap());
    assert!(!lock.unget_lock(UngetOptions::new()).unwrap());
    let guard = lock.acquire_with(&now()).unwrap().unwrap();
    assert!(!lock.unget_lock(UngetOptions::new()).unwrap());
    // Released by force, and more than once.
    let semaphore = std::fs::OpenOptions::new()
        .write(true)
        .open(format!("/dev/shm/sem.{name}"))
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&semaphore, &3_u32.to_le_bytes(), 0).unwrap();
    assert!(guard.lost().is_some());
    drop(guard);
    assert!(lock.acquire_with(&now()).unwrap().unwrap().release().unwrap());
    assert!(!lock.unget_lock(UngetOptions::new().force(true)).unwrap());
    drop(
        lock.acquire_with(&now().detached(Detached::default()))
            .unwrap()
            .unwrap(),
    );
    assert!(lock.unget_lock(UngetOptions::new().force(true)).unwrap());
    // Replaced while it waits, and while it is held.
    let other = ResourceLock::open(name).unwrap();
    let held = other.acquire_with(&now()).unwrap().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let waited = lock
                .acquire_with(&GetOptions::new().wait(Wait::Forever).mode(Mode::Shared))
                .unwrap()
                .unwrap();
            assert!(waited.lost().is_none());
            resourcelock::remove(name, true).unwrap();
            assert!(waited.lost().is_some());
        });
        wait_until("it waits", || other.state().unwrap().waiters.len() == 1);
        resourcelock::remove(name, true).unwrap();
    });
    drop(held);
    assert!(lock.get_lock(&now()).unwrap() && lock.unget_lock(UngetOptions::new()).unwrap());
    json!(*MEDDLING.heard.lock().unwrap())
}

#[test]
fn a_logger_may_use_the_handle() {
    let lock = TestLock::new("f4");
    let mut dying = Worker::open(&lock);
    assert!(dying.get(Ask::now()).is_some());
    dying.kill();
    let mut worker = Worker::open(&lock);
    let heard = worker.ask(json!(["f4_logs", lock.name()]));
    let heard: Vec<&str> = heard.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for text in [
        "lock request successful",
        "note is too long",
        "the previous holder died",
        "lock already acquired",
        "lock request timed out",
        "lock released",
        "unget request ignored",
        "stood at 3",
        "lock force released",
        "opened afresh",
    ] {
        assert!(heard.iter().any(|line| line.contains(text)), "{text}: {heard:#?}");
    }
}

/// If the logger panics at the message about a grant, the lock has not been acquired.
fn panics_in_the_log(hands: &mut Hands, _: &[Value]) -> Value {
    let lock = hands.lock();
    MEDDLING.start(lock);
    let panicked = |at: &str, what: &dyn Fn()| {
        at.clone_into(&mut MEDDLING.panics_at.lock().unwrap());
        let outcome = catch_unwind(AssertUnwindSafe(what));
        MEDDLING.panics_at.lock().unwrap().clear();
        assert!(outcome.is_err(), "{at}");
    };
    let granted = "request successful";
    panicked(granted, &|| {
        let _ = lock.get_lock(&now());
    });
    assert!(!lock.have_the_lock() && !lock.state().unwrap().locked);
    panicked(granted, &|| drop(lock.acquire_with(&now())));
    assert!(!lock.have_the_lock() && !lock.state().unwrap().locked);
    panicked(granted, &|| {
        drop(lock.acquire_with(&now().detached(Detached::default())))
    });
    assert!(!lock.state().unwrap().locked);
    let guard = lock.acquire_with(&now()).unwrap().unwrap();
    panicked("already acquired", &|| {
        drop(lock.acquire_with(&now().same_process_ok(true)))
    });
    assert!(guard.lost().is_none());
    drop(guard);
    assert!(!lock.state().unwrap().locked);
    assert!(lock.get_lock(&now()).unwrap());
    panicked("already acquired", &|| {
        let _ = lock.get_lock(&now().same_process_ok(true));
    });
    panicked("lock released", &|| {
        let _ = lock.unget_lock(UngetOptions::new());
    });
    assert!(!lock.state().unwrap().locked);
    json!(true)
}

#[test]
fn a_logger_may_panic() {
    let lock = TestLock::new("f4");
    let mut worker = Worker::open(&lock);
    assert_eq!(worker.ask(json!(["f4_panics_in_the_log"])), json!(true));
    assert!(!lock.state().locked);
}
