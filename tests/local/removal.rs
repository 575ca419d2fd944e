//! `remove` is stopped or killed halfway, and others come meanwhile: never two holders, never a lock that stays taken.

use crate::common::run::signal;
use crate::common::{Ask, LineChild, Peer, TestLock, Worker, process_state, wait_until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, Output, Stdio};

/// A running `resourcelock NAME remove`.
struct Remover(LineChild);

impl Remover {
    fn stopped_after(lock: &TestLock, deleted: usize) -> Self {
        let stop = format!("inject=unlink,unlinkat:signal=SIGSTOP:when={deleted}");
        let remover = Self::traced(lock, &stop);
        wait_until("it is stopped", || {
            lock.objects().len() == 3 - deleted && matches!(process_state(remover.0.id()), Some('T' | 't'))
        });
        remover
    }

    fn traced(lock: &TestLock, inject: &str) -> Self {
        assert_eq!(lock.objects().len(), 3);
        let remove = lock.command(&["remove"]);
        let mut command = Command::new("strace");
        // With -D the command is our child, and strace is its grandchild.
        command.args(["-D", "-qq", "-o", "/dev/null", "-e", "trace=unlink,unlinkat"]);
        command.args(["-e", inject]);
        command.arg(remove.get_program()).args(remove.get_args());
        Self(LineChild::spawn(&mut command))
    }

    /// Stopped just before it deletes the first file; it must not be continued.
    fn about_to_delete(lock: &TestLock) -> Self {
        let remover = Self::traced(lock, "inject=unlink,unlinkat:error=EIO:signal=SIGSTOP:when=1");
        wait_until("it is stopped", || {
            is_retired(lock) && matches!(process_state(remover.0.id()), Some('T' | 't'))
        });
        remover
    }

    fn goes_on(mut self) {
        signal(self.0.id(), Signal::SIGCONT);
        assert!(self.0.line().ends_with(": removed"));
        assert!(self.0.wait().success());
    }

    fn killed(mut self) {
        self.0.kill();
        self.0.wait();
    }
}

/// True if the field `retired` of `Header` in `src/lock/shm/layout.rs` is set.
fn is_retired(lock: &TestLock) -> bool {
    let mut retired = [0; 4];
    let table = File::open(lock.paths().table_path()).unwrap();
    table.read_exact_at(&mut retired, 12).unwrap();
    retired != [0; 4]
}

fn output(lock: &TestLock, words: &[&str]) -> Output {
    lock.command(words).stdin(Stdio::null()).output().unwrap()
}

/// Asserts that a command is refused because of the removal.
fn refused(lock: &TestLock, words: &[&str], remover: &Remover) {
    let output = output(lock, words);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{words:?}: {text}");
    let by = format!("the lock is being removed (by process {})", remover.0.id());
    assert!(text.contains(&by), "{words:?}: {text}");
}

/// Asserts that one process, and nobody else, can have the lock, and that it is free afterwards.
fn assert_in_order(lock: &TestLock) {
    let [mut one, mut other] = [0; 2].map(|_| Worker::open(lock));
    assert!(one.get(Ask::now()).is_some(), "{:?}", lock.state());
    assert!(other.get(Ask::now()).is_none());
    assert_eq!(one.ask(json!(["lost"])), json!("held"));
    assert!(one.release());
    assert_eq!(lock.flag_word().value, 1);
    assert_eq!(lock.objects().len(), 3);
}

#[test]
fn while_it_is_stopped_others_wait_or_are_told() {
    for deleted in [1, 2] {
        let lock = TestLock::new("removal");
        let [mut early, mut waiting] = [0; 2].map(|_| Worker::open(&lock));
        let remover = Remover::stopped_after(&lock, deleted);
        waiting.send_get(Ask::default());
        let told = early.refused(Ask {
            wait: Some(50),
            ..Ask::default()
        });
        assert!(told.contains("the lock is being removed"), "{told}");
        refused(&lock, &["get", "-t", "0"], &remover);
        refused(&lock, &["run", "true"], &remover);
        refused(&lock, &["remove", "--force"], &remover);
        assert!(output(&lock, &["state"]).status.success());
        assert_eq!(waiting.try_granted(), None);
        assert_eq!(lock.objects().len(), 3 - deleted, "nothing new beside the old");
        remover.goes_on();
        assert!(waiting.granted().is_some());
        assert!(early.get(Ask::now()).is_none());
        assert!(waiting.release());
        assert_in_order(&lock);
    }
}

#[test]
fn when_it_is_killed_the_lock_is_in_order() {
    for deleted in [1, 2] {
        let lock = TestLock::new("removal");
        let mut early = Worker::open(&lock);
        let mut old = Peer::open(&lock);
        Remover::stopped_after(&lock, deleted).killed();
        let grant = early.get(Ask::now());
        assert!(grant.is_some(), "{:?}", lock.state());
        assert_eq!(
            old.value(),
            0,
            "a process with the old semaphore open cannot acquire it"
        );
        assert!(early.release());
        assert_in_order(&lock);
        assert_eq!(old.value(), 0);
    }
}

/// It has retired the table, but deleted nothing. Others see its hold; after its death, that is like any dead holder's.
#[test]
fn when_it_is_killed_before_the_first_file_the_lock_is_the_old_one() {
    let lock = TestLock::new("removal");
    let [mut early, mut waiting] = [0; 2].map(|_| Worker::open(&lock));
    let mut old = Peer::open(&lock);
    let remover = Remover::about_to_delete(&lock);
    assert!(lock.state().locked && lock.state().holders[0].requester.pid == Some(remover.0.id()));
    for look in [&["state"][..], &["history"]] {
        assert!(output(&lock, look).status.success());
    }
    refused(&lock, &["remove", "--force"], &remover);
    refused(&lock, &["unget"], &remover);
    waiting.send_get(Ask::default());
    let told = early.refused(Ask::now());
    assert!(told.contains("the lock is being removed"), "{told}");
    assert_eq!(old.value(), 0);
    remover.killed();
    assert!(waiting.granted().is_some_and(|grant| grant.abandoned));
    assert!(!is_retired(&lock) && early.get(Ask::now()).is_none() && waiting.release());
    assert_eq!(old.value(), 1, "it is the same semaphore");
    assert!(old.get(Some(0.0), "python") && early.get(Ask::now()).is_none() && old.unget());
    assert_in_order(&lock);
}

/// The system refuses to delete one of the files. If the semaphore is still there, it is released; else it stays at 0.
#[test]
fn when_it_is_refused_the_lock_is_in_order() {
    for at in [1, 2, 3] {
        let lock = TestLock::new("removal");
        let mut early = Worker::open(&lock);
        let mut old = Peer::open(&lock);
        let refuse = format!("inject=unlink,unlinkat:error=EPERM:when={at}");
        let mut remover = Remover::traced(&lock, &refuse);
        assert_eq!(remover.0.wait().code(), Some(125));
        assert_eq!(lock.objects().len(), 4 - at);
        assert_eq!(old.value(), u64::from(at == 1));
        assert!(early.get(Ask::now()).is_some_and(|grant| !grant.abandoned), "{at}");
        assert_eq!(old.value(), 0);
        assert!(early.release());
        assert_in_order(&lock);
        assert_eq!(old.value(), u64::from(at == 1));
    }
}

/// Python creates and acquires a semaphore while the old table is still there.
#[test]
fn a_semaphore_that_python_makes_meanwhile_is_its_own() {
    for killed in [true, false] {
        let lock = TestLock::new("removal");
        drop(lock.open());
        let remover = Remover::stopped_after(&lock, 1);
        let mut peer = Peer::open(&lock);
        assert!(peer.get(Some(0.0), "python"));
        if killed {
            remover.killed();
        } else {
            remover.goes_on();
        }
        let mut ours = Worker::open(&lock);
        assert!(ours.get(Ask::now()).is_none(), "killed: {killed}");
        assert!(lock.state().foreign);
        assert_eq!(peer.value(), 0);
        ours.send_get(Ask::default());
        wait_until("it waits", || lock.state().waiters.len() == 1);
        assert!(peer.unget());
        assert!(ours.granted().is_some() && ours.release());
        assert_in_order(&lock);
    }
}

/// A lock that is taken, and a process that waits for the semaphore itself.
fn taken_with_python_waiting() -> (TestLock, Peer) {
    let lock = TestLock::new("removal");
    drop(lock.open());
    let mut peer = Peer::open(&lock);
    assert!(output(&lock, &["get"]).status.success());
    peer.wait_for(&lock);
    (lock, peer)
}

/// A process that waits for the semaphore itself, as the Python module does, would go on waiting for the deleted one.
#[test]
fn a_lock_that_python_waits_for_is_not_removed() {
    let (lock, mut peer) = taken_with_python_waiting();
    signal(peer.id(), Signal::SIGSTOP);
    wait_until("it is stopped", || process_state(peer.id()) == Some('T'));
    assert!(output(&lock, &["unget"]).status.success());
    let refused = || {
        let output = output(&lock, &["remove"]);
        assert_eq!(output.status.code(), Some(125));
        assert_eq!(lock.objects().len(), 3);
        assert!(!lock.state().locked || lock.state().foreign);
        String::from_utf8(output.stderr).unwrap()
    };
    let line = refused();
    assert!(line.contains("Python module") && line.contains("--force"), "{line}");
    signal(peer.id(), Signal::SIGCONT);
    assert_eq!(peer.answer(), json!(true));
    let line = refused();
    assert!(line.contains("held by a program that uses the Python module"), "{line}");
    assert!(peer.unget());
    assert!(output(&lock, &["remove"]).status.success());
}

/// Nor is it removed if that process was killed, because nobody can tell the difference; by force it is.
#[test]
fn a_lock_whose_waiter_count_was_leaked_is_removed_by_force() {
    let (lock, mut peer) = taken_with_python_waiting();
    peer.kill();
    assert!(output(&lock, &["unget"]).status.success());
    assert_eq!(output(&lock, &["remove"]).status.code(), Some(125));
    assert_in_order(&lock);
    assert!(output(&lock, &["remove", "--force"]).status.success());
    assert!(lock.objects().is_empty());
}

/// When its holder releases later, that must not let in a process that has the old semaphore open.
#[test]
fn the_semaphore_of_a_removed_lock_stays_taken() {
    let lock = TestLock::new("removal");
    let mut holder = Worker::open(&lock);
    let mut old = Peer::open(&lock);
    assert!(holder.get(Ask::now()).is_some());
    assert!(output(&lock, &["remove", "--force"]).status.success());
    let mut next = Worker::open(&lock);
    assert!(next.get(Ask::now()).is_some());
    assert_eq!(holder.ask(json!(["lost"])), json!("replaced"));
    assert!(holder.release());
    assert_eq!(old.value(), 0);
    assert!(!old.get(Some(0.0), "python"));
    assert!(next.release());
    assert_in_order(&lock);
}
