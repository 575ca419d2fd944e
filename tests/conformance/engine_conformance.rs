//! Checks what every engine promises, for every engine that is built in, on real servers.

use crate::common::run::said;
use crate::common::{Dice, LineChild, binary};
#[cfg(feature = "etcd")]
use crate::engine_common::etcd::{Etcd, Version};
#[cfg(feature = "postgres")]
use crate::engine_common::postgres::Postgres;
use crate::engine_common::{lock_name, signal, wait_until};
use crate::tested;
use resourcelock::engines::{self, Engine, Validity};
use resourcelock::{
    Cancel, Change, Detached, Error, GetOptions, Guard, LockName, Mode, ResourceLock, State, UngetOptions, Wait,
};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

type Shared = Arc<dyn Engine>;
/// A check and its description.
type Check = (&'static str, fn(&Shared));

const SUITE: &[Check] = &[
    ("a free lock is acquired, shown, and released", acquired_shown_released),
    ("a lock that is only viewed is not created", only_viewed),
    ("a held lock cannot be acquired by anybody else", excludes),
    ("a wait ends at its deadline, and leaves nothing behind", deadline),
    ("a wait can be cancelled, and leaves nothing behind", cancellation),
    ("waiters are served in order and shown in order", order),
    ("a waiter is told what it waits for", tells_waiters),
    ("tokens grow strictly, and holds never overlap", tokens_grow),
    ("a broken hold is lost, and the next one gets the lock", broken),
    ("only the hold with the given token is broken", broken_by_token),
    ("a dropped hold is released", dropped),
    ("shared holds coexist, others do not", shared),
    ("a counting lock has its slots", slots),
    ("a detached hold outlives its holder", detached),
    ("events can be followed in order", followed),
    ("locks in use are listed", listed),
    ("odd names and texts", odd_texts),
];

fn conforms(engine: Box<dyn Engine>) {
    let engine: Shared = Arc::from(engine);
    for (what, check) in SUITE {
        let begun = Instant::now();
        check(&engine);
        println!("{}: {what} ({:?})", engine.kind(), begun.elapsed());
    }
}

/// The program, about this engine's locks.
fn program(url: &str, words: &[&str]) -> Command {
    let mut command = binary();
    command.args(["--backend", url]).args(words);
    command
}

/// The same about one lock, run to its end.
fn output(url: &str, lock: &LockName, words: &[&str]) -> Output {
    let mut command = program(url, &[&[lock.as_str()], words].concat());
    command.output().expect("it can be started")
}

/// Its status, and what it has said.
fn ended(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), said(output))
}

/// The program's path.
fn path() -> String {
    tested::program().into_string().expect("UTF-8")
}

/// Checks the same through the program, as its users meet it.
fn program_conforms(url: &str) {
    let lock = Lock::new("program");
    let run = |words: &[&str]| {
        let output = output(url, &lock, words);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().expect("it exits"), printed, said(&output))
    };
    let (status, said, _) = run(&["run", "--", "sh", "-c", "echo $RESOURCELOCK_NAME; exit 7"]);
    assert_eq!(
        (status, said.trim()),
        (7, lock.as_str()),
        "the command's status and its lock's name"
    );
    let nested = "\"$0\" --backend \"$1\" \"$2\" run -n -- true; echo $?
        \"$0\" --backend \"$1\" \"$2\" run --same-process-ok -- echo inside
        \"$0\" --backend \"$1\" \"$2\" state --mine -q; echo $?
        \"$0\" --backend \"$1\" \"$2\" state --json";
    let (status, said, refused) = run(&["run", "--", "sh", "-c", nested, &path(), url, lock.as_str()]);
    assert_eq!(status, 0, "{refused}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["75", "inside", "0"], "{said} {refused}");
    let state: serde_json::Value = serde_json::from_str(lines[3]).expect("JSON");
    assert_eq!(state["locked"], true);
    assert_eq!(state["holders"].as_array().map(Vec::len), Some(1));
    assert!(refused.contains("held by"), "the refusal says who has it: {refused}");
    assert_eq!(run(&["state", "-q"]).0, 1, "free");
    let (status, said, _) = run(&["unget"]);
    assert_eq!((status, said.contains("was not taken")), (0, true), "{said}");
    assert_eq!(run(&["unget", "--token", "1"]).0, 1);
    assert_eq!(run(&["run", "--", "/nonexistent/command"]).0, 127);
}

/// Checks `run --once-every` of several runs at the same time.
fn once_conforms(url: &str) {
    let lock = Lock::new("once");
    let failed = output(url, &lock, &["run", "--once-every", "1h", "--", "false"]);
    assert_eq!(failed.status.code(), Some(1));
    let start = |_| {
        let mut run = program(url, &[lock.as_str(), "run", "--once-every", "1h", "--", "echo", "ran"]);
        run.stdout(Stdio::piped()).stderr(Stdio::piped());
        run.spawn().expect("it can be started")
    };
    let runs: Vec<_> = (0..3).map(start).collect();
    let runs = runs.into_iter().map(|run| run.wait_with_output().expect("it ends"));
    let (done, skipped): (Vec<_>, Vec<_>) = runs.partition(|output| output.stdout == b"ran\n");
    assert_eq!((done.len(), skipped.len()), (1, 2));
    for output in skipped {
        let (status, said) = ended(&output);
        assert_eq!(status, Some(75), "{said}");
        assert!(said.contains(": done ") && said.contains("due in"), "{said}");
    }
    // What is kept beside the locks is none.
    let listed = program(url, &["list"]).output();
    let listed = listed.expect("it can be started").stdout;
    assert!(!String::from_utf8_lossy(&listed).contains("done"));
}

/// Checks `run --max-skips`, or that it is refused.
fn skips_conform(url: &str) {
    let lock = Lock::new("skips");
    let run = |words: &[&str]| {
        let words = [&["run", "-E", "0", "--max-skips", "2"], words].concat();
        ended(&output(url, &lock, &words))
    };
    let engine = engines::open(url).expect("a good URL");
    let can = engine.capabilities();
    let silent = (Some(0), String::new());
    if !can.skips {
        let (status, said) = run(&["--", "true"]);
        assert_eq!(status, Some(125));
        assert!(said.contains("--max-skips: it does not count"), "{said}");
        let refused = engine.count_skip(&lock, &Cancel::new());
        assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
        return;
    }
    let skip = |skips: u32| {
        let held = engine.acquire(&lock, &patient()).expect("it answers");
        assert!(held.is_some());
        for _ in 1..skips {
            assert_eq!(run(&["-n", "true"]), silent);
        }
        run(&["-t", "0.1", "true"])
    };
    let (status, said) = skip(2);
    assert_eq!(status, Some(75), "{said}");
    assert!(said.contains(": skipped 2 times in a row: held by "), "{said}");
    assert_eq!(skip(1), silent);
    assert_eq!(run(&["true"]), silent, "it begins anew");
    assert_eq!(skip(1), silent);
    assert_eq!(skip(1).0, Some(75));
    assert_eq!(run(&["true"]), silent, "nothing is left of it");
    if can.remote {
        let refused = program(url, &[".skips", "run", "--", "true"]).output();
        assert_eq!(refused.expect("it can be started").status.code(), Some(125));
        let listed = engine.list().expect("it answers");
        assert!(listed.states.iter().all(|state| state.name.as_str() != ".skips"));
    }
}

/// Checks `run --hold-at-least`, or that it is refused.
fn least_conforms(url: &str) {
    let lock = Lock::new("least");
    let run = |words: &[&str]| ended(&output(url, &lock, words));
    let engine = engines::open(url).expect("a good URL");
    if !engine.capabilities().detached {
        let (status, said) = run(&["run", "--hold-at-least", "1m", "true"]);
        assert_eq!(status, Some(125));
        assert!(said.contains("--hold-at-least: the lock ends with"), "{said}");
        return;
    }
    let (status, said) = run(&["run", "--hold-at-least", "1h", "sh", "-c", "exit 3"]);
    assert_eq!((status, said.as_str()), (Some(3), ""));
    let state = engine
        .state(&lock, &Cancel::new())
        .expect("it answers")
        .expect("it exists");
    let [holder] = state.holders.as_slice() else {
        panic!("{state:?}")
    };
    assert!(
        state.locked && holder.lingers && holder.detached && holder.alive,
        "{state:?}"
    );
    assert!(holder.expires_in > Some(Duration::from_secs(3000)), "{state:?}");
    let (status, said) = run(&["run", "-n", "true"]);
    assert_eq!(status, Some(75));
    assert!(said.contains("held by 'run --hold-at-least' from "), "{said}");
    assert_eq!(run(&["unget"]).0, Some(0));
    assert_eq!(run(&["state", "-q"]).0, Some(1), "free");
    // What remains is less than the shortest lease that is renewed.
    let begun = Instant::now();
    assert_eq!(run(&["run", "--hold-at-least", "2", "true"]).0, Some(0));
    assert_eq!(run(&["run", "true"]).0, Some(0));
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(
        run(&["run", "--hold-at-least", "1h", "/nonexistent/command"]).0,
        Some(127)
    );
    assert_eq!(run(&["state", "-q"]).0, Some(1), "it has not been started");
}

/// Checks `stop`: it ends the command that runs under the lock, and no other.
fn stop_conforms(url: &str) {
    let lock = Lock::new("stop");
    let stop = |words: &[&str]| ended(&output(url, &lock, &[&["stop"], words].concat()));
    let is_held = || output(url, &lock, &["state", "-q"]).status.success();
    assert_eq!(stop(&[]).0, Some(1));
    let script = [lock.as_str(), "run", "--", "sh", "-c", "echo up; exec sleep 1000"];
    let mut held = LineChild::spawn(&mut program(url, &script));
    assert_eq!(held.line(), "up");
    assert_eq!(stop(&["--token", "1"]).0, Some(1));
    let (status, said) = stop(&["-t", "60"]);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(held.wait().code(), None, "it dies of the command's signal");
    assert!(!is_held());
    // A process that does not run a command, or whose command cannot prove it, is not signalled.
    let mut holder = LineChild::spawn(&mut program(url, &[lock.as_str(), "get", "-q", "-a", "1000"]));
    wait_until("it is held", is_held);
    let (status, said) = stop(&[]);
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains(&format!("kill {}", holder.id())), "{said}");
    assert!(is_held());
    signal(holder.id(), "TERM");
    holder.wait();
}

/// Checks `run --with`: all locks or none, in one order, and each of them can be lost.
fn several_conform(url: &str) {
    let locks = [Lock::new("several-a"), Lock::new("several-b")];
    let [a, b] = [locks[0].as_str(), locks[1].as_str()];
    let command = |lock: &str, words: &[&str]| program(url, &[&[lock], words].concat());
    let output = |lock: &str, words: &[&str]| command(lock, words).output().expect("it can be started");
    let state = "for lock; do \"$0\" --backend \"$URL\" $lock state -q --mine; echo $?; done";
    let inside = command(b, &["run", "--with", a, "--", "sh", "-c", state, &path(), a, b])
        .env("URL", url)
        .output();
    assert_eq!(
        inside.expect("it can be started").stdout,
        b"0\n0\n",
        "both are this job's"
    );
    // Whoever asks in the other order does not wait for the first one's second lock.
    let mut runs: Vec<_> = (0..4)
        .map(|i| {
            command(
                if i % 2 == 0 { a } else { b },
                &["run", "--with", if i % 2 == 0 { b } else { a }, "--", "true"],
            )
        })
        .map(|mut run| run.spawn().expect("it can be started"))
        .collect();
    for run in &mut runs {
        assert!(run.wait().expect("it ends").success());
    }
    // Long enough for the renewal that notices that a key is gone.
    let words = ["run", "--ttl", "5s", "--with", b, "--", "sleep", "1000"];
    let words: Vec<&str> = match url.contains("://") {
        true => words.to_vec(),
        false => words
            .into_iter()
            .filter(|word| !["--ttl", "5s"].contains(word))
            .collect(),
    };
    let mut held = command(a, &words);
    let held = held.stderr(Stdio::piped()).spawn().expect("it can be started");
    let is_held = |lock: &str| output(lock, &["state", "-q"]).status.success();
    wait_until("both are held", || is_held(a) && is_held(b));
    let refused = output(a, &["run", "-n", "--with", b, "--", "true"]);
    assert_eq!(refused.status.code(), Some(75));
    wait_until("it is released by force", || {
        output(b, &["unget"]).status.success() && !is_held(b)
    });
    if url.contains("://") {
        let ended = held.wait_with_output().expect("it ends");
        let said = said(&ended);
        assert_eq!(ended.status.code(), Some(76), "{said}");
        assert!(said.contains(b), "it names the lost lock: {said}");
    } else {
        signal(held.id(), "TERM");
        let ended = held.wait_with_output().expect("it ends");
        assert!(said(&ended).contains(b));
    }
    wait_until("none is held", || !is_held(a) && !is_held(b));
}

/// The library's handle, with the same words on every engine.
fn handle_conforms(url: &str) {
    let name = Lock::new("handle");
    let open = || ResourceLock::builder(&*name).backend(url).open().expect("a good URL");
    let (one, other) = (open(), open());
    let kind = engines::open(url).expect("a good URL").capabilities();
    let held = one.acquire().expect("it answers");
    assert_eq!(held.name(), one.name());
    assert!(held.lost().is_none() && held.validity().is_certain());
    assert!(other.try_acquire().expect("it answers").is_none());
    let short = other.acquire_for(Duration::from_millis(50));
    assert!(short.expect("it answers").is_none());
    let state = one.clone().state().expect("it answers");
    assert_eq!(state.holders.len(), 1);
    assert!(one.is_held(state.holders[0].token.unwrap_or(0)).expect("it answers"));
    let viewer = ResourceLock::builder(&*name).backend(url).open_existing();
    assert!(viewer.expect("it exists").state().expect("it answers").locked);
    let mut watch = one.watch().expect("it answers");
    drop(one); // a guard needs no handle
    assert!(held.release().expect("it answers"));
    let change = watch.next(&Cancel::new()).expect("it answers");
    assert!(matches!(change, Some(Change::Ended(_))), "{change:?}");
    // In the Python module's words.
    assert!(other.get_lock(&patient()).expect("it answers"));
    assert!(other.have_the_lock() && other.token().is_some());
    assert!(other.is_locked().expect("it answers") && other.lock_value().expect("it answers") == 0);
    assert!(other.unget_lock(UngetOptions::new()).expect("it answers"));
    assert!(!other.unget_lock(UngetOptions::new()).expect("it answers"));
    assert!(!other.is_locked().expect("it answers") && !other.have_the_lock());
    if kind.shared {
        // Whoever has it shared does not have it exclusively.
        let again = |mode| at_once().mode(mode).same_process_ok(true);
        assert!(other.get_lock(&patient().mode(Mode::Shared)).expect("it answers"));
        assert!(other.get_lock(&again(Mode::Shared)).expect("it answers"));
        assert!(!other.get_lock(&again(Mode::Exclusive)).expect("it answers"));
        assert!(other.unget_lock(UngetOptions::new()).expect("it answers"));
        assert!(!other.unget_lock(UngetOptions::new()).expect("it answers"));
        assert!(other.get_lock(&patient()).expect("it answers"));
        assert!(other.get_lock(&again(Mode::Shared)).expect("it answers"));
        assert!(other.unget_lock(UngetOptions::new()).expect("it answers"));
    }
    if kind.slots {
        let none = other.acquire_with(&patient().mode(Mode::Slots(0)));
        assert!(matches!(none, Err(Error::NoSlots)), "{none:?}");
    }
    // What the handle has is released with it.
    assert!(other.get_lock(&patient()).expect("it answers"));
    drop(other);
    let last = open();
    let guards = ResourceLock::acquire_all(&[&last], &patient()).expect("it answers");
    assert_eq!(guards.map(|guards| guards.len()), Some(1));
}

#[test]
fn library_local() {
    handle_conforms("local:");
    conforms(engines::open("local:").expect("it is always built in"));
}

#[test]
fn program_local() {
    commands_conform("local:", Clock::True, &age_here);
}

/// Checks all that the program does on an engine; `age` as in [`a_week_conforms`].
fn commands_conform(url: &str, clock: Clock, age: &dyn Fn(&str, i64)) {
    program_conforms(url);
    several_conform(url);
    once_conforms(url);
    a_week_conforms(url, clock, age);
    skips_conform(url);
    least_conforms(url);
    stop_conforms(url);
}

#[cfg(feature = "etcd")]
fn assert_nothing_is_left(server: &Etcd) {
    let keys = server.ctl(&["get", "--prefix", "", "--keys-only"]);
    assert_eq!(keys, "", "nothing is left");
    let leases = server.ctl(&["lease", "list"]);
    assert!(leases.contains("found 0 leases"), "nothing is left: {leases}");
}

#[cfg(feature = "etcd")]
#[test]
fn library_etcd() {
    for version in Version::ALL {
        let server = Etcd::of(version, 1);
        handle_conforms(&server.url());
        conforms(engines::open(&server.url()).expect("a good URL"));
        conforms(engines::open(&format!("{}//some/prefix", server.url())).expect("a good URL"));
        assert_nothing_is_left(&server);
    }
}

#[cfg(feature = "etcd")]
#[test]
fn library_etcd_of_three_servers() {
    for version in Version::ALL {
        let servers = Etcd::of(version, 3);
        conforms(engines::open(&servers.url()).expect("a good URL"));
    }
}

#[cfg(feature = "etcd")]
#[test]
fn program_etcd() {
    for version in Version::ALL {
        let server = Etcd::of(version, 1);
        commands_conform(&server.url(), Clock::Hosts, &|lock, ago| {
            let key = format!(".done/{lock}");
            let stored = server.ctl(&["get", "--print-value-only", &key]);
            let mut stored: serde_json::Value = serde_json::from_str(&stored).expect("JSON");
            stored["began"] = (micros_since_1970() - ago * 1_000_000).into();
            server.ctl(&["put", &key, &stored.to_string()]);
        });
        let refused = program(&server.url(), &[".done", "run", "--", "true"]).output();
        assert_eq!(refused.expect("it can be started").status.code(), Some(125));
        // Kept for good.
        let done = server.ctl(&["del", "--prefix", ".done/"]);
        assert_eq!(done.trim(), "2");
        assert_nothing_is_left(&server);
    }
}

#[cfg(feature = "postgres")]
fn assert_nothing_is_held(server: &Postgres) {
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    wait_until("no lock is left", || server.sql(locks) == "0");
    let waiting = "SELECT count(*) FROM resourcelock_session WHERE backend <> 0 AND token = 0";
    assert_eq!(server.sql(waiting), "0");
}

#[cfg(feature = "postgres")]
#[test]
fn library_postgres() {
    let server = Postgres::start();
    handle_conforms(&server.url());
    conforms(engines::open(&server.url()).expect("a good URL"));
    assert_nothing_is_held(&server);
}

#[cfg(feature = "postgres")]
#[test]
fn program_postgres() {
    let server = Postgres::start();
    commands_conform(&server.url(), Clock::True, &|lock, ago| {
        let began = format!("clock_timestamp() - {ago} * interval '1 second'");
        let age = format!("UPDATE resourcelock_done SET began = {began} WHERE name = '{lock}' RETURNING 1");
        assert_eq!(server.sql(&age), "1");
    });
    assert_nothing_is_held(&server);
}

/// By which clock an engine compares times of several hosts.
#[derive(Clone, Copy, PartialEq)]
enum Clock {
    /// One for all.
    True,
    /// Each host's own.
    #[cfg(feature = "etcd")]
    Hosts,
}

fn micros_since_1970() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.expect("it is later").as_micros()).expect("it is no end of time")
}

/// Has the last run that was done under a lock of this machine begun so many seconds ago, by the wall clock: it is told as
/// from another time namespace, as this machine may not have been running that long.
fn age_here(lock: &str, ago: i64) {
    const ONCE_WALL_US: u64 = 280;
    const ONCE_TIME_NAMESPACE: u64 = 292;
    let name = LockName::new(lock).expect("a good name");
    let table = std::fs::OpenOptions::new().write(true).open(name.table_path());
    let table = table.expect("it can be opened");
    let began = micros_since_1970() - ago * 1_000_000;
    let put = |bytes: &[u8], at| std::os::unix::fs::FileExt::write_all_at(&table, bytes, at).expect("it is written");
    put(&began.to_ne_bytes(), ONCE_WALL_US);
    put(&1_u32.to_ne_bytes(), ONCE_TIME_NAMESPACE);
}

/// Checks that of ten hosts whose clocks differ by up to a minute, and whose cron is late by up to 30 s, one does a daily
/// job on each of some days, and another one if it fails or is killed. `age` has the last run that was done begun so many
/// seconds ago: so the days pass, and each host sees what its clock would show it.
fn a_week_conforms(url: &str, clock: Clock, age: &dyn Fn(&str, i64)) {
    const DAY: i64 = 86_400;
    let lock = Lock::new("week");
    let command = |words: &[&str]| {
        let mut command = program(url, &[lock.as_str(), "run", "--once-every", "1d"]);
        if url.contains("://") {
            command.args(["--ttl", "5s"]);
        }
        command.args(words);
        command
    };
    let mut dice = Dice::new(0);
    let mut below = |n: u64| dice.below(n).cast_signed();
    let ahead: Vec<i64> = (0..10).map(|_| below(61)).collect();
    // When the last run that was done began, by the clock that counts.
    let mut last: Option<i64> = None;
    // Of each day: how many fail before one succeeds.
    for (day, fail) in [0, 2, 0, 1].into_iter().enumerate() {
        let day = i64::try_from(day).expect("it is small");
        let mut starts: Vec<(i64, i64)> = ahead
            .iter()
            .map(|ahead| {
                let own = day * DAY + below(31);
                (own - ahead, own)
            })
            .collect();
        starts.sort_unstable();
        let mut failed = 0;
        let mut done = 0;
        for (true_time, own) in starts {
            let now = if clock == Clock::True { true_time } else { own };
            if let Some(last) = last {
                age(lock.as_str(), now - last);
            }
            if done == 0 && failed < fail {
                failed += 1;
                if failed == 1 {
                    let output = command(&["--", "false"]).output().expect("it can be started");
                    assert_eq!(output.status.code(), Some(1), "day {day}: {output:?}");
                } else {
                    killed_in_the_middle(command(&["--", "sh", "-c", "echo $$; exec sleep 1000"]));
                }
                continue;
            }
            let output = command(&["--", "echo", "ran"]).output().expect("it can be started");
            if output.stdout == b"ran\n" {
                done += 1;
                last = Some(now);
                continue;
            }
            assert_eq!(output.status.code(), Some(75), "day {day}: {output:?}");
            assert!(said(&output).contains(": done "), "day {day}: {output:?}");
        }
        assert_eq!((failed, done), (fail, 1), "day {day}");
    }
}

/// Starts it, and kills it (SIGKILL) and the command, which prints its PID, in the middle.
fn killed_in_the_middle(mut command: Command) {
    let mut run = LineChild::spawn(&mut command);
    let pid = run.line();
    run.kill();
    run.wait();
    signal(pid.parse().expect("a PID"), "KILL");
}

/// A lock for one check alone. If it is on this machine, its files are removed on drop.
struct Lock(LockName);

impl Lock {
    fn new(subject: &str) -> Self {
        Self(LockName::new(lock_name(subject)).expect("a good name"))
    }
}

impl std::ops::Deref for Lock {
    type Target = LockName;
    fn deref(&self) -> &LockName {
        &self.0
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = resourcelock::remove(self.0.as_str(), true);
    }
}

fn patient<'a>() -> GetOptions<'a> {
    GetOptions::new().wait(Wait::Forever).queue_at_once(true)
}

fn at_once<'a>() -> GetOptions<'a> {
    GetOptions::new().wait(Wait::No)
}

fn take(engine: &Shared, name: &LockName) -> Guard {
    engine
        .acquire(name, &patient())
        .expect("it answers")
        .expect("it is acquired in the end")
}

/// The state of a lock that somebody has used.
fn state(engine: &Shared, name: &LockName) -> State {
    let state = engine.state(name, &Cancel::new()).expect("it answers");
    state.expect("it was used")
}

fn every<'a>() -> UngetOptions<'a> {
    UngetOptions::new().force(true)
}

fn is_free(engine: &Shared, name: &LockName) -> bool {
    match engine.state(name, &Cancel::new()).expect("it answers") {
        None => true,
        Some(state) => !state.locked && state.holders.is_empty() && state.waiters.is_empty(),
    }
}

fn only_viewed(engine: &Shared) {
    let lock = Lock::new("viewed");
    let nothing = |what: &str| {
        let names = engine.list().expect("it answers").states.into_iter();
        let names: Vec<LockName> = names.map(|state| state.name).collect();
        assert!(!names.contains(&lock), "{what} created it");
    };
    assert!(is_free(engine, &lock));
    nothing("state");
    // It waits for a short time only: on a busy machine it is asked again.
    let peeked = loop {
        match engine.peek(&lock) {
            Err(Error::Unreachable { .. }) => {}
            answered => break answered.expect("it answers"),
        }
    };
    assert!(peeked.is_none_or(|state| !state.locked));
    nothing("peek");
    assert!(!engine.is_held(&lock, 1).expect("it answers"));
    assert!(!engine.break_hold(&lock, every()).expect("it answers"), "nobody has it");
    nothing("break_hold");
    match engine.watch(&lock, &Cancel::new()) {
        Ok(_) => assert!(engine.capabilities().remote),
        Err(error) => assert!(matches!(error, Error::NotFound { .. }), "{error}"),
    }
    nothing("watch");
    match engine.history(&lock) {
        Ok(records) => assert!(engine.capabilities().history && records.is_none()),
        Err(error) => assert!(
            !engine.capabilities().history && matches!(error, Error::Unsupported { .. }),
            "{error}"
        ),
    }
    nothing("history");
}

fn acquired_shown_released(engine: &Shared) {
    let lock = Lock::new("shown");
    assert!(is_free(engine, &lock));
    let options = patient().lock_info("bus scan").command("scanner");
    let held = engine
        .acquire(&lock, &options)
        .expect("it answers")
        .expect("it was free");
    let seen = state(engine, &lock);
    assert!(seen.locked);
    let [holder] = seen.holders.as_slice() else {
        panic!("{seen:?}")
    };
    assert_eq!(
        (holder.token, holder.requester.pid, holder.requester.command.as_deref()),
        (Some(held.token()), Some(std::process::id()), Some("scanner"))
    );
    assert!(seen.note.ends_with("bus scan"), "{}", seen.note);
    assert!(held.validity().is_certain());
    assert_eq!(
        matches!(held.validity(), Validity::Until(_)),
        engine.capabilities().lease
    );
    assert!(held.release().expect("it answers"));
    assert!(is_free(engine, &lock));
}

fn excludes(engine: &Shared) {
    let lock = Lock::new("excludes");
    let held = take(engine, &lock);
    assert!(engine.acquire(&lock, &at_once()).expect("it answers").is_none());
    assert!(state(engine, &lock).waiters.is_empty(), "the refused request has left");
    assert!(held.release().expect("it answers"));
    assert!(engine.acquire(&lock, &at_once()).expect("it answers").is_some());
}

fn deadline(engine: &Shared) {
    let lock = Lock::new("deadline");
    let held = take(engine, &lock);
    let start = Instant::now();
    let wait = GetOptions::new().wait(Wait::For(Duration::from_millis(300)));
    assert!(engine.acquire(&lock, &wait).expect("it answers").is_none());
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(state(engine, &lock).waiters.is_empty());
    assert!(held.release().expect("it answers"));
}

fn cancellation(engine: &Shared) {
    let lock = Lock::new("cancel");
    let held = take(engine, &lock);
    let cancel = Arc::new(Cancel::new());
    let waiting = {
        let (engine, name, cancel) = (engine.clone(), lock.0.clone(), cancel.clone());
        thread::spawn(move || {
            engine
                .acquire(&name, &patient().cancel(&cancel))
                .map(|held| held.is_some())
        })
    };
    wait_until("it waits", || state(engine, &lock).waiters.len() == 1);
    cancel.cancel();
    assert!(matches!(waiting.join().expect("no panic"), Err(Error::Cancelled)));
    wait_until("it has left the queue", || state(engine, &lock).waiters.is_empty());
    assert!(held.release().expect("it answers"));
}

fn order(engine: &Shared) {
    let lock = Lock::new("order");
    let held = take(engine, &lock);
    let turn = Arc::new(AtomicU32::new(0));
    let mut waiting = Vec::new();
    for i in 0..5 {
        let (engine, name, turn) = (engine.clone(), lock.0.clone(), turn.clone());
        let queued = waiting.len();
        wait_until("the others wait", || state(&engine, &name).waiters.len() == queued);
        waiting.push(thread::spawn(move || {
            let command = format!("waiter-{i}");
            let held = engine
                .acquire(&name, &patient().command(&command))
                .expect("it answers")
                .expect("had");
            let turn = turn.fetch_add(1, Ordering::SeqCst);
            assert!(held.release().expect("it answers"));
            turn
        }));
    }
    wait_until("all wait", || state(engine, &lock).waiters.len() == 5);
    let seen = state(engine, &lock);
    let commands: Vec<&str> = seen
        .waiters
        .iter()
        .filter_map(|waiter| waiter.requester.command.as_deref())
        .collect();
    assert_eq!(commands, ["waiter-0", "waiter-1", "waiter-2", "waiter-3", "waiter-4"]);
    assert!(held.release().expect("it answers"));
    let turns: Vec<u32> = waiting
        .into_iter()
        .map(|waiter| waiter.join().expect("no panic"))
        .collect();
    assert_eq!(turns, [0, 1, 2, 3, 4]);
}

fn tells_waiters(engine: &Shared) {
    let lock = Lock::new("tells");
    let held = engine
        .acquire(&lock, &patient().command("the-holder"))
        .expect("it answers")
        .expect("had");
    let told = Mutex::new(None);
    // However late it is told on a busy machine.
    let cancel = Cancel::new();
    let wait = patient().queue_at_once(true).cancel(&cancel);
    let wait = wait.on_wait(Duration::from_millis(100), |state| {
        *told.lock().unwrap() = Some(state.clone());
        cancel.cancel();
    });
    assert!(matches!(engine.acquire(&lock, &wait), Err(Error::Cancelled)));
    let told = told.lock().unwrap().take().expect("it was told");
    assert_eq!(told.holders[0].requester.command.as_deref(), Some("the-holder"));
    assert!(held.release().expect("it answers"));
}

fn tokens_grow(engine: &Shared) {
    let lock = Lock::new("tokens");
    let highest = Arc::new(AtomicU64::new(0));
    let inside = Arc::new(AtomicBool::new(false));
    let workers = (0..3).map(|_| {
        let (engine, name) = (engine.clone(), lock.0.clone());
        let (highest, inside) = (highest.clone(), inside.clone());
        thread::spawn(move || {
            for _ in 0..10 {
                let held = take(&engine, &name);
                assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
                let before = highest.swap(held.token(), Ordering::SeqCst);
                assert!(before < held.token(), "{} after {before}", held.token());
                inside.store(false, Ordering::SeqCst);
                assert!(held.release().expect("it answers"));
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.join().expect("no panic");
    }
}

fn broken(engine: &Shared) {
    let lock = Lock::new("broken");
    assert!(!engine.break_hold(&lock, every()).expect("it answers"), "nobody has it");
    let held = take(engine, &lock);
    let next = {
        let (engine, name) = (engine.clone(), lock.0.clone());
        thread::spawn(move || take(&engine, &name))
    };
    wait_until("it waits", || state(engine, &lock).waiters.len() == 1);
    assert!(engine.break_hold(&lock, every()).expect("it answers"));
    let next = next.join().expect("no panic");
    assert!(next.token() > held.token());
    assert!(!held.release().expect("it answers"), "it was lost before");
    assert_eq!(
        state(engine, &lock).holders.len(),
        1,
        "the next one's hold is untouched"
    );
    assert!(next.release().expect("it answers"));
}

fn broken_by_token(engine: &Shared) {
    let lock = Lock::new("broken-token");
    let held = take(engine, &lock);
    assert!(
        !engine
            .break_hold(&lock, UngetOptions::new().token(held.token() + 1))
            .expect("it answers")
    );
    assert!(state(engine, &lock).locked);
    assert!(
        engine
            .break_hold(&lock, UngetOptions::new().token(held.token()))
            .expect("it answers")
    );
    wait_until("it is free", || is_free(engine, &lock));
    assert!(!held.release().expect("it answers"));
}

fn dropped(engine: &Shared) {
    let lock = Lock::new("dropped");
    drop(take(engine, &lock));
    wait_until("it is free", || is_free(engine, &lock));
}

fn shared(engine: &Shared) {
    let lock = Lock::new("shared");
    let shared = || engine.acquire(&lock, &at_once().mode(Mode::Shared));
    if !engine.capabilities().shared {
        assert!(matches!(shared(), Err(Error::Unsupported { .. })));
        return;
    }
    let one = shared().expect("it answers").expect("free");
    let other = shared().expect("it answers").expect("shared holds coexist");
    assert_eq!(state(engine, &lock).holders.len(), 2);
    assert!(engine.acquire(&lock, &at_once()).expect("it answers").is_none());
    let alone = {
        let (engine, name) = (engine.clone(), lock.0.clone());
        thread::spawn(move || take(&engine, &name))
    };
    wait_until("it waits", || state(engine, &lock).waiters.len() == 1);
    assert!(
        shared().expect("it answers").is_none(),
        "nobody overtakes one who wants to be alone"
    );
    assert!(one.release().expect("it answers"));
    assert_eq!(state(engine, &lock).waiters.len(), 1);
    assert!(other.release().expect("it answers"));
    assert!(alone.join().expect("no panic").release().expect("it answers"));
}

fn slots(engine: &Shared) {
    let lock = Lock::new("slots");
    let slot = |n| engine.acquire(&lock, &at_once().mode(Mode::Slots(n)));
    if !engine.capabilities().slots {
        assert!(matches!(slot(2), Err(Error::Unsupported { .. })));
        return;
    }
    let one = slot(2).expect("it answers").expect("free");
    let other = slot(2).expect("it answers").expect("a second slot");
    assert!(slot(2).expect("it answers").is_none());
    assert!(matches!(slot(3), Err(Error::SlotsDiffer { asked: 3, in_use: 2 })));
    assert!(engine.acquire(&lock, &at_once()).expect("it answers").is_none());
    let third = {
        let (engine, name) = (engine.clone(), lock.0.clone());
        thread::spawn(move || engine.acquire(&name, &patient().mode(Mode::Slots(2))))
    };
    wait_until("it waits", || state(engine, &lock).waiters.len() == 1);
    assert!(one.release().expect("it answers"));
    let third = third.join().expect("no panic").expect("it answers").expect("had");
    assert!(other.release().expect("it answers"));
    assert!(third.release().expect("it answers"));
}

fn detached(engine: &Shared) {
    let lock = Lock::new("detached");
    let leave = |ttl: Option<Duration>| {
        engine.acquire_detached(
            &lock,
            &patient(),
            Detached {
                ttl,
                ..Detached::default()
            },
        )
    };
    if !engine.capabilities().detached {
        assert!(matches!(leave(None), Err(Error::Unsupported { .. })));
        assert!(is_free(engine, &lock));
        return;
    }
    let hold = leave(None).expect("it answers").expect("it is acquired in the end");
    let seen = state(engine, &lock);
    assert!(
        seen.holders
            .iter()
            .any(|holder| holder.token == Some(hold.token) && holder.detached),
        "{seen:?}"
    );
    let token = UngetOptions::new().token(hold.token);
    assert!(engine.break_hold(&lock, token).expect("it answers"));
    let time = Duration::from_secs(600);
    let next = leave(Some(time))
        .expect("it answers")
        .expect("it is acquired in the end");
    assert!(next.token > hold.token);
    let seen = state(engine, &lock);
    let left = seen
        .holders
        .first()
        .and_then(|holder| holder.expires_in)
        .expect("it will end");
    assert!(left > time / 2 && left <= time, "{left:?}");
    assert!(engine.break_hold(&lock, every()).expect("it answers"));
    assert!(is_free(engine, &lock));
}

fn followed(engine: &Shared) {
    let lock = Lock::new("followed");
    drop(take(engine, &lock)); // on this machine, only a lock that exists can be followed
    let mut follow = engine.watch(&lock, &Cancel::new()).expect("it answers");
    let never = Cancel::new();
    // If its server announces nothing, an engine polls: wait for each step.
    let mut told = move |cancel: &Cancel| {
        let change = follow.next(cancel).expect("it answers")?;
        Some(match change {
            Change::Queued(waiter) => ("queued", waiter.requester.pid.map(u64::from)),
            Change::Granted(holder) => ("granted", holder.token),
            Change::Ended(record) => ("ended", record.token),
            other => panic!("{other:?}"),
        })
    };
    let held = take(engine, &lock);
    let first = held.token();
    assert_eq!(told(&never), Some(("granted", Some(first))));
    let next = {
        let (engine, name) = (engine.clone(), lock.0.clone());
        thread::spawn(move || take(&engine, &name))
    };
    assert_eq!(told(&never), Some(("queued", Some(u64::from(std::process::id())))));
    assert!(held.release().expect("it answers"));
    let next = next.join().expect("no panic");
    assert_eq!(told(&never), Some(("ended", Some(first))));
    assert_eq!(told(&never), Some(("granted", Some(next.token()))));
    let second = next.token();
    assert!(next.release().expect("it answers"));
    assert_eq!(told(&never), Some(("ended", Some(second))));
    let cancelled = Cancel::new();
    cancelled.cancel();
    assert_eq!(told(&cancelled), None);
}

fn listed(engine: &Shared) {
    let (one, other) = (Lock::new("listed"), Lock::new("listed"));
    let held = (take(engine, &one), take(engine, &other));
    let names: Vec<LockName> = engine
        .list()
        .expect("it answers")
        .states
        .into_iter()
        .map(|state| state.name)
        .collect();
    assert!(names.contains(&one) && names.contains(&other), "{names:?}");
    assert!(names.is_sorted());
    drop(held);
}

fn odd_texts(engine: &Shared) {
    for name in ["it's 100% \"odd\" \\ ü", "--", "a b", "%s$1;drop table"] {
        let name = LockName::new(format!("{name}-{}", lock_name("odd"))).expect("a good name");
        let lock = Lock(name);
        let text = "it's \"odd\" \\ ü\n; drop table x -- $1";
        let options = patient().lock_info(text).command(text);
        let held = engine.acquire(&lock, &options).expect("it answers").expect("had");
        let seen = state(engine, &lock);
        assert!(seen.note.contains("it's"), "{}", seen.note);
        assert!(!seen.note.contains('\n'));
        assert!(held.release().expect("it answers"));
    }
}
