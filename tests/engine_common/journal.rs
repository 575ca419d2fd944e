//! A journal in which commands themselves record when they ran. The tests of faults judge by it.

use super::{signal, wait_until};
use crate::tested;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tempfile::TempDir;

/// What the tests have installed, if they have: the one in the PATH may be a script that looks for it, and takes longer.
fn python() -> String {
    let installed = std::env::var_os("RESOURCELOCK_TEST_PYTHON").map(|path| Path::new(&path).with_file_name("python3"));
    installed.map_or_else(|| "python3".to_owned(), |path| path.display().to_string())
}

/// A command's entries: the times of its first and last signs of life, in ns on CLOCK_BOOTTIME.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    pub token: u64,
    pub pid: u32,
    pub first: u64,
    pub last: u64,
}

/// The file to which commands write, and the engine whose lock they run under.
pub struct Journal {
    folder: TempDir,
    url: String,
    name: String,
    variables: Vec<(String, PathBuf)>,
}

/// A `resourcelock … run` of a command that writes to the journal.
pub struct Run {
    child: Child,
}

impl Journal {
    pub fn new(url: &str, subject: &str) -> Self {
        Self::with(url, subject, &[])
    }

    /// The same, with these variables in the environment of every command.
    pub fn with(url: &str, subject: &str, variables: &[(&str, &Path)]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("resourcelock-journal-")
            .tempdir()
            .expect("a folder");
        std::fs::write(folder.path().join("beats"), "").expect("a file");
        Self {
            folder,
            url: url.to_owned(),
            name: super::lock_name(subject),
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.to_path_buf()))
                .collect(),
        }
    }

    /// A command on the same lock and file, but with another URL.
    pub fn command_by(&self, url: &str, words: &[&str]) -> Command {
        let mut command = self.command(words);
        command.env("RESOURCELOCK_BACKEND", url);
        command
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("beats")
    }

    /// `resourcelock NAME WORD…` for the engine.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = binary(&self.url);
        command.arg(&self.name).args(words);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The command line of a command that writes for `seconds`.
    pub fn beat(&self, seconds: u32, how: &[&str]) -> Vec<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine_common/beat.py");
        let words = [
            python(),
            // No site packages, so that it starts fast.
            "-IS".to_owned(),
            script.display().to_string(),
            self.file().display().to_string(),
            seconds.to_string(),
        ];
        words
            .into_iter()
            .chain(how.iter().map(|word| (*word).to_owned()))
            .collect()
    }

    /// Starts `resourcelock NAME run OPTION… -- beat`.
    pub fn run(&self, options: &[&str], seconds: u32, how: &[&str]) -> Run {
        let mut command = self.command(&["run"]);
        command.args(options).arg("--").args(self.beat(seconds, how));
        Run::start(&mut command)
    }

    /// All intervals, ordered by start.
    pub fn intervals(&self) -> Vec<Interval> {
        let text = std::fs::read_to_string(self.file()).expect("the journal can be read");
        let mut intervals: Vec<Interval> = Vec::new();
        // The last line may be incomplete.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let numbers: Vec<u64> = line.split_whitespace().map(|n| n.parse().expect("a number")).collect();
            let [token, pid, now] = numbers[..] else {
                panic!("{line}")
            };
            let pid = u32::try_from(pid).expect("a process");
            match intervals.iter_mut().rfind(|i| i.token == token && i.pid == pid) {
                Some(interval) => interval.last = now,
                None => intervals.push(Interval {
                    token,
                    pid,
                    first: now,
                    last: now,
                }),
            }
        }
        intervals.sort_by_key(|interval| interval.first);
        intervals
    }

    /// Waits until `count` commands have begun; returns the last one's interval so far.
    pub fn wait_for(&self, count: usize) -> Interval {
        wait_until(&format!("{count} commands have begun"), || {
            self.intervals().len() >= count
        });
        self.intervals()[count - 1]
    }

    /// Lets the command with this token exit by itself.
    pub fn let_end(&self, token: u64) {
        let file = self.folder.path().join(format!("beats.end-{token}"));
        std::fs::write(file, "").expect("a file");
    }

    /// Waits until the command that began last has gone on running for another `ns`.
    pub fn runs_on(&self, ns: u64) {
        let end = boottime() + ns;
        wait_until("the command has gone on", || {
            self.intervals().last().is_some_and(|interval| interval.last > end)
        });
    }

    /// Asserts that no two commands ran at once, tokens grow strictly, and there were `count` commands.
    pub fn judge(&self, count: usize) -> Vec<Interval> {
        let intervals = self.intervals();
        assert_eq!(intervals.len(), count, "{intervals:#?}");
        for pair in intervals.windows(2) {
            assert!(pair[0].last < pair[1].first, "two at once: {pair:#?}");
            assert!(pair[0].token < pair[1].token, "tokens must grow: {pair:#?}");
        }
        intervals
    }

    /// Checks that a request which waits, alone, leaves the queue when it is asked to end.
    pub fn signalled_while_it_waits(&self) {
        let mut waiting = self.run(&[], 0, &[]);
        wait_until("it waits", || self.waiting() == 1);
        waiting.signal("TERM");
        assert_eq!(waiting.wait().signal(), Some(15));
        wait_until("it has left the queue", || self.waiting() == 0);
    }

    /// How many requests wait, according to the engine.
    pub fn waiting(&self) -> usize {
        let output = self.command(&["state", "--json"]).output().expect("it runs");
        let state: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        state["waiters"].as_array().map_or(0, Vec::len)
    }
}

/// `resourcelock --backend URL`, without the environment variables that it would read.
pub fn binary(url: &str) -> Command {
    let mut command = Command::new(tested::program());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("RESOURCELOCK_") || name.starts_with("ETCDCTL_") || name.starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("RESOURCELOCK_BACKEND", url);
    command
}

/// CLOCK_BOOTTIME in ns.
pub fn boottime() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("the clock runs");
    u64::try_from(now.tv_sec()).expect("positive") * 1_000_000_000 + u64::try_from(now.tv_nsec()).expect("positive")
}

impl Run {
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        Self {
            child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits until it exits.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(start.elapsed() < super::patience(), "it does not exit");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_none()
    }

    /// Waits until it exits; returns its exit status.
    pub fn status(&mut self) -> i32 {
        self.wait().code().expect("it exits")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// True if a process is running.
pub fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().next());
    !matches!(state, None | Some("Z" | "X"))
}

/// The guard of a `run`, other than `not`, once it is called so: it names itself, which may be after the command has begun.
pub fn guard(holder: &Run, not: u32) -> u32 {
    let mut found = None;
    wait_until("there is a guard", || {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.id())).expect("it lives");
        let mut children = children.split_whitespace().map(|pid| pid.parse().expect("a number"));
        found = children.find(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name == "lock-guard\n" && runs(*pid) && *pid != not
        });
        found.is_some()
    });
    found.expect("it is there")
}

/// Figures measured in several attempts.
#[derive(Default)]
pub struct Figures(Mutex<BTreeMap<String, Vec<i64>>>);

/// Nanoseconds from `start` to `end`; negative if `end` came first.
pub fn ns_between(start: u64, end: u64) -> i64 {
    end.cast_signed() - start.cast_signed()
}

impl Figures {
    pub fn note(&self, what: &str, ns: i64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(what.to_owned()).or_default().push(ns);
    }
}

impl Drop for Figures {
    /// Prints the lowest, median and highest, for the guide.
    fn drop(&mut self) {
        for (what, times) in self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            times.sort_unstable();
            let [low, middle, high] = [0, times.len() / 2, times.len() - 1].map(|i| times[i] as f64 / 1e9);
            let count = times.len();
            println!("figure: {what}: {low:.3} / {middle:.3} / {high:.3} s ({count} tries)");
        }
    }
}

/// Prints a figure, for the guide.
pub fn figure(what: &str, ns: i64) {
    println!("figure: {what}: {:.3} s", ns as f64 / 1e9);
}
