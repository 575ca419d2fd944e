//! A process is stopped inside the latch while others are granted the lock: what they have to record in the table is
//! recorded later, or refused; it is never silently left out.

use crate::common::run::{Running, hold, lives, signal};
use crate::common::{Ask, Inside, TestLock, Worker, patience, wait_until};
use nix::sys::signal::Signal;
use resourcelock::Detached;
use std::process::{Child, Output, Stdio};
use std::time::Instant;

/// A command that waits for the lock is offered it while stopped; it is continued when somebody is inside the latch.
struct Offered {
    child: Child,
    inside: Inside,
}

impl Offered {
    fn to(lock: &TestLock, words: &[&str]) -> Self {
        let mut holder = Worker::open(lock);
        assert!(holder.get(Ask::now()).is_some());
        let child = lock
            .command(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until("it waits", || lock.state().waiters.len() == 1);
        lock.stop(child.id());
        assert!(holder.release());
        let inside = Inside::enter(lock);
        signal(child.id(), Signal::SIGCONT);
        Self { child, inside }
    }

    /// Waits until it exits, which happens while somebody is inside; then lets that one leave.
    fn end(mut self) -> Output {
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if start.elapsed() >= patience() {
                let _ = self.child.kill();
                panic!("it does not exit");
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        drop(self.inside);
        self.child.wait_with_output().unwrap()
    }
}

fn assert_busy(output: &Output) {
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("not acquired: a process that cannot be found from here stands still"),
        "{text}"
    );
}

fn assert_free(lock: &TestLock) {
    let mut next = Worker::open(lock);
    assert!(next.get(Ask::now()).is_some(), "{:?}", lock.state());
    assert!(next.release());
    assert_eq!(lock.flag_word().value, 1);
}

/// Without a second proof of life in the table, killing the wrapper alone would give the lock to somebody else.
#[test]
fn no_command_runs_whose_descriptor_is_not_recorded() {
    for options in [&[][..], &["--no-fork"]] {
        let lock = TestLock::new("inside");
        assert_busy(&Offered::to(&lock, &[&["run"], options, &["echo", "ran"]].concat()).end());
        assert_free(&lock);
    }
}

/// It already has the lock, and must not queue behind itself.
#[test]
fn a_hold_that_cannot_be_detached_is_released() {
    let lock = TestLock::new("inside");
    assert_busy(&Offered::to(&lock, &["get", "-t", "-1"]).end());
    assert_free(&lock);
}

#[test]
fn what_cannot_be_left_taken_stays_in_hand() {
    let lock = TestLock::new("inside");
    let handle = lock.open();
    assert!(handle.get_lock(&Default::default()).unwrap());
    let inside = Inside::enter(&lock);
    let busy = handle.leave_taken();
    assert!(matches!(busy, Err(resourcelock::Error::Busy { .. })), "{busy:?}");
    drop(inside);
    assert!(handle.have_the_lock());
    assert!(handle.leave_taken().unwrap() && !handle.have_the_lock());
    let state = lock.state();
    assert!(state.locked && state.holders[0].detached, "{state:?}");
    drop(handle);
    let mut other = Worker::open(&lock);
    let detached = Ask {
        detached: Some(Detached::default()),
        ..Ask::now()
    };
    assert!(other.get(detached).is_none(), "it was left taken");
}

/// If a command closes all its descriptors, it keeps the lock only because its process is recorded.
#[test]
fn a_commands_process_is_recorded_as_soon_as_that_can_be() {
    let lock = TestLock::new("inside");
    let mut dead = hold(&lock, &[]);
    for pid in [dead.wrapper, dead.command] {
        signal(pid, Signal::SIGKILL);
    }
    dead.child.wait();
    wait_until("the command is gone", || !lives(dead.command));
    // While this runs, the command has its descriptor, but has not been started yet.
    let recover = "echo up $PPID $$; read -r line";
    let mut running =
        Running::started(lock.command(&["run", "--recover", recover, "bash", "-c", crate::common::run::LISTENER]));
    running.wait_until_recorded(&lock);
    let inside = Inside::enter(&lock);
    running.child.send("go on");
    let line = running.child.line();
    running.command = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(line.starts_with("up "), "{line}");
    // The wrapper passes signals on once it has started the command and tried to record it.
    signal(running.wrapper, Signal::SIGUSR1);
    running.says("got USR1");
    drop(inside);
    running.wait_until_recorded(&lock);
    running.finish();
    assert!(!lock.state().locked);
}
