//! Fault 11: what counts as a crash is what people mean by it. A command killed by a signal that does not ask for an
//! orderly exit leaves the mark of a death, even if a shell turns the signal into a status; one that was asked to exit
//! does not. A process that a hold is bound to may simply exit, unless it was said that it must release first.

use crate::common::run::{behind, hold, same_variables, signal};
use crate::common::{LineChild, TestLock, printed};
use nix::sys::signal::Signal::{self, *};
use resourcelock::{Ended, GetOptions, Wait};
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};

fn run(lock: &TestLock, words: &[&str]) -> Output {
    let mut command = lock.command(&[&["run", "-q"], words].concat());
    command.stdin(Stdio::null()).output().unwrap()
}

/// Runs the next command, which succeeds; returns what it is told.
fn told(lock: &TestLock) -> String {
    let next = run(lock, &["sh", "-c", "echo ${RESOURCELOCK_ABANDONED-no}"]);
    String::from_utf8(next.stdout).unwrap().trim().to_owned()
}

fn last_end(lock: &TestLock) -> Ended {
    lock.open().history().unwrap().pop().expect("something has ended").how
}

#[test]
fn signals_that_are_a_crash_by_their_kind() {
    let lock = TestLock::new("f11");
    let crashes = [
        SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS,
    ];
    for signal in crashes {
        // No files in the directory of the tests.
        let script = format!("ulimit -c 0; kill -{} $$", signal as i32);
        let _ = run(&lock, &["sh", "-c", &script]);
        assert_eq!(
            (last_end(&lock), told(&lock).as_str()),
            (Ended::Crashed, "1"),
            "{signal}"
        );
        let status = format!("exit {}", 128 + signal as i32);
        let _ = run(&lock, &["sh", "-c", &status]);
        assert_eq!(
            (last_end(&lock), told(&lock).as_str()),
            (Ended::Crashed, "1"),
            "{status}"
        );
        assert_eq!(told(&lock), "no", "it ended well: {signal}");
    }
    assert_eq!(lock.state().counters.unwrap().crashed, 2 * crashes.len() as u64);
}

#[test]
fn signals_that_ask_a_command_to_end() {
    let lock = TestLock::new("f11");
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGALRM, SIGUSR1, SIGUSR2] {
        let script = format!("ulimit -c 0; kill -{} $$", signal as i32);
        let _ = run(&lock, &["sh", "-c", &script]);
        assert_eq!(
            (last_end(&lock), told(&lock).as_str()),
            (Ended::Released, "no"),
            "{signal}"
        );
        let _ = run(&lock, &["sh", "-c", &format!("exit {}", 128 + signal as i32)]);
        assert_eq!(told(&lock), "no", "{signal}, as a status");
    }
    for status in [1, 2, 127, 128, 255] {
        let _ = run(&lock, &["sh", "-c", &format!("exit {status}")]);
        assert_eq!(told(&lock), "no", "{status}");
    }
}

/// It does not matter who sends the signal: somebody else, or this program at the limit.
#[test]
fn whoever_sends_it() {
    let lock = TestLock::new("f11");
    let mut running = hold(&lock, &[]);
    signal(running.command, SIGKILL);
    running.child.wait();
    assert_eq!(told(&lock), "1", "killed by another process");
    // Deaf to TERM from the beginning, however early that comes: the command inherits this.
    let deaf = lock.command(&["run", "-q", "--limit", "10ms", "-k", "10ms", "sleep", "60"]);
    let mut command = behind(&["env", "--ignore-signal=TERM"], &deaf);
    assert_eq!(command.status().unwrap().code(), Some(137));
    assert_eq!(told(&lock), "1", "killed after its limit");
    assert_eq!(run(&lock, &["--limit", "10ms", "sleep", "60"]).status.code(), Some(124));
    assert_eq!(told(&lock), "no", "asked to end at its limit");
}

#[test]
fn the_resource_is_recovered_after_a_crash() {
    let lock = TestLock::new("f11");
    let _ = run(&lock, &["sh", "-c", "ulimit -c 0; kill -SEGV $$"]);
    let recover = |then| run(&lock, &["--recover", "echo repaired", then]);
    let failed = recover("false");
    assert_eq!(failed.stdout, b"repaired\n");
    assert_eq!(recover("true").stdout, b"repaired\n", "its command did not end well");
    assert_eq!(recover("true").stdout, b"");
    let _ = run(&lock, &["sh", "-c", "exit 139"]);
    assert_eq!(run(&lock, &["--on-abandoned", "fail", "true"]).status.code(), Some(65));
}

/// A command runs under its job's hold: the outer `run` sees the status into which the shell turns the signal.
#[test]
fn a_crash_under_an_inherited_hold() {
    let lock = TestLock::new("f11");
    let line = lock.command(&[
        "run",
        "-q",
        "--same-process-ok",
        "sh",
        "-c",
        "ulimit -c 0; kill -ABRT $$",
    ]);
    let inner = line.get_args().map(|word| format!("'{}'", word.to_str().unwrap()));
    let script = format!(
        "ulimit -c 0; {} {}; exit $?",
        line.get_program().to_str().unwrap(),
        inner.collect::<Vec<_>>().join(" ")
    );
    let outer = run(&lock, &["sh", "-c", &script]);
    assert_eq!(outer.status.code(), Some(134), "{outer:?}");
    assert_eq!(told(&lock), "1");
}

#[test]
fn a_crash_is_in_the_history_and_in_its_json() {
    let lock = TestLock::new("f11");
    let _ = run(&lock, &["sh", "-c", "ulimit -c 0; kill -SEGV $$"]);
    let json =
        |words: &[&str]| -> Value { serde_json::from_slice(&lock.command(words).output().unwrap().stdout).unwrap() };
    assert_eq!(json(&["history", "--json"])["records"][0]["how"], json!("crashed"));
    let state = json(&["state", "--json"]);
    assert_eq!(state["counters"]["crashed"], json!(1));
    assert_ne!(state["abandoned"], Value::Null);
    assert!(printed(&mut lock.command(&["history"])).contains("crashed"));
}

#[test]
fn a_process_that_a_hold_is_for_may_end() {
    let lock = TestLock::new("f11");
    let get = |script: &str, words: &str| {
        let line = lock.command(&["get", "-q", "--pid"]);
        let program = line.get_program().to_str().unwrap();
        let script = format!("{program} {} get -q --pid $$ {words} && {script}", lock.name());
        let mut shell = Command::new("bash");
        same_variables(&mut shell, &line);
        shell.args(["-c", &script, lock.name()]).status().unwrap()
    };
    let unget = format!(
        "{} {} unget -q --pid $$",
        lock.command(&[]).get_program().to_str().unwrap(),
        lock.name()
    );
    for script in ["exit 3", "kill -KILL $$"] {
        get(script, "");
        assert_eq!(told(&lock), "no", "{script}");
        let ends: Vec<Ended> = lock
            .open()
            .history()
            .unwrap()
            .iter()
            .rev()
            .map(|record| record.how)
            .collect();
        assert_eq!(ends[1], Ended::WithProcess, "{script}");
    }
    for script in ["exit 3", "kill -KILL $$"] {
        get(script, "--must-unget");
        assert_eq!(told(&lock), "1", "{script}");
    }
    get(&format!("{{ trap '{unget}' EXIT; exit 3; }}"), "--must-unget");
    assert_eq!(last_end(&lock), Ended::Released);
    assert_eq!(told(&lock), "no", "it had released the lock");
}

#[test]
fn must_unget_is_about_a_process() {
    let lock = TestLock::new("f11");
    let refused = lock.command(&["get", "--must-unget"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(125));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("--pid"), "{said}");
    assert!(!lock.paths().table_path().exists());
}

/// The library lets a program that runs others under its hold report their crash.
#[test]
fn a_guard_that_says_that_something_crashed() {
    let lock = TestLock::new("f11");
    let handle = lock.open();
    let now = || GetOptions::new().wait(Wait::No);
    let guard = handle.acquire_with(&now()).unwrap().unwrap();
    let token = guard.token();
    guard.mark_crashed();
    assert_eq!(lock.state().abandoned, None, "it still holds the lock");
    assert!(guard.release().unwrap());
    assert_eq!((lock.state().abandoned, last_end(&lock)), (Some(token), Ended::Crashed));
    let next = handle.acquire_with(&now()).unwrap().unwrap();
    assert!(next.abandoned());
    next.mark_crashed();
    next.mark_recovered().unwrap();
    drop(next);
    assert!(
        !handle.acquire_with(&now()).unwrap().unwrap().abandoned(),
        "it has been repaired"
    );
    let lost = handle.acquire_with(&now()).unwrap().unwrap();
    printed(&mut lock.command(&["unget", "-q"]));
    lost.mark_crashed();
    assert!(!lost.release().unwrap());
    assert_eq!(lock.state().abandoned, None, "somebody else ended it before");
}

#[test]
fn the_waiting_one_is_told_of_a_crash() {
    let lock = TestLock::new("f11");
    let mut running = hold(&lock, &[]);
    let show = "echo ${RESOURCELOCK_ABANDONED-no}";
    let mut next = LineChild::spawn(&mut lock.command(&["run", "-q", "sh", "-c", show]));
    crate::common::run::wait_for_waiters(&lock, 1);
    signal(running.command, Signal::SIGSEGV);
    running.child.wait();
    assert_eq!(next.line(), "1");
    next.wait();
}
