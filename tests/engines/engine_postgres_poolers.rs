//! PostgreSQL behind a pooler in session mode: its sessions belonged to others before, and will again.

use crate::engine_common::journal::{Journal, binary};
use crate::engine_common::postgres::{self, Pooler, Postgres, stderr, stdout};
use crate::engine_common::{Process, lock_name, signal, wait_until};
use std::process::Stdio;

/// The value of a setting as a program finds it in a session from the pooler.
fn setting(pooler: &Pooler, name: &str) -> String {
    let url = pooler.url();
    let psql = postgres::psql()
        .args(["-X", "-q", "-A", "-t", "-d", &url, "-c", &format!("SHOW {name}")])
        .output()
        .expect("psql runs");
    assert!(psql.status.success(), "{}", stderr(&psql));
    stdout(&psql).trim().to_owned()
}

fn nothing_is_left_set(pooler: &Pooler) {
    assert_eq!(setting(pooler, "search_path"), "\"$user\", public");
    assert_eq!(setting(pooler, "lock_timeout"), "0");
}

/// Its sessions keep what the previous client left: if that was killed, even the lock.
#[test]
fn a_pooler_that_resets_nothing() {
    let server = Postgres::start();
    let pooler = Pooler::with(&server, "session", "server_reset_query =\n");
    let journal = Journal::new(&pooler.url(), "pooled");
    let had = journal.command(&["run", "true"]).output().expect("it runs");
    assert!(had.status.success(), "{}", stderr(&had));
    nothing_is_left_set(&pooler);
    let mut holder = journal.run(&[], 600, &[]);
    let command = journal.wait_for(1).pid;
    // Kill it together with its guard, all at once.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.id())).expect("it runs");
    for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        signal(pid, "STOP");
    }
    holder.signal("KILL");
    holder.wait();
    for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        signal(pid, "KILL");
    }
    wait_until("the command is gone", || !crate::engine_common::journal::runs(command));
    wait_until("the pooler has noticed", || {
        server.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'resourcelock %' AND state = 'active'",
        ) == "0"
    });
    for _ in 0..3 {
        let had = journal.command(&["run", "true"]).output().expect("it runs");
        assert!(had.status.success(), "{}", stderr(&had));
    }
    let mut direct = journal.command_by(&server.url(), &["run", "-n", "true"]);
    let direct = direct.output().expect("it runs");
    assert_eq!(
        direct.status.code(),
        Some(0),
        "a released lock is free: {}",
        stderr(&direct)
    );
    nothing_is_left_set(&pooler);
}

/// Through a pooler in transaction mode one may look, without changing settings for the next client.
#[test]
fn looking_leaves_nothing_behind() {
    let server = Postgres::shared();
    let pooler = Pooler::with(server, "transaction", "default_pool_size = 1\n");
    let name = lock_name("looked");
    let own = binary(&server.url()).args([&name, "run", "true"]).output();
    assert!(own.expect("it runs").status.success());
    for words in [&["state"][..], &["unget"]] {
        let looked = binary(&pooler.url()).arg(&name).args(words).output().expect("it runs");
        assert_eq!(looked.status.code(), Some(0), "{}", stderr(&looked));
        nothing_is_left_set(&pooler);
    }
    let refused = binary(&pooler.url()).args([&name, "run", "true"]).output();
    assert!(!refused.expect("it runs").status.success());
    nothing_is_left_set(&pooler);
}

/// That all of a pooler's sessions are in use is no reason to give up for a waiter that has one.
#[test]
fn a_pooler_whose_sessions_are_all_in_use() {
    let server = Postgres::start();
    let pooler = Pooler::with(&server, "session", "default_pool_size = 2\n");
    let journal = Journal::new(&server.url(), "full");
    let mut holder = journal.run(&["--ttl", "600"], 600, &[]);
    journal.wait_for(1);
    let waiter = &mut journal.command_by(&pooler.url(), &["run", "--ttl", "5", "true"]);
    let mut waiter = crate::engine_common::journal::Run::start(waiter);
    wait_until("it waits", || journal.waiting() == 1);
    let url = pooler.url();
    let mut other = postgres::psql();
    other
        .args(["-X", "-d", &url, "-c", "SELECT pg_sleep(600)"])
        .stdout(Stdio::null());
    let _other = Process(other.spawn().expect("psql runs"));
    wait_until("the other one has a session", || {
        server.sql("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'") == "1"
    });
    // Longer than two vain attempts take.
    let patient = journal.command(&["run", "-t", "16", "true"]).output().expect("it runs");
    assert_eq!(patient.status.code(), Some(75), "{}", stderr(&patient));
    assert!(waiter.is_running(), "it has given up");
    holder.signal("TERM");
    holder.wait();
    assert_eq!(waiter.status(), 0);
}
