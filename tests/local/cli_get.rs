//! `get` and `unget` as people and scripts use them.

use crate::common::{LineChild, Peer, TestLock, wait_until};
use serde_json::Value;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn run(lock: &TestLock, arguments: &[&str]) -> Output {
    lock.command(arguments).output().expect("the program runs")
}

fn status(lock: &TestLock, arguments: &[&str]) -> i32 {
    run(lock, arguments).status.code().expect("it exits")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// As users of the Python tool know it: the lock stays taken after the program has exited, until somebody ungets it.
#[test]
fn it_stays_taken_until_unget() {
    let lock = TestLock::new("get");
    assert_eq!(status(&lock, &["get", "-m", "bus scan"]), 0);
    assert!(lock.state().locked);
    assert!(lock.note_text().ends_with(" - bus scan"), "{}", lock.note_text());
    let refused = run(&lock, &["get", "-t", "0"]);
    assert_eq!(refused.status.code(), Some(75));
    let line = stderr(&refused);
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in [lock.name(), "held by", "bus scan", "; see: resourcelock "] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let released = run(&lock, &["unget"]);
    assert_eq!(
        (released.status.code(), stdout(&released)),
        (Some(0), format!("{}: released\n", lock.name()))
    );
    assert!(!lock.state().locked);
    // A clean-up trap must not change a script's status.
    assert_eq!(status(&lock, &["unget"]), 0);
    assert_eq!(status(&lock, &["get", "--quiet"]), 0);
}

#[test]
fn the_status_of_a_lock_that_was_not_had_can_be_chosen() {
    let lock = TestLock::new("conflict");
    assert_eq!(status(&lock, &["get", "-q"]), 0);
    let skipped = run(&lock, &["get", "-n", "-E", "0"]);
    assert_eq!(
        (skipped.status.code(), stdout(&skipped), stderr(&skipped)),
        (Some(0), String::new(), String::new())
    );
    let chosen = run(&lock, &["get", "-n", "-E", "9"]);
    assert_eq!(chosen.status.code(), Some(9));
    assert!(stderr(&chosen).contains("held by"));
    let quiet = run(&lock, &["get", "-n", "-q"]);
    assert_eq!((quiet.status.code(), stderr(&quiet)), (Some(75), String::new()));
}

#[test]
fn options_stand_where_the_python_tool_takes_them() {
    let lock = TestLock::new("order");
    let mut before = crate::common::binary();
    let output = before
        .args(["-t", "0", "-m", "first", lock.name(), "get"])
        .output()
        .expect("it runs");
    assert!(output.status.success());
    assert!(lock.note_text().ends_with(" - first"));
    let mut slash = crate::common::binary();
    let name = format!("/{}", lock.name());
    assert!(
        slash
            .args([name.as_str(), "unget"])
            .output()
            .expect("it runs")
            .status
            .success()
    );
    assert!(!lock.state().locked);
    // An abbreviation, no limit, the last one wins.
    assert_eq!(
        status(&lock, &["get", "--get=0", "--me", "one", "-mtwo", "-t", "-1"]),
        0
    );
    assert!(lock.note_text().ends_with(" - two"));
}

#[test]
fn a_hold_on_behalf_of_a_process_ends_with_it() {
    let lock = TestLock::new("pid");
    let mut owner = LineChild::spawn(&mut Command::new("cat"));
    let pid = owner.id().to_string();
    assert_eq!(status(&lock, &["get", "--pid", &pid]), 0);
    assert_eq!(lock.state().holders[0].bound_pid, Some(owner.id()));
    // Another process's hold is not released.
    let wrong = run(&lock, &["unget", "--pid", "1"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("not held on behalf of 1"), "{}", stderr(&wrong));
    assert!(lock.state().locked);
    assert_eq!(status(&lock, &["unget", "--pid", &pid]), 0);
    assert_eq!(status(&lock, &["unget", "--pid", &pid, "-q"]), 1);
    assert_eq!(status(&lock, &["get", "--pid", &pid]), 0);
    owner.kill();
    owner.wait();
    assert_eq!(status(&lock, &["get", "-t", "60", "-q"]), 0);
    let gone = run(&lock, &["get", "--pid", &pid]);
    assert_eq!(gone.status.code(), Some(125));
    assert!(
        stderr(&gone).contains(&format!("cannot bind the lock to process {pid}")),
        "{}",
        stderr(&gone)
    );
}

#[test]
fn a_hold_with_a_token_is_released_by_it_only() {
    let lock = TestLock::new("token");
    let got: Value = serde_json::from_slice(&run(&lock, &["get", "--json"]).stdout).expect("JSON");
    let token = got["token"].as_u64().expect("a token");
    assert_eq!(Some(token), lock.state().holders[0].token);
    assert_eq!(status(&lock, &["unget", "--token", "1"]), 1);
    assert!(lock.state().locked);
    assert_eq!(status(&lock, &["unget", "--token", &token.to_string()]), 0);
    assert!(!lock.state().locked);
}

#[test]
fn a_hold_expires() {
    let lock = TestLock::new("ttl");
    assert_eq!(status(&lock, &["get", "--ttl", "50ms"]), 0);
    assert_eq!(status(&lock, &["get", "-t", "60"]), 0);
}

#[test]
fn auto_unget_keeps_it_for_a_time() {
    let lock = TestLock::new("auto");
    let mut keeper = LineChild::spawn(&mut lock.command(&["get", "-a", "60", "-m", "test"]));
    assert!(keeper.line().starts_with(&format!("{}: taken for 60 s", lock.name())));
    assert!(lock.state().locked);
    // A signal makes it release the lock and die of that signal.
    kill(keeper.id(), "TERM");
    assert_eq!(signal_of(&keeper.wait()), Some(libc::SIGTERM));
    assert!(!lock.state().locked);
    let mut short = LineChild::spawn(&mut lock.command(&["get", "-a", "0.05"]));
    assert!(short.line().contains("taken for 50 ms"));
    assert_eq!(short.line(), format!("{}: released", lock.name()));
    assert!(short.wait().success());
}

/// Otherwise the lock would be reported as taken, but be free.
#[test]
fn a_hold_of_no_time_is_refused() {
    let lock = TestLock::new("no-time");
    for words in [
        &["get", "-a", "0"][..],
        &["get", "--ttl", "0"],
        &["get", "--ttl", "0h0m"],
    ] {
        let output = lock.command(words).output().expect("it runs");
        assert_eq!(output.status.code(), Some(125), "{words:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("the time must be longer than 0"), "{said}");
        assert!(output.stdout.is_empty());
    }
    assert!(lock.objects().is_empty(), "nothing was created");
}

#[test]
fn times_of_several_units() {
    let lock = TestLock::new("units");
    assert_eq!(status(&lock, &["get", "--ttl", "1w2d3h", "-t", "1m30s"]), 0);
    let left = lock.state().holders[0].expires_in.expect("it expires").as_secs_f64();
    let given = f64::from(9 * 86_400 + 3 * 3_600);
    assert!(left <= given && left > given - 3_600.0, "{left}");
}

#[test]
fn auto_unget_says_if_somebody_else_was_faster() {
    let lock = TestLock::new("auto-forced");
    let mut keeper = LineChild::spawn(&mut lock.command(&["get", "-a", "3"]));
    keeper.line();
    assert_eq!(status(&lock, &["unget"]), 0);
    assert_eq!(
        keeper.line(),
        format!("{}: somebody else had released it already", lock.name())
    );
    assert!(keeper.wait().success());
}

#[test]
fn a_signal_ends_the_wait() {
    let lock = TestLock::new("signal");
    assert_eq!(status(&lock, &["get"]), 0);
    for (name, number) in [
        ("TERM", libc::SIGTERM),
        ("INT", libc::SIGINT),
        ("HUP", libc::SIGHUP),
        ("QUIT", libc::SIGQUIT),
    ] {
        let mut waiter = LineChild::spawn(&mut lock.command(&["get", "-t", "-1"]));
        wait_until("it waits", || lock.state().waiters.len() == 1);
        kill(waiter.id(), name);
        assert_eq!(signal_of(&waiter.wait()), Some(number), "{name}");
        assert_eq!(lock.state().waiters.len(), 0, "{name}: it has left the queue");
    }
}

#[test]
fn shared_and_counted_holds() {
    let lock = TestLock::new("shared");
    assert_eq!(status(&lock, &["get", "-s"]), 0);
    assert_eq!(status(&lock, &["get", "-n", "-s"]), 0);
    assert_eq!(status(&lock, &["get", "-n", "-x"]), 75);
    assert_eq!(lock.state().holders.len(), 2);
    assert_eq!(status(&lock, &["unget"]), 0);
    for _ in 0..3 {
        assert_eq!(status(&lock, &["get", "-n", "-j", "3"]), 0);
    }
    assert_eq!(status(&lock, &["get", "-n", "-j", "3"]), 75);
    let other = run(&lock, &["get", "-n", "-j", "4"]);
    assert_eq!(other.status.code(), Some(125));
    let line = stderr(&other);
    assert!(
        line.contains('3') && line.contains('4') && line.contains(lock.name()),
        "{line}"
    );
}

#[test]
fn a_job_does_not_wait_for_itself_for_ever() {
    let lock = TestLock::new("self");
    let token =
        serde_json::from_slice::<Value>(&run(&lock, &["get", "--json"]).stdout).expect("JSON")["token"].to_string();
    let held = format!("{token}:{}", lock.name());
    let within = |arguments: &[&str]| {
        lock.command(arguments)
            .env("RESOURCELOCK_HELD", &held)
            .output()
            .expect("the program runs")
    };
    let endless = within(&["get", "-t", "-1"]);
    assert_eq!(endless.status.code(), Some(125));
    assert!(
        stderr(&endless).contains("would wait for itself"),
        "{}",
        stderr(&endless)
    );
    let limited = within(&["get", "-t", "0.01"]);
    assert_eq!(limited.status.code(), Some(75));
    assert!(stderr(&limited).contains("it waits for itself"), "{}", stderr(&limited));
    let same = within(&["get", "-t", "-1", "--same-process-ok"]);
    assert!(
        same.status.success() && stdout(&same).contains("held by this job already"),
        "{}",
        stdout(&same)
    );
    assert_eq!(lock.state().holders.len(), 1);
    assert_eq!(within(&["state", "-q", "--mine"]).status.code(), Some(0));
    assert_eq!(status(&lock, &["state", "-q", "--mine"]), 1);
    assert_eq!(status(&lock, &["unget"]), 0);
    assert_eq!(within(&["state", "-q", "--mine"]).status.code(), Some(1));
}

#[test]
fn a_wait_that_lasts_says_so_once() {
    let lock = TestLock::new("waiting");
    assert_eq!(status(&lock, &["get", "-m", "first job"]), 0);
    let waiter = lock
        .command(&["get", "-t", "-1", "-v"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    wait_until("it waits", || {
        lock.state()
            .waiters
            .iter()
            .any(|waiter| waiter.waited > Some(Duration::from_millis(1200)))
    });
    assert_eq!(status(&lock, &["unget"]), 0);
    let output = waiter.wait_with_output().expect("it ends");
    let text = stderr(&output);
    let waiting: Vec<&str> = text.lines().filter(|line| line.starts_with("waiting for ")).collect();
    assert_eq!(waiting.len(), 1, "{text}");
    assert!(
        waiting[0].starts_with(&format!("waiting for {}: held by ", lock.name())),
        "{text}"
    );
    assert!(waiting[0].ends_with(": first job"), "{text}");
    let (_, after) = text
        .split_once(&format!("acquired {} after ", lock.name()))
        .expect("it reports the wait");
    let seconds = after.split(' ').next().and_then(|number| number.parse::<f64>().ok());
    assert!(seconds > Some(1.1), "{text}");
}

#[test]
fn the_python_module_and_get_exclude_each_other() {
    let lock = TestLock::new("python");
    let mut peer = Peer::open(&lock);
    assert!(peer.get(Some(1.0), "from Python"));
    let refused = run(&lock, &["get", "-n"]);
    assert_eq!(refused.status.code(), Some(75));
    assert!(stderr(&refused).contains("the Python module"), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("from Python"), "{}", stderr(&refused));
    assert_eq!(status(&lock, &["unget"]), 0);
    assert_eq!(status(&lock, &["get", "-m", "from the tool"]), 0);
    assert!(!peer.get(Some(0.0), "again"));
    assert!(peer.info().ends_with(" - from the tool"));
    assert!(peer.force());
    assert_eq!(status(&lock, &["get", "-n"]), 0);
}

fn kill(pid: u32, signal: &str) {
    let status = Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success());
}

fn signal_of(status: &std::process::ExitStatus) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    status.signal()
}
