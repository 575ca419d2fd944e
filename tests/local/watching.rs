//! A request in the queue sleeps until something happens that concerns it. What cannot be watched is looked at instead, and
//! what is not told in spite of that, is found by a look every few seconds.

use crate::common::run::{Running, lives, signal};
use crate::common::sandbox::Call;
use crate::common::{Ask, LineChild, TestLock, Worker, wait_until};
use nix::sys::signal::Signal;
use resourcelock::{Detached, Ended, Mode};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How often the threads of a process have gone to sleep.
fn sleeps(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    let counts = statuses.filter_map(|status| {
        let line = status.lines().find(|line| line.starts_with("voluntary"))?.to_owned();
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    counts.sum()
}

/// True if the process has a thread that watches others.
pub fn has_watcher(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let mut names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.any(|name| name == "lock watcher\n")
}

/// The PIDs of those that wait, in their order.
fn waiting(lock: &TestLock) -> Vec<u32> {
    let waiters = lock.state().waiters;
    waiters.iter().filter_map(|waiter| waiter.requester.pid).collect()
}

/// Asserts that these processes sleep while nothing happens. How long they are observed does not matter: one that looked as
/// often as the first in line once did would exceed the limit in a fifth of a second.
fn assert_asleep(pids: &[u32]) {
    wait_until("each has its watcher", || pids.iter().all(|pid| has_watcher(*pid)));
    std::thread::sleep(Duration::from_millis(100));
    let before: Vec<u64> = pids.iter().map(|pid| sleeps(*pid)).collect();
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(3));
    // A look every 5 s, and as much again for what the kernel counts besides.
    let most = 4 + 2 * start.elapsed().as_secs() / 5;
    for (pid, before) in pids.iter().zip(before) {
        let slept = sleeps(*pid) - before;
        assert!(
            slept <= most,
            "{pid} went to sleep {slept} times in {:?}",
            start.elapsed()
        );
    }
}

/// A waiter that joins the queue, and is seen to.
fn join(lock: &TestLock, ask: Ask) -> Worker {
    let mut waiter = Worker::open(lock);
    let before = lock.state().waiters.len();
    waiter.send_get(ask);
    wait_until("it waits", || lock.state().waiters.len() == before + 1);
    waiter
}

#[test]
fn in_every_place_of_the_queue_a_request_sleeps_until_a_death_is_told() {
    let lock = TestLock::new("watch");
    let mut holder = Worker::open(&lock);
    holder.get(Ask::default()).unwrap();
    let mut waiters: Vec<Worker> = (0..5).map(|_| join(&lock, Ask::default())).collect();
    assert_asleep(&waiting(&lock));
    // One in the middle, the first in line, and the holder.
    waiters.remove(2).kill();
    waiters.remove(0).kill();
    holder.kill();
    for (n, waiter) in waiters.iter_mut().enumerate() {
        let grant = waiter.granted().expect("its turn");
        assert!(grant.abandoned, "the mark stays, {n}");
        assert!(waiter.release());
    }
    assert_eq!(lock.state().waiters.len(), 0);
}

/// The wrapper of `run` dies, then its command: both are told of.
#[test]
fn behind_a_run_it_sleeps_until_the_command_has_ended() {
    let lock = TestLock::new("watch");
    let mut running = Running::listener(&lock, &[]);
    let mut waiter = join(&lock, Ask::default());
    assert_asleep(&waiting(&lock));
    signal(running.wrapper, Signal::SIGKILL);
    running.child.wait();
    assert_asleep(&waiting(&lock));
    assert_eq!(waiter.try_granted(), None, "its command runs");
    signal(running.command, Signal::SIGKILL);
    assert!(waiter.granted().is_some_and(|grant| grant.abandoned));
}

fn sleeper() -> Child {
    Command::new("sleep").arg("600").spawn().expect("sleep(1) starts")
}

#[test]
fn behind_a_detached_hold_it_sleeps_until_the_process_has_ended_or_the_time_is_over() {
    let lock = TestLock::new("watch");
    let mut process = sleeper();
    let mut holder = Worker::open(&lock);
    let of_a_process = Detached {
        pid: Some(process.id()),
        ..Detached::default()
    };
    let detached = Some(of_a_process);
    holder.get(Ask { detached, ..Ask::now() }).unwrap();
    let mut waiter = join(&lock, Ask::default());
    assert_asleep(&waiting(&lock));
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(waiter.granted().is_some_and(|grant| !grant.abandoned));
    assert!(waiter.release());
    let for_a_time = Detached {
        ttl: Some(Duration::from_secs(5)),
        ..Detached::default()
    };
    let detached = Some(for_a_time);
    holder.get(Ask { detached, ..Ask::now() }).unwrap();
    waiter.send_get(Ask::default());
    assert!(waiter.granted().is_some());
    assert!(waiter.release());
    let ends: Vec<Ended> = lock.open().history().unwrap().iter().map(|record| record.how).collect();
    assert!(
        ends.contains(&Ended::WithProcess) && ends.contains(&Ended::Expired),
        "{ends:?}"
    );
}

/// Each of several holders is watched, and each one that comes.
#[test]
fn behind_several_holders_it_sleeps_until_one_of_them_has_died() {
    let lock = TestLock::new("watch");
    let slot = Ask::mode(Mode::Slots(3));
    let mut holders: Vec<Worker> = (0..3).map(|_| Worker::open(&lock)).collect();
    for holder in &mut holders {
        holder.get(slot).unwrap();
    }
    for dies in [1, 0, 0] {
        let mut waiter = join(&lock, slot);
        assert_asleep(&waiting(&lock));
        holders.remove(dies).kill();
        assert!(waiter.granted().is_some());
        holders.push(waiter);
    }
}

/// One that leaves the queue lives on, so whoever watched it is told by it.
#[test]
fn one_that_gives_up_leaves_nobody_behind_it_unwatched() {
    let lock = TestLock::new("watch");
    let mut holder = Worker::open(&lock);
    holder.get(Ask::default()).unwrap();
    let wait = Some(2_000);
    let mut first = join(&lock, Ask { wait, ..Ask::default() });
    let mut second = join(&lock, Ask::default());
    assert_eq!(first.granted(), None);
    assert_asleep(&waiting(&lock));
    holder.kill();
    assert!(second.granted().is_some_and(|grant| grant.abandoned));
}

/// The watcher's thread does not stay when nothing is waited for any more.
#[test]
fn the_watcher_ends_when_nothing_is_waited_for() {
    let lock = TestLock::new("watch");
    let [mut holder, mut waiter] = [0; 2].map(|_| Worker::open(&lock));
    for _ in 0..2 {
        holder.get(Ask::default()).unwrap();
        waiter.send_get(Ask::default());
        wait_until("it watches", || has_watcher(waiter.id()));
        assert!(holder.release());
        assert!(waiter.granted().is_some());
        assert!(waiter.release());
        wait_until("the thread has ended", || !has_watcher(waiter.id()));
    }
}

/// A worker for which a system call fails.
fn without(call: &Call, errno: i32, lock: &TestLock) -> Worker {
    let mut worker = Worker::start_by(call.denied(errno, &Worker::command()));
    assert_eq!(
        worker.ask(serde_json::json!(["open", lock.name()])),
        serde_json::Value::Null
    );
    worker
}

/// Without pidfds (an old kernel, a sandbox) the first in line looks at the holder, and those behind it at each other.
#[test]
fn what_cannot_be_watched_is_looked_at() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let lock = TestLock::new("watch");
        let mut holder = Worker::open(&lock);
        holder.get(Ask::default()).unwrap();
        let no_pidfds = Call::any("pidfd_open", libc::SYS_pidfd_open);
        let mut waiters: Vec<Worker> = (0..3).map(|_| without(&no_pidfds, errno, &lock)).collect();
        for (n, waiter) in waiters.iter_mut().enumerate() {
            waiter.send_get(Ask::default());
            wait_until("it waits", || lock.state().waiters.len() == n + 1);
        }
        for pid in waiting(&lock) {
            let before = sleeps(pid);
            wait_until("it looks again and again", || sleeps(pid) > before + 30);
            assert!(!has_watcher(pid));
        }
        holder.kill();
        for waiter in &mut waiters {
            assert!(waiter.granted().is_some());
            assert!(waiter.release());
        }
    }
}

/// The watcher's thread ends at once: nothing is told although everything counts as watched.
#[test]
fn what_is_not_told_is_found_all_the_same() {
    #[cfg(target_arch = "x86_64")]
    const WAIT: libc::c_long = libc::SYS_epoll_wait;
    #[cfg(not(target_arch = "x86_64"))]
    const WAIT: libc::c_long = libc::SYS_epoll_pwait;
    let lock = TestLock::new("watch");
    let mut holder = Worker::open(&lock);
    holder.get(Ask::default()).unwrap();
    let mut waiter = without(&Call::any("epoll_wait", WAIT), libc::EPERM, &lock);
    waiter.send_get(Ask::default());
    wait_until("it waits", || lock.state().waiters.len() == 1);
    let mut second = join(&lock, Ask::default());
    wait_until("it is watched", || {
        waiting(&lock).iter().skip(1).all(|pid| has_watcher(*pid))
    });
    holder.kill();
    assert!(waiter.granted().is_some_and(|grant| grant.abandoned));
    assert!(waiter.release());
    assert!(second.granted().is_some());
}

/// Where the number in the table is another process's, that one's life keeps nobody waiting: neither before the death, when it
/// is believed, nor after.
#[test]
fn nobody_sleeps_until_a_stranger_ends() {
    // Offset of the first record's `pid` in `Layout` in `src/lock/shm/layout.rs`.
    const PID: u64 = 5504 + 56;
    for waits_before in [false, true] {
        let lock = TestLock::new("watch");
        let mut holder = Worker::open(&lock);
        holder.get(Ask::default()).unwrap();
        let mut stranger = sleeper();
        let table = OpenOptions::new().write(true).open(lock.paths().table_path()).unwrap();
        table.write_all_at(&stranger.id().to_ne_bytes(), PID).unwrap();
        assert_eq!(lock.state().holders[0].requester.pid, Some(stranger.id()));
        let mut waiter = if waits_before {
            // Here it is believed, so the death is found by the next look.
            let waiter = join(&lock, Ask::default());
            assert_asleep(&waiting(&lock));
            holder.kill();
            waiter
        } else {
            holder.kill();
            let mut waiter = Worker::open(&lock);
            waiter.send_get(Ask::default());
            waiter
        };
        assert!(waiter.granted().is_some_and(|grant| grant.abandoned));
        assert_eq!(stranger.try_wait().unwrap(), None, "it lives");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

/// What a dead wrapper's command has left behind keeps the lock by a descriptor: there is no process whose end could be
/// watched, but it is noticed.
#[test]
fn the_end_of_what_inherited_the_lock_is_noticed() {
    let lock = TestLock::new("watch");
    let script = "sleep 100000 & echo up $PPID $! $$; exec 1>&-; wait";
    let mut child = LineChild::spawn(&mut lock.command(&["run", "bash", "-c", script]));
    let line = child.line();
    let pids: Vec<u32> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    let &[wrapper, orphan, command] = pids.as_slice() else {
        panic!("it says {line}")
    };
    let mut waiter = join(&lock, Ask::default());
    signal(wrapper, Signal::SIGKILL);
    child.wait();
    signal(command, Signal::SIGKILL);
    wait_until("it is gone", || !lives(command));
    assert_eq!(waiter.try_granted(), None, "the orphan keeps the lock");
    signal(orphan, Signal::SIGKILL);
    assert!(waiter.granted().is_some_and(|grant| grant.abandoned));
}
