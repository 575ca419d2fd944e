//! `stop`: the command that runs under the lock is asked to end; nothing else is ever signalled.

use crate::common::machine::{ALICE, BOB, Machine};
use crate::common::run::{Running, hold, lives, said, signal, wait_for_waiters};
use crate::common::{Ask, LineChild, Peer, TestLock, Worker, wait_until};
use nix::sys::signal::Signal::{SIGKILL, SIGSTOP};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};

fn stop(lock: &TestLock, options: &[&str]) -> Output {
    lock.command(&[&["stop"], options].concat()).output().unwrap()
}

#[track_caller]
fn assert_status(output: &Output, status: i32) {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
}

/// A command that ends by TERM.
fn sleeper(lock: &TestLock) -> Running {
    let script = "echo up $PPID $$; exec sleep 600";
    let running = Running::started(lock.command(&["run", "--", "sh", "-c", script]));
    running.wait_until_recorded(lock);
    running
}

#[test]
fn the_command_ends_and_the_lock_is_free() {
    let lock = TestLock::new("stop-command");
    assert_status(&stop(&lock, &[]), 1);
    let mut running = sleeper(&lock);
    let stopped = stop(&lock, &[]);
    assert_status(&stopped, 0);
    let text = String::from_utf8_lossy(&stopped.stdout).into_owned();
    assert!(
        text.starts_with(&format!("{}: {} (s", lock.name(), running.wrapper))
            && text.ends_with(" has ended (sent TERM)\n"),
        "{text}"
    );
    assert_eq!(said(&stopped), "");
    assert!(!lock.state().locked && lock.state().abandoned.is_none());
    assert_eq!(running.child.wait(), ExitStatus::from_raw(libc::SIGTERM));
    let again = stop(&lock, &[]);
    assert_status(&again, 1);
    assert!(said(&again).ends_with(": nobody holds it\n"), "{again:?}");
    assert_eq!(said(&stop(&lock, &["-q"])), "");
}

#[test]
fn who_comes_next_is_somebody_else() {
    let lock = TestLock::new("stop-command");
    let running = sleeper(&lock);
    let mut next = Worker::open(&lock);
    next.send_get(Ask::default());
    wait_for_waiters(&lock, 1);
    assert_status(&stop(&lock, &[]), 0);
    assert!(next.granted().is_some() && !lives(running.command));
}

#[test]
fn not_in_time_and_then_killed() {
    let lock = TestLock::new("stop-command");
    let script = "trap '' TERM INT; echo up $PPID $$; exec sleep 600";
    let holder = Running::started(lock.command(&["run", "--", "sh", "-c", script]));
    holder.wait_until_recorded(&lock);
    let late = stop(&lock, &["-t", "0.05", "--signal", "INT"]);
    assert_status(&late, 75);
    let text = said(&late);
    assert!(
        text.contains(" after INT (-k would send KILL), it is still held by "),
        "{text}"
    );
    let killed = stop(&lock, &["-t", "60", "-k", "0.05"]);
    assert_status(&killed, 0);
    assert!(killed.stdout.ends_with(b" has ended (sent KILL)\n"), "{killed:?}");
    assert!(lock.state().abandoned.is_some(), "the next holder is told");
    assert!(!lives(holder.command));
    let never = stop(&lock, &["-t", "1", "-k", "2"]);
    assert_status(&never, 125);
    assert!(said(&never).contains("KILL would never be sent"), "{never:?}");
}

#[test]
fn a_stopped_command_is_continued() {
    let lock = TestLock::new("stop-command");
    let running = sleeper(&lock);
    signal(running.command, SIGSTOP);
    assert_status(&stop(&lock, &["-t", "60"]), 0);
    assert!(!lives(running.command));
}

/// One of several holders, then all of them.
#[test]
fn one_of_several_or_all() {
    let lock = TestLock::new("stop-command");
    let shared = || {
        let script = "echo up $PPID $$; exec sleep 600";
        let running = Running::started(lock.command(&["run", "-s", "--", "sh", "-c", script]));
        running.wait_until_recorded(&lock);
        running
    };
    let holders = [shared(), shared(), shared()];
    let state = lock.state();
    let of = |running: &Running| {
        let mut holders = state.holders.iter();
        holders
            .find(|holder| holder.bound_pid == Some(running.command))
            .unwrap()
            .token
    };
    let token = of(&holders[1]).unwrap().to_string();
    assert_status(&stop(&lock, &["--token", &token]), 0);
    assert!(lives(holders[0].command) && !lives(holders[1].command) && lives(holders[2].command));
    let gone = stop(&lock, &["--token", &token]);
    assert_status(&gone, 1);
    assert!(
        said(&gone).contains(&format!("not held under token {token}")),
        "{gone:?}"
    );
    assert_status(&stop(&lock, &[]), 0);
    assert!(!lives(holders[0].command) && !lives(holders[2].command));
}

#[test]
fn what_the_command_leaves_behind_is_named() {
    let lock = TestLock::new("stop-command");
    // The child does not keep the test's pipe open.
    let script = "sleep 600 >&- 2>&- & echo up $PPID $$; echo $!; wait";
    let mut running = Running::started(lock.command(&["run", "--", "sh", "-c", script]));
    let child: u32 = running.child.line().parse().unwrap();
    running.wait_until_recorded(&lock);
    wait_until("it is executed", || {
        std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name == "sleep\n")
    });
    let stopped = stop(&lock, &[]);
    assert_status(&stopped, 0);
    let expected = format!(": still running, without the lock: {child} (sleep)\n");
    assert!(said(&stopped).ends_with(&expected), "{stopped:?}");
    assert!(lives(child));
    signal(child, SIGKILL);
}

/// What a command has left behind keeps the lock if `run` itself was killed: it runs under the hold as well.
#[test]
fn what_keeps_the_lock_of_a_dead_run() {
    let lock = TestLock::new("stop-command");
    let script = "sleep 600 >&- 2>&- & echo up $PPID $$; echo $!; wait";
    let mut running = Running::started(lock.command(&["run", "--", "sh", "-c", script]));
    let child: u32 = running.child.line().parse().unwrap();
    running.wait_until_recorded(&lock);
    signal(running.wrapper, SIGKILL);
    signal(running.command, SIGKILL);
    wait_until("it is what keeps the lock", || {
        let state = lock.state();
        let kept_by = state.holders.first().and_then(|holder| holder.kept_by.as_ref());
        kept_by.is_some_and(|by| by.pid == Some(child))
    });
    assert_status(&stop(&lock, &["-t", "60"]), 0);
    wait_until("it has ended", || !lives(child));
}

/// Holders that run no command are not signalled; what can be done is said.
#[test]
fn holders_that_cannot_be_asked() {
    let lock = TestLock::new("stop-command");
    let unget = |token: &str| format!("resourcelock {} unget --token {token}", lock.name());
    let token = || lock.state().holders[0].token.unwrap().to_string();
    let refused = |expected: &str| {
        let refused = stop(&lock, &[]);
        assert_status(&refused, 125);
        assert!(said(&refused).contains(" was not asked to end: "), "{refused:?}");
        assert!(said(&refused).contains(expected), "{refused:?}");
        assert!(lock.state().locked);
    };
    lock.command(&["get", "-q"]).status().unwrap();
    refused(&format!("no process runs under it; release it: {}", unget(&token())));
    lock.command(&["unget", "-q"]).status().unwrap();

    let bystander = LineChild::spawn(std::process::Command::new("sleep").arg("600"));
    let pid = bystander.id().to_string();
    lock.command(&["get", "-q", "--pid", &pid]).status().unwrap();
    refused(&format!(
        "(get --pid); end that process (kill {pid}), or release the lock while it runs: {}",
        unget(&token())
    ));
    assert!(lives(bystander.id()));
    drop(bystander);

    let mut library = Worker::open(&lock);
    assert!(library.get(Ask::default()).is_some());
    refused("it has no command that runs under the lock; end it with: kill ");
    assert!(library.release());
}

/// A command that stops its own job would wait for itself.
#[test]
fn its_own_job() {
    let lock = TestLock::new("stop-command");
    let program = crate::common::binary().get_program().to_owned();
    let script = "\"$0\" \"$1\" stop; echo $?";
    let words = ["run", "--", "sh", "-c", script, program.to_str().unwrap(), lock.name()];
    let output = lock.command(&words).output().unwrap();
    assert_eq!(output.stdout, b"125\n", "{output:?}");
    assert!(said(&output).contains("this job itself holds the lock"), "{output:?}");
}

/// T4: that a table, a descriptor or an environment of another hold says so proves nothing.
#[test]
fn nobody_is_signalled_without_proof() {
    let (lock, other) = (TestLock::new("stop-command"), TestLock::new("stop-command"));
    let handle = lock.open();
    let mut running = hold(&other, &[]);
    let guard = handle.acquire().unwrap();
    guard.bind(running.command).unwrap();
    let refused = stop(&lock, &["-t", "0.2", "-k", "0.1"]);
    assert_status(&refused, 125);
    let expected = format!("process {} is not proven to run under the lock", running.command);
    assert!(said(&refused).contains(&expected), "{refused:?}");
    running.says_nothing_else();
    running.finish();
}

/// The users of one lock are not always those who may signal each other.
#[test]
fn another_users_command() {
    Machine::run(|machine| {
        let words = [
            "bus",
            "run",
            "--group",
            "i2c",
            "--",
            "sh",
            "-c",
            "echo $$; exec sleep 600",
        ];
        let mut holder = LineChild::spawn(machine.member(ALICE).args(words));
        let pid: u32 = holder.line().parse().unwrap();
        let refused = machine
            .member(BOB)
            .args(["bus", "stop", "--group", "i2c"])
            .output()
            .unwrap();
        assert_status(&refused, 125);
        let expected = format!("process {pid} belongs to another user and cannot be examined");
        assert!(said(&refused).contains(&expected), "{refused:?}");
        let untrusted = machine.member(BOB).args(["bus", "stop"]).output().unwrap();
        assert_status(&untrusted, 125);
        assert!(
            said(&untrusted).contains("belongs to alice, but bob uses only"),
            "{untrusted:?}"
        );
        assert!(lives(pid));
        assert_status(
            &machine
                .member(ALICE)
                .args(["bus", "stop", "--group", "i2c"])
                .output()
                .unwrap(),
            0,
        );
        assert_eq!(holder.wait().code(), None);
    });
}

/// Python's holders have no process that anybody knows.
#[test]
fn a_holder_that_uses_the_python_module() {
    let lock = TestLock::new("stop-command");
    let mut peer = Peer::open(&lock);
    assert!(peer.get(Some(0.0), "scan"));
    let refused = stop(&lock, &[]);
    assert_status(&refused, 125);
    assert!(
        said(&refused).contains("uses the Python module or the bare semaphore"),
        "{refused:?}"
    );
    assert!(peer.unget());
}
