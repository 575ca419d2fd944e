//! `run` at a terminal: keys, job control, full-screen programs, hang-up.

use crate::common::run::{behind, has_signal, hold, lives, signal};
use crate::common::{Pty, TestLock, process_state, wait_until};
use nix::sys::signal::Signal;
use std::process::Command;

/// The command line that a person would type.
fn typed(lock: &TestLock, options: &str, command: &str) -> String {
    let program = lock.command(&[]).get_program().to_string_lossy().into_owned();
    format!("{program} {} run {options} -- {command}", lock.name())
}

/// Shows the status of the last command. The line typed does not itself contain the text to wait for.
fn see_status(shell: &mut Pty, status: i32) {
    shell.line("echo sta\"\"tus=$?.");
    shell.see(&format!("status={status}."));
}

#[test]
fn ctrl_c_reaches_the_command_exactly_once() {
    let lock = TestLock::new("ctrlc");
    let mut shell = Pty::shell();
    shell.line(&typed(
        &lock,
        "",
        r#"bash -c 'trap "echo in\"\"t" INT; trap "echo qu\"\"it; exit 7" TERM; echo u""p $PPID.; while true; do read -r _; done'"#,
    ));
    shell.see("up ");
    shell.see(".");
    let screen = shell.screen();
    let wrapper = screen
        .rsplit("up ")
        .next()
        .and_then(|rest| rest.split('.').next())
        .unwrap()
        .parse()
        .unwrap();
    for _ in 0..3 {
        shell.keys("\x03");
        shell.see("int");
    }
    // The wrapper handles one signal at a time: whatever it had to pass on, it has passed on by now.
    signal(wrapper, Signal::SIGTERM);
    shell.see("quit");
    see_status(&mut shell, 7);
    assert_eq!(shell.screen().matches("int\r\n").count(), 3, "{}", shell.screen());
}

#[test]
fn ctrl_c_ends_command_wrapper_and_loop() {
    let lock = TestLock::new("ctrlc2");
    let mut shell = Pty::shell();
    shell.line(&format!(
        "while true; do {}; done",
        typed(&lock, "", r#"sh -c 'echo u""p; read _; exit 0'"#)
    ));
    shell.see("up");
    shell.keys("\x03");
    shell.see("$ ");
    // The shell ends its loop because the wrapper died of the signal.
    see_status(&mut shell, 130);
    wait_until("the lock is free", || !lock.state().locked);
}

#[test]
fn stopped_and_continued_with_the_lock_held() {
    let lock = TestLock::new("ctrlz");
    let mut shell = Pty::shell();
    shell.line(&typed(
        &lock,
        "",
        r#"sh -c 'echo u""p $$.; read line; echo ""got $line; exit 3'"#,
    ));
    shell.see("up ");
    shell.see(".");
    for _ in 0..2 {
        shell.keys("\x1a");
        shell.see("Stopped");
        let holder = &lock.state().holders[0];
        assert!(lock.state().locked && holder.alive);
        assert_eq!(process_state(holder.requester.pid.unwrap()), Some('T'));
        assert_eq!(process_state(holder.bound_pid.unwrap()), Some('T'));
        shell.line("fg");
        shell.see("sh -c");
        let holder = lock.state().holders[0].clone();
        wait_until("both run", || {
            process_state(holder.requester.pid.unwrap()) == Some('S')
                && process_state(holder.bound_pid.unwrap()) == Some('S')
        });
    }
    shell.line("hello");
    shell.see("got hello");
    see_status(&mut shell, 3);
}

#[test]
fn in_the_background_a_command_that_reads_the_terminal_stops_until_it_is_brought_back() {
    let lock = TestLock::new("bg");
    lock.open().close(); // so that it exists and can be viewed
    for options in ["", "--limit 1h"] {
        let mut shell = Pty::shell();
        shell.line(&format!(
            "{} &",
            typed(&lock, options, r#"sh -c 'read line; echo ""got $line; exit 3'"#)
        ));
        wait_until("it holds the lock", || !lock.state().holders.is_empty());
        let wrapper = lock.state().holders[0].requester.pid.unwrap();
        wait_until("it stops", || process_state(wrapper) == Some('T'));
        shell.line("fg");
        shell.see("read line");
        // With a limit it has its own group, which now has the terminal.
        shell.line("hello");
        shell.see("got hello");
        see_status(&mut shell, 3);
    }
}

#[test]
fn continued_in_the_background() {
    let lock = TestLock::new("bg2");
    let mut shell = Pty::shell();
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("end");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // It waits without a child of its own: a process stopped between vfork and exec would hold up its parent.
    let script = format!(r#"sh -c 'echo u""p; read -r _ < {}; exit 3'"#, fifo.display());
    shell.line(&typed(&lock, "", &script));
    shell.see("up");
    shell.keys("\x1a");
    shell.see("Stopped");
    shell.line("bg");
    let holder = lock.state().holders[0].clone();
    wait_until("both run", || {
        process_state(holder.requester.pid.unwrap()) != Some('T')
            && process_state(holder.bound_pid.unwrap()) != Some('T')
    });
    std::fs::write(fifo, "\n").unwrap();
    shell.line("wait %1");
    see_status(&mut shell, 3);
}

#[test]
fn a_command_that_stops_itself_stops_the_wrapper() {
    let lock = TestLock::new("self-stop");
    let mut shell = Pty::shell();
    shell.line(&typed(&lock, "", r#"sh -c 'kill -STOP $$; echo ""again; exit 2'"#));
    shell.see("Stopped");
    shell.line("fg");
    shell.see("again");
    see_status(&mut shell, 2);
}

#[test]
fn a_full_screen_program_has_the_terminal() {
    let lock = TestLock::new("screen");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text");
    std::fs::write(&file, (1..500).map(|n| format!("line {n}\n")).collect::<String>()).unwrap();
    for options in ["", "--limit 1h"] {
        let mut shell = Pty::shell();
        shell.line("export TERM=vt100 LESS=; stty rows 24 cols 80");
        shell.line(&typed(&lock, options, &format!("less {}", file.display())));
        shell.see("line 20");
        shell.keys("G");
        shell.see("line 499");
        shell.keys("\x1a");
        shell.see("Stopped");
        shell.line("fg");
        shell.see("line 499");
        shell.keys("q");
        see_status(&mut shell, 0);
    }
}

#[test]
fn without_a_terminal_a_stopped_command_does_not_stop_the_wrapper() {
    let lock = TestLock::new("no-tty");
    let mut command = Command::new("setsid");
    let inner = lock.command(&["run", "sh", "-c", "echo up $PPID $$; read _; exit 4"]);
    command.arg("--wait").arg(inner.get_program()).args(inner.get_args());
    let mut running = crate::common::run::Running::started(command);
    signal(running.command, Signal::SIGSTOP);
    wait_until("it stops", || process_state(running.command) == Some('T'));
    // The wrapper passes CONT on. A stopped wrapper would do so, too, hence look first.
    assert_ne!(process_state(running.wrapper), Some('T'));
    signal(running.wrapper, Signal::SIGCONT);
    running.child.close_input();
    assert_eq!(running.child.wait().code(), Some(4));
}

#[test]
fn a_wait_says_so_once_and_ctrl_c_ends_it() {
    let lock = TestLock::new("tell");
    let holder = hold(&lock, &["-m", "bus scan"]);
    let mut shell = Pty::shell();
    shell.line(&typed(&lock, "", "echo star\"\"ted"));
    shell.see(&format!(
        "waiting for {}: held by {} (bash, ",
        lock.name(),
        holder.wrapper
    ));
    shell.see("bus scan");
    shell.keys("\x03");
    see_status(&mut shell, 130);
    assert!(lock.state().waiters.is_empty());
    shell.line(&typed(&lock, "", "echo star\"\"ted"));
    shell.see("waiting for ");
    holder.finish();
    shell.see(&format!("acquired {} after ", lock.name()));
    shell.see("started");
    see_status(&mut shell, 0);
    assert_eq!(shell.screen().matches("waiting for").count(), 2, "{}", shell.screen());
}

#[test]
fn a_limit_at_the_terminal_ends_the_command_and_its_descendants_only() {
    let lock = TestLock::new("limit-tty");
    let mut shell = Pty::shell();
    // In a script, everything is in the terminal's foreground group, including the script.
    let script = "sh -c 'for i in 1 2 3 4; do sleep 1000 & pids=\"$pids $!\"; done; echo u\"\"p$pids.; wait'";
    let line = typed(&lock, "--limit 3", script).replace('\'', r"'\''");
    shell.line(&format!("bash -c '{line}; echo \"\"survived $?.'"));
    shell.see("up ");
    shell.see("survived 124.");
    let screen = shell.screen();
    let pids = screen
        .rsplit("up ")
        .next()
        .and_then(|rest| rest.split('.').next())
        .unwrap();
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 4);
    // When the command exits, they are no longer its descendants.
    wait_until("the grandchildren have ended", || !pids.iter().any(|pid| lives(*pid)));
}

/// What the terminal sends between the grant and the command's start is kept for the command, which is not there to get it.
#[test]
fn what_the_terminal_sends_just_before_the_command_starts() {
    for (signal, status) in [(libc::SIGINT, 130), (libc::SIGQUIT, 131), (libc::SIGHUP, 0)] {
        while !is_sent_before_the_command_starts(signal, status) {}
    }
}

/// Makes the terminal send `signal` while a `run` starts its command, and waits until the command has ended. The shell that waits
/// for the `run` sees `status`; with 0, it ends, too. False = the command was there already.
fn is_sent_before_the_command_starts(signal: i32, status: i32) -> bool {
    let lock = TestLock::new("early");
    lock.open().close(); // so that it exists and can be viewed
    let slowly = "inject=?fork,?vfork,?clone,?clone3:delay_enter=1500000";
    // It leads the session: when it ends, the others are hung up on. strace is in another session.
    let script = "ulimit -c 0; trap : INT QUIT; \"$@\"; exit $?";
    let strace = ["strace", "-DDD", "-qq", "-o/dev/null", "-e", slowly];
    let words = [&["sh", "-c", script, "sh"][..], &strace].concat();
    let mut terminal = Pty::spawn(&behind(&words, &lock.command(&["run", "--", "sleep", "1000"])));
    wait_until("it holds the lock", || !lock.state().holders.is_empty());
    let wrapper = lock.state().holders[0].requester.pid.expect("of this machine");
    wait_until("signals are kept for the command", || {
        has_signal(wrapper, "SigBlk", signal)
    });
    match signal {
        libc::SIGINT => terminal.keys("\x03"),
        libc::SIGQUIT => terminal.keys("\x1c"),
        _ => terminal.hang_up(),
    }
    let children = format!("/proc/{wrapper}/task/{wrapper}/children");
    let has_started = || std::fs::read_to_string(&children).map_or(true, |children| !children.is_empty());
    wait_until("it is sent", || has_signal(wrapper, "ShdPnd", signal) || has_started());
    let early = !has_started();
    wait_until(&format!("signal {signal} has reached the command"), || {
        !lock.state().locked
    });
    if status != 0 {
        assert_eq!(terminal.wait().code(), Some(status));
    }
    early
}

#[test]
fn the_terminals_hang_up_reaches_the_command_of_a_session_leader() {
    let lock = TestLock::new("hangup");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hup");
    let script = format!(
        "trap 'echo hup >> {}; exit 6' HUP; echo up; while true; do read -r _; done",
        file.display()
    );
    let mut terminal = Pty::spawn(&lock.command(&["run", "--", "bash", "-c", &script]));
    terminal.see("up");
    terminal.hang_up();
    wait_until("the command gets HUP", || {
        std::fs::read_to_string(&file).is_ok_and(|text| !text.is_empty())
    });
    assert_eq!(terminal.wait().code(), Some(6));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hup\n");
    assert!(!lock.state().locked);
}
