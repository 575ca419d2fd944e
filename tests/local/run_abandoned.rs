//! `run` after a holder's death: `--on-abandoned`, `--recover`; `--no-fork`, `--replace`.

use crate::common::run::{Running, hold, lives, signal, wait_for_waiters};
use crate::common::{LineChild, Peer, TestLock, install, wait_until};
use nix::sys::signal::Signal;
use std::fs;
use std::process::{Command, Output, Stdio};

/// Kills a wrapper and its command while they hold the lock.
fn abandon(lock: &TestLock) {
    let mut running = hold(lock, &[]);
    signal(running.wrapper, Signal::SIGKILL);
    signal(running.command, Signal::SIGKILL);
    running.child.wait();
    wait_until("the command is gone", || !lives(running.command));
}

fn run(lock: &TestLock, words: &[&str]) -> Output {
    lock.command(&[&["run"], words].concat())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout(lock: &TestLock, words: &[&str]) -> String {
    String::from_utf8(run(lock, words).stdout).unwrap()
}

const TELL: [&str; 3] = ["sh", "-c", "echo [$RESOURCELOCK_ABANDONED]"];

#[test]
fn the_mark_stays_until_a_run_ends_well() {
    let lock = TestLock::new("mark");
    assert_eq!(stdout(&lock, &TELL), "[]\n");
    abandon(&lock);
    assert_eq!(run(&lock, &["sh", "-c", "exit 4"]).status.code(), Some(4));
    assert_eq!(run(&lock, &["/no/such/file"]).status.code(), Some(127));
    assert_eq!(stdout(&lock, &TELL), "[1]\n");
    assert_eq!(stdout(&lock, &TELL), "[]\n");
}

#[test]
fn on_abandoned_fail() {
    let lock = TestLock::new("fail");
    abandon(&lock);
    for _ in 0..2 {
        let output = run(&lock, &["--on-abandoned", "fail", "echo", "ran"]);
        assert_eq!(output.status.code(), Some(65));
        assert!(output.stdout.is_empty());
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.starts_with(&format!("resourcelock: {}: ", lock.name())), "{line}");
        assert!(!lock.state().locked);
    }
    assert_eq!(
        stdout(&lock, &[&["--on-abandoned", "run"][..], &TELL].concat()),
        "[1]\n"
    );
    assert_eq!(
        stdout(&lock, &[&["--on-abandoned", "fail"][..], &TELL].concat()),
        "[]\n"
    );
}

#[test]
fn recover_runs_first_and_only_after_a_death() {
    let lock = TestLock::new("recover");
    let recover = "echo recover $RESOURCELOCK_NAME";
    assert_eq!(stdout(&lock, &["--recover", recover, "echo", "ran"]), "ran\n");
    abandon(&lock);
    let output = run(&lock, &["--recover", "echo tried; exit 3", "echo", "ran"]);
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(output.stdout, b"tried\n");
    let not_done = |how: &str| {
        format!(
            "resourcelock: {0}: --recover {how}: the command was not run; the next run with --recover tries again; or repair \
             the resource yourself, and then: resourcelock {0} unget\n",
            lock.name()
        )
    };
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        not_done("failed with status 3")
    );
    assert!(!lock.state().locked);
    let killed = run(&lock, &["--recover", "kill -9 $$", "echo", "ran"]);
    assert_eq!(killed.status.code(), Some(125));
    assert_eq!(
        String::from_utf8(killed.stderr).unwrap(),
        not_done("was killed by KILL")
    );
    let expected = format!("recover {}\nran\n", lock.name());
    assert_eq!(stdout(&lock, &["--recover", recover, "echo", "ran"]), expected);
    assert_eq!(stdout(&lock, &["--recover", recover, "echo", "ran"]), "ran\n");
}

#[test]
fn recover_holds_the_lock() {
    let lock = TestLock::new("recover-held");
    abandon(&lock);
    let recover = "echo up $PPID $$; read _; true";
    let mut running = Running::started(lock.command(&["run", "--recover", recover, "echo", "ran"]));
    assert_eq!(run(&lock, &["-n", "-q", "true"]).status.code(), Some(75));
    running.child.close_input();
    running.says("ran");
    assert_eq!(running.child.wait().code(), Some(0));
}

#[test]
fn no_fork_is_the_command_itself() {
    let lock = TestLock::new("nofork");
    let mut child = LineChild::spawn(&mut lock.command(&["run", "-F", "bash", "-c", "echo $$; read _; exit 5"]));
    let pid: u32 = child.line().parse().unwrap();
    assert_eq!(pid, child.id());
    assert!(lock.state().locked);
    assert_eq!(run(&lock, &["-n", "-q", "true"]).status.code(), Some(75));
    let mut waiter = LineChild::spawn(&mut lock.command(&["run", "echo", "next"]));
    wait_for_waiters(&lock, 1);
    child.close_input();
    assert_eq!(child.wait().code(), Some(5));
    // A waiting resourcelock releases the lock on behalf of the one that is gone.
    assert_eq!(waiter.line(), "next");
}

#[test]
fn whoever_comes_after_a_death_is_warned() {
    let lock = TestLock::new("warned");
    abandon(&lock);
    let quiet = run(&lock, &["-q", "false"]);
    assert_eq!(String::from_utf8_lossy(&quiet.stderr), "");
    let next = run(&lock, &["true"]);
    let said = String::from_utf8_lossy(&next.stderr);
    assert!(
        said.contains("the previous holder died while holding the lock"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(String::from_utf8_lossy(&run(&lock, &["true"]).stderr), "");
    abandon(&lock);
    let taken = lock.command(&["get"]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&taken.stderr).contains("the previous holder died"),
        "{taken:?}"
    );
}

#[test]
fn the_end_of_a_no_fork_command_is_no_accident() {
    let lock = TestLock::new("lapse");
    assert_eq!(run(&lock, &["-F", "true"]).status.code(), Some(0));
    let next = run(&lock, &["sh", "-c", "echo ${RESOURCELOCK_ABANDONED-unset}"]);
    assert_eq!(String::from_utf8_lossy(&next.stdout), "unset\n");
    assert_eq!(run(&lock, &["-F", "true"]).status.code(), Some(0));
    assert_eq!(run(&lock, &["--on-abandoned", "fail", "true"]).status.code(), Some(0));
}

#[test]
fn no_fork_releases_if_the_command_cannot_be_executed() {
    let lock = TestLock::new("nofork-126");
    assert_eq!(run(&lock, &["-F", "/etc/passwd"]).status.code(), Some(126));
    assert_eq!(run(&lock, &["-F", "/no/such/file"]).status.code(), Some(127));
    assert_eq!(lock.flag_word().value, 1);
}

#[test]
fn after_no_fork_a_lone_python_waiter_waits_until_some_resourcelock_looks() {
    let lock = TestLock::new("nofork-python");
    let mut peer = Peer::open(&lock);
    assert_eq!(run(&lock, &["-F", "true"]).status.code(), Some(0));
    assert!(!peer.get(Some(0.3), "peer"));
    peer.send(serde_json::json!(["get", null, "peer"]));
    wait_until("Python waits", || lock.flag_word().waiters == 1);
    assert_eq!(peer.try_answer(), None);
    // The next process that uses the lock frees it for the one that waits.
    let next = run(&lock, &["echo", "ran"]);
    assert_eq!(next.stdout, b"ran\n");
    assert_eq!(peer.answer(), serde_json::json!(true));
    assert!(peer.unget());
}

#[test]
fn replace_ends_the_holders_command_and_runs() {
    let lock = TestLock::new("replace");
    let script =
        "trap 'echo asked; exit 6' TERM; echo up $PPID $$; while true; do read -r -t 1 _; [ $? -ne 1 ] || exit 9; done";
    let mut running = Running::started(lock.command(&["run", "bash", "-c", script]));
    assert_eq!(stdout(&lock, &["--replace", "echo", "ran"]), "ran\n");
    running.says("asked");
    assert_eq!(running.child.wait().code(), Some(6));
    assert_eq!(stdout(&lock, &["--replace", "echo", "ran"]), "ran\n");
}

#[test]
fn replace_asks_the_command_of_a_killed_wrapper_too() {
    let lock = TestLock::new("replace-orphan");
    let mut running = hold(&lock, &[]);
    signal(running.wrapper, Signal::SIGKILL);
    running.child.wait();
    let mut replacing = LineChild::spawn(&mut lock.command(&["run", "--replace", "echo", "ran"]));
    running.says("got TERM");
    running.child.close_input();
    assert_eq!(replacing.line(), "ran");
}

#[test]
fn replace_waits_for_its_turn_when_the_holder_refuses() {
    let lock = TestLock::new("replace-refused");
    let mut running = hold(&lock, &[]);
    assert_eq!(
        run(&lock, &["--replace", "-t", "0.2", "-q", "true"]).status.code(),
        Some(75)
    );
    running.says("got TERM");
    running.finish();
}

#[test]
fn replace_signals_only_what_runs_a_command_for_the_lock() {
    let lock = TestLock::new("replace-get");
    let mut bystander = LineChild::spawn(Command::new("cat").arg("-"));
    let handle = lock.open();
    let detached = resourcelock::Detached {
        pid: Some(bystander.id()),
        ..resourcelock::Detached::default()
    };
    assert!(
        handle
            .get_lock(&resourcelock::GetOptions::new().detached(detached))
            .unwrap()
    );
    let output = run(&lock, &["--replace", "-t", "0.2", "true"]);
    assert_eq!(output.status.code(), Some(75));
    assert!(String::from_utf8(output.stderr).unwrap().contains("not asked to end"));
    bystander.send("still here");
    assert_eq!(bystander.line(), "still here");
}

#[test]
fn replace_does_not_signal_a_process_that_got_the_commands_number() {
    // The table identifies the process by PID and start time. Change the start time, as if the command had exited and
    // its PID had been given to another process.
    let lock = TestLock::new("replace-reused");
    let mut running = hold(&lock, &[]);
    let holder = lock.state().holders[0].clone();
    let start = holder.bound_start.expect("it is recorded").to_le_bytes();
    let path = lock.paths().table_path();
    let mut table = fs::read(&path).unwrap();
    let at = table
        .windows(8)
        .position(|window| window == start)
        .expect("it is in the table");
    assert_eq!(table.windows(8).filter(|window| *window == start).count(), 1);
    table[at..at + 8].copy_from_slice(&(holder.bound_start.unwrap() + 1).to_le_bytes());
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &table[at..at + 8], at as u64).unwrap();
    assert_eq!(
        run(&lock, &["--replace", "-t", "0.2", "-q", "true"]).status.code(),
        Some(75)
    );
    running.says_nothing_else();
    running.finish();
}

#[test]
fn replace_says_so_when_it_may_not_signal() {
    let lock = TestLock::new("replace-eperm");
    // Root holds the lock, another user tries to replace: everybody may use the lock, but not signal root.
    let mut holder = hold(&lock, &["--mode", "666"]);
    let inner = lock.command(&["run", "--mode", "666", "--replace", "-t", "0.2", "true"]);
    // The other user must be able to reach the program.
    let folder = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let copy = folder.path().join("resourcelock");
    install(&copy, inner.get_program().as_ref());
    let mut other = Command::new("setpriv");
    other
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(inner.get_args());
    let output = other.env_remove("RESOURCELOCK_HELD").output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.contains("belongs to another user"), "{line}");
    holder.says_nothing_else();
    holder.finish();
}

#[test]
fn one_line_is_printed_for_a_table_that_was_cut_short() {
    let lock = TestLock::new("sigbus");
    let folder = tempfile::tempdir().unwrap();
    let errors = folder.path().join("errors");
    let mut command = lock.command(&["run", "sh", "-c", "read _; exit 0"]);
    let mut running = LineChild::spawn(command.stderr(fs::File::create(&errors).unwrap()));
    wait_until("it holds", || {
        lock.paths().table_path().exists() && lock.state().holders.iter().any(|h| h.bound_pid.is_some())
    });
    fs::OpenOptions::new()
        .write(true)
        .open(lock.paths().table_path())
        .unwrap()
        .set_len(0)
        .unwrap();
    running.close_input();
    assert_eq!(running.wait().code(), Some(76));
    let line = fs::read_to_string(errors).unwrap();
    assert!(line.starts_with(&format!("resourcelock: {}: ", lock.name())), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
}
