//! A command is told to exit, or its time is up, in the middle of a request that gets no answer. The order in which
//! commands exit shows whether it waited: another command that needs an answer gives up after 4 s.

use crate::engine_common::etcd::{Etcd, Version};
use crate::engine_common::journal::{Journal, Run};
use crate::engine_common::relay::Relay;
use crate::engine_common::{signal, wait_until};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};

/// Starts a command that needs an answer, by way of `journal`.
fn asking(journal: &Journal) -> Run {
    Run::start(&mut journal.command(&["run", "-n", "true"]))
}

/// Starts `command`, tells it to exit once `begun` returns, asserts that it does not wait for an answer, and returns
/// its output.
fn asked(journal: &Journal, command: &mut Command, begun: impl FnOnce()) -> Output {
    let piped = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = piped.spawn().expect("it starts");
    begun();
    let mut other = asking(journal);
    signal(child.id(), "INT");
    let output = child.wait_with_output().expect("it ends");
    assert!(other.is_running(), "it waited for an answer: {output:?}");
    output
}

fn by_relay(etcd: &Etcd, subject: &str) -> (Relay, Journal) {
    let relay = Relay::to(&etcd.endpoint(0));
    let journal = Journal::new(&etcd.url_of(&relay.endpoint()), subject);
    (relay, journal)
}

#[test]
fn while_the_command_runs() {
    for name in ["INT", "TERM"] {
        let etcd = Etcd::one();
        let journal = Journal::new(&etcd.url(), "running");
        let mut run = journal.run(&["--ttl", "600"], 600, &[]);
        journal.wait_for(1);
        etcd.signal_all("STOP");
        let mut other = asking(&journal);
        run.signal(name);
        let signal = if name == "INT" { 2 } else { 15 };
        assert_eq!(run.wait().signal(), Some(signal));
        assert!(other.is_running(), "it waited for an answer");
    }
}

/// If a command exits by itself, its work counts as done, provided that it had the lock to the end: that is worth
/// asking.
#[test]
fn a_command_that_ended_by_itself_is_worth_the_answer() {
    let etcd = Etcd::one();
    let (relay, journal) = by_relay(&etcd, "worth");
    let mut run = journal.run(&["--ttl", "600"], 60, &[]);
    let token = journal.wait_for(1).token;
    relay.hold("kv/range");
    wait_until("it was released by force", || {
        let mut unget = journal.command_by(&etcd.url(), &["unget", "--token", &token.to_string()]);
        unget.status().expect("it runs").success()
    });
    journal.let_end(token);
    // The first attempt gets no answer within 1 s.
    relay.wait_held();
    assert_eq!(run.status(), 76);
    relay.let_go();
}

#[test]
fn while_it_keeps_the_lock() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "keeps");
    let got = asked(&journal, &mut journal.command(&["get", "-a", "600"]), || {
        wait_until("it is had", || {
            let status = journal.command(&["state", "-q"]).status();
            status.expect("it runs").success()
        });
        etcd.signal_all("STOP");
    });
    assert_eq!(got.status.signal(), Some(2), "{got:?}");
}

#[test]
fn while_it_leaves_the_lock_taken() {
    let etcd = Etcd::shared(Version::System);
    let (relay, journal) = by_relay(etcd, "leaves");
    relay.put_in_order("lease/grant", "kv/txn");
    // The request is in the queue; the one that would leave the lock taken gets no answer.
    relay.hold_all_after("kv/txn", 1);
    relay.hold_all_after("kv/range", 0);
    let got = asked(&journal, &mut journal.command(&["get", "--ttl", "10"]), || {
        relay.wait_seen("kv/txn", 2);
    });
    assert_eq!(got.status.signal(), Some(2), "{got:?}");
    let said = String::from_utf8_lossy(&got.stderr);
    assert!(said.contains(" unget --token "), "it may stay taken: {said}");
    relay.let_go();
}

#[test]
fn while_it_looks() {
    let etcd = Etcd::shared(Version::System);
    let cases: [(&[&str], Option<i32>); 6] = [
        (&["trace", "-u", "1"], None),
        (&["trace", "-f"], None),
        (&["state"], Some(2)),
        // Inside a job, the first thing they do is look.
        (&["run", "true"], Some(2)),
        (&["get", "--ttl", "10"], Some(2)),
        (&["run", "-n", "true"], Some(2)),
    ];
    for (words, signal) in cases {
        let (relay, journal) = by_relay(etcd, "looks");
        relay.hold_all_after("kv/range", 0);
        let mut command = journal.command(words);
        command.env("RESOURCELOCK_HELD", format!("1@1@host:{}", journal.name()));
        let looked = asked(&journal, &mut command, || relay.wait_seen("kv/range", 1));
        assert_eq!(looked.status.signal(), signal, "{words:?}: {looked:?}");
        assert!(signal.is_some() || looked.status.success(), "{words:?}: {looked:?}");
        assert!(looked.stderr.is_empty(), "{words:?}: {looked:?}");
        relay.let_go();
    }
}

/// The lock was granted late: a renewal must come before anything begins under it.
#[test]
fn while_it_renews_what_was_granted() {
    let etcd = Etcd::shared(Version::System);
    let (relay, journal) = by_relay(etcd, "renews");
    relay.hold("kv/txn");
    relay.hold("kv/txn");
    relay.hold_all_after("lease/keepalive", 0);
    let run = asked(&journal, &mut journal.command(&["run", "--ttl", "5", "true"]), || {
        relay.wait_seen("lease/keepalive", 1);
        relay.hold_all_after("kv/range", 0);
    });
    assert_eq!(run.status.signal(), Some(2), "{run:?}");
    relay.let_go();
}

/// A lock that cannot be renewed is lost, although nobody says so.
#[test]
fn a_kept_lock_that_cannot_be_renewed() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "kept");
    let mut command = journal.command(&["get", "-a", "600", "--ttl", "5"]);
    let child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    wait_until("it is had", || {
        let status = journal.command(&["state", "-q"]).status();
        status.expect("it runs").success()
    });
    etcd.signal_all("STOP");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(76), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("it was lost before"), "{said}");
}

/// Its turn may have come, but nobody says so before its time is up.
#[test]
fn time_is_up_in_a_look() {
    let etcd = Etcd::shared(Version::System);
    let (relay, journal) = by_relay(etcd, "up");
    let mut holder = Run::start(&mut journal.command_by(&etcd.url(), &["run", "--", "sleep", "600"]));
    let state = |words: &[&str]| journal.command_by(&etcd.url(), words).output().expect("it runs");
    wait_until("it holds", || state(&["state", "-q"]).status.success());
    let mut command = journal.command(&["run", "-t", "6", "true"]);
    let child = command.stderr(Stdio::piped()).spawn().expect("it starts");
    // Late enough that its time is up before it gives up waiting for an answer.
    wait_until("it has waited for 3 s", || {
        let said = String::from_utf8_lossy(&state(&["state", "--json"]).stdout).into_owned();
        let state = serde_json::from_str::<serde_json::Value>(&said).unwrap_or_default();
        state["waiters"][0]["waited_seconds"].as_f64() > Some(3.0)
    });
    relay.hold_all_after("kv/range", 0);
    holder.signal("TERM");
    holder.wait();
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(
        said.contains("not acquired in time; who has it cannot be read: "),
        "{said}"
    );
    relay.let_go();
}

/// That a lease is too short is noticed before the wait, not after it.
#[test]
fn a_lease_that_is_too_short_is_refused_at_once() {
    let etcd = Etcd::shared(Version::System);
    let journal = Journal::new(&etcd.url(), "short");
    let mut holder = journal.run(&[], 600, &[]);
    journal.wait_for(1);
    let got = journal
        .command(&["get", "--ttl", "1s", "-t", "5"])
        .output()
        .expect("it runs");
    assert_eq!(got.status.code(), Some(125), "{got:?}");
    assert!(holder.is_running());
}
