//! `run --limit`, `--kill-after`, `--signal`: the same meaning as timeout(1). And `--until tree`.

use crate::common::run::{Running, lives, signal, wait_for_waiters};
use crate::common::{LineChild, TestLock, process_state, wait_until};
use nix::sys::signal::Signal;
use std::process::{Command, Stdio};

/// `command` in a session without a terminal.
fn apart(command: &Command) -> Command {
    let mut setsid = Command::new("setsid");
    setsid.arg("--wait").arg(command.get_program()).args(command.get_args());
    setsid
}

/// A limit that leaves the command time to do something first, even on a busy machine.
const LATER: &str = "3";

#[test]
fn statuses_at_the_limit() {
    let lock = TestLock::new("limit");
    for (options, script, expected) in [
        (&["--limit", "0.1"][..], "sleep 1000", 124),
        (
            &["--limit", "0.1"],
            "trap 'exit 0' TERM; while true; do sleep 0.01; done",
            124,
        ),
        (
            &["--limit", "0.1", "--signal", "INT"],
            "trap 'exit 3' INT; while true; do sleep 0.01; done",
            124,
        ),
        (&["--limit", "0.1", "--signal", "KILL"], "sleep 1000", 137),
        (&["--limit", "100ms", "--kill-after", "1h"], "sleep 1000", 124),
        (&["--limit", "1h"], "exit 7", 7),
        (&["--limit", "0"], "sleep 0.2; exit 8", 8),
        (&["--limit", "1e300"], "exit 9", 9),
    ] {
        let status = lock
            .command(&[&["run"], options, &["bash", "-c", script]].concat())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(expected), "{options:?} {script}");
        assert!(!lock.state().locked);
    }
    // It ignores TERM from the start, before it could set a trap.
    let deaf = lock.command(&["run", "--limit", "0.1", "-k", "0.1", "sleep", "1000"]);
    let mut ignoring = Command::new("env");
    ignoring.arg("--ignore-signal=TERM").arg(deaf.get_program());
    assert_eq!(ignoring.args(deaf.get_args()).status().unwrap().code(), Some(137));
    assert!(!lock.state().locked);
}

#[test]
fn without_a_terminal_the_whole_group_is_ended() {
    let lock = TestLock::new("limit-group");
    // A process that the command left, adopted by another parent, is still in its group.
    let script = "(sleep 1000 & echo $! > \"$0\"); echo up $PPID $$; sleep 1000";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let words = ["run", "--limit", LATER, "bash", "-c", script, file.to_str().unwrap()];
    let mut running = Running::started(apart(&lock.command(&words)));
    let left: u32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    assert_eq!(running.child.wait().code(), Some(124));
    wait_until("both have ended", || !lives(left) && !lives(running.command));
}

#[test]
fn the_caller_is_not_ended_with_the_command() {
    let lock = TestLock::new("limit-caller");
    let inner = lock.command(&["run", "--limit", "0.1", "sleep", "1000"]);
    let mut shell = Command::new("setsid");
    shell.args(["--wait", "bash", "-c", "\"$@\"; echo survived $?", "bash"]);
    shell.arg(inner.get_program()).args(inner.get_args());
    assert_eq!(crate::common::printed(&mut shell), "survived 124\n");
}

#[test]
fn a_stopped_command_is_continued_to_end() {
    let lock = TestLock::new("limit-stopped");
    let mut running = Running::started(apart(&lock.command(&[
        "run",
        "--limit",
        LATER,
        "bash",
        "-c",
        "trap 'echo ended; exit 1' TERM; echo up $PPID $$; kill -STOP $$; sleep 1000",
    ])));
    wait_until("it stops", || {
        process_state(running.command) == Some('T') || !lives(running.command)
    });
    running.says("ended");
    assert_eq!(running.child.wait().code(), Some(124));
}

#[test]
fn signals_are_passed_on_to_a_command_with_a_group_of_its_own() {
    let lock = TestLock::new("limit-forward");
    let inner = lock.command(&["run", "--limit", "1h", "bash", "-c", crate::common::run::LISTENER]);
    let mut running = Running::started(apart(&inner));
    signal(running.wrapper, Signal::SIGTERM);
    running.says("got TERM");
    running.says_nothing_else();
    running.finish();
}

/// Scripts that leave processes behind. The last one writes its PID to the file `$0`, and exits when the file `$1`
/// appears.
const DAEMONS: [&str; 3] = [
    // A grandchild in its own session.
    "setsid --fork bash -c 'echo $$ > \"$0\"; until [ -e \"$1\" ]; do sleep 0.01; done' \"$0\" \"$1\" > /dev/null",
    // One that closes every descriptor, too.
    "(setsid bash -c 'for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ $fd != 255 ] && eval \"exec $fd>&-\"; done; \
     echo $$ > \"$0\"; until [ -e \"$1\" ]; do sleep 0.01; done' \"$0\" \"$1\" &) > /dev/null 2>&1",
    // A plain background job.
    "bash -c 'echo $$ > \"$0\"; until [ -e \"$1\" ]; do sleep 0.01; done' \"$0\" \"$1\" > /dev/null &",
];

#[test]
fn by_default_what_is_left_behind_does_not_keep_the_lock() {
    let lock = TestLock::new("daemon");
    for daemon in DAEMONS {
        let folder = tempfile::tempdir().unwrap();
        let (pid, end) = (folder.path().join("pid"), folder.path().join("end"));
        let script = format!("{daemon}\nuntil [ -s \"$0\" ]; do sleep 0.01; done; exit 3");
        let words = [
            "run",
            "bash",
            "-c",
            &script,
            pid.to_str().unwrap(),
            end.to_str().unwrap(),
        ];
        let status = lock.command(&words).stdin(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(3), "{daemon}");
        let daemon_pid: u32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        assert!(lives(daemon_pid), "{daemon}");
        assert!(!lock.state().locked, "{daemon}");
        assert_eq!(
            lock.command(&["run", "-n", "true"]).status().unwrap().code(),
            Some(0),
            "{daemon}"
        );
        std::fs::write(&end, "").unwrap();
        wait_until("the daemon ends", || !lives(daemon_pid));
    }
}

#[test]
fn until_tree_keeps_the_lock_for_what_is_left_behind() {
    let lock = TestLock::new("tree");
    for daemon in DAEMONS {
        let folder = tempfile::tempdir().unwrap();
        let (pid, end) = (folder.path().join("pid"), folder.path().join("end"));
        let script = format!("{daemon}\nuntil [ -s \"$0\" ]; do sleep 0.01; done; echo up $PPID $$; exit 3");
        let words = [
            "run",
            "--until",
            "tree",
            "bash",
            "-c",
            &script,
            pid.to_str().unwrap(),
            end.to_str().unwrap(),
        ];
        let mut running = Running::started(lock.command(&words));
        wait_until("the command has ended and is reaped", || {
            process_state(running.command).is_none()
        });
        let daemon_pid: u32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        assert!(lives(daemon_pid) && lives(running.wrapper), "{daemon}");
        let mut waiter = LineChild::spawn(&mut lock.command(&["run", "echo", "next"]));
        wait_for_waiters(&lock, 1);
        assert!(lock.state().locked, "{daemon}");
        assert_eq!(waiter.try_line(), None);
        std::fs::write(&end, "").unwrap();
        assert_eq!(running.child.wait().code(), Some(3), "{daemon}");
        assert_eq!(waiter.line(), "next");
        assert!(!lives(daemon_pid));
    }
}

#[test]
fn until_tree_does_not_wait_for_the_callers_own_jobs() {
    let lock = TestLock::new("tree-strangers");
    // The shell's background job becomes a child of what the shell executes.
    let inner = lock.command(&["run", "--until", "tree", "sh", "-c", "(sleep 0.2 &) ; exit 4"]);
    let mut shell = Command::new("bash");
    shell
        .args(["-c", "sleep 1000 & echo $!; exec \"$@\"", "bash"])
        .arg(inner.get_program())
        .args(inner.get_args());
    let mut child = LineChild::spawn(&mut shell);
    let job: u32 = child.line().parse().unwrap();
    assert_eq!(child.wait().code(), Some(4));
    assert!(lives(job));
    signal(job, Signal::SIGKILL);
}

#[test]
fn until_tree_with_a_limit_ends_the_whole_tree() {
    let lock = TestLock::new("tree-limit");
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let script = "setsid --fork bash -c 'echo $$ > \"$0\"; exec sleep 1000' \"$0\"; until [ -s \"$0\" ]; do sleep 0.01; done; exit 3";
    let words = [
        "run",
        "--until",
        "tree",
        "--limit",
        LATER,
        "bash",
        "-c",
        script,
        pid.to_str().unwrap(),
    ];
    assert_eq!(lock.command(&words).status().unwrap().code(), Some(124));
    let daemon: u32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    assert!(!lives(daemon));
    assert!(!lock.state().locked);
}

/// When its command is ended, a shell must not get to start the next one.
#[test]
fn a_shell_that_is_ended_does_not_go_on() {
    let lock = TestLock::new("tree-order");
    let folder = tempfile::tempdir().unwrap();
    let went_on = folder.path().join("went-on");
    for signal in ["TERM", "KILL"] {
        let script = "sleep 1000; : > \"$0\"";
        let mut run = lock.command(&["run", "--until", "tree", "--limit", "0.1", "--signal", signal]);
        run.args(["sh", "-c", script]).arg(&went_on);
        // Between two signals, it has time to go on.
        let mut slowly = Command::new("strace");
        slowly.args(["-qq", "-o/dev/null", "-e", "inject=pidfd_send_signal:delay_exit=50000"]);
        slowly.arg(run.get_program()).args(run.get_args());
        let status = slowly.status().unwrap();
        assert!(!status.success() && !went_on.exists(), "{signal}: {status}");
    }
}

/// A job of the shell that became this program has exited, and its PID was given to a process that the command left.
#[test]
fn a_number_of_the_callers_job_that_is_used_again() {
    /// Runs in its own PID namespace, so that it can choose the id of the next process.
    const SCRIPT: &str = r#"
number=$1; folder=$2
orphan='
import os, sys, time
os.closerange(0, 256)
with open(sys.argv[1] + "/pid.new", "w") as file:
    file.write(str(os.getpid()))
os.rename(file.name, sys.argv[1] + "/pid")
time.sleep(1.5)
open(sys.argv[1] + "/ended", "w").close()
'
until ! [ -e "/proc/$number" ]; do sleep 0.01; done
until [ "$(cat "$folder/pid" 2>/dev/null)" = "$number" ]; do
    [ ! -e "$folder/pid" ] || kill "$(cat "$folder/pid")"
    rm -f "$folder/pid"
    echo $((number - 1)) > /proc/sys/kernel/ns_last_pid
    python3 -ISc "$orphan" "$folder" &
    until [ -e "$folder/pid" ]; do sleep 0.01; done
done
"#;
    let lock = TestLock::new("tree-number");
    let folder = tempfile::tempdir().unwrap();
    let run = lock.command(&["run", "--until", "tree", "--", "sh", "-c", SCRIPT, "sh"]);
    let mut shell = Command::new("unshare");
    shell.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c"]);
    let last = "sh -c 'sleep 0.2 & exec \"$@\" $! \"$0\"' \"$@\"; ls \"$1\"; exit 0";
    shell.args([last, "sh"]).arg(folder.path());
    shell.arg(run.get_program()).args(run.get_args());
    let output = shell.output().unwrap();
    let files = String::from_utf8_lossy(&output.stdout);
    assert_eq!(files, "ended\npid\n", "it must wait for what was left: {output:?}");
}
