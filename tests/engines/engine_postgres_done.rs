//! PostgreSQL: when a run with `--once-every` was done.

use crate::engine_common::journal::binary;
use crate::engine_common::postgres::{Postgres, stderr};
use crate::engine_common::{lock_name, wait_until};
use std::process::{Command, Output, Stdio};

fn once(url: &str, lock: &str, words: &[&str]) -> Command {
    let mut command = binary(url);
    command.args([lock, "run", "--once-every", "1h"]).args(words);
    command
}

fn ask(url: &str, lock: &str) -> Output {
    once(url, lock, &["echo", "ran"]).output().expect("it runs")
}

fn ran(output: &Output) -> bool {
    (output.status.code(), &output.stdout[..]) == (Some(0), b"ran\n")
}

/// A role that may not create the table is told so before the job, and what to run; and that is all that it needs.
#[test]
fn what_a_role_needs_is_printed() {
    let server = Postgres::shared();
    server.sql("CREATE ROLE \"no tables\" LOGIN");
    server.sql("CREATE DATABASE done_pasted");
    server.sql_in("done_pasted", "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let url = server.local_url_as("no%20tables", "done_pasted");
    let lock = lock_name("done-pasted");
    let refused = |why: &str| {
        let refused = ask(&url, &lock);
        let said = stderr(&refused);
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(125), 0), "{said}");
        assert!(said.contains(why) && said.trim_end().lines().count() == 1, "{said}");
        let (_, statements) = said
            .split_once(" run: ")
            .unwrap_or_else(|| panic!("what to do: {said}"));
        statements.trim_end().to_owned()
    };
    let statements = refused("may make no table");
    assert!(statements.ends_with("TO \"no tables\";"), "{statements}");
    let (create, grant) = statements.split_once("; ").expect("two statements");
    server.sql_in("done_pasted", create);
    assert_eq!(refused("permission denied"), grant);
    server.sql_in("done_pasted", grant);
    assert!(ran(&ask(&url, &lock)));
    assert_eq!(ask(&url, &lock).status.code(), Some(75));
}

/// If it cannot be recorded, that is said, the command's status is kept, and the lock is released.
#[test]
fn a_table_that_is_locked() {
    let server = Postgres::shared();
    server.sql("CREATE DATABASE done_locked");
    let url = server.url_as("trusted", "done_locked");
    let lock = lock_name("done-locked");
    assert!(ran(&ask(&url, &lock_name("done-first"))));
    let begin = "BEGIN; LOCK TABLE public.resourcelock_done IN SHARE MODE; SELECT 'locked'; SELECT pg_sleep(1000)";
    let mut psql = server.psql("done_locked", &["-c", begin]);
    let mut psql = psql
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("psql runs");
    let sleeping = "SELECT count(*) FROM pg_locks WHERE relation = 'public.resourcelock_done'::regclass
        AND mode = 'ShareLock' AND granted";
    wait_until("it is locked", || server.sql_in("done_locked", sleeping) == "1");
    let output = ask(&url, &lock);
    let said = stderr(&output);
    assert!(ran(&output), "{said}");
    assert!(
        said.contains("could not be recorded") && said.lines().count() == 1,
        "{said}"
    );
    let free = binary(&url).args([&lock, "state", "-q"]).status().expect("it runs");
    assert_eq!(free.code(), Some(1));
    server.sql_in(
        "done_locked",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'pg_sleep.1000'
        AND pid <> pg_backend_pid()",
    );
    let _ = psql.wait();
    assert!(ran(&ask(&url, &lock)), "it is due as before");
    assert_eq!(ask(&url, &lock).status.code(), Some(75));
}

/// What was done stays so when the server crashes, even if commits do not wait for the disk there.
#[test]
fn after_a_crash_of_the_server() {
    let mut server = Postgres::start();
    server.set(&["wal_writer_delay=10s", "synchronous_commit=off", "autovacuum=off"]);
    let locks = [lock_name("done-crash"), lock_name("done-crash")];
    for lock in &locks {
        assert!(ran(&ask(&server.url(), lock)));
        server.kill();
        server.restart();
        assert_eq!(ask(&server.url(), lock).status.code(), Some(75));
    }
}

/// What somebody else has written there is no reason to fail.
#[test]
fn what_nobody_understands_counts_as_nothing() {
    let server = Postgres::shared();
    server.sql("CREATE DATABASE done_odd");
    let url = server.url_as("trusted", "done_odd");
    let lock = lock_name("done-odd");
    for odd in [
        "began = 'infinity'",
        "began = '-infinity'",
        "began = '4000-01-01 BC'",
        "began = '290000-01-01'",
        "began = began + interval '2 hours'",
    ] {
        assert!(ran(&ask(&url, &lock)), "{odd}");
        server.sql_in("done_odd", &format!("UPDATE resourcelock_done SET {odd}"));
    }
    let output = ask(&url, &lock);
    let said = stderr(&output);
    assert!(
        ran(&output) && said.contains("said to have begun 119 min") && said.lines().count() == 1,
        "{said}"
    );
    server.sql_in("done_odd", "UPDATE resourcelock_done SET who = '?'");
    let output = ask(&url, &lock);
    assert!(
        output.status.code() == Some(75) && stderr(&output).contains(": done "),
        "{output:?}"
    );
}
