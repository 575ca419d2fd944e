//! `run --hold-at-least`: the lock stays taken for a time, without the program.

use crate::common::TestLock;
use crate::common::run::{Running, hold, run, said, signal, wait_for_waiters};
use crate::common::wait_until;
use nix::sys::signal::Signal;
use resourcelock::{CommandEnd, Ended, HistoryRecord, Holder};
use std::process::Stdio;
use std::time::Duration;

/// The hold of a command that has ended.
fn lingering(lock: &TestLock) -> Holder {
    let state = lock.state();
    let [holder] = state.holders.as_slice() else {
        panic!("{state:?}")
    };
    assert!(
        state.locked && holder.alive && holder.lingers && holder.detached,
        "{state:?}"
    );
    holder.clone()
}

/// The holds that have ended.
fn holds(lock: &TestLock) -> Vec<HistoryRecord> {
    let mut history = lock.open().history().unwrap();
    history.retain(|record| !record.how.gave_up());
    history
}

fn last(lock: &TestLock) -> HistoryRecord {
    holds(lock).pop().expect("a hold has ended")
}

#[test]
fn stays_taken_without_the_program() {
    let lock = TestLock::new("least");
    let first = lock.command(&["run", "--hold-at-least", "1h", "-m", "a job", "sh", "-c", "exit 3"]);
    let first = { first }.spawn().unwrap();
    let pid = first.id();
    let output = first.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "also if it fails");
    let left = lingering(&lock).expires_in.expect("it expires");
    assert!(
        left > Duration::from_secs(3500) && left <= Duration::from_secs(3600),
        "{left:?}"
    );
    let refused = run(&lock, &["-n", "true"]);
    assert_eq!(refused.status.code(), Some(75));
    let held_by = format!(": held by 'run --hold-at-least' from {pid} (sh, ");
    let said = said(&refused);
    assert!(said.contains(&held_by) && said.contains(": a job; see:"), "{said}");
    let json = lock.command(&["state", "--json"]).output().unwrap().stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["holders"][0]["lingers"], true);
    assert!(holds(&lock).is_empty());
    assert!(lock.command(&["unget"]).output().unwrap().status.success());
    assert!(!lock.state().locked);
    let last = last(&lock);
    assert_eq!(
        (last.how, last.command_end, last.note.as_str()),
        (Ended::Released, Some(CommandEnd::Exited(3)), "a job")
    );
    assert_eq!(lock.state().abandoned, None);
}

#[test]
fn ends_with_its_time() {
    let lock = TestLock::new("least-time");
    let done = run(&lock, &["--hold-at-least", "0.4", "true"]);
    assert_eq!((done.status.code(), said(&done).as_str()), (Some(0), ""));
    let ended = lock
        .state()
        .last_success
        .expect("it is known as soon as the command has ended");
    assert!(ended <= std::time::SystemTime::now());
    // Nobody has asked for the lock since.
    wait_until("the history has it", || !holds(&lock).is_empty());
    assert!(!lock.state().locked && lock.state().holders.is_empty());
    let seen = holds(&lock);
    let next = run(&lock, &["sh", "-c", "echo \"<$RESOURCELOCK_ABANDONED>\""]);
    assert_eq!(next.stdout, b"<>\n");
    let history = holds(&lock);
    let first = &history[0];
    assert_eq!(
        (seen.len(), seen[0].sequence, seen[0].token),
        (1, first.sequence, first.token)
    );
    assert_eq!(seen[0].note, first.note);
    assert_eq!(
        (first.how, first.command_end, first.failed()),
        (Ended::Released, Some(CommandEnd::Exited(0)), false)
    );
    let (held, least) = (first.held.unwrap(), Duration::from_millis(399));
    assert!(held >= least, "{held:?}");
    assert!(history[1].granted().unwrap() >= first.granted().unwrap() + least);
    let counters = lock.state().counters.unwrap();
    assert_eq!((counters.abandoned, counters.crashed, counters.forced), (0, 0, 0));
}

#[test]
fn a_crash_is_told() {
    let lock = TestLock::new("least-crash");
    let crashed = run(&lock, &["--hold-at-least", "0.2", "sh", "-c", "kill -SEGV $$"]);
    assert_eq!(crashed.status.code(), None, "it dies of the command's signal");
    let next = run(&lock, &["-q", "sh", "-c", "echo $RESOURCELOCK_ABANDONED"]);
    assert_eq!(next.stdout, b"1\n");
    let first = holds(&lock).remove(0);
    assert_eq!(
        (first.how, first.command_end),
        (Ended::Crashed, Some(CommandEnd::Killed(libc::SIGSEGV)))
    );
    let state = lock.state();
    assert_eq!((state.counters.unwrap().crashed, state.abandoned), (1, None));
}

/// What the command leaves behind neither keeps the lock nor shortens the time.
#[test]
fn depends_on_nobody() {
    let lock = TestLock::new("least-child");
    let script = "sleep 1000 >/dev/null 2>&1 </dev/null & echo $!";
    let left = run(&lock, &["--hold-at-least", "1h", "sh", "-c", script]);
    let child: u32 = String::from_utf8_lossy(&left.stdout).trim().parse().unwrap();
    lingering(&lock);
    signal(child, Signal::SIGKILL);
    wait_until("it has ended", || !crate::common::run::lives(child));
    assert!(lock.command(&["doctor"]).output().is_ok());
    let holder = lingering(&lock);
    assert_eq!((holder.bound_pid, holder.kept_by), (None, None));
    lock.command(&["unget"]).output().unwrap();
    let script = "sleep 1000 >/dev/null 2>&1 </dev/null & echo $!";
    let left = run(&lock, &["--hold-at-least", "0.2", "sh", "-c", script]);
    let child: u32 = String::from_utf8_lossy(&left.stdout).trim().parse().unwrap();
    assert_eq!(run(&lock, &["true"]).status.code(), Some(0));
    signal(child, Signal::SIGKILL);
}

#[test]
fn a_longer_command_releases_as_ever() {
    let lock = TestLock::new("least-longer");
    let long = lock.command(&[
        "run",
        "--hold-at-least",
        "0.01",
        "bash",
        "-c",
        "echo up $PPID $$; read; exit 9",
    ]);
    let mut long = Running::started(long);
    wait_until("the time is over", || {
        lock.state().holders[0].held > Some(Duration::from_millis(10))
    });
    long.child.close_input();
    assert_eq!(long.child.wait().code(), Some(9));
    assert!(lock.state().holders.is_empty());
    assert_eq!(last(&lock).how, Ended::Released);
}

#[test]
fn not_without_the_command_or_the_program() {
    let lock = TestLock::new("least-never");
    assert_eq!(
        run(&lock, &["--hold-at-least", "1h", "/no/such/file"]).status.code(),
        Some(127)
    );
    assert_eq!(
        run(&lock, &["--hold-at-least", "1h", "/etc/passwd"]).status.code(),
        Some(126)
    );
    assert!(!lock.state().locked);
    let mut running = Running::listener(&lock, &["--hold-at-least", "1h"]);
    signal(running.wrapper, Signal::SIGKILL);
    running.child.wait();
    assert!(lock.state().locked, "the command keeps it");
    signal(running.command, Signal::SIGKILL);
    assert_eq!(run(&lock, &["-q", "true"]).status.code(), Some(0));
}

/// Waiters are served in order when the time is over; shared holds and slots linger, too; of several locks, only NAME's does.
#[test]
fn with_others() {
    let lock = TestLock::new("least-others");
    let resource = TestLock::new("least-resource");
    let with = ["--hold-at-least", "1h", "--with", resource.name(), "true"];
    assert_eq!(run(&lock, &with).status.code(), Some(0));
    lingering(&lock);
    assert!(!resource.state().locked);
    lock.command(&["unget"]).output().unwrap();

    assert_eq!(
        run(&lock, &["-s", "--hold-at-least", "1h", "true"]).status.code(),
        Some(0)
    );
    assert_eq!(run(&lock, &["-s", "-n", "true"]).status.code(), Some(0));
    assert_eq!(run(&lock, &["-x", "-n", "true"]).status.code(), Some(75));
    lock.command(&["unget"]).output().unwrap();

    assert_eq!(
        run(&lock, &["-j", "2", "--hold-at-least", "1h", "true"]).status.code(),
        Some(0)
    );
    let slot = hold(&lock, &["-j", "2"]);
    assert_eq!(run(&lock, &["-j", "2", "-n", "true"]).status.code(), Some(75));
    slot.finish();
    assert_eq!(run(&lock, &["-j", "2", "-n", "true"]).status.code(), Some(0));
    lock.command(&["unget"]).output().unwrap();

    let holder = hold(&lock, &[]);
    let waiting = lock.command(&["run", "--hold-at-least", "0.3", "true"]);
    let mut waiting = { waiting }.spawn().unwrap();
    wait_for_waiters(&lock, 1);
    let next = lock.command(&["run", "--replace", "-q", "echo", "ran"]);
    let next = { next }.stdout(Stdio::piped()).spawn().unwrap();
    wait_for_waiters(&lock, 2);
    drop(holder);
    assert!(waiting.wait().unwrap().success());
    assert_eq!(next.wait_with_output().unwrap().stdout, b"ran\n");
    let history = holds(&lock);
    let [first, second] = &history[history.len() - 2..] else {
        panic!("{history:?}")
    };
    assert!(second.granted().unwrap() >= first.granted().unwrap() + Duration::from_millis(299));
}

/// A process that the command left behind is not taken to hold the lock still.
#[test]
fn no_longer_the_jobs_own() {
    let lock = TestLock::new("least-own");
    let first = run(&lock, &["--hold-at-least", "1h", "sh", "-c", "echo $RESOURCELOCK_HELD"]);
    let held = String::from_utf8(first.stdout).unwrap();
    let mut mine = lock.command(&["state", "-q", "--mine"]);
    assert_eq!(
        mine.env("RESOURCELOCK_HELD", held.trim()).status().unwrap().code(),
        Some(1)
    );
    lock.command(&["unget"]).output().unwrap();
}

#[test]
fn refused() {
    let lock = TestLock::new("least-refused");
    for (words, says) in [
        (
            &["-F", "--hold-at-least", "1", "true"][..],
            "not together with --no-fork",
        ),
        (
            &["--same-process-ok", "--hold-at-least", "1", "true"],
            "not together with --same-process-ok",
        ),
        (&["--hold-at-least", "0", "true"], "invalid value"),
    ] {
        let output = run(&lock, words);
        assert_eq!(output.status.code(), Some(125));
        assert!(said(&output).contains(says), "{}", said(&output));
    }
}
