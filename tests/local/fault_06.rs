//! Fault 6: a lock whose holder's container is gone is free, as soon as somebody looks who can tell: in the machine's first
//! PID namespace, which sees all processes. Nobody else can; there the hold stands. And it stands everywhere as long as any
//! process lives that could be under it.

use crate::common::run::{behind, same_variables, signal};
use crate::common::{LineChild, TestLock, wait_until};
use nix::sys::signal::Signal::SIGKILL;
use resourcelock::{Ended, State};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};

/// In a PID namespace of its own with its own /proc, which lasts until it is killed.
fn contained(lock: &TestLock, words: &[&str]) -> Command {
    let main = "\"$@\"; exec sleep 100000";
    wrapped(
        lock,
        words,
        &[
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
            main,
            "sh",
        ],
    )
}

fn wrapped(lock: &TestLock, words: &[&str], wrapper: &[&str]) -> Command {
    behind(wrapper, &lock.command(words))
}

/// True where the tests themselves run in the machine's first PID namespace. Elsewhere nobody can tell.
fn is_first_namespace() -> bool {
    fs::metadata("/proc/self/ns/pid").unwrap().ino() == 4_026_531_836
}

const TRY: [&str; 6] = ["run", "-n", "-q", "--", "sh", "-c"];
const TELL: &str = "echo ${RESOURCELOCK_ABANDONED-no}";

fn attempt(lock: &TestLock) -> Output {
    lock.command(&[&TRY[..], &[TELL]].concat()).output().unwrap()
}

/// The lock is free for those outside, who are told of a death if `told` is `1`.
fn is_free_outside(lock: &TestLock, told: &str) {
    let output = attempt(lock);
    if is_first_namespace() {
        assert_eq!(output.status.code(), Some(0), "{output:?} {:?}", lock.state());
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), told);
    } else {
        assert_eq!(output.status.code(), Some(75), "nobody can tell here");
    }
}

fn is_taken(lock: &TestLock) {
    assert_eq!(attempt(lock).status.code(), Some(75), "{:?}", lock.state());
    assert!(lock.state().locked && lock.state().holders[0].alive);
}

fn only_holder(state: &State) -> &resourcelock::Holder {
    assert_eq!(state.holders.len(), 1, "{state:?}");
    &state.holders[0]
}

/// The number here of the process that calls itself so.
fn process_with(word: &str) -> Option<u32> {
    let mut pids = fs::read_dir("/proc").unwrap().flatten();
    pids.find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        (line.split(|byte| *byte == 0).next() == Some(word.as_bytes())).then_some(pid)
    })
}

fn parent_of(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    parent.trim().parse().unwrap()
}

fn kill(pid: u32) {
    signal(pid, SIGKILL);
    wait_until("it is gone", || {
        !fs::exists(format!("/proc/{pid}")).unwrap() || ended(pid)
    });
}

fn ended(pid: u32) -> bool {
    matches!(crate::common::process_state(pid), None | Some('Z'))
}

/// A container with a command under the lock; `close`: one that closes the descriptors that it inherits.
struct Container {
    main: LineChild,
    wrapper: u32,
    command: u32,
}

impl Container {
    fn start(lock: &TestLock, close: bool) -> Self {
        let word = format!("held-by-{}", lock.name());
        let closing = if close {
            "for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ $fd -le 2 ] || eval \"exec $fd>&-\"; done;"
        } else {
            ""
        };
        let script = format!("{closing} echo up; exec -a {word} sleep 100000");
        let mut main = LineChild::spawn(&mut contained(lock, &["run", "--", "bash", "-c", &script]));
        main.wait_for_line("up");
        wait_until("it is recorded", || {
            lock.state().holders.iter().any(|holder| holder.bound_pid.is_some())
        });
        wait_until("it runs", || process_with(&word).is_some());
        let command = process_with(&word).unwrap();
        Self {
            wrapper: parent_of(command),
            main,
            command,
        }
    }

    /// Ends the container, as `docker kill` does.
    fn kill(mut self) {
        self.main.kill(); // and so does all that is in the namespace
        wait_until("all of it is gone", || ended(self.command) && ended(self.wrapper));
    }
}

#[test]
fn the_main_process_of_a_container_ends() {
    let lock = TestLock::new("f6");
    let no_fork = ["unshare", "--pid", "--fork", "--mount-proc"];
    let status = wrapped(&lock, &["run", "-F", "--", "true"], &no_fork).status().unwrap();
    assert_eq!(status.code(), Some(0));
    is_free_outside(&lock, "no");
    if is_first_namespace() {
        assert_eq!(lock.open().history().unwrap()[0].how, Ended::WithProcess);
    }
}

#[test]
fn a_container_is_killed() {
    for close in [false, true] {
        let lock = TestLock::new("f6");
        let container = Container::start(&lock, close);
        is_taken(&lock);
        container.kill();
        is_free_outside(&lock, "1");
    }
}

#[test]
fn somebody_waits_when_a_container_is_killed() {
    if !is_first_namespace() {
        return is_taken_elsewhere();
    }
    let lock = TestLock::new("f6");
    let container = Container::start(&lock, true);
    let mut next = LineChild::spawn(&mut lock.command(&["run", "-q", "--", "sh", "-c", TELL]));
    crate::common::run::wait_for_waiters(&lock, 1);
    container.kill();
    assert_eq!(next.line(), "1");
    assert!(next.wait().success());
}

/// Where the tests run in a container.
fn is_taken_elsewhere() {
    let lock = TestLock::new("f6");
    Container::start(&lock, true).kill();
    is_taken(&lock);
}

#[test]
fn the_wrapper_is_killed_and_the_command_lives() {
    for close in [false, true] {
        let lock = TestLock::new("f6");
        let container = Container::start(&lock, close);
        kill(container.wrapper);
        is_taken(&lock);
        let state = lock.state();
        assert_eq!(only_holder(&state).presumed, close && !is_first_namespace());
        kill(container.command);
        is_free_outside(&lock, "1");
    }
}

#[test]
fn the_command_is_killed() {
    let lock = TestLock::new("f6");
    let container = Container::start(&lock, true);
    kill(container.command);
    wait_until("its wrapper has ended", || ended(container.wrapper));
    let output = attempt(&lock);
    assert_eq!(
        output.stdout, b"1\n",
        "it crashed, and its wrapper released the lock: {output:?}"
    );
}

/// What a dead container leaves is for everybody in another container a living one's.
#[test]
fn others_cannot_tell() {
    let lock = TestLock::new("f6");
    Container::start(&lock, true).kill();
    let hiding = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        "mount -t proc -o hidepid=2 proc /proc && exec \"$@\"",
        "sh",
    ];
    let sibling = ["unshare", "--pid", "--fork", "--mount-proc"];
    // The /proc of this namespace does not show the processes of that one.
    let foreign = ["unshare", "--pid", "--fork"];
    for where_ in [&hiding[..], &sibling, &foreign] {
        let refused = wrapped(&lock, &["run", "-n", "--", "true"], where_).output().unwrap();
        assert_eq!(refused.status.code(), Some(75), "{where_:?}: {refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("host of its container"), "{where_:?}: {said}");
        let state = wrapped(&lock, &["state", "--json"], where_).output().unwrap();
        let state: Value = serde_json::from_slice(&state.stdout).unwrap();
        let holder = &state["holders"][0];
        assert_eq!(
            (&holder["alive"], &holder["presumed"]),
            (&json!(true), &json!(true)),
            "{where_:?}"
        );
    }
    let unset = lock.state();
    assert_eq!(unset.locked, !is_first_namespace(), "{unset:?}");
    is_free_outside(&lock, "1");
}

/// A hold on behalf of a process of a container.
#[test]
fn a_process_that_a_hold_is_bound_to_ends() {
    let lock = TestLock::new("f6");
    let plain = lock.command(&["get"]);
    let word = format!("bound-{}", lock.name());
    let script = format!(
        "{} {} get -q --pid $$ --must-unget && echo up && exec -a {word} sleep 100000",
        plain.get_program().to_str().unwrap(),
        lock.name()
    );
    let mut main = Command::new("unshare");
    main.args(["--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", &script]);
    same_variables(&mut main, &plain);
    let mut main = LineChild::spawn(&mut main);
    main.wait_for_line("up");
    is_taken(&lock);
    wait_until("it runs", || process_with(&word).is_some());
    let bound = process_with(&word).unwrap();
    main.kill();
    wait_until("it is gone", || ended(bound));
    is_free_outside(&lock, "1");
}

/// It costs nothing where no container is concerned: /proc is not listed.
#[test]
fn locks_of_the_own_namespace_need_no_scan() {
    let lock = TestLock::new("f6");
    let mut running = crate::common::run::hold(&lock, &[]);
    kill(running.wrapper);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let log = log.to_str().unwrap();
    let traced = ["strace", "-f", "-o", log, "-e", "trace=openat,open"];
    let refused = wrapped(&lock, &["run", "-n", "-q", "-E", "9", "--", "true"], &traced)
        .status()
        .unwrap();
    assert_eq!(refused.code(), Some(9));
    kill(running.command);
    let granted = wrapped(&lock, &["run", "-n", "-q", "--", "true"], &traced)
        .status()
        .unwrap();
    assert_eq!(granted.code(), Some(0));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("/dev/shm/"), "{log}");
    assert!(!log.contains("\"/proc\""), "{log}");
    running.child.wait();
}
