//! Whole commands under locks kept by an engine, compared with what users of those engines have today. It starts one etcd
//! and one PostgreSQL on loopback.

use crate::contenders::Place;
use crate::engine_common::etcd::Etcd;
use crate::engine_common::postgres::{Postgres, psql};
use crate::figures::{Report, Target};
use crate::programs::wait_until;
use resourcelock::engines::{self, Engine};
use resourcelock::{Cancel, LockName};
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Waits for a line, then prints the wall clock in ns.
const ON_A_WORD: &str = "read -r _; date +%s%N";
/// Prints the wall clock in ns at once.
const AT_ONCE: &str = "date +%s%N";

/// Returns the command that runs these words under the lock.
type Under<'a> = Box<dyn Fn(&[&str]) -> Command + 'a>;

pub fn measure(place: &Place, report: &mut Report) {
    let (etcd, postgres) = (Etcd::one(), Postgres::start());
    let (etcd_url, postgres_url) = (etcd.url(), postgres.url());
    let name = LockName::new(place.name.clone()).expect("a name");
    let file = place.file.to_string_lossy();
    let program = std::env::var("RESOURCELOCK_BENCH_ENGINES");
    let program = &*program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_resourcelock").to_owned());
    let ours = |url: &str| -> Under<'_> {
        let url = url.to_owned();
        let name = name.as_str();
        Box::new(move |words| {
            let lock = ["--backend", &url, name, "run", "--"];
            command(program, &[&lock, words].concat())
        })
    };
    let flock: Under<'_> = Box::new(|words| command("flock", &[&[&*file], words].concat()));
    let etcdctl: Under<'_> = Box::new(|words| etcd.etcdctl(&[&["lock", name.as_str(), "--"], words].concat()));
    let client: Under<'_> = Box::new(|_| {
        let mut psql = psql();
        psql.args(["-X", "-q", "-c", "SELECT pg_advisory_lock(1)", &postgres_url]);
        psql
    });
    let cases = [flock, etcdctl, ours(&etcd_url), ours(&postgres_url), client];
    let mut times = [const { Vec::new() }; 5];
    let rounds = report.times(200);
    for round in 0..rounds + rounds / 10 {
        for (under, times) in cases.iter().zip(&mut times) {
            let mut command = under(&["true"]);
            command.stdout(Stdio::null());
            let start = Instant::now();
            let status = command.status();
            let time = start.elapsed().as_secs_f64() * 1e3;
            assert!(status.is_ok_and(|status| status.success()), "{command:?}");
            if round >= rounds / 10 {
                times.push(time);
            }
        }
    }
    let [by_flock, by_etcdctl, by_etcd, by_postgres, by_psql] = &times;
    report.compare(
        "run -- true on etcd",
        "ms",
        by_etcd,
        ("etcdctl lock", by_etcdctl),
        Target::RatioAtMost(0.3),
    );
    report.compare(
        "run -- true on PostgreSQL",
        "ms",
        by_postgres,
        ("flock(1) locally", by_flock),
        Target::RatioAtMost(2.5),
    );
    report.compare(
        "run -- true on etcd",
        "ms",
        by_etcd,
        ("flock(1) locally", by_flock),
        Target::None,
    );
    report.compare(
        "run -- true on PostgreSQL",
        "ms",
        by_postgres,
        ("psql, which only asks for an advisory lock", by_psql),
        Target::None,
    );
    for (what, url) in [("etcd", &etcd_url), ("PostgreSQL", &postgres_url)] {
        let engine = engines::open(url).expect("the engine is built in");
        let under = ours(url);
        let times: Vec<f64> = (0..report.times(60))
            .map(|_| hand_over(&*engine, &name, &under))
            .collect();
        let what = format!("hand-over on {what}, from the end of a command to the next one's start");
        report.alone(&what, "ms", crate::figures::median(&times), Target::AtMost(5.0));
    }
}

fn command(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    command
}

/// Times a hand-over to a second command that is already waiting, ms.
fn hand_over(engine: &dyn Engine, name: &LockName, under: &Under<'_>) -> f64 {
    let state = || {
        engine
            .state(name, &Cancel::new())
            .expect("the engine answers")
            .expect("it exists")
    };
    let start = |script: &str, stdin: Stdio| -> Child {
        let mut command = under(&["sh", "-c", script]);
        let child = command.stdin(stdin).stdout(Stdio::piped()).spawn();
        child.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    };
    let mut first = start(ON_A_WORD, Stdio::piped());
    let mut word = first.stdin.take().expect("a pipe");
    wait_until("the first one has the lock", || state().holders.len() == 1);
    let second = start(AT_ONCE, Stdio::null());
    wait_until("the second one waits", || state().waiters.len() == 1);
    word.write_all(b"\n").expect("the command reads");
    let (ended, begun) = (printed(first), printed(second));
    begun.checked_sub(ended).expect("one after the other") as f64 / 1e6
}

/// Waits for a command to exit and returns the time that it printed.
fn printed(child: Child) -> u64 {
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("no time in {text:?}"))
}
