//! With the real Python module on the same lock: each side waits for the other, and can force a release.

use crate::common::{LineChild, Peer, TestLock, printed, wait_until};
use resourcelock::{GetOptions, Lost, UngetOptions, Wait};
use serde_json::json;
use std::time::Duration;

fn forever() -> GetOptions<'static> {
    GetOptions::new().wait(Wait::Forever).lock_info("ours")
}

#[test]
fn the_library_waits_for_python() {
    let lock = TestLock::new("peer");
    let mut python = Peer::open(&lock);
    assert!(python.get(None, "python"));
    let ours = lock.open();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| ours.get_lock(&forever()).unwrap());
        wait_until("we wait in the queue and in the kernel", || {
            lock.state().waiters.len() == 1 && lock.flag_word().waiters == 1
        });
        assert!(!ours.have_the_lock());
        assert!(python.unget());
        assert!(waiter.join().unwrap());
    });
    assert_eq!(python.value(), 0);
    assert!(!python.get(Some(0.0), "python"));
    assert_eq!(lock.state().counters.unwrap().conflicts, 1);
}

#[test]
fn a_command_waits_for_python() {
    let lock = TestLock::new("peer");
    let mut python = Peer::open(&lock);
    assert!(python.get(None, "python"));
    let mut run = LineChild::spawn(&mut lock.command(&["run", "--", "sh", "-c", "echo inside; read line"]));
    wait_until("it waits", || lock.state().waiters.len() == 1);
    assert_eq!(run.try_line(), None);
    assert!(python.unget());
    assert_eq!(run.line(), "inside");
    assert!(!python.get(Some(0.0), "python"));
    run.send("");
    assert!(run.wait().success());
    assert!(python.get(Some(0.0), "python"));
}

#[test]
fn python_waits_for_the_library() {
    let lock = TestLock::new("peer");
    let ours = lock.open();
    assert!(ours.get_lock(&forever()).unwrap());
    let mut python = Peer::open(&lock);
    python.wait_for(&lock);
    assert_eq!(python.try_answer(), None);
    assert_eq!(lock.state().foreign_waiters, 1);
    assert!(ours.unget_lock(UngetOptions::new()).unwrap());
    assert_eq!(python.answer(), json!(true));
    assert!(ours.is_locked().unwrap() && !ours.have_the_lock());
    assert!(ours.get_lock_info().unwrap().ends_with(" - python"));
}

#[test]
fn python_waits_for_a_command() {
    let lock = TestLock::new("peer");
    let mut run = LineChild::spawn(&mut lock.command(&["run", "--", "sh", "-c", "echo inside; read line"]));
    run.wait_for_line("inside");
    let mut python = Peer::open(&lock);
    python.wait_for(&lock);
    assert_eq!(python.try_answer(), None);
    run.send("");
    assert_eq!(python.answer(), json!(true));
    assert!(run.wait().success());
}

#[test]
fn each_times_out_on_the_other_and_leaves_its_note_alone() {
    let lock = TestLock::new("peer");
    let mut python = Peer::open(&lock);
    let ours = lock.open();
    assert!(python.get(Some(0.0), "python has it"));
    assert!(
        !ours
            .get_lock(&GetOptions::new().wait(Wait::For(Duration::from_millis(50))))
            .unwrap()
    );
    let output = lock.command(&["get", "-t", "0.05", "-m", "in vain"]).output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    assert!(
        String::from_utf8(output.stderr).unwrap().contains("python has it"),
        "the message says who has it"
    );
    assert!(ours.get_lock_info().unwrap().ends_with(" - python has it"));
    assert_eq!(lock.flag_word().waiters, 0, "no waiter is left behind");
    assert!(python.unget());

    assert!(ours.get_lock(&GetOptions::new().lock_info("we have it")).unwrap());
    assert!(!python.get(Some(0.05), "in vain"));
    assert!(python.info().ends_with(" - we have it"));
    assert!(ours.unget_lock(UngetOptions::new()).unwrap());
    assert_eq!(lock.flag_word().value, 1);
}

#[test]
fn we_release_pythons_hold_by_force() {
    let lock = TestLock::new("peer");
    let mut python = Peer::open(&lock);
    for by_command in [true, false] {
        assert!(python.get(Some(0.0), "python"));
        if by_command {
            printed(&mut lock.command(&["unget"]));
        } else {
            assert!(lock.open().unget_lock(UngetOptions::new().force(true)).unwrap());
        }
        assert_eq!(python.value(), 1);
        assert!(!python.unget(), "the module finds nothing to release");
        assert_eq!(python.value(), 1);
    }
}

#[test]
fn without_force_pythons_hold_stays() {
    let lock = TestLock::new("peer");
    let mut python = Peer::open(&lock);
    assert!(python.get(Some(0.0), "python"));
    assert!(!lock.open().unget_lock(UngetOptions::new()).unwrap());
    assert_eq!(python.value(), 0);
    assert_eq!(
        lock.command(&["unget", "--token", "7"]).status().unwrap().code(),
        Some(1)
    );
    assert_eq!(python.value(), 0);
}

#[test]
fn python_releases_our_hold_by_force() {
    let lock = TestLock::new("peer");
    let ours = lock.open();
    let guard = ours.acquire_with(&forever()).unwrap().unwrap();
    let mut python = Peer::open(&lock);
    assert!(!python.unget(), "not without force");
    assert_eq!(guard.lost(), None);
    assert!(python.force());
    assert_eq!(guard.lost(), Some(Lost::Forced));
    assert!(!ours.is_locked().unwrap());
    assert!(!guard.release().unwrap(), "it is no longer ours");
    assert_eq!(python.value(), 1, "released once, not twice");
    assert_eq!(lock.open().state().unwrap().counters.unwrap().forced, 1);
    assert!(ours.get_lock(&forever()).unwrap(), "the lock is as good as new");
    assert_eq!(python.value(), 0);
}

/// This holds once our side has noticed: before, a forced release and Python's next hold look like our hold (see the
/// guarantees).
#[test]
fn after_pythons_force_python_may_take_it_and_we_do_not_disturb() {
    let lock = TestLock::new("peer");
    let ours = lock.open();
    let guard = ours.acquire_with(&forever()).unwrap().unwrap();
    let mut python = Peer::open(&lock);
    assert!(python.force());
    assert_eq!(guard.lost(), Some(Lost::Forced));
    assert!(python.get(Some(0.0), "python's now"));
    drop(guard);
    assert_eq!(
        python.value(),
        0,
        "the revoked holder's release does not touch the new holder"
    );
    let state = lock.state();
    assert!(state.locked && state.foreign && state.holders.is_empty());
    assert!(python.unget());
}

#[test]
fn a_command_whose_hold_python_released_ends_with_76() {
    let lock = TestLock::new("peer");
    let mut run = LineChild::spawn(&mut lock.command(&["run", "--", "sh", "-c", "echo inside; read line; exit 3"]));
    run.wait_for_line("inside");
    let mut python = Peer::open(&lock);
    assert!(python.force());
    assert_eq!(run.try_wait(), None, "the command is not signalled");
    run.send("");
    assert_eq!(run.wait().code(), Some(76));
    assert_eq!(python.value(), 1);
}

#[test]
fn pythons_force_lets_our_next_waiter_in() {
    let lock = TestLock::new("peer");
    printed(&mut lock.command(&["get"]));
    let mut run = LineChild::spawn(&mut lock.command(&["run", "--", "sh", "-c", "echo inside; read line"]));
    wait_until("the command waits", || lock.state().waiters.len() == 1);
    let mut python = Peer::open(&lock);
    assert!(python.force());
    assert_eq!(run.line(), "inside");
    assert_eq!(python.value(), 0);
    run.send("");
    assert!(run.wait().success());
    assert_eq!(python.value(), 1);
}

#[test]
fn our_force_lets_a_waiting_python_in() {
    let lock = TestLock::new("peer");
    let ours = lock.open();
    assert!(ours.get_lock(&forever()).unwrap());
    let mut python = Peer::open(&lock);
    python.wait_for(&lock);
    printed(&mut lock.command(&["unget"]));
    assert_eq!(python.answer(), json!(true));
    assert!(!ours.unget_lock(UngetOptions::new()).unwrap());
    assert_eq!(python.value(), 0);
}

/// A fault of the Python module: a killed Python holder leaves the lock taken. Nobody can tell that it died; force
/// helps.
#[test]
fn a_killed_python_holder_is_released_by_hand() {
    let lock = TestLock::new("peer");
    let mut python = Peer::open(&lock);
    assert!(python.get(Some(0.0), "about to die"));
    python.kill();
    assert_eq!(lock.command(&["get", "-t", "0"]).status().unwrap().code(), Some(75));
    printed(&mut lock.command(&["unget"]));
    printed(&mut lock.command(&["get", "-t", "0"]));
}

/// If a holder of ours dies while only Python waits, Python gets the lock as soon as a process of ours looks.
#[test]
fn our_killed_holder_is_released_for_a_waiting_python() {
    let lock = TestLock::new("peer");
    // The command is the only process: with --no-fork it replaces the wrapper.
    let mut run =
        LineChild::spawn(&mut lock.command(&["run", "--no-fork", "--", "sh", "-c", "echo inside; read line"]));
    run.wait_for_line("inside");
    let mut python = Peer::open(&lock);
    python.wait_for(&lock);
    run.kill();
    run.wait();
    printed(&mut lock.command(&["run", "--", "true"]));
    assert_eq!(python.answer(), json!(true));
}
