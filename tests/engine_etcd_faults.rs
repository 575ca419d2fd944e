//! What goes wrong on the way to etcd, or there. Every test ends with the same judgement: no two commands ran at once,
//! and tokens grew.
#![cfg(feature = "etcd")]

mod engine_common;

use engine_common::etcd::Etcd;
use engine_common::journal::{Journal, boottime, figure, runs};
use engine_common::wait_until;

/// The shortest lease that is allowed, and how long it is in ns.
const TTL: &[&str] = &["--ttl", "5"];
const TTL_NS: u64 = 5_000_000_000;

/// One holds, one waits.
fn hold_and_wait(journal: &Journal, how: &[&str]) -> (engine_common::journal::Run, engine_common::journal::Run) {
    let holder = journal.run(TTL, 60, how);
    journal.wait_for(1);
    let next = journal.run(TTL, 0, &[]);
    wait_until("the next one waits", || journal.waiting() == 1);
    (holder, next)
}

#[test]
fn holder_and_command_killed() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "killed");
    let (holder, mut next) = hold_and_wait(&journal, &[]);
    let killed = boottime();
    holder.signal("KILL");
    engine_common::signal(journal.intervals()[0].pid, "KILL");
    assert_eq!(next.status(), 0);
    let intervals = journal.judge(2);
    figure(
        "etcd, holder and command killed: until the next one runs",
        intervals[1].first - killed,
    );
}

#[test]
fn wrapper_killed_command_alive() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "wrapper");
    let (holder, mut next) = hold_and_wait(&journal, &["stubborn"]);
    let killed = boottime();
    holder.signal("KILL");
    assert_eq!(next.status(), 0);
    let intervals = journal.judge(2);
    figure("etcd, wrapper killed: the command's end", intervals[0].last - killed);
    figure(
        "etcd, wrapper killed: until the next one runs",
        intervals[1].first - killed,
    );
    figure(
        "etcd, wrapper killed: between the two",
        intervals[1].first - intervals[0].last,
    );
}

#[test]
fn holder_stopped_past_its_lease_then_continued() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "stopped");
    let (mut holder, mut next) = hold_and_wait(&journal, &["stubborn"]);
    holder.signal("STOP");
    assert_eq!(next.status(), 0);
    holder.signal("CONT");
    assert_eq!(holder.status(), 76);
    let intervals = journal.judge(2);
    figure(
        "etcd, holder stopped: between the two",
        intervals[1].first - intervals[0].last,
    );
}

#[test]
fn guard_killed_is_replaced() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "guard");
    let (mut holder, mut next) = hold_and_wait(&journal, &["stubborn"]);
    let guard = |not: u32| {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.id())).expect("it lives");
        let children = children.split_whitespace().map(|pid| pid.parse().expect("a number"));
        let mut guards = children.filter(|pid: &u32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim_end() == "lock-guard" && runs(*pid) && *pid != not
        });
        guards.next()
    };
    let first = guard(0).expect("there is a guard");
    engine_common::signal(first, "KILL");
    wait_until("there is another one", || guard(first).is_some());
    holder.signal("STOP");
    assert_eq!(next.status(), 0);
    holder.signal("CONT");
    assert_eq!(holder.status(), 76);
    journal.judge(2);
}

#[test]
fn leader_killed() {
    let mut etcd = Etcd::three();
    let journal = Journal::new(&etcd.url(), "leader");
    let mut holder = journal.run(TTL, 8, &[]);
    journal.wait_for(1);
    let mut next = journal.run(TTL, 0, &[]);
    wait_until("the next one waits", || journal.waiting() == 1);
    etcd.kill(etcd.leader());
    assert_eq!(holder.status(), 0, "the lock was kept");
    assert_eq!(next.status(), 0);
    let intervals = journal.judge(2);
    figure(
        "etcd, leader killed while held: hand-over after the holder's end",
        intervals[1].first - intervals[0].last,
    );
}

#[test]
fn all_killed_while_holding() {
    let mut etcd = Etcd::three();
    let journal = Journal::new(&etcd.url(), "all-killed");
    let (mut holder, mut next) = hold_and_wait(&journal, &["stubborn"]);
    let killed = boottime();
    etcd.kill_all();
    assert_eq!(next.status(), 69, "it cannot know whether it still waits");
    assert_eq!(holder.status(), 76);
    let intervals = journal.judge(1);
    // No renewal can have been asked for after the end of the servers.
    let left = (killed + TTL_NS)
        .checked_sub(intervals[0].last)
        .expect("it ended before its lease");
    figure(
        "etcd, all servers killed: the command's end before the latest end of its lease",
        left,
    );
    for i in 0..3 {
        etcd.start(i);
    }
    etcd.wait_ready();
    assert_eq!(journal.run(TTL, 0, &[]).status(), 0);
    journal.judge(2);
}

#[test]
fn nobody_there_when_asked() {
    let mut etcd = Etcd::three();
    let journal = Journal::new(&etcd.url(), "nobody");
    etcd.kill_all();
    let asked = boottime();
    for words in [
        &["run", "true"][..],
        &["get", "--ttl", "10"],
        &["unget"],
        &["state"],
        &["trace", "-f"],
    ] {
        let output = journal.command(words).output().expect("it runs");
        assert_eq!(output.status.code(), Some(69), "{words:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("cannot be reached"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    figure("etcd, nobody listens: five commands", boottime() - asked);
    journal.judge(0);
}

#[test]
fn server_stopped_while_holding_and_while_asking() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "sigstop");
    let mut holder = journal.run(TTL, 60, &["stubborn"]);
    journal.wait_for(1);
    let stopped = boottime();
    etcd.signal_all("STOP");
    let output = journal.command(&["run", "true"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(69));
    figure("etcd, server stopped: until status 69", boottime() - stopped);
    assert_eq!(holder.status(), 76);
    let interval = journal.judge(1)[0];
    assert!(interval.last < stopped + TTL_NS);
    etcd.signal_all("CONT");
    assert_eq!(journal.run(TTL, 0, &[]).status(), 0);
    journal.judge(2);
}

#[test]
fn lease_revoked() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "revoked");
    let mut holder = journal.run(TTL, 60, &["stubborn"]);
    journal.wait_for(1);
    let keys = etcd.ctl(&["get", "--prefix", &format!("{}/", journal.name()), "--keys-only"]);
    let lease = keys.trim().rsplit('/').next().expect("a lease").to_owned();
    etcd.ctl(&["lease", "revoke", &lease]);
    assert_eq!(holder.status(), 76);
    journal.judge(1);
}

#[test]
fn released_by_force_under_a_running_command() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "forced");
    let mut holder = journal.run(TTL, 1, &[]);
    let token = journal.wait_for(1).token;
    let unget = journal
        .command(&["unget", "--token", &token.to_string()])
        .status()
        .expect("it runs");
    assert!(unget.success());
    assert_eq!(holder.status(), 76);
    let interval = journal.judge(1)[0];
    assert!(
        interval.last - interval.first >= 1_000_000_000,
        "the command was not disturbed"
    );
}

#[test]
fn waiter_stopped_past_its_lease_asks_again() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "waiter");
    let mut holder = journal.run(TTL, 12, &[]);
    journal.wait_for(1);
    let mut next = journal.run(TTL, 0, &[]);
    wait_until("the next one waits", || journal.waiting() == 1);
    next.signal("STOP");
    wait_until("its request has ended with its lease", || journal.waiting() == 0);
    next.signal("CONT");
    wait_until("it waits again", || journal.waiting() == 1);
    assert_eq!(holder.status(), 0);
    assert_eq!(next.status(), 0);
    journal.judge(2);
}
