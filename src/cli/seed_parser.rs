//! Compares random command lines with the Python tool's own parser: what it accepts, we accept, with the same meaning.

use super::{GetArgs, Invocation, Parsed, Task, TraceArgs, UngetArgs, parse};
use resourcelock::Wait;
use serde_json::Value;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const LINES: usize = 60_000;

/// Names and other operands, including what could be mistaken for options, numbers or commands.
const NAMES: &[&str] = &[
    "bus",
    "/bus",
    "a b",
    "get",
    "unget",
    "state",
    "trace",
    "run",
    "list",
    "doctor",
    "completions",
    "history",
    "remove",
    "/list",
    "/get",
    "-1",
    "-.5",
    "-",
    "-x y",
    "-E 5",
    "--foo bar",
    "--mode x",
    "-z",
    "x=y",
    "",
    "größe",
    "5",
    "--",
    "-a b",
    "-n",
];
const COMMANDS: &[&str] = &["get", "unget", "state", "trace"];
/// Times that both accept; below, times that only Python accepts, and then what nobody does.
const TIMES: &[&str] = &[
    "5", "0", "-1", "0.5", ".5", "5.", "1e1", "1_0", " 2 ", "+3", "-0.0", "-1.0", "1e30",
];
const BAD_TIMES: &[&str] = &["nan", "inf", "-5", "-0.5", "-2.0", "Infinity", "1e999", "-inf", "-1e3"];
const NO_TIMES: &[&str] = &["x", "", "5x", "1__0", "_1", "1 0"];
const TEXTS: &[&str] = &[
    "note",
    "",
    "a b",
    "-x y",
    "-1",
    "--foo bar",
    "x=y",
    "=",
    "-",
    "-c foo",
    "--recover=a b",
    "-t 5",
];
const TIME_OPTIONS: &[(&str, &str)] = &[("t", "get-timeout"), ("a", "auto-unget"), ("u", "update")];
/// Words of any kind, thrown in.
const NOISE: &[&str] = &[
    "-v",
    "-vv",
    "-vvv",
    "--verbose",
    "--verb",
    "--ver",
    "--v",
    "-h",
    "--help",
    "--h",
    "--he",
    "-V",
    "--version",
    "--vers",
    "-vh",
    "-hv",
    "-Vv",
    "--",
    "-t",
    "-m",
    "--m",
    "--get",
    "-va",
    "-x",
    "-n",
    "--nonblock",
    "--mode",
    "--verbose=1",
    "-v=1",
    "-v1",
    "-q",
    "-vt5",
    "-vm",
    "-vmx",
    "-vt=5",
    "extra",
    "--unknown",
    "-t5",
    "-mnote",
    "-m-x",
    "-u.5",
];

#[test]
fn every_line_of_the_python_tool_means_the_same_here() {
    let mut random = Random(0x5EED);
    let lines: Vec<Vec<String>> = (0..LINES).map(|_| random.line()).collect();
    let answers = python_answers(&lines);
    let pairs: Vec<_> = lines.iter().zip(&answers).collect();
    let taken: usize = std::thread::scope(|scope| {
        let halves: Vec<_> = pairs
            .chunks(LINES / 2)
            .map(|half| scope.spawn(|| compare_all(half)))
            .collect();
        halves.into_iter().map(|half| half.join().expect("both agree")).sum()
    });
    println!("{taken} of {LINES} random lines were taken by both");
    assert!(taken > LINES / 4, "only {taken} lines of {LINES} tried anything");
}

/// Returns how many lines Python accepts; every one of them must mean the same here.
fn compare_all(pairs: &[(&Vec<String>, &Value)]) -> usize {
    let mut taken = 0;
    for (line, answer) in pairs {
        if *answer == "error" || is_exception(line, answer) {
            continue;
        }
        taken += 1;
        let ours = parse(line.iter().map(OsString::from));
        if let Err(difference) = compare(answer, &ours) {
            panic!("{line:?}: {difference}; Python: {answer}; here: {ours:?}");
        }
    }
    taken
}

/// The exceptions that docs/from-python.md names, and one where Python's releases differ from each other.
fn is_exception(line: &[String], answer: &Value) -> bool {
    let bad_time = |word: &String| BAD_TIMES.iter().any(|bad| word.ends_with(bad));
    // -vt=5: "=5" up to Python 3.11, "5" since.
    let bundled_equals = |word: &String| word.starts_with("-v") && word.contains('=');
    // An error here, since nothing would be released.
    let no_time = answer["Command"] == "get" && matches!(answer["auto_unget"].as_str(), Some("0.0" | "-0.0"));
    answer["LockName"] == "help" || no_time || line.iter().any(bad_time) || line.iter().any(bundled_equals)
}

fn compare(python: &Value, ours: &Result<Parsed, super::usage::Usage>) -> Result<(), String> {
    let (common, task) = match (python.as_str(), ours) {
        (Some("help" | "version"), Ok(Parsed::Text(text))) => {
            let is_version = text.to_string().lines().count() == 1;
            return same("what is printed", &is_version, &(python == "version"));
        }
        (None, Ok(Parsed::Invocation(Invocation { common, task, .. }))) => (common, task),
        _ => return Err("only one of both takes it".to_owned()),
    };
    same(
        "-v",
        &u64::from(common.verbose),
        &python["verbose"].as_u64().unwrap_or(0),
    )?;
    let text = |key: &str| python[key].as_str().unwrap_or_default().to_owned();
    let time = |key: &str| python[key].as_str().map(|time| time.parse::<f64>().expect("a float"));
    let (name, command) = match task {
        Task::Get(GetArgs {
            name,
            request,
            message,
            auto_unget,
            ..
        }) => {
            same(
                "-t",
                &request.wait,
                &expected_wait(time("get_timeout").expect("it has a default")),
            )?;
            same("-m", message, &text("message"))?;
            same("-a", auto_unget, &time("auto_unget").map(expected_time))?;
            (name, "get")
        }
        Task::Unget(UngetArgs { name, message, .. }) => {
            same("-m", message, &text("message"))?;
            (name, "unget")
        }
        Task::State(args) => (&args.name, "state"),
        Task::Trace(TraceArgs { name, update, .. }) => {
            same("-u", update, &expected_time(time("update").expect("it has a default")))?;
            (name, "trace")
        }
        other => return Err(format!("it became {other:?}")),
    };
    same("NAME", &name.0, &text("LockName"))?;
    same("COMMAND", &command, &python["Command"].as_str().unwrap_or_default())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: &T, python: &T) -> Result<(), String> {
    if ours == python {
        Ok(())
    } else {
        Err(format!("{what} is {ours:?}, not {python:?}"))
    }
}

fn expected_wait(seconds: f64) -> Wait {
    match seconds {
        -1.0 => Wait::Forever,
        0.0 => Wait::No,
        long if long > 1e9 => Wait::Forever,
        seconds => Wait::For(Duration::from_secs_f64(seconds)),
    }
}

/// More than three hundred years count as three hundred years.
fn expected_time(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.min(1e10))
}

fn python_answers(lines: &[Vec<String>]) -> Vec<Value> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python =
        std::env::var_os("RESOURCELOCK_TEST_PYTHON").map_or_else(|| directory.join(".venv/bin/python"), PathBuf::from);
    assert!(
        python.exists(),
        "{} does not exist: run scripts/test.sh once, or let RESOURCELOCK_TEST_PYTHON name a Python that has cjnfuncs",
        python.display()
    );
    let mut child = Command::new(python)
        .arg(directory.join("tests/common/parser.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut input = child.stdin.take().expect("its input is connected");
    let text: String = lines
        .iter()
        .map(|line| format!("{}\n", serde_json::json!(line)))
        .collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("Python ends");
    writer.join().expect("the writer ends").expect("Python reads all lines");
    assert!(output.status.success(), "Python ended with {}", output.status);
    let answers: Vec<Value> = String::from_utf8(output.stdout)
        .expect("JSON is UTF-8")
        .lines()
        .map(|answer| serde_json::from_str(answer).expect("an answer"))
        .collect();
    assert_eq!(answers.len(), lines.len());
    answers
}

/// xorshift64*: the same lines in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap_or_default() % limit
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// A command line: two words, up to four options anywhere, now and then something else or something missing.
    fn line(&mut self) -> Vec<String> {
        let name = if self.once_in(3) { "bus" } else { self.one(NAMES) };
        let among = if self.once_in(20) { NAMES } else { COMMANDS };
        let command = self.one(among);
        let mut groups: Vec<Vec<String>> = Vec::new();
        for _ in 0..self.below(5) {
            groups.push(self.option(command));
        }
        let first = self.below(groups.len() + 1);
        groups.insert(first, vec![name.to_owned()]);
        let second = first + 1 + self.below(groups.len() - first);
        groups.insert(second, vec![command.to_owned()]);
        if self.once_in(4) {
            let noise = self.one(NOISE).to_owned();
            groups.insert(self.below(groups.len() + 1), vec![noise]);
        }
        if self.once_in(15) {
            groups.remove(self.below(groups.len()));
        }
        groups.concat()
    }

    fn option(&mut self, command: &str) -> Vec<String> {
        if self.once_in(4) {
            return vec![self.one(&["-v", "--verbose", "--verb", "-vv", "--verbo"]).to_owned()];
        }
        let (letter, long, value) = if self.once_in(3) {
            ("m", "message", self.one(TEXTS))
        } else {
            let (letter, long) = TIME_OPTIONS[self.below(TIME_OPTIONS.len())];
            let value = match self.below(24) {
                0 => self.one(BAD_TIMES),
                1 => self.one(NO_TIMES),
                _ => self.one(TIMES),
            };
            // The Python tool accepts such a line, and then fails to sleep for that time; refused here.
            let fails_later = value.starts_with("-1") && matches!((command, letter), ("get", "a") | ("trace", "u"));
            let value = if fails_later { "1" } else { value };
            (letter, long, value)
        };
        let abbreviated = &long[..1 + self.below(long.len())];
        match self.below(8) {
            0 | 1 => vec![format!("-{letter}"), value.to_owned()],
            2 => vec![format!("-{letter}{value}")],
            3 => vec![format!("-{letter}={value}")],
            4 => vec![format!("-v{letter}{value}")],
            5 => vec![format!("-v{letter}"), value.to_owned()],
            6 => vec![format!("--{abbreviated}"), value.to_owned()],
            _ => vec![format!("--{abbreviated}={value}")],
        }
    }
}
