//! Whole commands under locks kept by an engine, compared with what users of those engines have today.
//!
//! `cargo bench --features etcd,postgres --bench engines [-- ROUNDS]`. It starts one etcd and one PostgreSQL on
//! loopback (packages etcd-server, etcd-client and postgresql; `scripts/test.sh` installs them). The programs take
//! turns, so that other load on the machine affects them all alike. It only reports; it asserts nothing.

#[path = "../tests/engine_common/mod.rs"]
mod engine_common;

use engine_common::etcd::Etcd;
use engine_common::postgres::Postgres;
use engine_common::{lock_name, wait_until};
use resourcelock::engines::{self, Engine};
use resourcelock::{Cancel, LockName};
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Default number of rounds. A tenth as many are run first, unmeasured, as a warm-up.
const ROUNDS: usize = 200;

/// Waits for a line, then prints the wall clock in ns.
const ON_A_WORD: &str = "read -r _; date +%s%N";
/// Prints the wall clock in ns at once.
const AT_ONCE: &str = "date +%s%N";

/// Returns the command that runs a script under the lock.
type Under<'a> = Box<dyn Fn(&str) -> Command + 'a>;

/// One of the programs compared.
struct Case<'a> {
    shown: &'static str,
    under: Under<'a>,
    /// Shows holders and waiters, if the case needs to see them.
    engine: Option<Box<dyn Engine>>,
    name: &'a LockName,
    /// The target.
    aim: Aim,
    times: Vec<Duration>,
}

enum Aim {
    /// None: only a baseline for the others.
    None,
    /// The median, ms.
    Below(f64),
    /// A fraction of the median of the case with this index.
    Ratio(usize, f64),
}

fn main() {
    let rounds = std::env::args()
        .find_map(|word| word.parse().ok())
        .unwrap_or(ROUNDS)
        .max(1);
    let (etcd, postgres) = (Etcd::one(), Postgres::start());
    let (etcd_url, postgres_url) = (etcd.url(), postgres.url());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    let name = LockName::new(lock_name("bench")).expect("a name");

    let flock = || -> Under<'_> { Box::new(|script| command("flock", &[&file.to_string_lossy(), "sh", "-c", script])) };
    let ours = |url: &str| -> Under<'_> {
        let (url, name) = (url.to_owned(), name.clone());
        Box::new(move |script| {
            let words = ["--backend", &url, name.as_str(), "run", "--", "sh", "-c", script];
            command(env!("CARGO_BIN_EXE_resourcelock"), &words)
        })
    };
    let etcdctl =
        || -> Under<'_> { Box::new(|script| etcd.etcdctl(&["lock", name.as_str(), "--", "sh", "-c", script])) };
    let engine = |url: &str| Some(engines::open(url).expect("the engine is built in"));
    let case = |shown, under, engine, aim| Case {
        shown,
        under,
        engine,
        name: &name,
        aim,
        times: Vec::new(),
    };

    println!(
        "{} · {} CPUs · {rounds} rounds in turn · {} · {}",
        cpu(),
        std::thread::available_parallelism().map_or(0, usize::from),
        first_line("etcd", "--version"),
        postgres.sql("SHOW server_version").trim()
    );
    let mut whole = [
        case("flock FILE", flock(), None, Aim::None),
        case("etcdctl lock NAME", etcdctl(), None, Aim::None),
        case("resourcelock, etcd", ours(&etcd_url), None, Aim::Ratio(1, 0.5)),
        case("resourcelock, PostgreSQL", ours(&postgres_url), None, Aim::Below(10.0)),
    ];
    in_turn(&mut whole, rounds, |case| {
        let mut command = (case.under)("exit 0");
        let start = Instant::now();
        let status = command.stdout(Stdio::null()).status();
        let time = start.elapsed();
        assert!(status.is_ok_and(|status| status.success()), "{command:?}");
        time
    });
    report("the whole of a command that does nothing (sh -c 'exit 0')", &whole);

    let mut handed = [
        case(
            "resourcelock, etcd",
            ours(&etcd_url),
            engine(&etcd_url),
            Aim::Below(10.0),
        ),
        case(
            "resourcelock, PostgreSQL",
            ours(&postgres_url),
            engine(&postgres_url),
            Aim::Below(10.0),
        ),
    ];
    in_turn(&mut handed, rounds, hand_over);
    report(
        "from the end of the holder's command to the start of the next one",
        &handed,
    );
}

fn command(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    command
}

fn in_turn(cases: &mut [Case<'_>], rounds: usize, measure: impl Fn(&Case<'_>) -> Duration) {
    for round in 0..rounds + rounds / 10 {
        for case in &mut *cases {
            let time = measure(case);
            if round >= rounds / 10 {
                case.times.push(time);
            }
        }
    }
}

/// Times a hand-over to a second command that is already waiting.
fn hand_over(case: &Case<'_>) -> Duration {
    let engine = case.engine.as_ref().expect("a case with a queue");
    let state = || {
        engine
            .state(case.name, &Cancel::new())
            .expect("the engine answers")
            .expect("it exists")
    };
    let start = |script: &str, stdin: Stdio| -> Child {
        let mut command = (case.under)(script);
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
    Duration::from_nanos(begun.checked_sub(ended).expect("one after the other"))
}

/// Waits for a command to exit and returns the time that it printed.
fn printed(child: Child) -> u64 {
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    // etcdctl prints the key before it.
    let line = text.lines().last().unwrap_or_default();
    line.parse().unwrap_or_else(|_| panic!("no time in {text:?}"))
}

fn report(what: &str, cases: &[Case<'_>]) {
    println!("\n{what}");
    println!("{:26} {:>9} {:>9} {:>9}  aim", "", "median", "10 %", "90 %");
    for case in cases {
        let ms = |part: f64| part_of(&case.times, part).as_secs_f64() * 1e3;
        let aim = match case.aim {
            Aim::None => String::new(),
            Aim::Below(aim) => format!("<= {aim} ms"),
            Aim::Ratio(other, aim) => {
                let other = &cases[other];
                let ratio = ms(0.5) / (part_of(&other.times, 0.5).as_secs_f64() * 1e3);
                format!("{ratio:.2} (<= {aim:.2}) x {}", other.shown)
            }
        };
        let [median, low, high] = [0.5, 0.1, 0.9].map(|part| format!("{:.2} ms", ms(part)));
        println!("{:26} {median:>9} {low:>9} {high:>9}  {aim}", case.shown);
    }
}

fn part_of(times: &[Duration], part: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

fn first_line(program: &str, option: &str) -> String {
    let output = Command::new(program).arg(option).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The processor's name, for those who read the figures later.
fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": "))
        .map_or("unknown processor", |(_, name)| name)
        .to_owned()
}
