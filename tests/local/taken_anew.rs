//! Records change hands, objects are replaced, dead processes are in the way: what is granted, forced or given up
//! leaves nothing behind.

use crate::common::{Ask, TestLock, Worker, wait_until};
use resourcelock::{Detached, Error, GetOptions, Mode, ResourceLock, UngetOptions, Wait};
use std::time::Duration;

fn soon() -> Wait {
    Wait::For(Duration::from_secs(10))
}

#[test]
fn a_grant_of_a_deleted_flag_does_not_stay_behind() {
    for detached in [true, false] {
        let lock = TestLock::new("ghost");
        let holder = ResourceLock::open(lock.name()).unwrap();
        assert!(holder.get_lock(&GetOptions::new()).unwrap());
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let handle = ResourceLock::open(lock.name()).unwrap();
                        let mut ask = GetOptions::new().wait(soon()).queue_at_once(true);
                        if detached {
                            ask = ask.detached(Detached::default());
                        }
                        assert!(handle.get_lock(&ask).unwrap(), "served in the end");
                        let force = UngetOptions::new().force(true);
                        handle
                            .unget_lock(if detached { force } else { UngetOptions::new() })
                            .unwrap()
                    })
                })
                .collect();
            wait_until("all wait", || lock.state().waiters.len() == 3);
            std::fs::remove_file(format!("/dev/shm/sem.{}", lock.name())).unwrap();
            holder.unget_lock(UngetOptions::new()).unwrap();
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
        });
        let after = ResourceLock::open(lock.name()).unwrap();
        assert!(
            after.get_lock(&GetOptions::new().wait(Wait::No)).unwrap(),
            "{:?}",
            after.state()
        );
    }
}

#[test]
fn dead_users_of_slots_do_not_fix_their_number() {
    let lock = TestLock::new("slots-dead");
    let mut dying = Worker::open(&lock);
    assert!(dying.get(Ask::mode(Mode::Slots(2))).is_some());
    let handle = ResourceLock::open(lock.name()).unwrap();
    let three = || GetOptions::new().mode(Mode::Slots(3)).wait(Wait::No);
    assert!(matches!(
        handle.get_lock(&three()),
        Err(Error::SlotsDiffer { asked: 3, in_use: 2 })
    ));
    dying.kill();
    assert!(handle.get_lock(&three()).unwrap());
}

#[test]
fn who_does_not_wait_passes_over_any_number_of_dead() {
    let lock = TestLock::new("dead-queue");
    let mut holder = Worker::open(&lock);
    assert!(holder.get(Ask::default()).is_some());
    let mut dead: Vec<Worker> = (1..=5)
        .map(|n| {
            let mut waiter = Worker::open(&lock);
            waiter.send_get(Ask::default());
            wait_until("it waits", || lock.state().waiters.len() == n);
            waiter
        })
        .collect();
    dead.push(holder);
    dead.iter().for_each(|worker| lock.stop(worker.id()));
    dead.iter_mut().for_each(Worker::kill);
    let handle = ResourceLock::open(lock.name()).unwrap();
    assert!(handle.get_lock(&GetOptions::new().wait(Wait::No)).unwrap());
}

#[test]
fn what_a_former_holder_does_touches_nobody_elses_record() {
    let lock = TestLock::new("bind");
    let handle = ResourceLock::open(lock.name()).unwrap();
    let former = handle.acquire().unwrap();
    let other = ResourceLock::open(lock.name()).unwrap();
    assert!(other.unget_lock(UngetOptions::new().force(true)).unwrap());
    let mut next = Worker::open(&lock);
    let grant = next.get(Ask::default()).expect("free");
    // Too late: the record is the next holder's by now.
    assert!(matches!(former.bind(std::process::id()), Err(Error::NotHeld)));
    assert!(matches!(former.keep_alive_in_children(), Err(Error::NotHeld)));
    assert!(matches!(former.let_lapse(), Err(Error::NotHeld)));
    let state = lock.state();
    assert_eq!((state.holders.len(), state.holders[0].token), (1, Some(grant.token)));
    assert_eq!(state.holders[0].bound_pid, None);
    assert!(former.lost().is_some());
    next.kill();
    assert!(
        other.get_lock(&GetOptions::new().wait(soon())).unwrap(),
        "the dead holder is not kept alive by another"
    );
    assert!(other.state().unwrap().abandoned.is_some());
}

#[test]
fn the_inner_of_two_guards_does_not_release() {
    let lock = TestLock::new("inner");
    let handle = ResourceLock::open(lock.name()).unwrap();
    let outer = handle.acquire().unwrap();
    let inner = handle
        .acquire_with(&GetOptions::new().same_process_ok(true))
        .unwrap()
        .unwrap();
    assert_eq!(inner.token(), outer.token());
    drop(inner);
    assert!(handle.have_the_lock());
    assert_eq!(outer.lost(), None);
    assert!(!handle.unget_lock(UngetOptions::new()).unwrap());
    assert_eq!(outer.lost(), None, "not released under the guard");
    drop(outer);
    assert!(!handle.have_the_lock() && !lock.state().locked);
}
