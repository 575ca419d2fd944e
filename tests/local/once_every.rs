//! `run --once-every`: a job that has been done in this period is not done again.

use crate::common::run::{Running, hold, run, said, signal, wait_for_waiters};
use crate::common::{LineChild, TestLock, wait_until};
use nix::sys::signal::Signal;
use std::process::{Output, Stdio};

fn once(lock: &TestLock, words: &[&str]) -> Output {
    run(lock, &[&["--once-every", "1h"], words].concat())
}

fn ran(output: &Output) -> bool {
    output.stdout == b"ran\n" && output.status.code() == Some(0)
}

fn is_not_due(output: &Output) -> bool {
    output.stdout.is_empty() && output.status.code() == Some(75) && said(output).contains(": done ")
}

#[test]
fn done_once() {
    let lock = TestLock::new("once");
    let first = lock.command(&["run", "--once-every", "1h", "echo", "ran"]);
    let first = { first }.stdout(Stdio::piped()).spawn().unwrap();
    let pid = first.id();
    assert!(ran(&first.wait_with_output().unwrap()));
    let again = once(&lock, &["echo", "ran"]);
    assert!(is_not_due(&again), "{again:?}");
    let line = said(&again);
    assert!(
        line.starts_with(&format!("resourcelock: {}: done ", lock.name())),
        "{line}"
    );
    assert!(
        line.contains(&format!(" ago by {pid}, due in 53 min")) && line.lines().count() == 1,
        "{line}"
    );
    assert!(
        ran(&lock.command(&["run", "echo", "ran"]).output().unwrap()),
        "without the option"
    );
    assert!(is_not_due(&once(
        &lock,
        &["--with", &format!("{}-other", lock.name()), "echo", "ran"]
    )));
    lock.command(&["remove"]).output().unwrap();
    assert!(ran(&once(&lock, &["echo", "ran"])), "a removed lock knows nothing");
}

#[test]
fn a_skip_is_silent_with_status_0_and_speaks_with_v() {
    let lock = TestLock::new("once-silent");
    assert!(ran(&once(&lock, &["echo", "ran"])));
    let holder = hold(&lock, &[]);
    for words in [&["run", "--once-every", "1h"][..], &["run", "-n"]] {
        let skip = |more: &[&str]| {
            lock.command(&[words, more, &["echo", "ran"]].concat())
                .output()
                .unwrap()
        };
        let silent = skip(&["-E", "0"]);
        assert_eq!((silent.status.code(), said(&silent).as_str()), (Some(0), ""));
        let quiet = skip(&["-q", "-v"]);
        assert_eq!((quiet.status.code(), said(&quiet).as_str()), (Some(75), ""));
        let spoken = skip(&["-E", "0", "-v"]);
        assert_eq!(spoken.status.code(), Some(0));
        let line = format!("resourcelock: {}: ", lock.name());
        assert!(
            said(&spoken).lines().any(|said| said.starts_with(&line)),
            "{}",
            said(&spoken)
        );
    }
    holder.finish();
}

#[test]
fn what_fails_or_is_killed_does_not_count() {
    let lock = TestLock::new("once-fails");
    assert_eq!(once(&lock, &["sh", "-c", "exit 3"]).status.code(), Some(3));
    assert_eq!(once(&lock, &["/no/such/file"]).status.code(), Some(127));
    assert_eq!(
        once(&lock, &["--limit", "0.01", "sleep", "1000"]).status.code(),
        Some(124)
    );
    let mut running = Running::started(lock.command(&[
        "run",
        "--once-every",
        "1h",
        "bash",
        "-c",
        "echo up $PPID $$; exec sleep 1000",
    ]));
    signal(running.wrapper, Signal::SIGKILL);
    running.child.wait();
    signal(running.command, Signal::SIGKILL);
    assert!(ran(&once(&lock, &["echo", "ran"])));
    assert!(is_not_due(&once(&lock, &["echo", "ran"])));
}

/// A job that starts on several hosts at once: the others wait, and find out under the lock.
#[test]
fn looked_at_again_under_the_lock() {
    for (status, next_runs) in [("0", false), ("1", true)] {
        let lock = TestLock::new("once-wait");
        let script = format!("echo up; read; exit {status}");
        let mut first = LineChild::spawn(&mut lock.command(&["run", "--once-every", "1h", "bash", "-c", &script]));
        first.wait_for_line("up");
        let mut next = lock.command(&["run", "--once-every", "1h", "echo", "ran"]);
        let next = next.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for_waiters(&lock, 1);
        first.close_input();
        let next = next.wait_with_output().unwrap();
        assert!(if next_runs { ran(&next) } else { is_not_due(&next) }, "{next:?}");
        first.wait();
    }
}

#[test]
fn looked_at_before_it_queues() {
    let lock = TestLock::new("once-first");
    assert!(ran(&once(&lock, &["echo", "ran"])));
    let holder = hold(&lock, &[]);
    assert!(
        is_not_due(&once(&lock, &["echo", "ran"])),
        "it does not wait for the holder"
    );
    holder.finish();
}

#[test]
fn due_again() {
    let lock = TestLock::new("once-again");
    let run = || {
        lock.command(&["run", "--once-every", "0.3", "echo", "ran"])
            .output()
            .unwrap()
    };
    assert!(ran(&run()));
    wait_until("the period is over", || ran(&run()));
}

#[test]
fn of_many_at_once_one_does_it() {
    let lock = TestLock::new("once-many");
    let runs: Vec<_> = (0..6)
        .map(|_| {
            let mut run = lock.command(&["run", "--once-every", "1h", "echo", "ran"]);
            run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let runs: Vec<Output> = runs.into_iter().map(|run| run.wait_with_output().unwrap()).collect();
    assert_eq!(runs.iter().filter(|output| ran(output)).count(), 1);
    assert_eq!(runs.iter().filter(|output| is_not_due(output)).count(), 5);
}

#[test]
fn refused() {
    let lock = TestLock::new("once-refused");
    for (words, says) in [
        (&["-F", "true"][..], "not together with --no-fork"),
        (&["--same-process-ok", "true"], "not together with --same-process-ok"),
        (&["--once-every", "0", "true"], "invalid value"),
    ] {
        let output = once(&lock, words);
        assert_eq!(output.status.code(), Some(125));
        assert!(said(&output).contains(says), "{}", said(&output));
    }
}
