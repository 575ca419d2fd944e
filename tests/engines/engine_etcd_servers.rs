//! Faults of etcd's servers. Every test ends with the same checks: no two commands ran at once, and tokens grew. Each
//! uses several locks on the same servers, so that a fault is tried several times.

use crate::engine_common::etcd::{Etcd, Version};
use crate::engine_common::journal::{Figures, Journal, Run, binary, boottime, ns_between};
use crate::engine_common::wait_until;
use std::io::Read as _;
use std::process::Stdio;

const TTL: &[&str] = &["--ttl", "5"];
const TTL_NS: u64 = 5_000_000_000;
/// A lease long enough to be kept even on a busy machine.
const KEPT: &[&str] = &["--ttl", "10"];
const KEPT_NS: u64 = 10_000_000_000;
const TRIES: usize = 3;

fn journals(etcd: &Etcd, subject: &str) -> Vec<Journal> {
    (0..TRIES).map(|_| Journal::new(&etcd.url(), subject)).collect()
}

/// Starts a holder of each lock.
fn hold(journals: &[Journal], ttl: &[&str], how: &[&str]) -> Vec<Run> {
    let holders = journals.iter().map(|journal| journal.run(ttl, 60, how)).collect();
    for journal in journals {
        journal.wait_for(1);
    }
    holders
}

fn wait_behind(journals: &[Journal]) -> Vec<Run> {
    let waiters = journals.iter().map(|journal| journal.run(TTL, 0, &[])).collect();
    for journal in journals {
        wait_until("the next one waits", || journal.waiting() == 1);
    }
    waiters
}

fn statuses(runs: &mut [Run]) -> Vec<i32> {
    runs.iter_mut().map(Run::status).collect()
}

#[test]
fn leader_killed() {
    let figures = Figures::default();
    for version in Version::ALL {
        let mut etcd = Etcd::of(version, 3);
        let journals = journals(&etcd, "leader");
        let mut holders = hold(&journals, KEPT, &[]);
        let mut next = wait_behind(&journals);
        etcd.kill(etcd.leader());
        for journal in &journals {
            journal.runs_on(KEPT_NS);
            journal.let_end(journal.intervals()[0].token);
        }
        assert_eq!(statuses(&mut holders), [0; TRIES], "the locks were kept");
        assert_eq!(statuses(&mut next), [0; TRIES]);
        for journal in &journals {
            let intervals = journal.judge(2);
            figures.note(
                "leader killed while held: hand-over after the holder's end",
                ns_between(intervals[0].last, intervals[1].first),
            );
        }
        let begun = boottime();
        assert_eq!(journals[0].run(TTL, 0, &[]).status(), 0);
        figures.note("one of three servers gone: a whole run", ns_between(begun, boottime()));
    }
}

/// A member that is being stopped tells its clients so: they go on with another one.
#[test]
fn member_asked_to_stop() {
    for version in Version::ALL {
        let mut etcd = Etcd::of(version, 3);
        for member in (0..3).cycle().take(6) {
            // Everybody tries this one first.
            let order: Vec<String> = (0..3).map(|i| etcd.endpoint((member + i) % 3)).collect();
            let url = etcd.url_of(&order.join(","));
            let journals: Vec<Journal> = (0..TRIES).map(|_| Journal::new(&url, "stopping")).collect();
            let mut holders = hold(&journals, KEPT, &[]);
            let mut next = wait_behind(&journals);
            let mut traces: Vec<Run> = journals
                .iter()
                .map(|journal| Run::start(journal.command(&["trace", "-f"]).stdout(std::process::Stdio::null())))
                .collect();
            etcd.signal(member, "TERM");
            etcd.wait_end(member);
            for holder in &mut holders {
                holder.signal("TERM");
                holder.wait();
            }
            assert_eq!(statuses(&mut next), [0; TRIES]);
            for trace in &mut traces {
                trace.signal("INT");
            }
            assert_eq!(statuses(&mut traces), [0; TRIES]);
            for journal in &journals {
                journal.judge(2);
            }
            etcd.start(member);
            etcd.wait_ready();
        }
    }
}

#[test]
fn all_killed() {
    let figures = Figures::default();
    for version in Version::ALL {
        let mut etcd = Etcd::of(version, 3);
        let journals = journals(&etcd, "all-killed");
        let mut holders = hold(&journals, TTL, &["stubborn"]);
        let mut next = wait_behind(&journals);
        let killed = boottime();
        etcd.kill_all();
        nobody_there(&journals[0], &figures);
        assert_eq!(
            statuses(&mut next),
            [69; TRIES],
            "they cannot know whether they still wait"
        );
        assert_eq!(statuses(&mut holders), [76; TRIES]);
        for journal in &journals {
            // Nobody can have requested a renewal after the servers were killed.
            figures.note(
                "all servers killed: the command's end before the latest end of its lease",
                ends_with_its_lease(journal, killed),
            );
        }
        for i in 0..3 {
            etcd.start(i);
        }
        etcd.wait_ready();
        for journal in &journals {
            assert_eq!(journal.run(TTL, 0, &[]).status(), 0);
            journal.judge(2);
        }
    }
}

/// Asserts that the only command exited before the lease last requested, at `asked`, was over; returns how long before.
fn ends_with_its_lease(journal: &Journal, asked: u64) -> i64 {
    let left = ns_between(journal.judge(1)[0].last, asked + TTL_NS);
    assert!(left > 0, "it outlived its lease by {} ns", -left);
    left
}

fn nobody_there(journal: &Journal, figures: &Figures) {
    for words in [
        &["run", "true"][..],
        &["get", "--ttl", "10"],
        &["unget"],
        &["state"],
        &["trace", "-f"],
    ] {
        let asked = boottime();
        let output = journal.command(words).output().expect("it runs");
        assert_eq!(output.status.code(), Some(69), "{words:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("cannot be reached"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        figures.note("nobody listens: until status 69", ns_between(asked, boottime()));
    }
}

#[test]
fn server_stopped() {
    let figures = Figures::default();
    for version in Version::ALL {
        let etcd = Etcd::of(version, 1);
        let journals = journals(&etcd, "sigstop");
        let mut holders = hold(&journals, TTL, &["stubborn"]);
        let stopped = boottime();
        etcd.signal_all("STOP");
        let output = journals[0].command(&["run", "true"]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(69));
        figures.note("server stopped: until status 69", ns_between(stopped, boottime()));
        assert_eq!(statuses(&mut holders), [76; TRIES]);
        for journal in &journals {
            figures.note(
                "server stopped: the command's end before the latest end of its lease",
                ends_with_its_lease(journal, stopped),
            );
        }
        etcd.signal_all("CONT");
        for journal in &journals {
            assert_eq!(journal.run(TTL, 0, &[]).status(), 0);
            journal.judge(2);
        }
    }
}

/// A command that has ended by itself was not ended by the loss of its lock, although the requests that come after its
/// end have no answer until its lease is over.
#[test]
fn a_command_that_ends_while_the_server_hangs() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "ends-itself");
    // Each of the two requests, for the record and for the count, is given 4 s; the guard would kill after 7.2 s.
    let options = ["--ttl", "8", "--once-every", "1h", "-E", "75", "--max-skips", "3"];
    let mut run = journal.run(&options, 60, &[]);
    let token = journal.wait_for(1).token;
    etcd.signal_all("STOP");
    journal.let_end(token);
    assert_eq!(run.status(), 0);
    journal.judge(1);
    etcd.signal_all("CONT");
}

/// A server that has lost all its data has also forgotten the holder. Others may then get the lock, but the holder
/// notices, and its command does not outlive its lease.
#[test]
fn server_with_empty_data() {
    let mut etcd = Etcd::one();
    let journals = journals(&etcd, "empty");
    let mut holders = hold(&journals, TTL, &["stubborn"]);
    let mut next = wait_behind(&journals);
    let killed = boottime();
    etcd.kill(0);
    etcd.forget(0);
    etcd.start(0);
    assert_eq!(statuses(&mut holders), [76; TRIES]);
    assert_eq!(statuses(&mut next), [0; TRIES], "they ask again");
    let figures = Figures::default();
    for journal in &journals {
        let intervals = journal.intervals();
        assert_eq!(intervals.len(), 2);
        assert!(intervals[0].last < killed + TTL_NS);
        figures.note(
            "server with empty data: until the command is dead",
            ns_between(killed, intervals[0].last),
        );
        let both = ns_between(intervals[1].first, intervals[0].last);
        figures.note("server with empty data: two commands at once", both.max(0));
    }
}

/// When etcd has run out of space, it accepts no requests; a holder goes on, and can release.
#[test]
fn no_space() {
    for version in Version::ALL {
        no_space_of(version);
    }
}

fn no_space_of(version: Version) {
    let etcd = Etcd::with(version, 1, None, &["--quota-backend-bytes=65536"]);
    let journal = Journal::new(&etcd.url(), "space");
    let mut holder = journal.run(KEPT, 60, &[]);
    let token = journal.wait_for(1).token;
    // What nobody could record is not done: everybody who waits would do it.
    let mut once = journal.command(&["run", "--once-every", "1h", "--"]);
    let once = once.args(journal.beat(0, &[])).stderr(Stdio::piped()).spawn();
    let once = once.expect("it starts");
    wait_until("it waits", || journal.waiting() == 1);
    let mut next = journal.run(TTL, 0, &[]);
    wait_until("the next one waits", || journal.waiting() == 2);
    let value = "x".repeat(20_000);
    wait_until("there is an alarm", || {
        let _ = etcd.etcdctl(&["put", "filler", &value]).output().expect("etcdctl runs");
        etcd.ctl(&["alarm", "list"]).contains("NOSPACE")
    });
    let refused = binary(&etcd.url())
        .args(["space-other", "run", "true"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(125), "{said}");
    assert!(said.contains("space exceeded") && said.contains("alarm list"), "{said}");
    journal.runs_on(KEPT_NS);
    journal.let_end(token);
    assert_eq!(holder.status(), 0);
    let once = once.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&once.stderr).into_owned();
    assert_eq!(once.status.code(), Some(125), "{said}");
    assert!(said.contains("space exceeded"), "{said}");
    assert_eq!(next.status(), 0);
    journal.judge(2);
}

/// A member that was stopped for a while knows only an old state. Nobody gets to see that: it does not answer without
/// the others.
#[test]
fn member_that_lags_behind() {
    let etcd = Etcd::three();
    let leader = etcd.leader();
    let slow = (leader + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|i| *i != slow).collect();
    etcd.signal(slow, "STOP");
    let journal = Journal::new(
        &etcd.url_of(&others.iter().map(|i| etcd.endpoint(*i)).collect::<Vec<_>>().join(",")),
        "lag",
    );
    let mut holder = journal.run(&["--ttl", "60"], 60, &[]);
    journal.wait_for(1);
    for i in &others {
        etcd.signal(*i, "STOP");
    }
    etcd.signal(slow, "CONT");
    let alone = etcd.url_of(&etcd.endpoint(slow));
    for words in [&["state"][..], &["run", "-n", "true"], &["unget"]] {
        let output = journal.command_by(&alone, words).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!((output.status.code(), said.as_str()), (Some(69), ""), "{words:?}");
    }
    for i in &others {
        etcd.signal(*i, "CONT");
    }
    holder.signal("TERM");
    holder.wait();
    let free = || {
        journal
            .command_by(&alone, &["run", "-n", "true"])
            .status()
            .expect("it runs")
            .success()
    };
    wait_until("it serves again", free);
    journal.judge(1);
}

fn add_users(etcd: &Etcd) {
    for words in [
        &["user", "add", "root:r00t"][..],
        &["user", "grant-role", "root", "root"],
    ] {
        etcd.ctl(words);
    }
}

/// A job is not done if this user may not record that: everybody would do it.
#[test]
fn a_user_who_may_not_record_what_was_done() {
    for version in Version::ALL {
        let etcd = Etcd::of(version, 1);
        add_users(&etcd);
        let journal = Journal::new(&format!("{}/jobs", etcd.url_as("ann:s3cret")), "reader");
        let (own, done) = (
            format!("jobs/{}/", journal.name()),
            format!("jobs/.done/{}", journal.name()),
        );
        for words in [
            &["role", "add", "job"][..],
            &["role", "grant-permission", "job", "--prefix=true", "readwrite", &own],
            &["role", "grant-permission", "job", "read", &done],
            &["user", "add", "ann:s3cret"],
            &["user", "grant-role", "ann", "job"],
            &["auth", "enable"],
        ] {
            etcd.ctl(words);
        }
        let once = || {
            let mut command = journal.command(&["run", "--once-every", "1h", "echo", "ran"]);
            command.output().expect("it runs")
        };
        let output = once();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0), "{said}");
        assert!(said.contains(&format!("may not read and write '{done}'")), "{said}");
        etcd.ctl(&[
            "--user=root:r00t",
            "role",
            "grant-permission",
            "job",
            "readwrite",
            &done,
        ]);
        assert_eq!(once().stdout, b"ran\n");
        assert_eq!(once().status.code(), Some(75));
    }
}

/// A login is valid for some minutes (here: 2 s) and is renewed; authentication may be switched on and off.
#[test]
fn logins_end_while_holding_and_waiting() {
    for version in Version::ALL {
        let etcd = Etcd::with(version, 1, None, &["--auth-token-ttl=2"]);
        add_users(&etcd);
        let journal = Journal::new(&etcd.url_as("root:r00t"), "login");
        let mut holder = journal.run(KEPT, 60, &[]);
        let first = journal.wait_for(1).token;
        etcd.ctl(&["auth", "enable"]);
        let mut next = journal.run(KEPT, 60, &[]);
        wait_until("the next one waits", || journal.waiting() == 1);
        journal.runs_on(KEPT_NS);
        journal.let_end(first);
        assert_eq!(holder.status(), 0);
        let second = journal.wait_for(2).token;
        etcd.ctl(&["--user=root:r00t", "auth", "disable"]);
        journal.runs_on(KEPT_NS);
        journal.let_end(second);
        assert_eq!(next.status(), 0);
        journal.judge(2);
    }
}

/// Waits until this file contains a process id, and returns that.
fn said(file: &std::path::Path) -> String {
    let read = || std::fs::read_to_string(file).unwrap_or_default().trim().to_owned();
    wait_until("it has written its id", || !read().is_empty());
    read()
}

fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    !state.is_empty() && !state.starts_with('Z')
}

/// Processes that the command has started do not outlive it on the resource: neither those that stay in its group when
/// the command obeys, nor those in a session of their own when it does not, nor those that `--until tree` waits for.
#[test]
fn what_the_command_has_started_ends_with_it() {
    const DEAF: &str = "trap \"\" TERM; echo $$ > \"$OUT\"; while :; do sleep 0.1; done";
    let cases: [(&str, &[&str], String); 3] = [
        ("group", &[], format!("sh -c '{DEAF}' & wait")),
        (
            "session",
            &[],
            format!("trap '' TERM; setsid sh -c '{DEAF}' & while :; do sleep 0.1; done"),
        ),
        ("tree", &["--until", "tree"], format!("setsid sh -c '{DEAF}' & exit 0")),
    ];
    let mut etcd = Etcd::of(Version::System, 1);
    let folder = tempfile::tempdir().expect("a folder");
    let mut started = Vec::new();
    for (name, options, script) in &cases {
        let out = folder.path().join(name);
        let lock = crate::engine_common::lock_name(name);
        let mut command = binary(&etcd.url());
        command
            .args(["--backend", &etcd.url(), &lock, "run"])
            .args(TTL)
            .args(*options);
        command.args(["--", "sh", "-c", script]).env("OUT", &out);
        let null = std::process::Stdio::null;
        command.stdin(null()).stdout(null()).stderr(null());
        started.push((name, command.spawn().expect("it starts"), said(&out)));
    }
    etcd.kill_all();
    for (name, mut run, pid) in started {
        assert_eq!(run.wait().expect("it ends").code(), Some(76), "{name}");
        assert!(!runs(&pid), "{name}: what it had started was still there");
    }
}

/// An outage is reported once, with the lock's name.
#[test]
fn an_outage_is_told_of_once() {
    let mut etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "outage");
    let mut holder = journal.command(&["run", "sh", "-c", "echo begun; exec sleep 60"]);
    holder.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut holder = holder.spawn().expect("it starts");
    let mut begun = [0; 6];
    holder
        .stdout
        .as_mut()
        .expect("piped")
        .read_exact(&mut begun)
        .expect("it begins");
    etcd.kill_all();
    let ended = holder.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(76));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(said.matches("could not be renewed: ").count(), 1, "{said}");
    assert!(said.lines().all(|line| line.contains(journal.name())), "{said}");
}
