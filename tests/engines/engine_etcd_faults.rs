//! Faults of a holder, its guard or its place in the queue, while etcd is well. Every test ends with the same checks:
//! no two commands ran at once, and tokens grew. Each fault is tried three times in parallel, on each version.

use crate::engine_common::etcd::{Etcd, Version};
use crate::engine_common::hang;
use crate::engine_common::journal::{Figures, Journal, Run, binary, boottime, guard, ns_between, runs};
use crate::engine_common::relay::Relay;
use crate::engine_common::{signal, wait_until};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

/// The shortest lease allowed, and its length in ns.
const TTL: &[&str] = &["--ttl", "5"];
const TTL_NS: u64 = 5_000_000_000;

/// So long a lease that it needs no renewal before the command exits.
const UNTIL_THE_END: &[&str] = &["--ttl", "600"];

/// Tries a fault on servers that other tests use as well.
fn try_it(subject: &str, fault: impl Fn(&Etcd, &Journal, &Figures) + Sync) {
    let figures = Figures::default();
    std::thread::scope(|scope| {
        for version in Version::ALL {
            let (fault, figures) = (&fault, &figures);
            for _ in 0..3 {
                scope.spawn(move || {
                    let etcd = Etcd::shared(version);
                    fault(etcd, &Journal::new(&etcd.url(), subject), figures);
                });
            }
        }
    });
}

/// Starts a holder and a waiter.
fn hold_and_wait(journal: &Journal, how: &[&str]) -> (Run, Run) {
    let holder = journal.run(TTL, 60, how);
    journal.wait_for(1);
    let next = journal.run(TTL, 0, &[]);
    wait_until("the next one waits", || journal.waiting() == 1);
    (holder, next)
}

/// Asserts that the first command exited before the next one began; notes how long before.
fn between(journal: &Journal, fault: &str, figures: &Figures) {
    let intervals = journal.judge(2);
    figures.note(
        &format!("{fault}: from the command's end to the next one's start"),
        ns_between(intervals[0].last, intervals[1].first),
    );
}

#[test]
fn holder_and_command_killed() {
    try_it("killed", |_, journal, figures| {
        let (holder, mut next) = hold_and_wait(journal, &[]);
        let killed = boottime();
        holder.signal("KILL");
        signal(journal.intervals()[0].pid, "KILL");
        assert_eq!(next.status(), 0);
        let after = ns_between(killed, journal.judge(2)[1].first);
        figures.note("holder and command killed: until the next one runs", after);
    });
}

/// The next one waits for the dead holder's lease to expire: the longer the lease, the longer the wait.
#[test]
fn a_dead_holders_lease_is_waited_for() {
    let etcd = Etcd::shared(Version::System);
    let [short, long] = ["short", "long"].map(|subject| Journal::new(&etcd.url(), subject));
    let start = |journal: &Journal, ttl: &[&str]| {
        let holder = journal.run(ttl, 60, &[]);
        let command = journal.wait_for(1).pid;
        let next = journal.run(TTL, 0, &[]);
        wait_until("the next one waits", || journal.waiting() == 1);
        (holder, command, next)
    };
    let (slow, slow_command, mut last) = start(&long, &["--ttl", "600"]);
    let (quick, quick_command, mut first) = start(&short, TTL);
    for (holder, command) in [(slow, slow_command), (quick, quick_command)] {
        holder.signal("KILL");
        signal(command, "KILL");
    }
    assert_eq!(first.status(), 0);
    assert!(last.is_running());
    short.judge(2);
    long.judge(1);
}

#[test]
fn wrapper_killed_command_alive() {
    try_it("wrapper", |_, journal, figures| {
        let (holder, mut next) = hold_and_wait(journal, &["stubborn"]);
        let killed = boottime();
        holder.signal("KILL");
        assert_eq!(next.status(), 0);
        figures.note(
            "wrapper killed, command deaf: its end before the lease's latest end",
            ns_between(journal.judge(2)[0].last, killed + TTL_NS),
        );
        between(journal, "wrapper killed, command deaf", figures);
    });
}

#[test]
fn wrapper_killed_command_obeys() {
    try_it("obeys", |_, journal, figures| {
        let (holder, mut next) = hold_and_wait(journal, &[]);
        let killed = boottime();
        holder.signal("KILL");
        assert_eq!(next.status(), 0);
        figures.note(
            "wrapper killed, command obeys TERM: its end before the lease's latest end",
            ns_between(journal.judge(2)[0].last, killed + TTL_NS),
        );
    });
}

#[test]
fn holder_stopped_past_its_lease_then_continued() {
    try_it("stopped", |_, journal, figures| {
        let (mut holder, mut next) = hold_and_wait(journal, &["stubborn"]);
        holder.signal("STOP");
        assert_eq!(next.status(), 0);
        holder.signal("CONT");
        assert_eq!(holder.status(), 76);
        between(journal, "holder stopped", figures);
    });
}

#[test]
fn holder_stopped_then_killed() {
    try_it("both", |_, journal, figures| {
        let (holder, mut next) = hold_and_wait(journal, &["stubborn"]);
        holder.signal("STOP");
        holder.signal("KILL");
        assert_eq!(next.status(), 0);
        between(journal, "holder stopped, then killed", figures);
    });
}

#[test]
fn guard_killed_then_holder_stopped() {
    try_it("guard", |_, journal, figures| {
        let (mut holder, mut next) = hold_and_wait(journal, &["stubborn"]);
        let first = guard(&holder, 0);
        signal(first, "KILL");
        guard(&holder, first);
        holder.signal("STOP");
        assert_eq!(next.status(), 0);
        holder.signal("CONT");
        assert_eq!(holder.status(), 76);
        between(journal, "guard killed, then holder stopped", figures);
    });
}

#[test]
fn guard_stopped_then_holder_killed() {
    try_it("guard-stopped", |_, journal, figures| {
        let (holder, mut next) = hold_and_wait(journal, &["stubborn"]);
        let guard = guard(&holder, 0);
        signal(guard, "STOP");
        wait_until("it was continued", || {
            let stat = std::fs::read_to_string(format!("/proc/{guard}/stat")).expect("it lives");
            stat.contains(") S ")
        });
        holder.signal("KILL");
        assert_eq!(next.status(), 0);
        between(journal, "guard stopped, then holder killed", figures);
    });
}

/// The guard gets in nobody's way: it has its own name and group, and none of the command's descriptors, nor its
/// terminal; and it leaves nothing behind.
#[test]
fn the_guard_keeps_to_itself() {
    let etcd = Etcd::shared(Version::System);
    let journal = Journal::new(&etcd.url(), "itself");
    let mut command = journal.command(&["run", "--", "sh", "-c", "echo here; exec sleep 60"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("connected")));
    assert_eq!(lines.next().expect("a line").expect("UTF-8"), "here");
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).expect("it lives");
    let named = |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|n| n == "lock-guard\n");
    wait_until("the guard has its name", || {
        children.split_whitespace().any(|pid| named(&pid))
    });
    let (guard, command): (Vec<&str>, Vec<&str>) = children.split_whitespace().partition(named);
    let [guard, command] = [guard, command].map(|one| *one.first().expect("it is there"));
    let line = std::fs::read(format!("/proc/{guard}/cmdline")).expect("it lives");
    let line = String::from_utf8_lossy(&line).into_owned();
    assert_eq!(line.trim_end_matches('\0'), "lock-guard");
    let mine = std::fs::read_link(format!("/proc/{}/fd/1", child.id())).expect("it lives");
    for fd in std::fs::read_dir(format!("/proc/{guard}/fd"))
        .expect("it lives")
        .flatten()
    {
        let leads = std::fs::read_link(fd.path()).unwrap_or_default();
        assert!(
            leads != mine && !leads.to_string_lossy().starts_with("socket:"),
            "{leads:?}"
        );
    }
    let ids = Command::new("ps")
        .args(["-o", "pgid=,sid=", "-p", guard])
        .output()
        .expect("ps runs");
    let ids = String::from_utf8_lossy(&ids.stdout).into_owned();
    assert!(ids.split_whitespace().all(|id| id == guard), "{ids}");
    // When the command exits, the reader of its pipe sees end of file, even if the wrapper was killed before.
    signal(child.id(), "KILL");
    signal(command.parse().expect("a number"), "KILL");
    assert!(lines.next().is_none());
    child.wait().expect("it ends");
    wait_until("the guard has ended", || !runs(guard.parse().expect("a number")));
}

/// While the holder stays stopped, its guard has nothing to do.
#[test]
fn the_guard_sleeps_when_all_is_done() {
    let etcd = Etcd::shared(Version::System);
    let journal = Journal::new(&etcd.url(), "sleeps");
    let mut holder = journal.run(TTL, 60, &["stubborn"]);
    let command = journal.wait_for(1).pid;
    holder.signal("STOP");
    wait_until("the command is dead", || !runs(command));
    let guard = guard(&holder, 0);
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{guard}/stat")).expect("it lives");
        let times = stat.split_whitespace().skip(13).take(2);
        times.map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    };
    let (before, start) = (ticks(), boottime());
    wait_until("a second has passed", || boottime() > start + 1_000_000_000);
    assert!(ticks() - before <= 5, "of 100 ticks in a second");
    holder.signal("CONT");
    assert_eq!(holder.status(), 76);
}

/// Nothing is left for the process that adopts orphans: process 1 of a container may not reap them.
#[test]
fn the_guard_is_reaped() {
    const ADOPTS: &str = "import ctypes, os, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
subprocess.run(sys.argv[1:], check=True)
print(open(f'/proc/self/task/{os.getpid()}/children').read())";
    let etcd = Etcd::shared(Version::System);
    let journal = Journal::new(&etcd.url(), "reaped");
    let run = journal.command(&["run", "true"]);
    let mut python = Command::new("python3");
    python
        .args(["-ISc", ADOPTS])
        .arg(run.get_program())
        .args(run.get_args());
    let output = python
        .env("RESOURCELOCK_BACKEND", etcd.url())
        .output()
        .expect("python3 runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "");
}

#[test]
fn lease_revoked() {
    try_it("revoked", |etcd, journal, figures| {
        let (mut holder, mut next) = hold_and_wait(journal, &["stubborn"]);
        let lease = etcd.lease_of(journal.name());
        // A waiter's turn would come at once, before the holder can know: take it away first.
        next.signal("KILL");
        next.wait();
        let revoked = boottime();
        etcd.ctl(&["lease", "revoke", &lease]);
        assert_eq!(holder.status(), 76);
        let interval = journal.judge(1)[0];
        assert!(!runs(interval.pid));
        figures.note(
            "lease revoked: until the command is dead",
            ns_between(revoked, interval.last),
        );
    });
}

#[test]
fn key_deleted_under_a_running_command() {
    try_it("deleted", |etcd, journal, _| {
        let mut holder = journal.run(UNTIL_THE_END, 60, &[]);
        let token = journal.wait_for(1).token;
        etcd.ctl(&["del", "--prefix", &format!("{}/", journal.name())]);
        // The command is not disturbed.
        journal.runs_on(1_000_000_000);
        journal.let_end(token);
        assert_eq!(holder.status(), 76);
        journal.judge(1);
    });
}

#[test]
fn released_by_force_under_a_running_command() {
    try_it("forced", |_, journal, _| {
        let mut holder = journal.run(UNTIL_THE_END, 60, &[]);
        let token = journal.wait_for(1).token;
        let unget = journal.command(&["unget", "--token", &token.to_string()]).status();
        assert!(unget.expect("it runs").success());
        // The command is not disturbed.
        journal.runs_on(1_000_000_000);
        journal.let_end(token);
        assert_eq!(holder.status(), 76);
        journal.judge(1);
    });
}

/// A command that has lost the lock does not go on beside the next holder: it is terminated at the next renewal.
#[test]
fn a_command_whose_lock_was_taken_away_is_ended() {
    try_it("taken-away", |etcd, journal, figures| {
        let taken = |take: &dyn Fn(u64)| {
            let mut holder = journal.run(TTL, 600, &["stubborn"]);
            wait_until("it runs", || {
                journal.intervals().last().is_some_and(|last| runs(last.pid))
            });
            let token = journal.intervals().last().expect("it runs").token;
            let begun = boottime();
            take(token);
            assert_eq!(holder.status(), 76);
            let end = journal.intervals().last().expect("it ran").last;
            figures.note("released by force: until the command is dead", ns_between(begun, end));
        };
        taken(&|token| {
            let mut unget = journal.command(&["unget", "--token", &token.to_string()]);
            assert!(unget.status().expect("it runs").success());
        });
        taken(&|_| {
            etcd.ctl(&["del", "--prefix", &format!("{}/", journal.name())]);
        });
        journal.judge(2);
    });
}

/// A waiter whose request was removed asks again, at its next renewal at the latest: here it waits behind another one,
/// and so its watch shows nothing.
#[test]
fn a_waiter_whose_request_was_removed_asks_again() {
    try_it("removed", |etcd, journal, _| {
        let (mut holder, mut next) = hold_and_wait(journal, &[]);
        etcd.ctl(&["del", &etcd.keys_of(journal.name())[1]]);
        wait_until("it waits again", || journal.waiting() == 1);
        holder.signal("TERM");
        holder.wait();
        assert_eq!(next.status(), 0);
        journal.judge(2);
    });
}

#[test]
fn waiter_stopped_past_its_lease_asks_again() {
    try_it("waiter", |_, journal, _| {
        let mut holder = journal.run(TTL, 60, &[]);
        let token = journal.wait_for(1).token;
        let mut next = journal.run(TTL, 0, &[]);
        wait_until("the next one waits", || journal.waiting() == 1);
        next.signal("STOP");
        wait_until("its request has ended with its lease", || journal.waiting() == 0);
        next.signal("CONT");
        wait_until("it waits again", || journal.waiting() == 1);
        journal.let_end(token);
        assert_eq!(holder.status(), 0);
        assert_eq!(next.status(), 0);
        journal.judge(2);
    });
}

/// A request whose answer gets lost is repeated, and takes effect only once.
#[test]
fn answers_that_are_lost() {
    try_it("lost", |etcd, journal, _| {
        for (count, path) in ["lease/grant", "kv/txn", "lease/keepalive", "kv/range", "lease/revoke"]
            .iter()
            .enumerate()
        {
            let relay = Relay::to(&etcd.endpoint(0));
            relay.swallow_answer(path);
            let seconds = if *path == "lease/keepalive" { 3 } else { 0 };
            let mut command = journal.command_by(&etcd.url_of(&relay.endpoint()), &["run", "--ttl", "5", "--"]);
            let mut run = Run::start(command.args(journal.beat(seconds, &[])));
            relay.wait_swallowed();
            assert_eq!(run.status(), 0, "{path}");
            journal.judge(count + 1);
            let left = etcd.ctl(&["get", "--prefix", &format!("{}/", journal.name()), "--keys-only"]);
            assert_eq!(left, "", "{path}");
        }
    });
}

/// The time for which a process was stopped in the middle of a request does not count as waiting for the answer.
#[test]
fn stopped_in_a_request() {
    let etcd = Etcd::shared(Version::System);
    std::thread::scope(|scope| {
        for path in ["lease/grant", "kv/txn", "kv/range"] {
            let etcd = &etcd;
            scope.spawn(move || {
                let journal = Journal::new(&etcd.url(), "in-request");
                let relay = Relay::to(&etcd.endpoint(0));
                relay.hold(path);
                let mut command = journal.command_by(&etcd.url_of(&relay.endpoint()), &["run", "--"]);
                let mut run = Run::start(command.args(journal.beat(0, &[])));
                relay.wait_held();
                run.signal("STOP");
                let stopped = boottime();
                relay.let_go();
                wait_until("the time for an answer is over", || boottime() > stopped + TTL_NS);
                run.signal("CONT");
                assert_eq!(run.status(), 0, "{path}");
                journal.judge(1);
            });
        }
    });
}

/// A process that slept between asking for the lease and asking for its place in the queue asks again.
#[test]
fn lease_over_before_the_request() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "over");
    let relay = Relay::to(&etcd.endpoint(0));
    // However often it is repeated meanwhile.
    relay.hold_all_after("kv/txn", 0);
    let mut command = journal.command_by(&etcd.url_of(&relay.endpoint()), &["run", "--ttl", "60", "--"]);
    let mut run = Run::start(command.args(journal.beat(0, &[])));
    relay.wait_held();
    let leases = etcd.ctl(&["lease", "list"]);
    etcd.ctl(&["lease", "revoke", leases.lines().last().expect("a lease")]);
    relay.let_go();
    assert_eq!(run.status(), 0);
    journal.judge(1);
}

#[test]
fn compaction_while_watching() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "compaction");
    let mut holder = journal.run(TTL, 60, &[]);
    journal.wait_for(1);
    let relay = Relay::to(&etcd.endpoint(0));
    relay.hold("watch");
    let mut command = journal.command_by(&etcd.url_of(&relay.endpoint()), &["run", "--ttl", "5", "--"]);
    let mut next = Run::start(command.args(journal.beat(0, &[])));
    relay.wait_held();
    for _ in 0..3 {
        etcd.ctl(&["put", "other", "value"]);
    }
    let status: serde_json::Value =
        serde_json::from_str(&etcd.ctl(&["endpoint", "status", "-w", "json"])).expect("JSON");
    etcd.ctl(&["compact", &status[0]["Status"]["header"]["revision"].to_string()]);
    relay.let_go();
    wait_until("it waits", || journal.waiting() == 1);
    holder.signal("TERM");
    holder.wait();
    assert_eq!(next.status(), 0);
    journal.judge(2);
}

/// The body of a process that, if told to, holds a lock until there is a file `end`, and reports what it sees. Its
/// clock is that of libfaketime, which has no power over the program itself (that is linked statically).
#[test]
fn holder_with_a_clock_of_its_own() {
    let Ok(order) = std::env::var(CLOCK_ORDER) else { return };
    let words: Vec<&str> = order.split(' ').collect();
    let [url, name, end] = words[..] else { panic!("{order}") };
    let engine = resourcelock::engines::open(url).expect("an engine");
    let options = resourcelock::GetOptions::new().lease(std::time::Duration::from_secs(5));
    let options = options.wait(resourcelock::Wait::For(std::time::Duration::from_secs(60)));
    let name = resourcelock::LockName::new(name).expect("a name");
    let held = engine
        .acquire(&name, &options)
        .expect("it answers")
        .expect("it is acquired in time");
    println!("> had {}", held.token());
    while held.validity().is_certain() && !std::path::Path::new(end).exists() {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        println!("> wall {}", wall.expect("after 1970").as_secs());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    println!("> released {}", held.release().expect("it answers"));
}

/// Tells it what to do: `URL NAME END`.
const CLOCK_ORDER: &str = "RESOURCELOCK_TEST_CLOCK";

/// It does not matter if the wall clock is set a day forward and back.
#[test]
fn steps_of_the_wall_clock() {
    let etcd = Etcd::shared(Version::System);
    let journal = Journal::new(&etcd.url(), "clock");
    let folder = tempfile::tempdir().expect("a folder");
    let step = |by: &str| {
        std::fs::write(folder.path().join("new"), by).expect("a file");
        std::fs::rename(folder.path().join("new"), folder.path().join("clock")).expect("it is replaced");
    };
    step("+0");
    let libraries = std::fs::read_dir("/usr/lib").expect("it is there").flatten();
    let mut libraries = libraries.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let library = libraries.find(|library| library.exists());
    let library = library.expect("libfaketime; run scripts/test.sh");
    let end = folder.path().join("end");
    let start = || {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args([
            "engine_etcd_faults::holder_with_a_clock_of_its_own",
            "--exact",
            "--nocapture",
        ]);
        command.env(
            CLOCK_ORDER,
            format!("{} {} {}", etcd.url(), journal.name(), end.display()),
        );
        command.env("LD_PRELOAD", &library);
        command.env("FAKETIME_TIMESTAMP_FILE", folder.path().join("clock"));
        command.env("FAKETIME_NO_CACHE", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let said = output.lines().map_while(Result::ok);
        let said = said.filter_map(|line| line.split_once("> ").map(|(_, said)| said.to_owned()));
        (child, said)
    };
    let next_wall = |said: &mut dyn Iterator<Item = String>, what: &str, wanted: &dyn Fn(u64) -> bool| {
        let walls = said.map_while(|line| line.strip_prefix("wall ").and_then(|wall| wall.parse().ok()));
        walls
            .into_iter()
            .find(|wall: &u64| wanted(*wall))
            .unwrap_or_else(|| panic!("it does not see {what}"))
    };
    let (mut holder, mut holder_said) = start();
    let token = holder_said.next().expect("it says it");
    let begun = next_wall(&mut holder_said, "the time", &|_| true);
    let (mut next, mut next_said) = start();
    wait_until("the next one waits", || journal.waiting() == 1);
    step("+1d");
    let later = next_wall(&mut holder_said, "the step", &|wall| wall > begun + 80_000);
    // Longer than a third of the lease: meanwhile it is renewed.
    next_wall(&mut holder_said, "two seconds later", &|wall| wall >= later + 2);
    step("-1d");
    next_wall(&mut holder_said, "the step back", &|wall| wall < begun);
    std::fs::write(&end, "").expect("a file");
    assert_eq!(holder_said.last().as_deref(), Some("released true"));
    let next_token = next_said.next().expect("it says it");
    let number = |had: &str| -> u64 { had.strip_prefix("had ").and_then(|n| n.parse().ok()).expect("a token") };
    assert!(number(&next_token) > number(&token));
    assert_eq!(next_said.last().as_deref(), Some("released true"));
    for child in [&mut holder, &mut next] {
        assert!(child.wait().expect("it ends").success());
    }
}

/// A connection may die without either side noticing: a single request without an answer does not cost the lock.
#[test]
fn a_renewal_that_has_no_answer() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "unanswered");
    let relay = Relay::to(&etcd.endpoint(0));
    relay.hold("lease/keepalive");
    let mut command = journal.command_by(&etcd.url_of(&relay.endpoint()), &["run", "--ttl", "8", "--"]);
    let mut run = Run::start(command.args(journal.beat(6, &[])));
    relay.wait_held();
    assert_eq!(run.status(), 0);
    relay.let_go();
    journal.judge(1);
}

/// A command under a lock that its job already held exits with its own status.
#[test]
fn an_inner_command_whose_end_cannot_be_judged() {
    let etcd = Etcd::one();
    let relay = Relay::to(&etcd.endpoint(0));
    let journal = Journal::new(&etcd.url_of(&relay.endpoint()), "inner");
    let folder = tempfile::tempdir().expect("a folder");
    let (begun, go) = (folder.path().join("begun"), folder.path().join("go"));
    let inner = format!(
        "touch {}; until [ -e {} ]; do sleep 0.05; done; exit 3",
        begun.display(),
        go.display()
    );
    let script = r#""$0" "$1" run --same-process-ok -- sh -c "$2"; exit $?"#;
    let program = binary("").get_program().to_string_lossy().into_owned();
    let words = [
        "run",
        "--ttl",
        "600",
        "--",
        "sh",
        "-c",
        script,
        &program,
        journal.name(),
        &inner,
    ];
    let mut run = Run::start(&mut journal.command(&words));
    wait_until("the inner command has begun", || begun.exists());
    relay.hold_all_after("kv/range", 0);
    std::fs::write(&go, "").expect("a file");
    assert_eq!(run.status(), 3);
    relay.let_go();
}

/// If `get` cannot know whether it left the lock taken, it says how to release it.
#[test]
fn a_get_whose_end_is_not_known() {
    let etcd = Etcd::one();
    let relay = Relay::to(&etcd.endpoint(0));
    let journal = Journal::new(&etcd.url_of(&relay.endpoint()), "unknown");
    relay.put_in_order("lease/grant", "kv/txn");
    // The request is in the queue. Those that would leave the lock taken, and undo that, get no answer.
    relay.hold_all_after("kv/txn", 1);
    let output = journal.command(&["get", "--forever"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(69));
    let said = String::from_utf8_lossy(&output.stderr);
    let advice = format!("; to release it: resourcelock {} unget --token ", journal.name());
    assert!(said.contains(&advice), "{said}");
    relay.let_go();
}

/// Nor can it if what it is told then is an error of something in between.
#[test]
fn a_get_whose_end_a_proxy_hides() {
    let etcd = Etcd::one();
    let relay = Relay::to(&etcd.endpoint(0));
    let journal = Journal::new(&etcd.url_of(&relay.endpoint()), "hidden");
    relay.put_in_order("lease/grant", "kv/txn");
    // The request is in the queue. The next one leaves the lock taken, but its answer gets lost; from then on there is
    // only an error page.
    relay.swallow_answer_after("kv/txn", 1);
    relay.fail_all_after("kv/txn", 2);
    let output = journal.command(&["get", "--forever"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(69));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("HTTP status 500"), "{said}");
    let (_, command) = said.split_once("; to release it: ").unwrap_or_else(|| panic!("{said}"));
    assert_eq!(etcd.keys_of(journal.name()).len(), 1, "it has stayed taken");
    let token = command.trim().rsplit(' ').next().expect("a token");
    let unget = journal.command_by(&etcd.url(), &["unget", "--token", token]).status();
    assert!(unget.expect("it runs").success());
    assert!(etcd.keys_of(journal.name()).is_empty());
}

/// A command does not start under a lease so short that it would soon be terminated: a renewal comes first.
#[test]
fn a_grant_that_was_slow_is_renewed_first() {
    let etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "slow");
    let relay = Relay::to(&etcd.endpoint(0));
    // The request is repeated after 1 s, and after another 2 s; by then more than a third of the lease is gone.
    relay.hold("kv/txn");
    relay.hold("kv/txn");
    relay.hold_all_after("lease/keepalive", 0);
    let mut command = journal.command_by(&etcd.url_of(&relay.endpoint()), &["run", "--ttl", "5", "--"]);
    let mut run = Run::start(command.args(journal.beat(0, &[])));
    relay.wait_seen("kv/txn", 3);
    relay.wait_seen("lease/keepalive", 1);
    // If the command had been started, it would have written by the time another one has.
    let other = Journal::new(&etcd.url(), "other");
    assert_eq!(other.run(&[], 0, &[]).status(), 0);
    let held = boottime();
    relay.let_go();
    assert_eq!(run.status(), 0);
    assert!(journal.judge(1)[0].first > held);
}

/// The lease and the place in the queue are asked for at the same time. If the lease comes second, the place is asked for
/// again.
#[test]
fn a_lease_that_comes_after_the_request() {
    let etcd = Etcd::shared(Version::System);
    let journal = Journal::new(&etcd.url(), "second");
    let relay = Relay::to(&etcd.endpoint(0));
    relay.put_in_order("kv/txn", "lease/grant");
    let mut command = journal.command_by(&etcd.url_of(&relay.endpoint()), &["run", "--"]);
    assert_eq!(Run::start(command.args(journal.beat(0, &[]))).status(), 0);
    assert!(relay.times_seen("kv/txn") >= 2);
    journal.judge(1);
    assert!(etcd.keys_of(journal.name()).is_empty());
}

/// A server that hangs may carry out later what nobody waits for any more. If that would stand in the way for long, the
/// lease comes first.
#[test]
fn a_long_lease_comes_first() {
    let etcd = Etcd::shared(Version::System);
    let journal = Journal::new(&etcd.url(), "first");
    let relay = Relay::to(&etcd.endpoint(0));
    relay.hold("lease/grant");
    let mut command = journal.command_by(&etcd.url_of(&relay.endpoint()), &["run", "--ttl", "11", "--"]);
    let mut run = Run::start(command.args(journal.beat(0, &[])));
    relay.wait_held();
    relay.let_go();
    assert_eq!(run.status(), 0);
    assert_eq!(relay.times_seen("kv/txn"), 1);
    journal.judge(1);
}

/// The lease is never granted, although somebody listens: no place in the queue is left behind.
#[test]
fn a_lease_that_never_comes() {
    let etcd = Etcd::shared(Version::System);
    for asked_to_end in [false, true] {
        let journal = Journal::new(&etcd.url(), "never");
        let relay = Relay::to(&etcd.endpoint(0));
        relay.hold_all_after("lease/grant", 0);
        let mut command = journal.command_by(&etcd.url_of(&relay.endpoint()), &["run", "--"]);
        let mut run = Run::start(command.args(journal.beat(0, &[])).stderr(Stdio::null()));
        relay.wait_held();
        if asked_to_end {
            run.signal("TERM");
            assert_eq!(run.wait().signal(), Some(15));
        } else {
            assert_eq!(run.status(), 69);
        }
        assert!(etcd.keys_of(journal.name()).is_empty());
        journal.judge(0);
        relay.let_go();
    }
}

/// The lease was granted, but nobody knows: the answer was lost, and the next tries get none. The request that was in the
/// queue by then is taken back, with its lease.
#[test]
fn a_lease_that_nobody_knows_of() {
    let etcd = Etcd::shared(Version::System);
    let journal = Journal::new(&etcd.url(), "unknown-lease");
    let relay = Relay::to(&etcd.endpoint(0));
    relay.put_in_order("lease/grant", "kv/txn");
    relay.swallow_answer("lease/grant");
    relay.hold_all_after("lease/grant", 1);
    let mut command = journal.command_by(&etcd.url_of(&relay.endpoint()), &["run", "--"]);
    let mut run = Run::start(command.args(journal.beat(0, &[])).stderr(Stdio::null()));
    assert_eq!(run.status(), 69);
    assert!(relay.times_seen("kv/txn") > 0);
    assert!(etcd.keys_of(journal.name()).is_empty());
    journal.judge(0);
    relay.let_go();
}

/// All servers die when the lease was granted and the request is in the queue, and the holder-to-be hears of neither: what
/// they find when they are back ends with the lease.
#[test]
fn servers_die_in_the_middle_of_a_request() {
    let mut etcd = Etcd::one();
    let journal = Journal::new(&etcd.url(), "middle");
    let relay = Relay::to(&etcd.endpoint(0));
    relay.swallow_answer("lease/grant");
    relay.hold_all_after("lease/grant", 1);
    relay.hold_all_after("lease/revoke", 0);
    let mut command = journal.command_by(&etcd.url_of(&relay.endpoint()), &["run", "--ttl", "5", "--"]);
    let mut run = Run::start(command.args(journal.beat(0, &[])).stderr(Stdio::null()));
    relay.wait_swallowed();
    etcd.kill(0);
    assert_eq!(run.status(), 69);
    relay.let_go();
    etcd.start(0);
    etcd.wait_ready();
    assert_eq!(journal.run(TTL, 0, &[]).status(), 0);
    journal.judge(1);
}

#[test]
fn asked_to_end_while_the_server_hangs() {
    let etcd = Etcd::one();
    hang::asked_to_end(&etcd.url(), || etcd.signal_all("STOP"));
}

#[test]
fn time_is_up_while_the_server_hangs() {
    let etcd = Etcd::one();
    hang::time_is_up(&etcd.url(), true, || etcd.signal_all("STOP"));
}
