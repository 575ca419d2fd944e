//! What scripts that use flock(1) rely on works with `run`, too. The cases correspond to those in util-linux's own
//! tests of flock; a file lock that is taken and released through a descriptor number has no counterpart here.

use crate::common::run::{hold, lives, signal, wait_for_waiters};
use crate::common::{LineChild, TestLock, wait_until};
use nix::sys::signal::Signal;
use std::process::Stdio;

fn status(lock: &TestLock, words: &[&str]) -> Option<i32> {
    let mut command = lock.command(&[&["run"], words].concat());
    command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .code()
}

#[test]
fn conflict_with_a_status_of_the_callers_choice() {
    let lock = TestLock::new("flock-conflict");
    let holder = hold(&lock, &[]);
    for words in [
        &["--nonblock", "--conflict-exit-code", "123", "true"][..],
        &["-n", "-E", "123", "-c", "true"],
        &["-x", "-n", "-E", "123", "--", "true"],
        &["-w", "0.1", "-E", "123", "true"],
        &["--wait", "0.1", "-E", "1", "-E", "123", "true"],
    ] {
        assert_eq!(status(&lock, words), Some(123), "{words:?}");
    }
    holder.finish();
    assert_eq!(status(&lock, &["-n", "-E", "123", "true"]), Some(0));
}

#[test]
fn shared_and_exclusive() {
    // The modes of: holder, request; and true if the request succeeds at once.
    for (held, asked, had) in [
        ("-s", "-s", true),
        ("--shared", "-x", false),
        ("-x", "-s", false),
        ("-e", "--exclusive", false),
        ("--exclusive", "-e", false),
    ] {
        let lock = TestLock::new("flock-modes");
        let holder = hold(&lock, &[held]);
        let expected = if had { 0 } else { 75 };
        assert_eq!(status(&lock, &[asked, "-n", "true"]), Some(expected), "{held} {asked}");
        holder.finish();
    }
}

#[test]
fn a_limited_wait_that_is_long_enough() {
    let lock = TestLock::new("flock-wait");
    let holder = hold(&lock, &[]);
    let mut waiter = LineChild::spawn(&mut lock.command(&["run", "-w", "1000", "echo", "had it"]));
    wait_for_waiters(&lock, 1);
    holder.finish();
    assert_eq!(waiter.line(), "had it");
    assert_eq!(waiter.wait().code(), Some(0));
}

#[test]
fn close_is_accepted_because_nothing_inherited_keeps_the_lock() {
    let lock = TestLock::new("flock-close");
    for option in ["-o", "--close"] {
        let script = "sleep 1000 > /dev/null & echo $!";
        let mut child = LineChild::spawn(&mut lock.command(&["run", option, "sh", "-c", script]));
        let left: u32 = child.line().parse().unwrap();
        assert_eq!(child.wait().code(), Some(0));
        assert!(lives(left));
        assert_eq!(status(&lock, &["-n", "true"]), Some(0));
        signal(left, Signal::SIGKILL);
    }
}

#[test]
fn the_lock_goes_to_the_next_when_all_of_the_holder_is_killed() {
    let lock = TestLock::new("flock-killed");
    let mut holder = hold(&lock, &[]);
    let mut waiter = LineChild::spawn(&mut lock.command(&["run", "echo", "had it"]));
    wait_for_waiters(&lock, 1);
    signal(holder.wrapper, Signal::SIGKILL);
    holder.child.wait();
    assert_eq!(waiter.try_line(), None);
    signal(holder.command, Signal::SIGKILL);
    assert_eq!(waiter.line(), "had it");
    wait_until("the lock is free", || !lock.state().locked);
}

#[test]
fn loops_that_count_together_lose_nothing() {
    let lock = TestLock::new("flock-loop");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("count");
    std::fs::write(&file, "0\n").unwrap();
    let add = "read n < \"$0\"; [ -e \"$0.inside\" ] && echo overlap; : > \"$0.inside\"; echo $((n+1)) > \"$0\"; rm \"$0.inside\"";
    let program = lock.command(&[]).get_program().to_str().unwrap().to_owned();
    let script = format!(
        "for i in $(seq 25); do {program} {} run sh -c '{}' {}; done",
        lock.name(),
        add,
        file.display()
    );
    let children: Vec<_> = (0..4)
        .map(|_| {
            let mut shell = std::process::Command::new("bash");
            shell
                .args(["-c", &script])
                .env_remove("RESOURCELOCK_HELD")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        assert_eq!(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap(), "");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "100\n");
}
