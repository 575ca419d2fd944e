//! Runs that need two or three locks at once, in random orders and modes, some of them killed: all others finish, and never
//! are two in one lock.

use crate::common::{Dice, LineChild, Witness, binary};
#[cfg(feature = "etcd")]
use crate::engine_common::etcd::{Etcd, Version};
use crate::engine_common::lock_name;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tempfile::TempDir;

const RUNS: u32 = 24;
/// Who starts them, one after the other each.
const HOSTS: u32 = 6;
const LOCKS: usize = 4;

/// Set in the environment of the command under `run`: the witnesses' directory, the locks that it shares, and, if it is to
/// stay inside until it is killed, anything.
const FOLDER: &str = "RESOURCELOCK_TEST_DEADLOCKS";
const SHARED: &str = "RESOURCELOCK_TEST_SHARED";
const STAYS: &str = "RESOURCELOCK_TEST_STAYS";

/// As the command under `run`, visits each of its locks; as a test, makes one such run.
#[test]
fn step() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let (held, shared) = (variable("RESOURCELOCK_HELD"), variable(SHARED));
        let shared: Vec<&str> = shared.split('/').collect();
        // `TOKEN:NAME`, on an engine `TOKEN@PID@HOST:NAME`.
        let of = |hold: &'_ str| -> (String, u64) {
            let (grant, name) = hold.rsplit_once(':').expect("a grant and a name");
            let (token, _) = grant.split_once('@').unwrap_or((grant, ""));
            (name.to_owned(), token.parse().expect("a number"))
        };
        let held: Vec<(String, u64)> = held.split('/').map(of).collect();
        visit(Path::new(&folder), &held, &shared);
        return;
    }
    let storm = Storm::new("local:");
    storm.one(&mut Dice::new(1), Fate::Ends);
    storm.judge(1);
}

/// Enters all of them, one inside the other.
fn visit(folder: &Path, held: &[(String, u64)], shared: &[&str]) {
    let Some(((name, token), others)) = held.split_first() else {
        println!("\ninside"); // the test harness may have left its own line unfinished
        let stays = std::env::var_os(STAYS).is_some();
        std::thread::sleep(std::time::Duration::from_millis(if stays { 1_000_000 } else { 3 }));
        return;
    };
    let witness = Witness::open(&folder.join(name));
    let inside = || visit(folder, others, shared);
    let visit = match shared.contains(&name.as_str()) {
        true => witness.visit_shared(*token, inside),
        false => witness.visit(*token, inside),
    };
    if let Some(wrong) = visit.wrong {
        note(folder, &format!("{name}: {wrong}"));
    }
}

fn note(folder: &Path, wrong: &str) {
    let mut options = std::fs::OpenOptions::new();
    let file = options.append(true).create(true).open(folder.join("wrong"));
    writeln!(file.expect("a file"), "{wrong}").expect("written");
}

/// What becomes of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Ends,
    /// Its command is killed inside.
    CommandKilled,
    /// It and its command are killed, when the command is inside.
    BothKilled,
    /// It is killed after so many ms, wherever it is; if it runs its command by then, that one as well.
    KilledAfter(u64),
}

struct Storm {
    url: String,
    folder: TempDir,
    locks: Vec<String>,
    /// How often each lock was visited by a run that did not share it, and was not killed.
    visits: Vec<AtomicU32>,
}

impl Storm {
    fn new(url: &str) -> Self {
        let storm = Self {
            url: url.to_owned(),
            folder: TempDir::new().expect("a folder"),
            locks: (0..LOCKS).map(|_| lock_name("deadlocks")).collect(),
            visits: (0..LOCKS).map(|_| AtomicU32::new(0)).collect(),
        };
        for lock in &storm.locks {
            std::fs::create_dir(storm.folder.path().join(lock)).expect("a folder");
        }
        storm
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = binary();
        command.args(["--backend", &self.url]).args(words);
        command
    }

    /// One run, from its start to its end.
    fn one(&self, dice: &mut Dice, fate: Fate) {
        let mut order: Vec<usize> = (0..LOCKS).collect();
        for i in (1..LOCKS).rev() {
            order.swap(i, dice.below(i as u64 + 1) as usize);
        }
        order.truncate(2 + dice.below(2) as usize);
        let asked = order.iter().map(|lock| (self.locks[*lock].as_str(), dice.percent(40)));
        let asked: Vec<(&str, bool)> = asked.collect();
        let mut command = self.command(&[asked[0].0, "run"]);
        if self.url.contains("://") {
            command.args(["--ttl", "5s"]);
        }
        if asked[0].1 {
            command.arg("-s");
        }
        for (name, shares) in &asked[1..] {
            command.args([if *shares { "--with-shared" } else { "--with" }, name]);
        }
        let own = std::env::current_exe().expect("this program has a path");
        let script = "echo $$; exec \"$0\" deadlocks::step --exact --quiet --nocapture";
        command.args(["--", "sh", "-c", script]).arg(own);
        let shared = asked.iter().filter(|(_, shares)| *shares);
        let shared: Vec<&str> = shared.map(|(name, _)| *name).collect();
        command.env(FOLDER, self.folder.path()).env(SHARED, shared.join("/"));
        if matches!(fate, Fate::CommandKilled | Fate::BothKilled) {
            command.env(STAYS, "1");
        }
        let mut run = LineChild::spawn(&mut command);
        match fate {
            Fate::Ends => {}
            Fate::CommandKilled | Fate::BothKilled => {
                let pid = run.line();
                run.wait_for_line("inside");
                if fate == Fate::BothKilled {
                    run.kill();
                }
                kill(Pid::from_raw(pid.parse().expect("a PID")), Signal::SIGKILL).expect("it runs");
            }
            Fate::KilledAfter(ms) => {
                std::thread::sleep(std::time::Duration::from_millis(ms));
                run.kill();
                // The command, if it was started, may end by itself in the same instant.
                if let Some(pid) = run.try_line().and_then(|line| line.parse().ok()) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
        }
        let status = run.wait();
        match fate {
            Fate::Ends => {
                assert!(status.success(), "{status}: {command:?}");
                for (lock, (_, shares)) in order.iter().zip(&asked) {
                    self.visits[*lock].fetch_add(u32::from(!shares), Relaxed);
                }
            }
            Fate::CommandKilled => assert_eq!(status.signal(), Some(9), "{status}: {command:?}"),
            Fate::BothKilled => assert_eq!(status.signal(), Some(9), "{status}"),
            Fate::KilledAfter(_) => {}
        }
    }

    /// All of them, by several hosts at once.
    fn all(&self) {
        std::thread::scope(|scope| {
            for host in 0..HOSTS {
                scope.spawn(move || {
                    let mut dice = Dice::new(host.into());
                    for run in (host..RUNS).step_by(HOSTS as usize) {
                        // A lease of one who is killed lasts some seconds: few of them, and all at about the same time.
                        let fate = match run {
                            3 | 10 | 17 => Fate::CommandKilled,
                            7 | 8 => Fate::BothKilled,
                            6 | 11 => Fate::KilledAfter(dice.below(60)),
                            _ => Fate::Ends,
                        };
                        self.one(&mut dice, fate);
                    }
                });
            }
        });
    }

    /// Nobody was in a lock with somebody else, every visit that did not share it and was not killed was counted (the one
    /// of `uncertain` runs that were killed at any time, perhaps), and all locks are free.
    fn judge(&self, runs: u32) {
        let wrong = std::fs::read_to_string(self.folder.path().join("wrong")).unwrap_or_default();
        assert_eq!(wrong, "");
        for (lock, visits) in self.locks.iter().zip(&self.visits) {
            let counted = Witness::open(&self.folder.path().join(lock)).read().value;
            let visits = u64::from(visits.load(Relaxed));
            assert!(
                (visits..=visits + u64::from(runs / 12)).contains(&counted),
                "{counted} of {visits}"
            );
            let free = || {
                let state = self.command(&[lock, "state", "-q"]).status();
                state.expect("it can be started").code() == Some(1)
            };
            crate::engine_common::wait_until("it is free", free);
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        if self.url == "local:" {
            for lock in &self.locks {
                let _ = resourcelock::remove(lock, true);
            }
        }
    }
}

/// Without locks, two in one place are seen, unless both share it.
#[test]
fn two_at_once_are_seen() {
    for (one, other, is_wrong) in [("", "", true), ("a", "", true), ("", "a", true), ("a", "a", false)] {
        let folder = TempDir::new().expect("a folder");
        std::fs::create_dir(folder.path().join("a")).expect("a folder");
        let step = |token: u32, shared: &str| {
            let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
            command.args(["deadlocks::step", "--exact", "--quiet", "--nocapture"]);
            command.env(FOLDER, folder.path()).env(SHARED, shared);
            command.env("RESOURCELOCK_HELD", format!("{token}:a"));
            command
        };
        let mut inside = LineChild::spawn(step(1, one).env(STAYS, "1"));
        inside.wait_for_line("inside");
        assert!(LineChild::spawn(&mut step(2, other)).wait().success());
        assert_eq!(folder.path().join("wrong").exists(), is_wrong, "{one} {other}");
    }
}

fn survives(url: &str) {
    let storm = Storm::new(url);
    storm.all();
    storm.judge(RUNS);
}

#[test]
fn local() {
    survives("local:");
}

#[cfg(feature = "etcd")]
#[test]
fn etcd() {
    for version in Version::ALL {
        survives(&Etcd::of(version, 1).url());
    }
}

#[cfg(feature = "postgres")]
#[test]
fn postgres() {
    survives(&crate::engine_common::postgres::Postgres::shared().url());
}
