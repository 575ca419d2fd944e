//! `run --replace` when several come (fault 19): of those that wait, the newest alone is wanted.

use crate::common::run::{LISTENER, behind, command_of, hold, wait_for_waiters};
use crate::common::{Ask, LineChild, TestLock, Worker, wait_until};
use nix::sys::signal::Signal::SIGCONT;
use nix::sys::signal::kill;
use std::process::{Child, Output, Stdio};

/// A `run` that waits, as number `waiters` in the queue, or as long as it takes to be seen there.
fn replacing(lock: &TestLock, options: &[&str], says: &str) -> Child {
    let mut command = lock.command(&[&["run", "--replace"], options, &["echo", says]].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn assert_replaced(output: &Output, lock: &TestLock) {
    let expected = format!(
        "resourcelock: {}: not acquired: replaced by a newer request\n",
        lock.name()
    );
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
}

/// They do not wait for the holder's end to say so.
#[test]
fn the_newest_alone_runs() {
    let lock = TestLock::new("newest");
    let mut holder = hold(&lock, &[]);
    let first = replacing(&lock, &[], "first");
    holder.says("got TERM");
    wait_for_waiters(&lock, 1);
    let second = replacing(&lock, &[], "second");
    holder.says("got TERM");
    assert_replaced(&first.wait_with_output().unwrap(), &lock);
    wait_for_waiters(&lock, 1);
    let third = replacing(&lock, &["-s"], "third");
    holder.says("got TERM");
    assert_replaced(&second.wait_with_output().unwrap(), &lock);
    holder.finish();
    let output = third.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "third\n", "{output:?}");
    assert!(!lock.state().locked && lock.state().waiters.is_empty());
}

/// One that is granted the lock after the newer one has seen who holds it, and before that one waits, is asked to end, too.
#[test]
fn one_that_was_granted_meanwhile_ends() {
    let lock = TestLock::new("newest");
    let mut holder = hold(&lock, &[]);
    let mut older = LineChild::spawn(&mut lock.command(&["run", "--replace", "bash", "-c", LISTENER]));
    holder.says("got TERM");
    wait_for_waiters(&lock, 1);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    // Stopped after it has asked the holder.
    let stop = "-einject=pidfd_send_signal:signal=STOP:when=1";
    let traced = [
        "strace",
        "-qq",
        "-o",
        log.to_str().unwrap(),
        "-etrace=pidfd_send_signal",
        stop,
    ];
    let newer = lock.command(&["run", "--replace", "echo", "newer"]);
    let mut newer = behind(&traced, &newer).stdout(Stdio::piped()).spawn().unwrap();
    holder.says("got TERM");
    wait_until("it is stopped", || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("stopped by SIGSTOP"))
    });
    holder.finish();
    assert!(older.line().starts_with("up "), "it was granted the lock");
    kill(command_of(&mut newer).expect("it is stopped"), SIGCONT).unwrap();
    older.wait_for_line("got TERM");
    older.close_input();
    assert_eq!(older.wait().code(), Some(9));
    assert_eq!(newer.wait_with_output().unwrap().stdout, b"newer\n");
}

/// As every wait in vain, it can be a success without a word.
#[test]
fn with_a_status_of_ones_own() {
    let lock = TestLock::new("newest");
    let mut holder = hold(&lock, &[]);
    let first = replacing(&lock, &["-E", "0"], "first");
    holder.says("got TERM");
    wait_for_waiters(&lock, 1);
    let second = replacing(&lock, &[], "second");
    let output = first.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
        "{output:?}"
    );
    holder.says("got TERM");
    holder.finish();
    assert!(second.wait_with_output().unwrap().status.success());
}

#[test]
fn others_keep_their_place() {
    let lock = TestLock::new("newest");
    let mut holder = hold(&lock, &[]);
    let mut plain = Worker::open(&lock);
    plain.send_get(Ask::default());
    wait_for_waiters(&lock, 1);
    let newest = replacing(&lock, &[], "newest");
    holder.says("got TERM");
    wait_for_waiters(&lock, 2);
    let mut later = LineChild::spawn(&mut lock.command(&["run", "echo", "later"]));
    wait_for_waiters(&lock, 3);
    holder.finish();
    assert!(plain.granted().is_some());
    assert_eq!(lock.state().waiters.len(), 2);
    assert!(plain.release());
    assert_eq!(newest.wait_with_output().unwrap().stdout, b"newest\n");
    later.wait_for_line("later");
    later.wait();
}

/// A newer one that has died replaces nobody.
#[test]
fn a_dead_one_is_not_the_newest() {
    let lock = TestLock::new("newest");
    let mut holder = hold(&lock, &[]);
    let first = replacing(&lock, &[], "first");
    holder.says("got TERM");
    wait_for_waiters(&lock, 1);
    // It sees nothing until it runs again.
    lock.stop(first.id());
    let mut dead = replacing(&lock, &[], "dead");
    holder.says("got TERM");
    wait_for_waiters(&lock, 2);
    dead.kill().unwrap();
    dead.wait().unwrap();
    crate::common::run::signal(first.id(), nix::sys::signal::Signal::SIGCONT);
    holder.finish();
    assert_eq!(first.wait_with_output().unwrap().stdout, b"first\n");
}
