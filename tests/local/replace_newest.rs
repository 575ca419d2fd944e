//! `run --replace` when several come (fault 19): of those that wait, the newest alone is wanted.

use crate::common::run::{hold, wait_for_waiters};
use crate::common::{Ask, LineChild, TestLock, Worker};
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
    crate::common::run::signal(first.id(), nix::sys::signal::Signal::SIGSTOP);
    let mut dead = replacing(&lock, &[], "dead");
    holder.says("got TERM");
    wait_for_waiters(&lock, 2);
    dead.kill().unwrap();
    dead.wait().unwrap();
    crate::common::run::signal(first.id(), nix::sys::signal::Signal::SIGCONT);
    holder.finish();
    assert_eq!(first.wait_with_output().unwrap().stdout, b"first\n");
}
