//! `run --with`: several locks, or none of them.

use crate::common::run::{LISTENER, Running, hold, lives, run, said, signal, wait_for_waiters};
use crate::common::{Dice, LineChild, TestLock, binary, wait_until};
use nix::sys::signal::Signal;
use resourcelock::{Ended, Mode};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};

/// Two locks in the order of their names.
fn pair() -> (TestLock, TestLock) {
    (TestLock::new("with-a"), TestLock::new("with-b"))
}

fn waiting_run(lock: &TestLock, other: &TestLock) -> LineChild {
    let words = ["run", "--with", other.name(), "bash", "-c", LISTENER];
    let child = LineChild::spawn(&mut lock.command(&words));
    wait_for_waiters(other, 1);
    child
}

#[test]
fn the_command_runs_under_all_of_them() {
    let (a, b) = pair();
    let c = TestLock::new("with-c");
    let words = ["--with", c.name(), "--with-shared", a.name()];
    let running = Running::started(b.command(&[&["run"], &words[..], &["bash", "-c", LISTENER]].concat()));
    for (lock, mode) in [(&a, Mode::Shared), (&b, Mode::Exclusive), (&c, Mode::Exclusive)] {
        running.wait_until_recorded(lock);
        assert_eq!(lock.state().holders[0].mode, mode, "{}", lock.name());
    }
    let environment = fs::read_to_string(format!("/proc/{}/environ", running.command)).unwrap();
    let token = |lock: &TestLock| lock.state().holders[0].token.unwrap();
    let held = [&c, &a, &b].map(|lock| format!("{}:{}", token(lock), lock.name()));
    for expected in [
        format!("RESOURCELOCK_NAME={}", b.name()),
        format!("RESOURCELOCK_TOKEN={}", token(&b)),
        format!("RESOURCELOCK_HELD={}", held.join("/")),
    ] {
        assert!(environment.split('\0').any(|entry| entry == expected), "{expected}");
    }
    running.finish();
    for lock in [&a, &b, &c] {
        assert!(!lock.state().locked);
        assert_eq!(lock.open().history().unwrap()[0].how, Ended::Released);
    }
}

#[test]
fn the_killed_wrappers_command_keeps_all_of_them() {
    let (a, b) = pair();
    let mut running = Running::started(a.command(&["run", "--with", b.name(), "bash", "-c", LISTENER]));
    running.wait_until_recorded(&b);
    signal(running.wrapper, Signal::SIGKILL);
    running.child.wait();
    for lock in [&a, &b] {
        assert_eq!(run(lock, &["-n", "true"]).status.code(), Some(75));
    }
    signal(running.command, Signal::SIGKILL);
    for lock in [&a, &b] {
        assert_eq!(run(lock, &["true"]).status.code(), Some(0));
    }
}

#[test]
fn none_is_kept_if_one_is_missing() {
    let (a, b) = pair();
    let holder = hold(&b, &[]);
    for (lock, other) in [(&a, &b), (&b, &a)] {
        for wait in ["0", "0.05"] {
            let output = run(lock, &["-t", wait, "--with", other.name(), "echo", "ran"]);
            assert_eq!((output.status.code(), output.stdout.len()), (Some(75), 0));
            let line = said(&output);
            let begins = format!("resourcelock: {}: held by {}", b.name(), holder.wrapper);
            assert!(line.starts_with(&begins) && line.lines().count() == 1, "{line}");
            assert!(!a.state().locked, "it was released");
        }
    }
    let output = run(&a, &["-n", "-E", "0", "--with", b.name(), "echo", "ran"]);
    assert_eq!((output.status.code(), said(&output)), (Some(0), String::new()));
    holder.finish();
}

#[test]
fn a_lock_taken_early_says_what_it_waits_for() {
    let (a, b) = pair();
    let holder = hold(&b, &[]);
    let mut child = waiting_run(&a, &b);
    let note = |lock: &TestLock| lock.note_text().split_once(" - ").map(|(_, text)| text.to_owned());
    let pending = Some(format!("taken, waits for {}", b.name()));
    wait_until("the note says so", || note(&a) == pending);
    let shown = a.command(&["state"]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("taken, waits for"), "{shown}");
    let waited = a.state().holders[0].held.unwrap();
    holder.finish();
    child.wait_for_line_with("up ");
    assert_eq!(note(&a).as_deref(), Some("bash"));
    child.close_input();
    child.wait();
    let hold = &a.open().history().unwrap()[0];
    assert!(
        hold.waited.unwrap() > waited,
        "the time before the command's start is time waited: {hold:?}"
    );
}

/// Nothing ran under the locks that it had already.
#[test]
fn killed_before_it_had_all_of_them_it_abandons_nothing() {
    let (a, b) = pair();
    let holder = hold(&b, &[]);
    let mut child = waiting_run(&a, &b);
    wait_until("it says that it waits", || a.note_text().contains("taken, waits for"));
    child.kill();
    child.wait();
    let tell = "echo [$RESOURCELOCK_ABANDONED]";
    assert_eq!(run(&a, &["sh", "-c", tell]).stdout, b"[]\n");
    assert_eq!(a.open().history().unwrap()[0].how, Ended::WithProcess);
    holder.finish();
    // While the command runs, its death counts.
    let mut running = Running::started(a.command(&["run", "--with", b.name(), "bash", "-c", LISTENER]));
    running.wait_until_recorded(&b);
    for pid in [running.wrapper, running.command] {
        signal(pid, Signal::SIGKILL);
    }
    running.child.wait();
    wait_until("the command is gone", || !lives(running.command));
    assert_eq!(run(&a, &["sh", "-c", tell]).stdout, b"[1]\n");
    let both = run(&a, &["--with", b.name(), "sh", "-c", tell]);
    assert_eq!(String::from_utf8_lossy(&both.stdout), format!("[{}]\n", b.name()));
}

#[test]
fn a_lost_lock_is_named() {
    let (a, b) = pair();
    b.open();
    let mut command = a.command(&["run", "--with", b.name(), "bash", "-c", LISTENER]);
    command.stderr(std::process::Stdio::piped());
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the command runs", || {
        b.state().holders.iter().any(|holder| holder.bound_pid.is_some())
    });
    assert!(b.command(&["unget"]).status().unwrap().success());
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(76));
    assert!(
        said(&output).starts_with(&format!("resourcelock: {}: ", b.name())),
        "{}",
        said(&output)
    );
}

#[test]
fn refused_before_anything_is_taken() {
    let (a, b) = pair();
    let refused = |words: &[&str], says: &str| {
        let output = run(&a, words);
        assert_eq!(output.status.code(), Some(125), "{words:?}");
        assert!(said(&output).contains(says), "{words:?}: {}", said(&output));
    };
    let twice = "would wait for itself";
    refused(&["--with", a.name(), "true"], twice);
    refused(
        &["--with", b.name(), "--with-shared", &format!("/{}", b.name()), "true"],
        twice,
    );
    refused(&["--with", b.name(), "--replace", "true"], "not together with --with");
    refused(
        &["--with-shared", b.name(), "--same-process-ok", "true"],
        "not together with --with",
    );
    refused(&["--with", "", "true"], "name");
    let many: Vec<String> = (0..16).map(|i| format!("--with={}-{i}", b.name())).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    refused(&[&many[..], &["true"]].concat(), "16 locks");
    assert!(a.objects().is_empty() && b.objects().is_empty());
    // What this job already holds.
    let own = binary().get_program().to_str().unwrap().to_owned();
    let output = run(&b, &[&own, a.name(), "run", "--with", b.name(), "echo", "ran"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0));
    assert!(
        said(&output).contains(&format!("{}: this job already holds", b.name())),
        "{}",
        said(&output)
    );
    assert!(a.objects().is_empty(), "not even created");
}

#[test]
fn executed_in_place() {
    let (a, b) = pair();
    let mut child = LineChild::spawn(&mut a.command(&["run", "-F", "--with", b.name(), "bash", "-c", "echo up; read"]));
    child.wait_for_line("up");
    for lock in [&a, &b] {
        assert_eq!(run(lock, &["-n", "true"]).status.code(), Some(75));
    }
    child.close_input();
    child.wait();
    for lock in [&a, &b] {
        let tell = "echo [$RESOURCELOCK_ABANDONED]";
        assert_eq!(run(lock, &["sh", "-c", tell]).stdout, b"[]\n");
    }
}

/// A comma is a character like any other: whoever means two locks is told once, when the lock is new.
#[test]
fn a_comma_in_a_name() {
    let lock = TestLock::new("with,comma");
    let hint = said(&run(&lock, &["true"]));
    assert!(hint.contains("--with"), "{hint}");
    assert_eq!(said(&run(&lock, &["true"])), "");
}

/// Runs that ask for two or three of three locks in any order and mode, some of them killed: they all end, and nobody is
/// where somebody excludes him. RESOURCELOCK_ROUNDS: how many runs instead of 9.
#[test]
fn no_deadlock() {
    let locks = [
        TestLock::new("with-x"),
        TestLock::new("with-y"),
        TestLock::new("with-z"),
    ];
    let places = tempfile::tempdir().unwrap();
    let rounds = std::env::var("RESOURCELOCK_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok());
    let mut dice = Dice::new(std::process::id().into());
    let mut runs: Vec<Child> = (0..rounds.unwrap_or(9))
        .map(|_| visitor(&locks, places.path(), &mut dice).spawn().unwrap())
        .collect();
    for run in runs.iter_mut().step_by(4) {
        // It waits, or its command goes on without it, under the locks.
        let _ = run.kill();
    }
    for run in &mut runs {
        run.wait().unwrap();
    }
    // A killed one's command may still be running.
    let all = ["--with", locks[1].name(), "--with", locks[2].name(), "true"];
    assert!(run(&locks[0], &all).status.success());
    assert!(!places.path().join("collision").exists());
}

/// A run that visits the places of two or three of the locks: alone where it holds the lock alone.
fn visitor(locks: &[TestLock; 3], places: &Path, dice: &mut Dice) -> Command {
    let first = dice.below(3) as usize;
    let mut script = "cd \"$0\"; ".to_owned();
    let mut leave = String::new();
    let mut words = Vec::new();
    let step = 1 + dice.below(2) as usize;
    for i in 0..2 + dice.below(2) as usize {
        let name = locks[(first + i * step) % 3].name();
        let shared = dice.percent(50);
        words.extend(match (i, shared) {
            (0, false) => vec!["run", "-x"],
            (0, true) => vec!["run", "-s"],
            (_, false) => vec!["--with", name],
            (_, true) => vec!["--with-shared", name],
        });
        if shared {
            script.push_str(&format!("[ -d {name} ] && touch collision; "));
        } else {
            script.push_str(&format!("mkdir {name} || touch collision; "));
            leave.push_str(&format!("rmdir {name}; "));
        }
    }
    script.push_str(&format!("sleep 0.01; {leave}"));
    let mut command = locks[first].command(&words);
    command.args(["sh", "-c", &script]).arg(places);
    command
}
