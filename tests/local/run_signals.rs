//! `run`: signals while it waits and while the command runs, and what the command inherits.

use crate::common::run::{Running, behind, has_signal, hold, lives, signal, wait_for_waiters};
use crate::common::{LineChild, TestLock, binary, printed, process_state, wait_until};
use nix::sys::signal::Signal;
use resourcelock::{GetOptions, UngetOptions};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn what_is_sent_to_the_wrapper_reaches_the_command_once() {
    let lock = TestLock::new("forward");
    let mut running = Running::listener(&lock, &[]);
    for (sent, name) in [
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGINT, "INT"),
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGQUIT, "QUIT"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGALRM, "ALRM"),
        (Signal::SIGCONT, "CONT"),
    ] {
        signal(running.wrapper, sent);
        running.says(&format!("got {name}"));
        running.says_nothing_else();
    }
    for (number, name) in [("34", "RTMIN"), ("64", "RTMAX")] {
        // Sent by a process that exits at once: a sender that cannot be found any more counts as no descendant.
        let kill = Command::new("kill")
            .args(["-s", number, &running.wrapper.to_string()])
            .status();
        assert!(kill.unwrap().success());
        running.says(&format!("got {name}"));
        running.says_nothing_else();
    }
    assert!(lock.state().locked);
    running.finish();
}

#[test]
fn a_signal_from_the_same_process_group_is_passed_on() {
    let lock = TestLock::new("group");
    // A script signals the wrapper that it started: it is in the same group, but not a descendant of the command.
    let script = r#"
        exec 3<&0
        "$@" <&3 &
        read -r _ < "$FIFO"
        kill -USR1 $!
        wait $!
        while [ $? -gt 128 ]; do wait $!; done
    "#;
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("started");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let inner = lock.command(&[
        "run",
        "bash",
        "-c",
        "trap 'echo got; exit 3' USR1; echo > \"$FIFO\"; while true; do read -r -t 1 _; done",
    ]);
    let mut shell = Command::new("bash");
    shell
        .args(["-c", script, "sh"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .env("FIFO", &fifo);
    let mut child = LineChild::spawn(&mut shell);
    assert_eq!(child.line(), "got");
    child.wait();
    wait_until("the lock is free", || !lock.state().locked);
}

#[test]
fn what_the_command_sends_is_not_sent_back() {
    let lock = TestLock::new("back");
    for sender in [
        "kill -TERM $PPID; echo sent",
        "wrapper=$PPID; (kill -TERM $wrapper; echo sent; exec tail --pid=$$ -f /dev/null) &",
        "kill -TERM 0; echo sent # to its group",
    ] {
        let script = format!(
            "trap 'echo got TERM' TERM; trap 'echo got USR2' USR2; echo up $PPID $$; read -r _; {sender}\n\
             while true; do read -r line; status=$?; [ $status -gt 128 ] && continue; [ $status -ne 0 ] && exit 9; \
             echo \"$line\"; done"
        );
        let mut command = Command::new("setsid"); // kill 0 is for this group only
        let inner = lock.command(&["run", "bash", "-c", &script]);
        command.arg("--wait").arg(inner.get_program()).args(inner.get_args());
        let mut running = Running::started(command);
        running.child.send("go");
        if sender.ends_with("group") {
            running.says("got TERM"); // the one that it sent itself
        }
        running.says("sent");
        running.says_nothing_else();
        running.finish();
    }
}

#[test]
fn a_signal_that_the_caller_ignores_is_ignored_by_both() {
    let lock = TestLock::new("nohup");
    let inner = lock.command(&["run", "sh", "-c", "echo up $PPID $$; read _; exit 5"]);
    for ignored in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1] {
        let mut command = Command::new("env");
        command.arg(format!("--ignore-signal={}", &ignored.as_str()[3..]));
        command.arg(inner.get_program()).args(inner.get_args());
        let mut running = Running::started(command);
        signal(running.wrapper, ignored);
        signal(running.command, ignored);
        running.child.close_input();
        assert_eq!(running.child.wait().code(), Some(5), "{ignored}");
    }
}

#[test]
fn a_blocked_signal_stays_blocked_and_pending_in_the_command() {
    let lock = TestLock::new("blocked");
    let inner = lock.command(&["run", "sh", "-c", "echo up $PPID $$; read _; exit 5"]);
    let mut command = Command::new("env");
    command
        .arg("--block-signal=USR1")
        .arg(inner.get_program())
        .args(inner.get_args());
    let mut running = Running::started(command);
    signal(running.wrapper, Signal::SIGUSR1);
    wait_until("the command has it pending", || {
        has_signal(running.command, "ShdPnd", libc::SIGUSR1)
    });
    running.child.close_input();
    assert_eq!(running.child.wait().code(), Some(5));
}

#[test]
fn a_signal_ends_the_wait_and_the_command_never_starts() {
    let lock = TestLock::new("waiting");
    let holder = hold(&lock, &[]);
    for sent in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
    ] {
        let mut waiter = LineChild::spawn(&mut lock.command(&["run", "echo", "started"]));
        wait_for_waiters(&lock, 1);
        signal(waiter.id(), sent);
        assert_eq!(waiter.wait().signal(), Some(sent as i32));
        assert_eq!(waiter.try_line(), None);
        assert!(lock.state().waiters.is_empty());
    }
    let mut waiter = LineChild::spawn(&mut lock.command(&["run", "echo", "started"]));
    wait_for_waiters(&lock, 1);
    holder.finish();
    assert_eq!(waiter.line(), "started");
}

#[test]
fn an_ignored_signal_does_not_end_the_wait() {
    let lock = TestLock::new("waitnohup");
    let holder = hold(&lock, &[]);
    let inner = lock.command(&["run", "echo", "started"]);
    let mut command = Command::new("env");
    command
        .arg("--ignore-signal=HUP")
        .arg(inner.get_program())
        .args(inner.get_args());
    let mut waiter = LineChild::spawn(&mut command);
    wait_for_waiters(&lock, 1);
    signal(waiter.id(), Signal::SIGHUP);
    holder.finish();
    assert_eq!(waiter.line(), "started");
    assert_eq!(waiter.wait().code(), Some(0));
}

#[test]
fn the_lock_stays_while_the_command_outlives_a_killed_wrapper() {
    let lock = TestLock::new("orphan");
    for script in [
        "echo up $PPID $$; read _",
        // Closes the inherited descriptor: its process alone keeps the lock.
        "echo up $PPID $$; for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ $fd -gt 2 ] && eval \"exec $fd>&-\"; done; echo closed; read _",
    ] {
        let mut running = Running::started(lock.command(&["run", "bash", "-c", script]));
        if script.contains("closed") {
            running.says("closed");
        }
        running.wait_until_recorded(&lock);
        signal(running.wrapper, Signal::SIGKILL);
        running.child.wait();
        assert!(lives(running.command));
        assert!(lock.state().locked);
        let conflict = lock.command(&["run", "-n", "-q", "true"]).status().unwrap();
        assert_eq!(conflict.code(), Some(75));
        let mut waiter = LineChild::spawn(&mut lock.command(&["run", "sh", "-c", "echo next $RESOURCELOCK_ABANDONED"]));
        wait_for_waiters(&lock, 1);
        running.child.close_input();
        assert_eq!(waiter.line(), "next 1");
        assert_eq!(waiter.wait().code(), Some(0));
        assert!(!lives(running.command));
    }
}

/// Starts a command that ends when it reads a line. Its wrapper has looked for the command's end, and takes its time to accept
/// a signal.
fn with_a_slow_wrapper(command: &Command) -> Running {
    let slowly = "inject=rt_sigtimedwait:delay_enter=1000000";
    let strace = ["strace", "-DDD", "-qq", "-o/dev/null", "-e", slowly];
    Running::started(behind(&strace, command))
}

/// Ends the command, and sends the wrapper TERM. False = it had noticed the command's end before.
fn ask_to_end_just_after_the_command(running: &mut Running) -> bool {
    let is_pending = |signal| has_signal(running.wrapper, "ShdPnd", signal);
    running.child.send("");
    wait_until("the command has ended", || process_state(running.command) != Some('S'));
    wait_until("the wrapper is told", || {
        is_pending(libc::SIGCHLD) || process_state(running.command).is_none()
    });
    signal(running.wrapper, Signal::SIGTERM);
    is_pending(libc::SIGTERM) && is_pending(libc::SIGCHLD) && process_state(running.command) == Some('Z')
}

#[test]
fn what_comes_when_the_command_has_just_ended_reaches_what_it_left_behind() {
    let lock = TestLock::new("late-tree");
    let left_behind = "(trap 'echo got TERM; exit' TERM; echo ready; while :; do sleep 0.02; done) <&- &";
    let script = format!("echo up $PPID $$; {left_behind} read -r _; exit 3");
    let command = lock.command(&["run", "--until", "tree", "bash", "-c", &script]);
    loop {
        let mut running = with_a_slow_wrapper(&command);
        running.says("ready");
        let in_time = ask_to_end_just_after_the_command(&mut running);
        running.says("got TERM");
        assert_eq!(running.child.wait().code(), Some(3));
        if in_time {
            break;
        }
    }
}

#[test]
fn what_comes_when_the_repair_has_just_ended_keeps_the_command_from_starting() {
    let lock = TestLock::new("late-repair");
    let killed = lock.command(&["run", "sh", "-c", "kill -KILL $$"]).status().unwrap();
    assert_eq!(killed.signal(), Some(libc::SIGKILL));
    let repair = "echo up $PPID $$; read -r _";
    let command = lock.command(&["run", "--recover", repair, "echo", "ran"]);
    loop {
        let mut running = with_a_slow_wrapper(&command);
        if !ask_to_end_just_after_the_command(&mut running) {
            running.child.kill();
            continue;
        }
        assert_eq!(running.child.wait().signal(), Some(libc::SIGTERM));
        assert_eq!(running.child.rest(), [""; 0]);
        assert!(lock.state().abandoned.is_some(), "it counts as not repaired");
        break;
    }
}

/// What /proc says about a command's signals, limits and descriptors if `caller`, a command line, sets the scene.
fn seen_by_a_command(caller: &str, lock: Option<(&TestLock, &[&str])>) -> (Vec<String>, Vec<u32>) {
    let folder = tempfile::tempdir().unwrap();
    let status = folder.path().join("status");
    let ask = |words: &[&str], streams: &str| {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{caller} \"$@\" {streams}"), "bash"]);
        if let Some((lock, options)) = lock {
            let ours = lock.command(&[&["run"], options, &["--"]].concat());
            command.arg(ours.get_program()).args(ours.get_args());
        }
        command.args(words).stdin(Stdio::null()).status().expect("bash starts")
    };
    // dd and find open the files that they write to: they need no open stream.
    let of = format!("of={}", status.display());
    assert!(ask(&["dd", "if=/proc/self/status", &of, "status=none"], "").success());
    let wanted = [
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "SigPnd",
        "ShdPnd",
        "Umask",
        "NoNewPrivs",
        "Groups",
    ];
    let text = fs::read_to_string(&status).unwrap();
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| wanted.iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect();
    let of = format!("of={}", folder.path().join("limits").display());
    assert!(ask(&["dd", "if=/proc/self/limits", &of, "status=none"], "").success());
    lines.push(fs::read_to_string(folder.path().join("limits")).unwrap());
    let list = folder.path().join("list");
    ask(
        &["find", "/proc/self/fd", "-fprintf", list.to_str().unwrap(), "%f\n"],
        "",
    );
    let descriptors = fs::read_to_string(list).unwrap();
    (
        lines,
        descriptors.lines().filter_map(|line| line.parse().ok()).collect(),
    )
}

#[test]
fn the_command_inherits_what_a_direct_exec_would_give_it() {
    let lock = TestLock::new("inherit");
    for caller in [
        "exec",
        "trap '' PIPE; exec",
        "exec env --default-signal=PIPE",
        "exec env --ignore-signal=CHLD",
        "exec env --block-signal=USR1,CHLD,TERM,RTMIN",
        "exec env --ignore-signal=BUS,SEGV,INT,TSTP,RTMAX --block-signal=PIPE",
        "umask 077; ulimit -n 64; exec",
        "exec <&-;",
        "exec <&- >&- 2>&-;",
        "exec 2>&-;",
        "exec 7</dev/null;",
    ] {
        let (direct, direct_descriptors) = seen_by_a_command(caller, None);
        for options in [&[][..], &["-F"], &["--limit", "1h"], &["--until", "tree"]] {
            if options == ["-F"] && caller.contains("CHLD") && !caller.contains("exec") {
                continue;
            }
            let (ours, mut descriptors) = seen_by_a_command(caller, Some((&lock, options)));
            assert_eq!(ours, direct, "{caller} {options:?}");
            // One more, which keeps the lock alive, and is out of the way of those that scripts use.
            let least = if caller.contains("ulimit -n") { 3 } else { 100 };
            let kept: Vec<u32> = descriptors
                .extract_if(.., |d| !direct_descriptors.contains(d))
                .collect();
            assert_eq!(kept.len(), 1, "{caller} {options:?} {kept:?} {direct_descriptors:?}");
            assert!(kept[0] >= least, "{caller} {options:?} {kept:?}");
            assert_eq!(descriptors, direct_descriptors, "{caller} {options:?}");
        }
    }
}

#[test]
fn a_caller_that_ignores_sigchld_gets_the_status_all_the_same() {
    let lock = TestLock::new("chld");
    let inner = lock.command(&["run", "sh", "-c", "exit 4"]);
    for option in ["--ignore-signal=CHLD", "--block-signal=CHLD"] {
        let mut command = Command::new("env");
        let status = command
            .arg(option)
            .arg(inner.get_program())
            .args(inner.get_args())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(4), "{option}");
    }
}

#[test]
fn a_closed_pipe_does_not_end_the_wrapper() {
    let lock = TestLock::new("pipe");
    let holder = hold(&lock, &[]);
    // Its message that it is waiting goes to a pipe that nobody reads.
    let mut command = Command::new("bash");
    let inner = lock.command(&["run", "-v", "sh", "-c", "echo ran; exit 3"]);
    command.args(["-c", "exec env --default-signal=PIPE \"$@\" 2> >(exec true)", "bash"]);
    let mut waiter = LineChild::spawn(command.arg(inner.get_program()).args(inner.get_args()));
    wait_for_waiters(&lock, 1);
    wait_until("it has waited for more than a second", || {
        lock.state()
            .waiters
            .first()
            .is_some_and(|waiter| waiter.waited > Some(Duration::from_millis(1100)))
    });
    holder.finish();
    assert_eq!(waiter.line(), "ran");
    assert_eq!(waiter.wait().code(), Some(3));
}

#[test]
fn many_short_commands_never_lose_a_child() {
    let lock = TestLock::new("loop");
    let script = "for i in $(seq 50); do \"$@\" || exit; done; echo done";
    let mut command = Command::new("bash");
    let inner = lock.command(&["run", "true"]);
    command
        .args(["-c", script, "bash"])
        .arg(inner.get_program())
        .args(inner.get_args());
    assert_eq!(printed(&mut command), "done\n");
}

/// The first real-time signal, which musl keeps for itself.
const RTMIN: u32 = 34;

/// True if that signal is in this set of a process's or a thread's status (proc_pid_status(5)).
fn has_rtmin(status: &str, set: &str) -> bool {
    let status = fs::read_to_string(status).unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix(set));
    bits.is_some_and(|bits| u64::from_str_radix(bits.trim(), 16).unwrap() & 1 << (RTMIN - 1) != 0)
}

#[test]
fn a_real_time_signal_that_comes_while_others_are_waited_for_is_kept_for_the_command() {
    let lock = TestLock::new("rtmin");
    let holder = lock.open();
    assert!(holder.get_lock(&GetOptions::new()).unwrap());
    let mut waiter = LineChild::spawn(&mut lock.command(&["run", "--", "sleep", "600"]));
    let pid = waiter.id();
    // Also by the one that watches the holder.
    wait_until("it is blocked by both threads", || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let status = |thread: fs::DirEntry| thread.path().join("status").to_str().unwrap().to_owned();
        let blocked: Vec<bool> = threads
            .map(|thread| has_rtmin(&status(thread.unwrap()), "SigBlk:"))
            .collect();
        blocked == [true, true]
    });
    let kill = Command::new("kill")
        .args(["-s", &RTMIN.to_string(), &pid.to_string()])
        .status();
    assert!(kill.unwrap().success());
    wait_until("it is pending", || has_rtmin(&format!("/proc/{pid}/status"), "ShdPnd:"));
    assert!(holder.unget_lock(UngetOptions::new()).unwrap());
    // Its command gets it, and dies of it.
    assert_eq!(waiter.wait().signal(), Some(RTMIN as i32));
    assert!(!lock.state().locked);
}

#[test]
fn a_real_time_signal_that_is_blocked_and_pending_from_the_start_is_the_commands() {
    let lock = TestLock::new("pending");
    let script = "kill -34 $$; exec \"$@\"";
    let mut command = Command::new("env");
    command.args(["--block-signal=RTMIN", "bash", "-c", script, "bash"]);
    command
        .arg(binary().get_program())
        .args([lock.name(), "run", "-F", "--", "grep", "ShdPnd", "/proc/self/status"]);
    assert_eq!(printed(&mut command), "ShdPnd:\t0000000200000000\n");
}
