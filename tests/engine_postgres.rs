//! PostgreSQL: the commands, and what goes wrong on the way there. Every fault ends with the same judgement: no two
//! commands ran at once, and tokens grew.
#![cfg(feature = "postgres")]

mod engine_common;

use engine_common::journal::{Journal, Run, binary, boottime, figure, runs};
use engine_common::postgres::{Pooler, Postgres};
use engine_common::{lock_name, wait_until};
use serde_json::Value;
use std::process::{Command, Output};

const TTL: &[&str] = &["--ttl", "5"];
const TTL_NS: u64 = 5_000_000_000;

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn hold_and_wait(journal: &Journal, how: &[&str]) -> (Run, Run) {
    let holder = journal.run(TTL, 60, how);
    journal.wait_for(1);
    let next = journal.run(TTL, 0, &[]);
    wait_until("the next one waits", || journal.waiting() == 1);
    (holder, next)
}

/// The server process of the lock's holder.
fn backend(server: &Postgres) -> String {
    server.sql("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted")
}

#[test]
fn the_commands() {
    let server = Postgres::start();
    let journal = Journal::new(&server.url(), "commands");
    let call = |words: &[&str]| output(&mut journal.command(words));
    assert_eq!(call(&["run", "--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    let said = stdout(&call(&[
        "run",
        "--",
        "sh",
        "-c",
        "echo $RESOURCELOCK_NAME $RESOURCELOCK_TOKEN",
    ]));
    assert!(said.starts_with(journal.name()), "{said}");
    let holder = journal.run(&["-m", "a 'long' job"], 60, &[]);
    journal.wait_for(1);
    let refused = call(&["run", "-n", "true"]);
    assert_eq!(refused.status.code(), Some(75));
    assert!(stderr(&refused).contains("a 'long' job"), "{}", stderr(&refused));
    assert_eq!(call(&["run", "-t", "0.1", "true"]).status.code(), Some(75));
    let state: Value = serde_json::from_str(&stdout(&call(&["state", "--json"]))).expect("JSON");
    assert_eq!(state["holders"][0]["pid"], holder.id());
    let listed = stdout(&output(binary(&server.url()).arg("list")));
    assert!(listed.contains(journal.name()), "{listed}");
    let mut waiting = journal.run(&[], 0, &[]);
    wait_until("it waits", || journal.waiting() == 1);
    waiting.signal("TERM");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&waiting.wait()), Some(15));
    wait_until("it has left the queue", || journal.waiting() == 0);
    drop(holder);
    for words in [
        &["get"][..],
        &["get", "--forever"],
        &["run", "-j", "2", "true"],
        &["run", "-F", "true"],
        &["history"],
    ] {
        let refused = call(words);
        assert_eq!(refused.status.code(), Some(125), "{words:?}");
        assert!(stderr(&refused).contains("postgres"), "{}", stderr(&refused));
    }
    assert!(stderr(&call(&["get"])).contains("use run"));
    let kept = stdout(&call(&["get", "-a", "0.2", "-t", "60"]));
    assert!(kept.contains("released"), "{kept}");
}

#[test]
fn holder_and_command_killed() {
    let server = Postgres::start();
    let journal = Journal::new(&server.url(), "killed");
    let (holder, mut next) = hold_and_wait(&journal, &[]);
    let killed = boottime();
    holder.signal("KILL");
    engine_common::signal(journal.intervals()[0].pid, "KILL");
    assert_eq!(next.status(), 0);
    let intervals = journal.judge(2);
    figure(
        "PostgreSQL, holder and command killed: until the next one runs",
        intervals[1].first - killed,
    );
}

#[test]
fn wrapper_killed_command_alive() {
    let server = Postgres::start();
    let journal = Journal::new(&server.url(), "wrapper");
    let (holder, mut next) = hold_and_wait(&journal, &["stubborn"]);
    let killed = boottime();
    holder.signal("KILL");
    assert_eq!(next.status(), 0);
    let intervals = journal.judge(2);
    figure(
        "PostgreSQL, wrapper killed: the command's end",
        intervals[0].last - killed,
    );
    figure(
        "PostgreSQL, wrapper killed: between the two",
        intervals[1].first - intervals[0].last,
    );
}

#[test]
fn holder_stopped_then_continued() {
    let server = Postgres::start();
    let journal = Journal::new(&server.url(), "stopped");
    let (mut holder, mut next) = hold_and_wait(&journal, &["stubborn"]);
    holder.signal("STOP");
    assert_eq!(next.status(), 0);
    holder.signal("CONT");
    assert_eq!(holder.status(), 76);
    let intervals = journal.judge(2);
    figure(
        "PostgreSQL, holder stopped: between the two",
        intervals[1].first - intervals[0].last,
    );
}

#[test]
fn session_terminated() {
    let server = Postgres::start();
    let journal = Journal::new(&server.url(), "terminated");
    for round in 0..5 {
        let mut holder = journal.run(TTL, 60, &["stubborn"]);
        journal.wait_for(2 * round + 1);
        let mut next = journal.run(TTL, 0, &[]);
        wait_until("the next one waits", || journal.waiting() == 1);
        let before = boottime();
        assert_eq!(
            server.sql(&format!("SELECT pg_terminate_backend({})", backend(&server))),
            "t"
        );
        assert_eq!(next.status(), 0);
        assert_eq!(holder.status(), 76);
        let intervals = journal.judge(2 * round + 2);
        let (gone, came) = (intervals[2 * round], intervals[2 * round + 1]);
        figure(
            "PostgreSQL, session terminated: the command's end",
            gone.last.saturating_sub(before),
        );
        figure(
            "PostgreSQL, session terminated: between the two",
            came.first - gone.last,
        );
    }
}

#[test]
fn server_killed_and_started_again() {
    let mut server = Postgres::start();
    let journal = Journal::new(&server.url(), "crash");
    let (mut holder, mut next) = hold_and_wait(&journal, &["stubborn"]);
    server.kill();
    assert_eq!(holder.status(), 76);
    assert_eq!(next.status(), 69);
    let refused = output(&mut journal.command(&["run", "true"]));
    assert_eq!(refused.status.code(), Some(69), "{}", stderr(&refused));
    server.restart();
    assert_eq!(journal.run(TTL, 0, &[]).status(), 0);
    journal.judge(2);
}

#[test]
fn server_stopped() {
    let server = Postgres::start();
    let journal = Journal::new(&server.url(), "sigstop");
    let mut holder = journal.run(TTL, 60, &["stubborn"]);
    journal.wait_for(1);
    let stopped = boottime();
    server.signal_all("STOP");
    let refused = output(&mut journal.command(&["run", "true"]));
    assert_eq!(refused.status.code(), Some(69), "{}", stderr(&refused));
    assert_eq!(holder.status(), 76);
    let interval = journal.judge(1)[0];
    let left = (stopped + TTL_NS)
        .checked_sub(interval.last)
        .expect("it ended before its time was over");
    figure(
        "PostgreSQL, server stopped: the command's end before its time is over",
        left,
    );
    server.signal_all("CONT");
    assert_eq!(journal.run(TTL, 0, &[]).status(), 0);
    journal.judge(2);
}

#[test]
fn released_by_force() {
    let server = Postgres::start();
    let journal = Journal::new(&server.url(), "forced");
    let mut holder = journal.run(TTL, 60, &["stubborn"]);
    let interval = journal.wait_for(1);
    let unget = |token: u64| {
        output(&mut journal.command(&["unget", "--token", &token.to_string()]))
            .status
            .code()
    };
    assert_eq!(unget(interval.token + 1), Some(1));
    assert_eq!(unget(interval.token), Some(0));
    assert_eq!(holder.status(), 76);
    wait_until("the command has ended with its session", || !runs(interval.pid));
}

#[test]
fn tokens_grow_without_the_table_and_with_it() {
    let server = Postgres::start();
    server.sql("CREATE ROLE plain LOGIN");
    server.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let url = format!(
        "postgres:///jobs?host={}&port={}&user=plain",
        server.folder().display(),
        server.port()
    );
    let without = Journal::new(&url, "table");
    for _ in 0..3 {
        assert_eq!(without.run(&[], 0, &[]).status(), 0);
    }
    let said = output(&mut without.command(&["-v", "run", "true"]));
    assert!(stderr(&said).contains("CREATE UNLOGGED TABLE"), "{}", stderr(&said));
    server.sql("GRANT CREATE ON SCHEMA public TO plain");
    for _ in 0..3 {
        assert_eq!(without.run(&[], 0, &[]).status(), 0);
    }
    without.judge(6);
}

#[test]
fn users_passwords_and_mistakes() {
    let server = Postgres::start();
    let name = lock_name("users");
    let run = |url: &str| {
        let mut command = binary(url);
        command
            .args([&name, "-vv", "run", "-n", "true"])
            .env("HOME", server.folder());
        command
    };
    server.sql("CREATE ROLE ann LOGIN PASSWORD 's3cret'");
    server.sql("GRANT ALL ON SCHEMA public TO ann");
    let good = output(&mut run(&server.url_as("ann:s3cret", "jobs")));
    assert!(good.status.success(), "{}", stderr(&good));
    assert!(!stderr(&good).contains("s3cret"), "{}", stderr(&good));
    let bare = server.url_as("ann", "jobs");
    assert!(output(run(&bare).env("PGPASSWORD", "s3cret")).status.success());
    let file = server.folder().join(".pgpass");
    std::fs::write(&file, "*:*:jobs:ann:s3cret\n").expect("a file");
    let status = Command::new("chmod")
        .arg("600")
        .arg(&file)
        .status()
        .expect("chmod runs");
    assert!(status.success());
    assert!(output(&mut run(&bare)).status.success(), "by the password file");
    for (url, status, why) in [
        (
            server.url_as("ann:wr0ng-s3cret", "jobs"),
            125,
            "password authentication failed",
        ),
        (server.url_as("ann:s3cret", "nowhere"), 125, "does not exist"),
        ("postgres://u:s3cret@127.0.0.1:1/jobs".to_owned(), 69, "refused"),
        (
            "postgres://u:s3cret@127.0.0.1:x/jobs".to_owned(),
            125,
            "names no engine",
        ),
        (
            "postgres://u:s3cret@no-such-host.invalid/jobs".to_owned(),
            69,
            "cannot be reached",
        ),
    ] {
        let said = output(&mut run(&url));
        assert_eq!(said.status.code(), Some(status), "{why}: {}", stderr(&said));
        assert!(stderr(&said).contains(why), "{}", stderr(&said));
        assert!(!stderr(&said).contains("s3cret"), "{}", stderr(&said));
    }
}

#[test]
fn a_pooler_in_between() {
    let server = Postgres::start();
    let transactions = Pooler::start(&server, "transaction");
    let name = lock_name("pooler");
    let refused = output(binary(&transactions.url()).args([&name, "run", "echo", "ran"]));
    assert_eq!(refused.status.code(), Some(125), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("pooler"), "{}", stderr(&refused));
    assert_eq!(stdout(&refused), "");
    let sessions = Pooler::start(&server, "session");
    let journal = Journal::new(&sessions.url(), "pooler");
    let mut one = journal.run(&[], 1, &[]);
    journal.wait_for(1);
    let direct = binary(&server.url())
        .args([journal.name(), "run", "-n", "true"])
        .output()
        .expect("it runs");
    assert_eq!(
        direct.status.code(),
        Some(75),
        "they exclude each other: {}",
        stderr(&direct)
    );
    assert_eq!(one.status(), 0);
}
