//! What a program may do wrong with the library, and what comes of it: an answer or an error, never a surprise.

use crate::common::worker::{Hands, Skill};
use crate::common::{Ask, TestLock, Worker, wait_until};
use resourcelock::{Detached, Ended, Error, GetOptions, Guard, ResourceLock, UngetOptions, Wait};
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What only this file's workers know.
pub const SKILLS: &[(&str, Skill)] = &[("misuse_forget", forget)];

fn forget(hands: &mut Hands, _: &[Value]) -> Value {
    hands.guards.drain(..).for_each(std::mem::forget);
    json!(hands.lock().have_the_lock())
}

/// It is taken, also for the one who has it.
#[test]
fn a_second_request_on_one_handle() {
    let lock = TestLock::new("misuse");
    let handle = lock.open();
    let guard = handle.acquire().unwrap();
    assert!(handle.try_acquire().unwrap().is_none());
    assert!(handle.acquire_for(Duration::from_millis(5)).unwrap().is_none());
    assert!(
        handle.clone().try_acquire().unwrap().is_none(),
        "a clone is the same handle"
    );
    assert!(handle.have_the_lock() && handle.token() == Some(guard.token()));
    let shared = GetOptions::new().same_process_ok(true).wait(Wait::No);
    assert!(handle.acquire_with(&shared).unwrap().is_some());
}

/// The lock stays taken until the process ends.
#[test]
fn a_forgotten_guard() {
    let lock = TestLock::new("misuse");
    let mut worker = Worker::open(&lock);
    assert!(worker.get(Ask::now()).is_some());
    assert_eq!(worker.ask(json!(["misuse_forget"])), json!(true));
    assert!(lock.state().locked && lock.open().try_acquire().unwrap().is_none());
    assert!(worker.end().success());
    wait_until("the process's end has released it", || !lock.state().locked);
    assert!(lock.open().acquire().unwrap().abandoned(), "it counts as a death");
}

/// A guard needs no handle. What was acquired in the Python module's words ends with the handle.
#[test]
fn the_handle_is_dropped_first() {
    let lock = TestLock::new("misuse");
    let guard = lock.open().acquire().unwrap();
    assert!(lock.state().locked && guard.lost().is_none());
    guard.bind(std::process::id()).unwrap();
    assert!(guard.release().unwrap());

    let handle = lock.open();
    let shared = GetOptions::new().mode(resourcelock::Mode::Shared).wait(Wait::No);
    let guard = handle.acquire_with(&shared).unwrap().unwrap();
    assert!(handle.get_lock(&shared).unwrap());
    let clone = handle.clone();
    handle.close();
    assert_eq!(lock.state().holders.len(), 2, "a clone is still there");
    drop(clone);
    assert_eq!(lock.state().holders.len(), 1);
    assert!(guard.lost().is_none());
    drop(guard);

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let handle = lock.open();
        assert!(handle.get_lock(&GetOptions::new()).unwrap());
        panic!("the handle is dropped");
    }));
    assert!(panicked.is_err() && !lock.state().locked);
    assert!(!lock.open().acquire().unwrap().abandoned(), "guards tell of it alone");
}

#[test]
fn guards_live_in_structs_and_other_threads() {
    struct Bus {
        _lock: ResourceLock,
        guard: Guard,
    }
    fn fits<T: Send + Sync + 'static>(value: T) -> T {
        value
    }
    let lock = TestLock::new("misuse");
    let handle = lock.open();
    let guard = handle.acquire().unwrap();
    let bus = fits(Bus { _lock: handle, guard });
    std::thread::spawn(move || assert!(bus.guard.lost().is_none()))
        .join()
        .unwrap();
    assert!(!lock.state().locked);
}

/// Two locks in the wrong order: a wait with a limit ends, and all at once is safe in any order.
#[test]
fn two_guards_in_the_wrong_order() {
    let locks = [TestLock::new("misuse"), TestLock::new("misuse")];
    let handles = || [locks[0].open(), locks[1].open()];
    let (here, there) = (handles(), handles());
    let held = here[0].acquire().unwrap();
    let other = there[1].acquire().unwrap();
    assert!(here[1].acquire_for(Duration::from_millis(20)).unwrap().is_none());
    drop((held, other));
    let rounds = |first: usize| {
        let [a, b] = handles();
        let (first, second) = if first == 0 { (&a, &b) } else { (&b, &a) };
        for _ in 0..200 {
            let options = GetOptions::new().wait(Wait::Forever);
            let guards = ResourceLock::acquire_all(&[first, second], &options).unwrap().unwrap();
            assert_eq!(guards[0].name(), first.name());
            assert_eq!(guards[1].name(), second.name());
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| rounds(0));
        scope.spawn(|| rounds(1));
    });
}

#[test]
fn all_or_none() {
    let locks = [TestLock::new("misuse"), TestLock::new("misuse")];
    let [one, two] = [locks[0].open(), locks[1].open()];
    let now = GetOptions::new().wait(Wait::For(Duration::from_millis(20)));
    let held = locks[1].open().acquire().unwrap();
    assert!(ResourceLock::acquire_all(&[&one, &two], &now).unwrap().is_none());
    assert!(!locks[0].state().locked, "none");
    drop(held);
    let twice = ResourceLock::acquire_all(&[&one, &two, &locks[0].open()], &now);
    assert!(matches!(twice, Err(Error::Twice { .. })), "{twice:?}");
    assert!(!locks[0].state().locked);
    assert_eq!(
        ResourceLock::acquire_all(&[], &now).unwrap().map(|all| all.len()),
        Some(0)
    );
}

/// What was acquired before is released, also what would have stayed without a process.
#[test]
fn all_or_none_of_detached_holds() {
    let locks = [TestLock::new("misuse"), TestLock::new("misuse")];
    let [one, two] = [locks[0].open(), locks[1].open()];
    let leave = GetOptions::new().wait(Wait::No).detached(Detached::default());
    let held = locks[1].open().acquire().unwrap();
    assert!(ResourceLock::acquire_all(&[&one, &two], &leave).unwrap().is_none());
    assert!(!locks[0].state().locked, "none");
    drop(held);
    drop(ResourceLock::acquire_all(&[&one, &two], &leave).unwrap().expect("both"));
    for (handle, lock) in [(one, &locks[0]), (two, &locks[1])] {
        assert!(lock.state().locked, "all: left taken");
        assert!(handle.unget_lock(UngetOptions::new().force(true)).unwrap());
    }
}

/// A panic before all are acquired says nothing of what they protect: nothing was done under them.
#[test]
fn a_panic_while_one_of_all_is_waited_for() {
    let locks = [TestLock::new("misuse"), TestLock::new("misuse")];
    let mut handles = [locks[0].open(), locks[1].open()];
    handles.sort_by(|a, b| a.name().cmp(b.name()));
    let [first, second] = &handles;
    let _held = ResourceLock::open(second.name()).unwrap().acquire().unwrap();
    let options = GetOptions::new().on_wait(Duration::from_millis(1), |_| panic!("on purpose"));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        ResourceLock::acquire_all(&[first, second], &options).map(drop)
    }));
    assert!(panicked.is_err());
    assert!(!first.try_acquire().unwrap().expect("it is released").abandoned());
}

/// Whoever has the lock already has it still, also if he asks for a hold that is to stay.
#[test]
fn a_detached_hold_of_what_the_handle_has() {
    let lock = TestLock::new("misuse");
    let handle = lock.open();
    assert!(handle.get_lock(&GetOptions::new()).unwrap());
    let again = GetOptions::new().same_process_ok(true).detached(Detached::default());
    assert!(handle.get_lock(&again).unwrap());
    assert!(handle.have_the_lock() && lock.state().locked);
    assert!(handle.unget_lock(UngetOptions::new()).unwrap());
    assert!(!lock.state().locked);
}

/// Like a poisoned mutex, but nobody is kept out.
#[test]
fn a_panic_under_the_lock_is_told() {
    let lock = TestLock::new("misuse");
    let handle = lock.open();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = handle.acquire().unwrap();
        panic!("in the middle of it");
    }));
    assert!(panicked.is_err() && !lock.state().locked);
    assert_eq!(handle.history().unwrap().pop().unwrap().how, Ended::Crashed);
    let next = handle.acquire().unwrap();
    assert!(next.abandoned());
    next.mark_recovered().unwrap();
    drop(next);
    assert!(!handle.acquire().unwrap().abandoned());
    // A destructor that takes the lock while a panic unwinds is not the one that panics.
    struct Cleans(ResourceLock);
    impl Drop for Cleans {
        fn drop(&mut self) {
            drop(self.0.acquire().unwrap());
        }
    }
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _cleans = Cleans(handle.clone());
        panic!("without the lock");
    }));
    assert!(panicked.is_err());
    assert!(!handle.acquire().unwrap().abandoned());
}

#[test]
fn no_slots_at_all() {
    let lock = TestLock::new("misuse");
    let none = GetOptions::new().mode(resourcelock::Mode::Slots(0));
    assert!(matches!(lock.open().acquire_with(&none), Err(Error::NoSlots)));
    assert!(!lock.open().unget_lock(UngetOptions::new()).unwrap());
}

/// An error keeps its cause and does not repeat it; as a system's error it says the same.
#[test]
fn errors_keep_their_cause() {
    let error = ResourceLock::open("a/b").unwrap_err();
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::InvalidInput);
    let lock = TestLock::new("misuse");
    let guard = lock.open().acquire().unwrap();
    let error = guard.bind(0x7fff_fffe).unwrap_err();
    let source = std::error::Error::source(&error).expect("the system's").to_string();
    assert!(!error.to_string().contains(&source), "{error}");
    assert_eq!(error.with_source(), format!("{error}: {source}"));
}
