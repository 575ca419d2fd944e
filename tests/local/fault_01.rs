//! Fault 1: no command is started whose hold has ended, at whatever point between the grant and the start that happens.
//!
//! strace(1) stops the program after one of its system calls; meanwhile the lock is released by force and acquired by
//! somebody else, or removed. This is done after each system call from the grant to the start, for each way of
//! starting.

use crate::common::lock::binary;
use crate::common::run::signal;
use crate::common::{Ask, LineChild, TestLock, Worker, process_state, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use resourcelock::{GetOptions, Removed, ResourceLock, UngetOptions, Wait};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A way of starting a command.
#[derive(Clone, Copy)]
struct Way {
    options: &'static [&'static str],
    /// True if the previous holder died.
    abandoned: bool,
    /// True if the hold is that of an outer `run`.
    inner: bool,
}

const FORK: Way = Way {
    options: &[],
    abandoned: false,
    inner: false,
};

/// How the test ends the hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Unget,
    Remove,
}

/// A system call: its name, and the number of calls with that name up to this one.
type Call = (String, usize);

/// The calls, from strace's log, between opening the lock and starting the command, in order; with true for those after
/// which the lock's files were still checked. With `--recover`, the second start counts.
fn calls_before_the_start(log: &Path, way: Way, lock: &TestLock) -> Vec<(Call, bool)> {
    let text = fs::read_to_string(log).unwrap();
    let mut counts = HashMap::<String, usize>::new();
    let mut calls: Vec<(Call, bool)> = Vec::new();
    let mut opened = false;
    let mut starts = 0;
    for line in text.lines() {
        let Some((name, arguments)) = line.split_once('(') else {
            continue; // a signal
        };
        let count = counts.entry(name.to_owned()).or_default();
        *count += 1;
        let about_the_lock = arguments.contains(&format!(".{}\"", lock.name()));
        opened |= about_the_lock;
        starts += usize::from(opened && matches!(name, "clone" | "execve"));
        if starts > usize::from(way.abandoned) {
            break;
        }
        // The number of times that it waits for the command of --recover varies.
        let waits = matches!(name, "rt_sigtimedwait" | "wait4");
        if opened && !waits {
            calls.push(((name.to_owned(), *count), about_the_lock));
        }
    }
    let last = calls.iter().rposition(|(_, about)| *about).expect("it uses the lock");
    calls
        .into_iter()
        .enumerate()
        .map(|(at, (call, _))| (call, at <= last))
        .collect()
}

/// A directory in which a run leaves its traces.
struct Traces {
    folder: tempfile::TempDir,
}

impl Drop for Traces {
    /// Even if a test fails, leaves no stopped process behind.
    fn drop(&mut self) {
        let log = self.path("log");
        for pid in processes().filter(|pid| command_line(*pid).contains(log.to_str().unwrap())) {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
    }
}

impl Traces {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The status of the `run` that was traced.
    fn status(&self) -> i32 {
        fs::read_to_string(self.path("status")).unwrap().trim().parse().unwrap()
    }

    fn command_was_started(&self) -> bool {
        self.path("started").exists()
    }

    /// `strace OPTIONS resourcelock NAME run …`, within an outer `run` if need be.
    fn run(&self, way: Way, lock: &TestLock, strace: &[String]) -> Command {
        let mut words = vec!["run", "-q", "-n"];
        if way.inner {
            words.push("--same-process-ok");
        }
        words.extend(way.options);
        let started = format!(": >'{}'", self.path("started").display());
        words.extend(["--", "sh", "-c", &started]);
        let traced = lock.command(&words);
        let status = format!("\"$@\"; echo $? >'{}'", self.path("status").display());
        let mut command = if way.inner {
            lock.command(&["run", "-q", "--", "sh", "-c", &status, "sh"])
        } else {
            let mut command = Command::new("sh");
            command.env_remove("RESOURCELOCK_HELD").args(["-c", &status, "sh"]);
            command
        };
        command.args(["strace", "-qq", "-o"]).arg(self.path("log")).args(strace);
        command.arg(traced.get_program()).args(traced.get_args());
        command
    }
}

fn prepare(way: Way) -> TestLock {
    let lock = TestLock::new("f1");
    drop(lock.open());
    if way.abandoned {
        let mut dying = Worker::open(&lock);
        assert!(dying.get(Ask::default()).is_some());
        dying.kill();
        wait_until("it is dead", || !lock.state().locked);
    }
    lock
}

/// Ends whatever hold there is, and takes the lock if it still exists.
fn end(how: End, lock: &TestLock, next: &ResourceLock) {
    match how {
        End::Unget => {
            assert!(next.unget_lock(UngetOptions::new().force(true)).unwrap());
            assert!(next.get_lock(&GetOptions::new().wait(Wait::Forever)).unwrap());
        }
        End::Remove => assert_eq!(resourcelock::remove(lock.name(), true).unwrap(), Removed::Lock),
    }
}

/// Stops `run` after `call`, and then ends the hold. Returns the status of `run`, and whether the command was started.
/// `None`: there was no hold at that point, or `run` did not know of it yet and created a new lock.
fn ended_after(way: Way, (name, count): &Call, how: End) -> Option<(i32, bool)> {
    let lock = prepare(way);
    let next = lock.open();
    let traces = Traces::new();
    let only = format!("-etrace={name}");
    let stop = format!("-einject={name}:signal=STOP:when={count}");
    let mut child = LineChild::spawn(&mut traces.run(way, &lock, &[only, stop]));
    let is_stopped = || fs::read_to_string(traces.path("log")).is_ok_and(|log| log.contains("stopped by SIGSTOP"));
    wait_until("it is stopped", || is_stopped() || child.try_wait().is_some());
    assert!(is_stopped(), "{name} was called {count} times");
    let holds = lock.state().holders.iter().any(|holder| holder.alive);
    if holds {
        end(how, &lock, &next);
    }
    let stopped = processes().find(|pid| matches!(process_state(*pid), Some('T' | 't')) && runs(*pid, lock.name()));
    signal(stopped.expect("it is stopped"), Signal::SIGCONT);
    child.wait();
    let made_anew = how == End::Remove && lock.paths().semaphore_path().exists();
    (holds && !made_anew).then(|| (traces.status(), traces.command_was_started()))
}

fn processes() -> impl Iterator<Item = u32> {
    let all = fs::read_dir("/proc").unwrap();
    all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
}

/// A process's arguments, each with a NUL after it.
fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).into_owned()
}

/// True if that process is the program at work on this lock, not strace or the outer `run`.
fn runs(pid: u32, name: &str) -> bool {
    let program = binary().get_program().to_str().unwrap().to_owned();
    command_line(pid).starts_with(&format!("{program}\0{name}\0run\0-q\0-n\0"))
}

fn at_each_point(way: Way) {
    let lock = prepare(way);
    let traces = Traces::new();
    assert!(traces.run(way, &lock, &[]).status().unwrap().success());
    assert!(traces.status() == 0 && traces.command_was_started());
    let calls = calls_before_the_start(&traces.path("log"), way, &lock);
    let mut points = 0;
    let mut started = 0;
    for (at, (call, checked_after)) in calls.iter().enumerate().rev() {
        let how = if at % 2 == 0 || way.inner {
            End::Unget
        } else {
            End::Remove
        };
        let Some((status, ran)) = ended_after(way, call, how) else {
            break; // before the grant
        };
        if way.inner && status == 75 {
            break; // before it knew of the job's hold
        }
        points += 1;
        let context = format!("{:?}: {how:?} after {call:?}: status {status}, ran: {ran}", way.options);
        if ran {
            // Between the last check and the start: the documentation mentions that.
            assert!(!checked_after, "{context}");
            started += 1;
        }
        let is_the_commands = ran && way.options.contains(&"-F");
        assert_eq!(status, if is_the_commands { 0 } else { 76 }, "{context}");
    }
    println!("{:?}: {points} points, the command ran at {started}", way.options);
    assert!(points >= 3, "{points} points");
}

#[test]
fn fork() {
    at_each_point(FORK);
}

#[test]
fn shared() {
    at_each_point(Way {
        options: &["-s"],
        ..FORK
    });
}

#[test]
fn slots() {
    at_each_point(Way {
        options: &["-j", "2"],
        ..FORK
    });
}

#[test]
fn no_fork() {
    at_each_point(Way {
        options: &["-F"],
        ..FORK
    });
}

// The command of --recover lasts long enough for its process to be recorded, which takes some calls.
#[test]
fn recover() {
    at_each_point(Way {
        options: &["--recover", "sleep 0.1"],
        abandoned: true,
        ..FORK
    });
}

#[test]
fn recover_without_fork() {
    at_each_point(Way {
        options: &["-F", "--recover", "sleep 0.1"],
        abandoned: true,
        ..FORK
    });
}

#[test]
fn until_the_tree_has_ended() {
    at_each_point(Way {
        options: &["--until", "tree"],
        ..FORK
    });
}

#[test]
fn under_a_hold_of_the_job() {
    at_each_point(Way { inner: true, ..FORK });
}

#[test]
fn under_a_hold_of_the_job_without_fork() {
    at_each_point(Way {
        options: &["-F"],
        inner: true,
        ..FORK
    });
}
