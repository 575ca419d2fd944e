//! Two PID namespaces with one /dev/shm, as in containers that share it: the same ids mean different processes there.
//! And two time namespaces: in each, the same processes were started, and holds expire, at different times.

use crate::common::run::{behind, signal};
use crate::common::{Ask, LineChild, Peer, TestLock, Worker, printed, wait_until};
use nix::sys::signal::Signal;
use resourcelock::{Detached, Ended, Mode};
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

/// A worker in a new PID namespace, where it is process 2. (Process 1 is the shell that waits for it: the kernel
/// shields process 1 of a namespace from signals sent by its own members.)
fn in_a_namespace(lock: &TestLock) -> Worker {
    let unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let works = Command::new(unshare[0]).args(&unshare[1..]).arg("true").status();
    assert!(
        works.is_ok_and(|status| status.success()),
        "this test makes PID namespaces: run it as root, or where unshare(1) of util-linux may"
    );
    let plain = Worker::command();
    let mut command = Command::new(unshare[0]);
    command.args(&unshare[1..]).args(["sh", "-c", "\"$@\"; exit $?", "sh"]);
    command.arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let mut worker = Worker::start_by(command);
    assert_eq!(worker.ask(json!(["open", lock.name()])), serde_json::Value::Null);
    worker
}

#[test]
fn a_live_hold_is_respected_from_both_sides() {
    let lock = TestLock::new("pidns");
    let [mut inside, mut elsewhere] = [0; 2].map(|_| in_a_namespace(&lock));
    let mut outside = Worker::open(&lock);
    for round in 0..2 {
        let limited = Ask {
            wait: Some(1500), // long enough for all checks that a waiter does
            ..Ask::default()
        };
        let patient = Ask {
            patient: true,
            ..Ask::default()
        };
        assert!(inside.get(patient).is_some());
        outside.send_get(limited);
        elsewhere.send_get(limited);
        wait_until("one waits elsewhere", || {
            lock.state().waiters.iter().any(|w| !w.requester.same_pid_namespace)
        });
        assert_eq!((outside.granted(), elsewhere.granted()), (None, None), "round {round}");
        let holder = lock.state().holders.remove(0);
        assert!(holder.alive && !holder.requester.same_pid_namespace, "{holder:?}");
        assert!(inside.release());
        assert!(outside.get(Ask::default()).is_some());
        assert_eq!(inside.get(limited), None, "round {round}");
        assert!(outside.release());
    }
}

#[test]
fn the_dead_of_another_namespace_are_followed() {
    let lock = TestLock::new("pidns");
    let [mut inside, mut elsewhere] = [0; 2].map(|_| in_a_namespace(&lock));
    let mut outside = Worker::open(&lock);
    inside.get(Ask::default()).unwrap();
    outside.send_get(Ask::default());
    wait_until("one waits", || lock.state().waiters.len() == 1);
    elsewhere.send_get(Ask::default());
    wait_until("both wait", || lock.state().waiters.len() == 2);
    inside.kill(); // with it dies its namespace
    assert!(outside.granted().is_some_and(|grant| grant.abandoned));
    outside.kill();
    assert!(elsewhere.granted().is_some_and(|grant| grant.abandoned));
}

#[test]
fn waiters_of_both_namespaces_are_served_in_order() {
    let lock = TestLock::new("pidns");
    let (mut outside, mut inside, mut late) = (Worker::open(&lock), in_a_namespace(&lock), Worker::open(&lock));
    outside.get(Ask::default()).unwrap();
    inside.send_get(Ask::default());
    wait_until("one waits", || lock.state().waiters.len() == 1);
    late.send_get(Ask::default());
    wait_until("both wait", || lock.state().waiters.len() == 2);
    assert!(outside.release());
    let first = inside.granted().unwrap();
    assert!(inside.release());
    assert!(late.granted().unwrap().token > first.token);
}

/// A process id from another namespace says nothing here: such a hold is never taken for that of a dead process.
#[test]
fn a_process_of_another_namespace_counts_as_alive() {
    let lock = TestLock::new("pidns");
    let mut inside = in_a_namespace(&lock);
    // Process 2 there is that worker. Here it is a kernel thread, or nobody.
    let bound = Ask {
        detached: Some(Detached {
            pid: Some(2),
            ..Detached::default()
        }),
        mode: Some(Mode::Exclusive),
        ..Ask::now()
    };
    let token = inside.get(bound).unwrap().token;
    inside.kill();
    // In the machine's first PID namespace it would be seen to be gone: see `fault_06.rs`.
    let mut elsewhere = in_a_namespace(&lock);
    let limited = Ask {
        wait: Some(300),
        ..Ask::default()
    };
    assert_eq!(elsewhere.get(limited), None, "what cannot be verified counts as alive");
    assert_eq!(
        elsewhere.ask(json!(["unget_token", token])),
        json!(true),
        "it can be released by hand"
    );
}

/// From within its own namespace, one sees that such a process has exited.
#[test]
fn a_process_of_its_own_namespace_is_seen_to_end() {
    let lock = TestLock::new("pidns");
    let mut outside = Worker::open(&lock);
    let mut owner = LineChild::spawn(&mut Command::new("cat"));
    let bound = Ask {
        detached: Some(Detached {
            pid: Some(owner.id()),
            ..Detached::default()
        }),
        ..Ask::now()
    };
    outside.get(bound).unwrap();
    let mut inside = in_a_namespace(&lock);
    owner.kill();
    owner.wait();
    assert_eq!(inside.get(Ask::now()), None, "from there it cannot be told");
    assert!(outside.get(Ask::now()).is_some());
}

/// The status of `resourcelock LOCK run -n true` in a time namespace where the machine was booted a day earlier.
fn taken_a_day_later(lock: &TestLock) -> Option<i32> {
    let plain = lock.command(&["run", "-n", "-q", "--", "true"]);
    let mut later = Command::new("unshare");
    later.args(["--time", "--boottime", "100000", "--fork"]);
    later.arg(plain.get_program()).args(plain.get_args());
    later.status().expect("unshare runs").code()
}

/// The same command in a time namespace where the monotonic clock is ten days ahead.
fn ahead(plain: &Command) -> Command {
    let clocks = ["--time", "--monotonic", "864000", "--boottime", "864000"];
    behind(&[&["unshare"], &clocks[..], &["--kill-child"]].concat(), plain)
}

/// Stops the process that waits in this place.
fn stop_waiter(lock: &TestLock, place: usize) {
    lock.stop(lock.state().waiters[place].requester.pid.unwrap());
}

/// Processes that wait for the flag itself get a turn, in which the lock is left free for them: for a millisecond, and
/// not for days, whosever clock is used.
#[test]
fn a_turn_that_another_clock_began_ends() {
    let lock = TestLock::new("timens");
    drop(lock.open());
    let mut peer = Peer::open(&lock);
    printed(&mut lock.command(&["get", "-q"]));
    peer.wait_for(&lock);
    peer.kill(); // the flag's waiter count stays 1
    let mut queue: Vec<LineChild> = Vec::new();
    for place in 0..9 {
        let plain = lock.command(&["run", "--", "echo", "had"]);
        // The eighth grant in a row is followed by a turn.
        queue.push(LineChild::spawn(&mut if place < 8 { ahead(&plain) } else { plain }));
        wait_until("it waits", || lock.state().waiters.len() == place + 1);
    }
    printed(&mut lock.command(&["unget", "-q"]));
    for run in &mut queue {
        run.wait_for_line("had");
        assert!(run.wait().success());
    }
}

/// A waiter that does not accept an offer is passed over, even if the offer was made in the future.
#[test]
fn an_offer_of_another_clock_becomes_overdue() {
    let lock = TestLock::new("timens");
    let plain = lock.command(&["run", "--", "sh", "-c", "echo inside; read line"]);
    let mut holder = LineChild::spawn(&mut ahead(&plain));
    holder.wait_for_line("inside");
    let [mut stopped, mut next] = [0; 2].map(|_| Worker::open(&lock));
    stopped.send_get(Ask::default());
    wait_until("one waits", || lock.state().waiters.len() == 1);
    lock.stop(stopped.id());
    next.send_get(Ask::default());
    wait_until("both wait", || lock.state().waiters.len() == 2);
    holder.send("");
    assert!(next.granted().is_some());
    assert!(next.release());
    stopped.resume();
    assert!(stopped.granted().is_some());
}

/// The head of the queue checks on the holder. If it does not, the second does, even if the head recorded that it
/// checked in the future.
#[test]
fn a_head_of_another_clock_is_late_when_it_is_stopped() {
    let lock = TestLock::new("timens");
    let mut holder = Worker::open(&lock);
    assert!(holder.get(Ask::default()).is_some());
    let mut head = LineChild::spawn(&mut ahead(&lock.command(&["run", "--", "echo", "had"])));
    let looked = || {
        let mut looked = [0; 8];
        let table = File::open(lock.paths().table_path()).unwrap();
        table.read_exact_at(&mut looked, 224).unwrap(); // `head_checked` in `src/lock/shm/layout.rs`
        u64::from_ne_bytes(looked)
    };
    wait_until("it watches", || looked() > 864_000_000_000_000);
    stop_waiter(&lock, 0);
    let head_pid = lock.state().waiters[0].requester.pid.unwrap();
    let mut second = Worker::open(&lock);
    second.send_get(Ask::default());
    wait_until("both wait", || lock.state().waiters.len() == 2);
    holder.kill();
    assert!(second.granted().is_some_and(|grant| grant.abandoned));
    assert!(second.release());
    signal(head_pid, Signal::SIGCONT);
    head.wait_for_line("had");
    assert!(head.wait().success());
}

#[test]
fn another_time_is_no_proof() {
    let lock = TestLock::new("timens");
    let mut owner = LineChild::spawn(&mut Command::new("cat"));
    let pid = owner.id().to_string();
    for bound in [["--ttl", "1h"], ["--pid", pid.as_str()]] {
        printed(lock.command(&["get", "-q"]).args(bound));
        assert_eq!(taken_a_day_later(&lock), Some(75), "{bound:?}");
        assert!(lock.state().holders[0].alive, "{bound:?}");
        printed(&mut lock.command(&["unget", "-q"]));
    }
    let ends = |lock: &TestLock| -> Vec<Ended> {
        let records = lock.open().history().unwrap();
        records
            .iter()
            .filter(|one| one.token.is_some())
            .map(|one| one.how)
            .collect()
    };
    assert_eq!(ends(&lock), [Ended::Released; 2]);
    // But it is proof if there is no such process any more.
    printed(&mut lock.command(&["get", "-q", "--pid", &pid]));
    owner.kill();
    owner.wait();
    assert_eq!(taken_a_day_later(&lock), Some(0));
    assert_eq!(ends(&lock)[2..], [Ended::WithProcess, Ended::Released]);
}
