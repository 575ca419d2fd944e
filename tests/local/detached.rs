//! Holds that no process of ours keeps alive: left taken, bound to a process, or for a time; and how they end.

use crate::common::{Ask, LineChild, TestLock, Worker, wait_until};
use resourcelock::{Detached, Ended, Error, GetOptions, Mode, UngetOptions, Wait};
use serde_json::json;
use std::process::Command;
use std::time::Duration;

fn detached(pid: Option<u32>, ttl: Option<Duration>) -> Ask {
    Ask {
        detached: Some(Detached {
            pid,
            ttl,
            must_unget: false,
        }),
        ..Ask::now()
    }
}

/// A process that lives until it is killed or reaches the end of its input.
fn bystander() -> LineChild {
    LineChild::spawn(&mut Command::new("cat"))
}

fn last_end(lock: &TestLock) -> (u64, Ended) {
    let record = lock.open().history().unwrap().pop().expect("something has ended");
    (record.token.expect("it was granted"), record.how)
}

#[test]
fn a_hold_that_was_left_outlives_its_process() {
    let lock = TestLock::new("detached");
    let [mut one, mut other] = [0; 2].map(|_| Worker::open(&lock));
    let token = one.get(detached(None, None)).unwrap().token;
    assert_eq!(one.ask(json!(["have"])), json!(false), "it belongs to nobody");
    assert!(one.end().success());
    let state = lock.state();
    assert!(state.locked && state.holders[0].detached && state.holders[0].alive);
    assert_eq!(other.get(Ask::now()), None);
    assert_eq!(other.ask(json!(["release"])), json!(false));
    assert_eq!(other.ask(json!(["force"])), json!(true));
    assert_eq!(last_end(&lock), (token, Ended::Released), "it ends normally");
    let grant = other.get(Ask::now()).unwrap();
    assert!(grant.token > token && !grant.abandoned);
}

#[test]
fn killing_its_process_does_not_end_it() {
    let lock = TestLock::new("detached");
    let [mut one, mut other] = [0; 2].map(|_| Worker::open(&lock));
    assert!(one.get(detached(None, None)).is_some());
    one.kill();
    other.send_get(Ask {
        wait: Some(100),
        ..Ask::default()
    });
    assert_eq!(other.granted(), None);
    assert!(lock.state().locked);
}

#[test]
fn a_detached_hold_can_be_waited_for_and_queued_for() {
    let lock = TestLock::new("detached");
    let [mut one, mut other] = [0; 2].map(|_| Worker::open(&lock));
    let first = one.get(Ask::default()).unwrap();
    other.send_get(Ask {
        wait: None,
        ..detached(None, None)
    });
    wait_until("it waits", || lock.state().waiters.len() == 1);
    assert!(one.release());
    let second = other.granted().expect("its turn");
    assert!(other.end().success());
    assert!(lock.state().holders[0].detached);
    assert!(first.token < second.token);
    assert_eq!(one.ask(json!(["unget_token", second.token])), json!(true));
    assert!(!lock.state().locked);
}

/// While it waits, it depends on its process like any other request: nobody can leave a lock taken posthumously.
#[test]
fn a_detached_request_that_dies_in_the_queue_takes_nothing() {
    let lock = TestLock::new("detached");
    let [mut one, mut dying, mut last] = [0; 3].map(|_| Worker::open(&lock));
    assert!(one.get(Ask::default()).is_some());
    dying.send_get(Ask {
        wait: None,
        ..detached(None, None)
    });
    wait_until("it waits", || lock.state().waiters.len() == 1);
    last.send_get(Ask::default());
    wait_until("both wait", || lock.state().waiters.len() == 2);
    dying.kill();
    assert!(one.release());
    assert!(last.granted().is_some());
}

#[test]
fn a_hold_on_behalf_of_a_process_ends_with_it() {
    let lock = TestLock::new("detached");
    let (mut owner, mut one, mut other) = (bystander(), Worker::open(&lock), Worker::open(&lock));
    let token = one.get(detached(Some(owner.id()), None)).unwrap().token;
    assert!(one.end().success());
    let holder = lock.state().holders.remove(0);
    assert_eq!(
        (holder.bound_pid, holder.alive, holder.detached),
        (Some(owner.id()), true, true)
    );
    other.send_get(Ask::default());
    wait_until("it waits", || lock.state().waiters.len() == 1);
    assert_eq!(other.try_granted(), None);
    owner.kill();
    // Not reaped yet: a zombie is dead all the same.
    wait_until("it has ended", || crate::common::process_state(owner.id()) == Some('Z'));
    let grant = other.granted().expect("its turn");
    assert!(
        !grant.abandoned && grant.token > token,
        "the hold ends normally with it"
    );
    assert_eq!(last_end(&lock), (token, Ended::WithProcess));
    owner.wait();
}

/// An old kernel, or a container that forbids them, has no process descriptors.
#[test]
fn without_descriptors_of_processes_their_end_is_noticed() {
    for how in ["ENOSYS", "EPERM"] {
        let (lock, mut owner) = (TestLock::new("detached"), bystander());
        let pid = owner.id().to_string();
        crate::common::printed(&mut lock.command(&["get", "-q", "--pid", &pid]));
        let taken = || {
            let run = lock.command(&["run", "-n", "-q", "--", "true"]);
            let mut refused = Command::new("strace");
            refused.args([
                "-f",
                "-qq",
                "-o/dev/null",
                "-e",
                &format!("inject=pidfd_open:error={how}"),
            ]);
            refused.arg(run.get_program()).args(run.get_args());
            refused.status().unwrap().code()
        };
        assert_eq!(taken(), Some(75), "{how}");
        owner.kill();
        owner.wait();
        assert_eq!(taken(), Some(0), "{how}");
    }
}

#[test]
fn releasing_on_behalf_of_a_process_leaves_others_alone() {
    let lock = TestLock::new("detached");
    let (owner, stranger) = (bystander(), bystander());
    let mut one = Worker::open(&lock);
    let token = one.get(detached(Some(owner.id()), None)).unwrap().token;
    assert_eq!(one.ask(json!(["unget_bound_to", stranger.id()])), json!(false));
    assert_eq!(one.ask(json!(["unget_token", token + 1])), json!(false));
    assert!(lock.state().locked);
    assert_eq!(one.ask(json!(["unget_bound_to", owner.id()])), json!(true));
    assert_eq!(last_end(&lock), (token, Ended::Released));
    assert_eq!(one.ask(json!(["unget_bound_to", owner.id()])), json!(false), "once");
}

#[test]
fn of_several_holds_exactly_the_meant_one_is_released() {
    let lock = TestLock::new("detached");
    let owners = [0; 3].map(|_| bystander());
    let handle = lock.open();
    for owner in &owners {
        let bound = Detached {
            pid: Some(owner.id()),
            ..Detached::default()
        };
        assert!(
            handle
                .get_lock(&GetOptions::new().mode(Mode::Shared).detached(bound))
                .unwrap()
        );
    }
    let holding = || -> Vec<u64> {
        let state = handle.state().unwrap();
        state.holders.iter().filter_map(|holder| holder.token).collect()
    };
    let tokens = holding();
    assert!(handle.unget_lock(UngetOptions::new().bound_to(owners[1].id())).unwrap());
    assert_eq!(holding(), [tokens[0], tokens[2]]);
    assert!(handle.unget_lock(UngetOptions::new().token(tokens[0])).unwrap());
    assert!(handle.state().unwrap().locked);
    assert!(handle.unget_lock(UngetOptions::new().token(tokens[2])).unwrap());
    assert!(!handle.state().unwrap().locked && handle.lock_value().unwrap() == 1);
}

#[test]
fn a_process_that_is_gone_cannot_be_bound_to() {
    let lock = TestLock::new("detached");
    let mut owner = bystander();
    let pid = owner.id();
    owner.kill();
    let ask = || {
        lock.open()
            .get_lock(&GetOptions::new().wait(Wait::No).detached(Detached {
                pid: Some(pid),
                ..Detached::default()
            }))
    };
    wait_until("it has ended", || crate::common::process_state(pid) == Some('Z'));
    assert!(matches!(ask(), Err(Error::NoProcess { .. })), "a zombie");
    owner.wait();
    assert!(matches!(ask(), Err(Error::NoProcess { .. })), "nobody");
    assert!(!lock.state().locked);
}

#[test]
fn a_hold_expires() {
    let lock = TestLock::new("detached");
    let [mut one, mut other] = [0; 2].map(|_| Worker::open(&lock));
    let asked = crate::common::worker::monotonic();
    let ttl = Duration::from_secs(3);
    let token = one.get(detached(None, Some(ttl))).unwrap().token;
    let expires = lock.state().holders[0].expires_in.expect("it is shown");
    assert!(expires <= ttl);
    let grant = other.get(Ask::default()).expect("after the expiry");
    assert!(grant.at >= asked + ttl.as_nanos() as u64, "not before its time");
    assert!(!grant.abandoned, "an expiry is no death");
    assert_eq!(last_end(&lock), (token, Ended::Expired));
}

#[test]
fn an_expired_hold_counts_as_free_and_is_taken_without_waiting() {
    let lock = TestLock::new("detached");
    let handle = lock.open();
    let ttl = Some(Duration::from_millis(1));
    assert!(
        handle
            .get_lock(&GetOptions::new().detached(Detached {
                ttl,
                ..Detached::default()
            }))
            .unwrap()
    );
    wait_until("it has expired", || !lock.state().locked);
    assert!(handle.get_lock(&GetOptions::new().wait(Wait::No)).unwrap());
}

#[test]
fn what_is_left_taken_becomes_detached() {
    let lock = TestLock::new("detached");
    let mut one = Worker::open(&lock);
    let token = one.get(Ask::default()).unwrap().token;
    assert_eq!(one.ask(json!(["leave_taken"])), json!(true));
    assert_eq!(one.ask(json!(["have"])), json!(false));
    assert_eq!(one.ask(json!(["leave_taken"])), json!(false), "nothing left");
    one.kill();
    let state = lock.state();
    assert!(state.locked && state.holders[0].detached && state.holders[0].alive);
    assert!(!lock.open().get_lock(&GetOptions::new().wait(Wait::No)).unwrap());
    assert!(lock.open().unget_lock(UngetOptions::new().token(token)).unwrap());
}

/// A forced release sets the queue in motion, whatever kind of hold it was.
#[test]
fn a_waiter_is_served_after_a_release_by_token() {
    let lock = TestLock::new("detached");
    let [mut one, mut other] = [0; 2].map(|_| Worker::open(&lock));
    let token = one.get(detached(None, None)).unwrap().token;
    other.send_get(Ask::default());
    wait_until("it waits", || lock.state().waiters.len() == 1);
    assert_eq!(one.ask(json!(["unget_token", token])), json!(true));
    assert!(other.granted().is_some());
}

/// If a process's first thread has exited while another one goes on, /proc shows it as a zombie. It is not one.
#[test]
fn a_process_whose_first_thread_has_ended_lives() {
    let lock = TestLock::new("detached");
    let script = "import ctypes, threading, time; \
        threading.Thread(target=time.sleep, args=(3600,)).start(); \
        ctypes.CDLL(None).syscall(EXIT, 0)"
        .replace("EXIT", &nix::libc::SYS_exit.to_string());
    let mut process = LineChild::spawn(Command::new("python3").args(["-c", &script]));
    wait_until("its first thread has ended", || {
        crate::common::process_state(process.id()) == Some('Z')
    });
    let [mut owner, mut other] = [0; 2].map(|_| Worker::open(&lock));
    let bound = Ask {
        detached: Some(Detached {
            pid: Some(process.id()),
            ..Detached::default()
        }),
        ..Ask::now()
    };
    assert!(owner.get(bound).is_some(), "the lock can be taken on its behalf");
    assert_eq!(other.get(Ask::now()), None, "and stays taken");
    assert!(lock.state().holders[0].alive);
    process.kill();
    process.wait();
    assert!(other.get(Ask::now()).is_some());
}
