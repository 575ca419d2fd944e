//! Fault 5: guards tell the truth about their hold, whatever its kind; holds that are shared within a process are
//! counted.

use crate::common::{Inside, TestLock};
use resourcelock::{Detached, Error, GetOptions, Guard, Lost, Mode, ResourceLock, UngetOptions, Wait, engines};
use std::os::unix::fs::FileExt;

fn now() -> GetOptions<'static> {
    GetOptions::new().wait(Wait::No)
}

fn again() -> GetOptions<'static> {
    now().same_process_ok(true)
}

fn unget(handle: &ResourceLock) -> bool {
    handle.unget_lock(UngetOptions::new()).unwrap()
}

#[test]
fn a_shared_hold_ends_with_the_last_guard() {
    let lock = TestLock::new("f5");
    let handle = lock.open();
    let outer = handle.acquire_with(&now()).unwrap().unwrap();
    let inner = handle.acquire_with(&again()).unwrap().unwrap();
    let third = handle.acquire_with(&again()).unwrap().unwrap();
    assert!(inner.token() == outer.token() && third.token() == outer.token());
    drop(outer);
    assert!(lock.state().locked && inner.lost().is_none() && third.lost().is_none());
    assert!(inner.release().unwrap(), "it was held until now");
    assert!(lock.state().locked && handle.have_the_lock());
    drop(third);
    assert!(!lock.state().locked && !handle.have_the_lock());
}

#[test]
fn in_threads_too() {
    let lock = TestLock::new("f5");
    let handle = lock.open();
    let outer = handle.acquire_with(&now()).unwrap().unwrap();
    std::thread::scope(|scope| {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel();
        let (handle, lock) = (&handle, &lock);
        scope.spawn(move || {
            let inner = handle.acquire_with(&again()).unwrap().unwrap();
            begun.send(()).unwrap();
            may_go_on.recv().unwrap();
            assert!(inner.lost().is_none() && lock.state().locked);
        });
        has_begun.recv().unwrap();
        drop(outer);
        go_on.send(()).unwrap();
    });
    assert!(!lock.state().locked);
}

#[test]
fn only_a_mode_that_includes_the_other_is_shared() {
    let modes = [Mode::Exclusive, Mode::Shared, Mode::Slots(1), Mode::Slots(3)];
    for held in modes {
        for asked in modes {
            let lock = TestLock::new("f5");
            let handle = lock.open();
            let outer = handle.acquire_with(&now().mode(held)).unwrap().unwrap();
            let inner = handle.acquire_with(&again().mode(asked));
            if held == Mode::Exclusive || held == asked {
                let inner = inner.unwrap().expect("it is included");
                assert_eq!(inner.token(), outer.token(), "{held:?} {asked:?}");
            } else if matches!((held, asked), (Mode::Slots(_), Mode::Slots(_))) {
                assert!(matches!(inner, Err(Error::SlotsDiffer { .. })), "{held:?} {asked:?}");
            } else {
                assert!(inner.unwrap().is_none(), "{held:?} {asked:?}");
            }
        }
    }
}

#[test]
fn so_does_a_job() {
    for (outer, inner, status) in [
        ("-x", "-s", 0),
        ("-x", "-x", 0),
        ("-s", "-s", 0),
        ("-s", "-x", 75),
        ("-j2", "-s", 75),
    ] {
        let lock = TestLock::new("f5");
        let plain = lock.command(&["run", "-n", "-q", "--same-process-ok", inner, "true"]);
        let mut command = lock.command(&["run", "-n", outer]);
        command.arg(plain.get_program()).args(plain.get_args());
        assert_eq!(command.status().unwrap().code(), Some(status), "{outer} {inner}");
        let plain = lock.command(&["get", "-n", "-q", "--same-process-ok", inner]);
        let mut command = lock.command(&["run", "-n", outer]);
        command.arg(plain.get_program()).args(plain.get_args());
        assert_eq!(command.status().unwrap().code(), Some(status), "{outer} {inner}");
    }
}

/// As in the Python module, one release is enough, however often the lock was requested. But it does not end a guard's
/// hold.
#[test]
fn the_handle_is_one_of_its_users() {
    let lock = TestLock::new("f5");
    let handle = lock.open();
    assert!(handle.get_lock(&now()).unwrap() && handle.get_lock(&again()).unwrap());
    assert!(unget(&handle) && !lock.state().locked && !unget(&handle));

    let guard = handle.acquire_with(&now()).unwrap().unwrap();
    assert!(!unget(&handle), "it is the guard's");
    assert!(!handle.leave_taken().unwrap(), "it is the guard's");
    assert!(guard.lost().is_none() && handle.have_the_lock());
    assert!(handle.get_lock(&again()).unwrap());
    assert!(unget(&handle) && lock.state().locked && !unget(&handle));
    assert!(handle.get_lock(&again()).unwrap());
    drop(guard);
    assert!(lock.state().locked, "the handle still has it");
    assert!(unget(&handle) && !lock.state().locked);
}

#[test]
fn every_kind_of_guard_knows_when_its_hold_is_lost() {
    type Acquire = for<'a> fn(&'a ResourceLock) -> Guard;
    let kinds: [(&str, Acquire); 3] = [
        ("plain", |handle| handle.acquire_with(&now()).unwrap().unwrap()),
        ("shared within the process", |handle| {
            handle.get_lock(&now()).unwrap();
            handle.acquire_with(&again()).unwrap().unwrap()
        }),
        ("detached", |handle| {
            handle
                .acquire_with(&now().detached(Detached::default()))
                .unwrap()
                .unwrap()
        }),
    ];
    for (kind, acquire) in kinds {
        let lock = TestLock::new("f5");
        let handle = lock.open();
        let guard = acquire(&handle);
        assert_eq!(guard.lost(), None, "{kind}");
        let by_token = UngetOptions::new().token(guard.token());
        assert!(lock.open().unget_lock(by_token).unwrap(), "{kind}");
        assert_eq!(guard.lost(), Some(Lost::Forced), "{kind}");
        assert!(matches!(guard.bind(std::process::id()), Err(Error::NotHeld)), "{kind}");
        assert!(matches!(guard.let_lapse(), Err(Error::NotHeld)), "{kind}");
        assert!(matches!(guard.keep_alive_in_children(), Err(Error::NotHeld)), "{kind}");
        assert!(!guard.release().unwrap(), "{kind}");
        drop(handle);

        let handle = lock.open();
        let guard = acquire(&handle);
        for path in lock.objects() {
            std::fs::remove_file(path).unwrap();
        }
        assert_eq!(guard.lost(), Some(Lost::Replaced), "{kind}");
        assert!(matches!(guard.keep_alive_in_children(), Err(Error::NotHeld)), "{kind}");
    }
}

/// The semaphore shows the loss even while nobody can repair the table.
#[test]
fn a_busy_table_hides_no_loss() {
    let lock = TestLock::new("f5");
    let handle = lock.open();
    let guard = handle.acquire_with(&now()).unwrap().unwrap();
    let inside = Inside::enter(&lock);
    let semaphore = std::fs::OpenOptions::new()
        .write(true)
        .open(lock.paths().semaphore_path())
        .unwrap();
    semaphore.write_all_at(&1_u32.to_le_bytes(), 0).unwrap(); // as sem_post(3) does
    assert_eq!(guard.lost(), Some(Lost::Forced));
    drop(inside);
}

#[test]
fn a_detached_hold_stays_unless_its_guard_releases_it() {
    let lock = TestLock::new("f5");
    let handle = lock.open();
    let detached = || now().detached(Detached::default());
    let guard = handle.acquire_with(&detached()).unwrap().unwrap();
    assert!(!handle.have_the_lock() && handle.token().is_none());
    assert!(handle.acquire_with(&again()).unwrap().is_none(), "it belongs to nobody");
    drop(guard);
    assert!(lock.state().holders[0].detached);
    assert!(!unget(&handle) && lock.state().locked);
    drop(handle);
    assert!(lock.state().locked);
    assert!(lock.open().unget_lock(UngetOptions::new().force(true)).unwrap());

    let handle = lock.open();
    let guard = handle.acquire_with(&detached()).unwrap().unwrap();
    guard.bind(std::process::id()).unwrap();
    assert_eq!(lock.state().holders[0].bound_pid, Some(std::process::id()));
    assert!(guard.release().unwrap());
    assert!(!lock.state().locked);
}

/// Those options have no meaning for an engine.
#[test]
fn an_engine_takes_no_detached_hold_for_its_own() {
    let lock = TestLock::new("f5");
    let engine = engines::open("local:").unwrap();
    let options = now().detached(Detached::default()).same_process_ok(true);
    let held = engine.acquire(lock.paths(), &options).unwrap().unwrap();
    assert_eq!(held.lost(), None);
    assert!(engine.acquire(lock.paths(), &again()).unwrap().is_none());
    assert!(held.release().unwrap());
    assert!(!lock.state().locked);
    let hold = engine
        .acquire_detached(lock.paths(), &again(), Detached::default())
        .unwrap()
        .unwrap();
    assert!(lock.state().holders[0].token == Some(hold.token) && lock.state().holders[0].detached);
}
