//! What the stress starts: the test program itself, as a command under the lock, as a script that acquires and releases
//! it, or as a program that uses the library.

use super::occupancy::{Occupancy, SLOTS, Visitor};
use crate::common::lock::binary;
use crate::common::worker::monotonic;
use crate::common::{Dice, TestLock};
use resourcelock::{Error, GetOptions, Mode, ResourceLock, Wait};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Set in the environment of a step: its [`Task`].
const TASK: &str = "RESOURCELOCK_TEST_STRESS";

/// What to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A command under `run`.
    Command,
    /// The same, but what it leaves behind does the work.
    Parent,
    /// A script: `get --pid`, the work, perhaps `unget --pid`.
    Script,
    /// A script: `get --ttl`, the work, `unget --token`.
    Expiring,
    /// A program that uses the library, several times.
    Library,
}

const ROLES: [Role; 5] = [Role::Command, Role::Parent, Role::Script, Role::Expiring, Role::Library];

/// What to do.
#[derive(Debug, Clone)]
pub struct Task {
    pub role: Role,
    pub name: String,
    pub folder: PathBuf,
    pub mode: Mode,
    pub work: Duration,
    /// For what is decided on the way.
    pub seed: u64,
    /// When it was given: monotonic ns.
    pub since: u64,
}

/// The options of the command line for a mode.
pub fn mode_options(mode: Mode) -> Vec<String> {
    match mode {
        Mode::Exclusive => vec![],
        Mode::Shared => vec!["-s".to_owned()],
        Mode::Slots(n) => vec!["-j".to_owned(), n.to_string()],
    }
}

/// One of the modes, mostly exclusive.
pub fn any_mode(dice: &mut Dice) -> Mode {
    match dice.below(10) {
        0 | 1 => Mode::Shared,
        2 | 3 => Mode::Slots(SLOTS),
        _ => Mode::Exclusive,
    }
}

impl Task {
    /// The command that does it. What it says on standard output is the test harness's.
    pub fn words(&self) -> Vec<String> {
        let program = std::env::current_exe().expect("this program has a path");
        let program = program.to_str().expect("UTF-8").to_owned();
        let rest = ["stress::step::step", "--exact", "--quiet", "--nocapture"];
        std::iter::once(program).chain(rest.map(str::to_owned)).collect()
    }

    /// Puts the task into the command's environment.
    pub fn give_to(&self, command: &mut Command) {
        let role = ROLES.iter().position(|role| *role == self.role);
        let mode = match self.mode {
            Mode::Exclusive => 0,
            Mode::Shared => 1,
            Mode::Slots(_) => 2,
        };
        let task = json!([
            role,
            self.name,
            self.folder,
            mode,
            self.work.as_micros() as u64,
            self.seed,
            self.since
        ]);
        command.env(TASK, task.to_string()).stdout(Stdio::null());
    }

    /// Starts it as a process of its own.
    pub fn command(&self) -> Command {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        self.give_to(&mut command);
        command
    }

    fn parse(text: &str) -> Self {
        let task: Value = serde_json::from_str(text).expect("a task");
        let number = |i: usize| task[i].as_u64().expect("a number");
        let text = |i: usize| task[i].as_str().expect("a text");
        Self {
            role: ROLES[number(0) as usize],
            name: text(1).to_owned(),
            folder: Path::new(text(2)).to_owned(),
            mode: [Mode::Exclusive, Mode::Shared, Mode::Slots(SLOTS)][number(3) as usize],
            work: Duration::from_micros(number(4)),
            seed: number(5),
            since: number(6),
        }
    }

    fn visit(&self, token: u64, ttl: Option<Duration>) {
        let me = Visitor {
            name: self.name.clone(),
            role: format!("{:?}, seed {}", self.role, self.seed),
            mode: self.mode,
            token,
            expires: ttl.map(|ttl| self.since + ttl.as_nanos() as u64),
            detached: matches!(self.role, Role::Expiring | Role::Script),
            since: self.since,
        };
        Occupancy::open(&self.folder).visit(&me, || std::thread::sleep(self.work));
    }

    fn perform(&self) {
        let mut dice = Dice::new(self.seed);
        match self.role {
            Role::Command => {
                let token = std::env::var("RESOURCELOCK_TOKEN").expect("a token");
                self.visit(token.parse().expect("a number"), None);
            }
            Role::Parent => {
                let role = Role::Command;
                let child = Self { role, ..self.clone() }.command().spawn();
                drop(child.expect("it starts"));
            }
            Role::Script => {
                let pid = std::process::id().to_string();
                let wait = format!("{}ms", dice.below(300));
                if let Some(token) = self.get(&["-t", &wait, "--pid", &pid]) {
                    self.visit(token, None);
                    if dice.percent(70) {
                        let _ = self.tool(&["unget", "-q", "--pid", &pid]).status();
                    }
                }
            }
            Role::Expiring => {
                let ttl = Duration::from_millis(100 + dice.below(300));
                let Some(token) = self.get(&["-t", "0.3", "--ttl", &format!("{}ms", ttl.as_millis())]) else {
                    return;
                };
                self.visit(token, Some(ttl));
                let released = self.tool(&["unget", "-q", "--token", &token.to_string()]).status();
                // Since the task was given, since the time of the grant is not known.
                if !released.is_ok_and(|status| status.success()) && monotonic() - self.since < ttl.as_nanos() as u64 {
                    self.lost();
                }
            }
            Role::Library => self.use_library(&mut dice),
        }
    }

    fn tool(&self, words: &[&str]) -> Command {
        let mut command = binary();
        command.arg(&self.name).args(words).env_remove(TASK);
        command
    }

    /// `get`: the token, if it was acquired.
    fn get(&self, options: &[&str]) -> Option<u64> {
        let mut get = self.tool(&["get", "--json"]);
        get.args(options).args(mode_options(self.mode));
        let output = get.stderr(Stdio::inherit()).output().expect("it runs");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if !output.status.success() && output.status.code() != Some(75) {
            eprintln!("get ended with {}", output.status);
            std::process::exit(1);
        }
        answer["token"].as_u64()
    }

    fn lost(&self) {
        let me = json!({ "since": self.since });
        Occupancy::open(&self.folder).note(&json!({ "what": "lost", "at": monotonic(), "me": me }));
    }

    fn use_library(&self, dice: &mut Dice) {
        let Some(lock) = unless_busy(ResourceLock::open(&self.name)) else {
            return;
        };
        for _ in 0..8 {
            let mode = any_mode(dice);
            let wait = match dice.below(4) {
                0 => Wait::No,
                1 => Wait::For(Duration::from_micros(dice.below(3000))),
                _ => Wait::For(Duration::from_millis(300)),
            };
            let options = GetOptions::new().mode(mode).wait(wait).queue_at_once(dice.percent(50));
            let round = Self {
                mode,
                since: monotonic(),
                ..self.clone()
            };
            let Some(guard) = unless_busy(lock.acquire_with(&options)).flatten() else {
                continue;
            };
            round.visit(guard.token(), None);
            if !guard.release().expect("no error") {
                round.lost();
            }
        }
    }
}

/// `None`: a process stands still inside the table, stopped or without a processor.
fn unless_busy<T>(result: resourcelock::Result<T>) -> Option<T> {
    match result {
        Err(Error::Busy { .. } | Error::BeingRemoved { .. }) => None,
        result => Some(result.expect("no other error")),
    }
}

/// As a step: does its task. Else: what steps do, tried out.
#[test]
fn step() {
    if let Ok(task) = std::env::var(TASK) {
        Task::parse(&task).perform();
        return;
    }
    let (lock, folder) = (TestLock::new("stress"), tempfile::tempdir().unwrap());
    for role in ROLES {
        let task = Task {
            role,
            name: lock.name().to_owned(),
            folder: folder.path().to_owned(),
            mode: Mode::Exclusive,
            work: Duration::ZERO,
            seed: 1,
            since: monotonic(),
        };
        let mut command = match role {
            Role::Command | Role::Parent => {
                let mut command = lock.command(&["run", "--until", "tree", "--"]);
                command.args(task.words());
                task.give_to(&mut command);
                command
            }
            _ => task.command(),
        };
        assert!(command.status().unwrap().success(), "{role:?}");
    }
    let verdict = super::verdict::Verdict::of(folder.path());
    assert_eq!(verdict.visits, 4 + 8, "{verdict}");
}
