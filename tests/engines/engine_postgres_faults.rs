//! PostgreSQL: faults. Every test ends with the same checks: no two commands ran at once, and tokens grew. Each fault
//! is tried several times, and the times measured are printed.

use crate::common::run::{behind, output};
use crate::engine_common::busy;
use crate::engine_common::hang;
use crate::engine_common::journal::{Journal, Run, boottime, ns_between, runs};
use crate::engine_common::postgres::{Postgres, figures, stderr, stdout};
use crate::engine_common::relay::Relay;
use crate::engine_common::wait_until;
use std::thread;
use std::time::Duration;

const TTL: &[&str] = &["--ttl", "5"];
const TTL_NS: u64 = 5_000_000_000;
/// How often a fault is tried.
const ROUNDS: usize = 3;

/// Tries a fault several times in parallel, each with its own lock; returns what each returned.
fn rounds<T: Send>(url: &str, subject: &str, fault: impl Fn(Journal) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let all: Vec<_> = (0..ROUNDS)
            .map(|_| scope.spawn(|| fault(Journal::new(url, subject))))
            .collect();
        let all = all.into_iter().map(|round| round.join());
        all.collect::<Result<_, _>>()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn hold_and_wait(journal: &Journal, how: &[&str]) -> (Run, Run) {
    let holder = journal.run(TTL, 60, how);
    journal.wait_for(1);
    let next = journal.run(TTL, 0, &[]);
    wait_until("the next one waits", || journal.waiting() == 1);
    (holder, next)
}

/// Ends the session that holds the lock.
fn terminate(server: &Postgres, journal: &Journal) {
    let ended = server.sql(&format!(
        "SELECT pg_terminate_backend(backend) FROM resourcelock_session WHERE name = '{}' AND token <> 0",
        journal.name()
    ));
    assert_eq!(ended, "t");
}

#[test]
fn holder_and_command_killed() {
    let server = Postgres::shared();
    let journal = Journal::new(&server.url(), "killed");
    let mut took = Vec::new();
    for round in 0..5 {
        let holder = journal.run(TTL, 60, &[]);
        journal.wait_for(2 * round + 1);
        // The first waiter is the one that is timed: its command takes no time.
        let mut first = Run::start(journal.command(&["run"]).arg("true"));
        wait_until("the first one waits", || journal.waiting() == 1);
        let mut next = journal.run(TTL, 0, &[]);
        wait_until("the next one waits", || journal.waiting() == 2);
        let command = journal.intervals()[2 * round].pid;
        let killed = boottime();
        holder.signal("KILL");
        crate::engine_common::signal(command, "KILL");
        assert_eq!(first.status(), 0);
        took.push(ns_between(killed, boottime()));
        assert_eq!(next.status(), 0);
        journal.judge(2 * round + 2);
    }
    figures("holder and command killed: until the next one has run 'true'", took);
}

#[test]
fn wrapper_killed_command_alive() {
    let server = Postgres::shared();
    let took = rounds(&server.url(), "wrapper", |journal| {
        let (holder, mut next) = hold_and_wait(&journal, &["stubborn"]);
        let killed = boottime();
        holder.signal("KILL");
        assert_eq!(next.status(), 0);
        let intervals = journal.judge(2);
        let end = ns_between(intervals[0].last, killed + TTL_NS);
        (end, ns_between(intervals[0].last, intervals[1].first))
    });
    let (ends, gaps) = took.into_iter().unzip();
    figures("wrapper killed: the command's end before the time is over", ends);
    figures("wrapper killed: from the command's end to the next one", gaps);
}

#[test]
fn holder_stopped_then_continued() {
    let server = Postgres::shared();
    let took = rounds(&server.url(), "stopped", |journal| {
        let (mut holder, mut next) = hold_and_wait(&journal, &["stubborn"]);
        let stopped = boottime();
        holder.signal("STOP");
        assert_eq!(next.status(), 0);
        holder.signal("CONT");
        assert_eq!(holder.status(), 76);
        let intervals = journal.judge(2);
        let end = ns_between(intervals[0].last, stopped + TTL_NS);
        (end, ns_between(intervals[0].last, intervals[1].first))
    });
    let (ends, gaps) = took.into_iter().unzip();
    figures("holder stopped: the command's end before the time is over", ends);
    figures("holder stopped: from the command's end to the next one", gaps);
}

/// How long the next one waits if its predecessor did not release.
const SETTLE_NS: i64 = 50_000_000;
/// How often a session is terminated, and how often at most, on a busy machine.
const TERMINATIONS: usize = 5;
const MOST_TERMINATIONS: usize = 10;

/// A session is terminated, and the server hands the lock to the next one at once: all that protects is the moment
/// for which that one waits. If it was too short, and processes of this machine waited for at least as long as it takes for
/// that, nobody can tell why, and another session is terminated. (One after the other, on the way from the session to the
/// command, each would have waited in that time.)
fn terminated(subject: &str, before: &[&str], status: Option<i32>) {
    let server = Postgres::shared();
    let mut gaps = Vec::new();
    for _ in 0..MOST_TERMINATIONS {
        let journal = Journal::new(&server.url(), subject);
        // Nothing but the end of the session ends the command.
        let mut holder = journal.run(&["--ttl", "600"], 60, &["stubborn"]);
        journal.wait_for(1);
        let mut next = journal.run(&["--ttl", "600"], 0, &[]);
        wait_until("the next one waits", || journal.waiting() == 1);
        for signal in before {
            holder.signal(signal);
        }
        let waited = busy::waited();
        terminate(server, &journal);
        assert_eq!(next.status(), 0);
        let intervals = journal.intervals();
        let waited = ns_between(waited, busy::waited());
        if let Some(status) = status {
            if before.contains(&"STOP") {
                holder.signal("CONT");
            }
            assert_eq!(holder.status(), status);
        }
        let gap = ns_between(intervals[0].last, intervals[1].first);
        if gap <= 0 && waited >= SETTLE_NS - gap {
            println!("two at once for {} ns; processes waited for {waited} ns", -gap);
            continue;
        }
        journal.judge(2);
        gaps.push(gap);
        if gaps.len() == TERMINATIONS {
            break;
        }
    }
    assert_eq!(
        gaps.len(),
        TERMINATIONS,
        "the others overlapped, each on a busy machine"
    );
    figures(
        &format!("session {subject}: from the command's end to the next one"),
        gaps,
    );
}

#[test]
fn session_terminated() {
    terminated("terminated", &[], Some(76));
}

/// The guard process notices by itself that the connection has ended.
#[test]
fn session_terminated_while_the_wrapper_is_stopped() {
    terminated("terminated-stopped", &["STOP"], Some(76));
}

#[test]
fn session_terminated_after_the_wrapper_was_killed() {
    terminated("terminated-orphan", &["KILL"], None);
}

/// Once its session has ended, the command is stopped before its host looks for what else belongs to it: on a busy machine
/// that takes long, and the next holder does not wait for it.
#[test]
fn the_command_is_stopped_before_others_are_looked_for() {
    let server = Postgres::shared();
    let journal = Journal::new(&server.url(), "looked-for");
    let mut command = journal.command(&["run"]);
    command.args(TTL).arg("--").args(journal.beat(60, &["stubborn"]));
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let log_option = format!("-o{}", log.display());
    let strace = [
        "strace",
        "--seccomp-bpf",
        "-D",
        "-f",
        "-qq",
        &log_option,
        "-etrace=kill,openat",
    ];
    let mut holder = Run::start(&mut behind(&strace, &command));
    journal.wait_for(1);
    terminate(server, &journal);
    assert_eq!(holder.status(), 76);
    let mut said = String::new();
    wait_until("strace has written all", || {
        said = std::fs::read_to_string(&log).expect("a log");
        said.contains("SIGKILL") && said.contains("\"/proc\"")
    });
    let stops = said
        .lines()
        .find(|line| line.contains(" kill(-") && line.contains("SIGSTOP"));
    let stops = stops.unwrap_or_else(|| panic!("the group is not stopped:\n{said}"));
    let its_own = |line: &&str| line.split_whitespace().next() == stops.split_whitespace().next();
    let mut done = said.lines().filter(its_own);
    let first = done.find(|line| *line == stops || line.contains("\"/proc\""));
    assert_eq!(first, Some(stops), "{said}");
}

/// Sessions are terminated at any moment: while asking, being granted, holding, releasing.
#[test]
fn sessions_terminated_at_any_moment() {
    let server = Postgres::shared();
    let journal = Journal::new(&server.url(), "storm");
    assert_eq!(journal.run(TTL, 0, &[]).status(), 0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..8 {
                        let status = journal.run(TTL, 0, &[]).status();
                        assert!([0, 69, 76].contains(&status), "{status}");
                    }
                })
            })
            .collect();
        let names = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity JOIN resourcelock_session r
                ON r.backend = pid WHERE r.name = '{}' AND random() < 0.3",
            journal.name()
        );
        while workers.iter().any(|worker| !worker.is_finished()) {
            server.sql(&names);
        }
    });
    let count = journal.intervals().len();
    journal.judge(count);
}

#[test]
fn server_killed_and_started_again() {
    let mut server = Postgres::start();
    let mut took = Vec::new();
    let journals: Vec<Journal> = (0..ROUNDS).map(|_| Journal::new(&server.url(), "crash")).collect();
    for round in 0..ROUNDS {
        let mut held: Vec<_> = journals
            .iter()
            .map(|journal| {
                let holder = journal.run(TTL, 60, &["stubborn"]);
                journal.wait_for(2 * round + 1);
                holder
            })
            .collect();
        let mut next = journals[0].run(TTL, 0, &[]);
        wait_until("the next one waits", || journals[0].waiting() == 1);
        let killed = boottime();
        server.kill();
        for holder in &mut held {
            assert_eq!(holder.status(), 76);
        }
        assert_eq!(next.status(), 69);
        let refused = output(&mut journals[0].command(&["run", "true"]));
        assert_eq!(refused.status.code(), Some(69), "{}", stderr(&refused));
        server.restart();
        for journal in &journals {
            assert_eq!(journal.run(TTL, 0, &[]).status(), 0);
            let intervals = journal.judge(2 * round + 2);
            took.push(ns_between(killed, intervals[2 * round].last));
        }
    }
    figures("server killed: until the command's end", took);
}

#[test]
fn server_stopped() {
    let server = Postgres::start();
    let journals: Vec<Journal> = (0..ROUNDS).map(|_| Journal::new(&server.url(), "sigstop")).collect();
    let mut held: Vec<_> = journals
        .iter()
        .map(|journal| journal.run(TTL, 60, &["stubborn"]))
        .collect();
    for journal in &journals {
        journal.wait_for(1);
    }
    // Waiters with and without a time limit.
    let mut waiting = journals[0].run(&["--ttl", "5", "-t", "6"], 0, &[]);
    let mut patient = journals[0].run(TTL, 0, &[]);
    wait_until("they wait", || journals[0].waiting() == 2);
    let stopped = boottime();
    server.signal_all("STOP");
    let refused = output(&mut journals[0].command(&["run", "true"]));
    assert_eq!(refused.status.code(), Some(69), "{}", stderr(&refused));
    let answered = ns_between(stopped, boottime());
    let mut left = Vec::new();
    for (holder, journal) in held.iter_mut().zip(&journals) {
        assert_eq!(holder.status(), 76);
        let end = ns_between(journal.judge(1)[0].last, stopped + TTL_NS);
        assert!(end > 0, "it outlived its time by {} ns", -end);
        left.push(end);
    }
    assert_eq!(waiting.status(), 75, "its time was up");
    assert_eq!(patient.status(), 69);
    figures("server stopped: the command's end before the time is over", left);
    figures("server stopped: until a new request fails", vec![answered]);
    server.signal_all("CONT");
    for journal in &journals {
        assert_eq!(journal.run(TTL, 0, &[]).status(), 0);
        journal.judge(2);
    }
}

#[test]
fn asked_to_end_while_the_server_hangs() {
    let server = Postgres::start();
    hang::asked_to_end(&server.url(), || server.signal_all("STOP"));
}

#[test]
fn time_is_up_while_the_server_hangs() {
    let server = Postgres::start();
    hang::time_is_up(&server.url(), false, || server.signal_all("STOP"));
}

#[test]
fn released_by_force() {
    let server = Postgres::shared();
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

/// All those who share the lock next, not only the first of them, wait for a moment in which the previous holder's host
/// can learn that its session has ended.
#[test]
fn those_who_share_next_all_wait_a_moment() {
    let server = Postgres::shared();
    let journal = Journal::new(&server.url(), "shared-next");
    let mut holder = journal.run(TTL, 60, &["stubborn"]);
    journal.wait_for(1);
    let next: Vec<_> = (0..4)
        .map(|_| {
            let mut next = journal.command(&["run", "-s", "date", "+%s%N"]);
            next.stdout(std::process::Stdio::piped()).spawn().expect("it starts")
        })
        .collect();
    wait_until("they wait", || journal.waiting() == 4);
    // When it was terminated, by the same clock, in µs.
    let ended: u64 = server
        .sql(&format!(
            "SELECT us FROM (SELECT backend, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS us
                FROM resourcelock_session WHERE name = '{}' AND token <> 0 OFFSET 0) AS s
            WHERE pg_terminate_backend(backend)",
            journal.name()
        ))
        .parse()
        .expect("a time");
    for next in next {
        let said = stdout(&next.wait_with_output().expect("it ends"));
        let ran: u64 = said.trim().parse().expect("ns");
        let after = ran.saturating_sub(ended * 1000);
        assert!(after >= 50_000_000, "{after} ns");
    }
    assert_eq!(holder.status(), 76);
    let rows = format!(
        "SELECT count(*) FROM resourcelock_session WHERE name = '{}'",
        journal.name()
    );
    assert_eq!(server.sql(&rows), "0", "nothing is left behind");
}

/// A process that was told to exit, or drops its hold, does not wait for an answer as long as one that needs it.
#[test]
fn released_while_the_server_hangs() {
    let server = Postgres::start();
    let engine = resourcelock::engines::open(&server.url()).expect("it is built in");
    let [mut hurried, dropped] = ["hurried", "dropped"].map(|subject| {
        let name = resourcelock::LockName::new(crate::engine_common::lock_name(subject)).expect("a name");
        let held = engine.acquire(&name, &resourcelock::GetOptions::new());
        held.expect("it answers").expect("it is free")
    });
    let journal = Journal::new(&server.url(), "asking");
    server.signal_all("STOP");
    let mut asking = Run::start(&mut journal.command(&["run", "-n", "true"]));
    hurried.shorten_release();
    assert!(hurried.release().is_err(), "nobody knows");
    drop(dropped);
    assert!(asking.is_running(), "they waited for an answer");
    assert_eq!(asking.status(), 69);
    server.signal_all("CONT");
}

/// A waiter gives up within two TTLs and about a second, even if the server hangs just after it has answered somebody.
#[test]
fn a_waiter_gives_up_within_two_ttl() {
    let server = Postgres::start();
    let journal = Journal::new(&server.url(), "two-ttl");
    let _holder = journal.run(&["--ttl", "600"], 600, &[]);
    journal.wait_for(1);
    // This one, which starts earlier, reaches its own time limit later than that.
    let mut other = journal.run(&["--ttl", "600", "-t", "17"], 0, &[]);
    wait_until("it waits", || journal.waiting() == 1);
    let mut waiter = journal.run(TTL, 0, &[]);
    wait_until("it waits", || journal.waiting() == 2);
    server.signal_all("STOP");
    assert_eq!(waiter.status(), 69);
    assert!(other.is_running(), "it waited longer than that");
    assert_eq!(other.status(), 75);
    server.signal_all("CONT");
}

#[test]
fn the_queue_is_served_in_order() {
    let server = Postgres::shared();
    let journal = Journal::new(&server.url(), "order");
    let holder = journal.run(TTL, 60, &[]);
    journal.wait_for(1);
    let mut waiting = Vec::new();
    for i in 0..5 {
        waiting.push(journal.run(&["-m", &format!("{i}")], 0, &[]));
        wait_until("it waits", || journal.waiting() == i + 1);
    }
    // Two in the middle go: one gives up, one dies.
    waiting[1].signal("TERM");
    waiting[3].signal("KILL");
    wait_until("they have left the queue", || journal.waiting() == 3);
    let order: Vec<u32> = [0, 2, 4].map(|i: usize| waiting[i].id()).to_vec();
    holder.signal("TERM");
    for i in [0, 2, 4] {
        assert_eq!(waiting[i].status(), 0);
    }
    let intervals = journal.judge(4);
    assert_eq!(order.len(), intervals.len() - 1);
    let gaps = intervals
        .windows(2)
        .map(|pair| ns_between(pair[0].last, pair[1].first))
        .collect();
    figures("queue: from one command's end to the next one", gaps);
}

/// Answers that take almost a quarter of the lease: each renewal is asked for a third of the lease after the one before
/// it was, not after that was answered.
#[test]
fn a_server_that_answers_slowly() {
    let server = Postgres::shared();
    let relay = Relay::to(&format!("127.0.0.1:{}", server.port()));
    let url = format!("postgres://trusted@{}/jobs", relay.endpoint());
    let journal = Journal::new(&server.url(), "slow");
    let mut command = journal.command_by(&url, &["run", "--ttl", "10", "--"]);
    let mut holder = Run::start(command.args(journal.beat(60, &[])));
    let token = journal.wait_for(1).token;
    relay.delay_answers(usize::MAX, Duration::from_millis(2200));
    journal.runs_on(3 * TTL_NS);
    relay.delay_answers(0, Duration::ZERO);
    journal.let_end(token);
    assert_eq!(holder.status(), 0);
    journal.judge(1);
}

/// The lease counts from before the grant was asked for: if that took long, it is renewed at once.
#[test]
fn a_grant_that_is_answered_late() {
    let server = Postgres::shared();
    let relay = Relay::to(&format!("127.0.0.1:{}", server.port()));
    let url = format!("postgres://trusted@{}/jobs", relay.endpoint());
    let journal = Journal::new(&server.url(), "late");
    let mut first = journal.run(TTL, 60, &[]);
    let token = journal.wait_for(1).token;
    let mut command = journal.command_by(&url, &["run", "--ttl", "7", "--"]);
    let mut next = Run::start(command.args(journal.beat(60, &[])));
    wait_until("the next one waits", || journal.waiting() == 1);
    // That the lock is acquired, and the grant.
    relay.delay_answers(2, Duration::from_millis(2800));
    journal.let_end(token);
    assert_eq!(first.status(), 0);
    let token = journal.wait_for(2).token;
    journal.runs_on(7_000_000_000);
    journal.let_end(token);
    assert_eq!(next.status(), 0);
    journal.judge(2);
}

/// A command that has ended by itself was not ended by the loss of its lock, although the requests that come after its
/// end have no answer until its lease is over.
#[test]
fn a_command_that_ends_while_the_server_hangs() {
    let server = Postgres::start();
    let journal = Journal::new(&server.url(), "ends-itself");
    // To record that it was done may take 8 s; the guard would kill after 7.2 s.
    let mut run = journal.run(&["--ttl", "8", "--once-every", "1h"], 60, &[]);
    let token = journal.wait_for(1).token;
    server.signal_all("STOP");
    journal.let_end(token);
    assert_eq!(run.status(), 0);
    journal.judge(1);
}
