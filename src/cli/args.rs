//! What the user typed, as typed values. Reads nothing but the matches: no files, no environment.

use super::usage::Usage;
use super::values;
use super::words::Command;
use clap::ArgMatches;
use resourcelock::{Mode, Wait};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// Options of every command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Common {
    /// `-q`: no messages.
    pub quiet: bool,
    /// How often `-v` was given.
    pub verbose: u8,
    /// `--backend`.
    pub backend: Option<String>,
}

/// One command with what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// `NAME get`.
    Get(GetArgs),
    /// `NAME unget`.
    Unget(UngetArgs),
    /// `NAME state`.
    State(StateArgs),
    /// `NAME trace`.
    Trace(TraceArgs),
    /// `NAME run`.
    Run(Box<RunArgs>),
    /// `NAME history`.
    History(HistoryArgs),
    /// `NAME remove`.
    Remove(RemoveArgs),
    /// `list`.
    List(ListArgs),
    /// `doctor`.
    Doctor(DoctorArgs),
    /// `completions`.
    Completions(CompletionsArgs),
}

/// For a lock that is created now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Create {
    /// `--mode`: permission bits.
    pub mode: Option<u32>,
    /// `--group`: a name or a number.
    pub group: Option<String>,
}

/// `NAME get`.
#[derive(Debug, Clone, PartialEq)]
pub struct GetArgs {
    /// The lock.
    pub name: String,
    /// `-t`, `-n`: 0.5 s if neither was given, as in the Python tool.
    pub wait: Wait,
    /// `-E`.
    pub conflict_exit_code: Option<u8>,
    /// `-m`, else `cli` as in the Python tool.
    pub message: String,
    /// `-s`, `-x`, `-j`.
    pub mode: Mode,
    /// `--same-process-ok`.
    pub same_process_ok: bool,
    /// `--mode`, `--group`.
    pub create: Create,
    /// `-a`; 0 counts as not given.
    pub auto_unget: Option<Duration>,
    /// `--pid`.
    pub pid: Option<u32>,
    /// `--ttl`.
    pub ttl: Option<Duration>,
    /// `--forever`.
    pub forever: bool,
    /// `--json`.
    pub json: bool,
}

/// `NAME unget`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UngetArgs {
    /// The lock.
    pub name: String,
    /// `-m`, else `cli` as in the Python tool.
    pub message: String,
    /// `--pid`.
    pub pid: Option<u32>,
    /// `--token`.
    pub token: Option<u64>,
    /// `--json`.
    pub json: bool,
}

/// `NAME state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateArgs {
    /// The lock.
    pub name: String,
    /// `--mine`.
    pub mine: bool,
    /// `--json`.
    pub json: bool,
}

/// `NAME trace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceArgs {
    /// The lock.
    pub name: String,
    /// `-u`: 0.5 s if not given, as in the Python tool.
    pub update: Duration,
    /// `-f`.
    pub follow: bool,
    /// `--json`.
    pub json: bool,
}

/// `NAME run`.
#[derive(Debug, Clone, PartialEq)]
pub struct RunArgs {
    /// The lock.
    pub name: String,
    /// What to run.
    pub payload: Payload,
    /// `-t`, `-n`: no limit if neither was given, as in flock(1).
    pub wait: Wait,
    /// `-E`.
    pub conflict_exit_code: Option<u8>,
    /// `-m`, else the command's name is the note.
    pub message: Option<String>,
    /// `-s`, `-x`, `-j`.
    pub mode: Mode,
    /// `--same-process-ok`.
    pub same_process_ok: bool,
    /// `--mode`, `--group`.
    pub create: Create,
    /// `--limit`; 0 counts as not given.
    pub limit: Option<Duration>,
    /// `-k`.
    pub kill_after: Option<Duration>,
    /// `--signal`, as a number.
    pub signal: Option<i32>,
    /// `-F`.
    pub no_fork: bool,
    /// `--until`.
    pub until: Until,
    /// `--replace`.
    pub replace: bool,
    /// `--on-abandoned`.
    pub on_abandoned: OnAbandoned,
    /// `--recover`.
    pub recover: Option<OsString>,
    /// `--ttl`: the lease's length, on an engine that has leases.
    pub ttl: Option<Duration>,
}

/// What `run` runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// COMMAND and its arguments; never empty.
    Words(Vec<OsString>),
    /// `-c`: one string for the shell.
    Shell(OsString),
}

/// `--until`: how long `run` keeps the lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Until {
    /// Until the command has ended.
    #[default]
    Command,
    /// Until every process that it left behind has ended, too.
    Tree,
}

/// `--on-abandoned`: what to do when the previous holder died holding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnAbandoned {
    /// Run anyway.
    #[default]
    Run,
    /// Fail with 65.
    Fail,
}

impl RunArgs {
    /// Whether somebody probably meant `--signal SIG` by `-s SIG`, as in timeout(1): worth a hint when the command
    /// is not found.
    pub fn meant_signal(&self) -> bool {
        self.mode == Mode::Shared
            && matches!(&self.payload, Payload::Words(words)
                if words[0].to_str().is_some_and(|word| values::signal(word).is_ok()))
    }
}

/// `NAME history`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryArgs {
    /// The lock.
    pub name: String,
    /// `--svg`.
    pub svg: Option<PathBuf>,
    /// `--html`.
    pub html: Option<PathBuf>,
    /// `--json`.
    pub json: bool,
}

/// `NAME remove`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveArgs {
    /// The lock.
    pub name: String,
    /// `--force`.
    pub force: bool,
}

/// `list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListArgs {
    /// `--prometheus`.
    pub prometheus: bool,
    /// `--json`.
    pub json: bool,
}

/// `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoctorArgs {
    /// `--fix`.
    pub fix: bool,
    /// `--json`.
    pub json: bool,
}

/// `completions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionsArgs {
    /// `bash`, `zsh` or `fish`.
    pub shell: String,
    /// An unfinished command line, without the program's name; the cursor is at the end of the last word. Empty: the
    /// script itself is wanted.
    pub words: Vec<OsString>,
}

/// Reads the matches of `command`'s definitions.
pub(super) fn read(command: Command, name: Option<&OsStr>, matches: &mut ArgMatches) -> Result<(Common, Task), Usage> {
    let common = Common {
        quiet: matches.get_flag("quiet"),
        verbose: matches.get_count("verbose"),
        backend: matches.remove_one("backend"),
    };
    let name = || match name.unwrap_or_default().to_str() {
        Some(name) => Ok(name.to_owned()),
        None => Err(Usage::new(command, "a lock's name must be valid UTF-8")),
    };
    let json = |matches: &ArgMatches| matches.get_flag("json");
    let task = match command {
        Command::Get => Task::Get(get(name()?, matches)?),
        Command::Unget => Task::Unget(unget(name()?, matches)?),
        Command::State => Task::State(StateArgs {
            name: name()?,
            mine: matches.get_flag("mine"),
            json: json(matches),
        }),
        Command::Trace => Task::Trace(trace(name()?, matches)?),
        Command::Run => Task::Run(Box::new(run(name()?, matches)?)),
        Command::History => Task::History(HistoryArgs {
            name: name()?,
            svg: matches.remove_one("svg"),
            html: matches.remove_one("html"),
            json: json(matches),
        }),
        Command::Remove => Task::Remove(RemoveArgs {
            name: name()?,
            force: matches.get_flag("force"),
        }),
        Command::List => {
            let (prometheus, json) = (matches.get_flag("prometheus"), json(matches));
            if prometheus && json {
                return Err(Usage::new(
                    command,
                    "--prometheus and --json are two formats: choose one",
                ));
            }
            Task::List(ListArgs { prometheus, json })
        }
        Command::Doctor => Task::Doctor(DoctorArgs {
            fix: matches.get_flag("fix"),
            json: json(matches),
        }),
        Command::Completions => Task::Completions(CompletionsArgs {
            shell: matches.remove_one("SHELL").unwrap_or_default(),
            words: matches.remove_many("WORD").unwrap_or_default().collect(),
        }),
    };
    Ok((common, task))
}

fn get(name: String, matches: &mut ArgMatches) -> Result<GetArgs, Usage> {
    let (ttl, forever) = (matches.remove_one("ttl"), matches.get_flag("forever"));
    if ttl.is_some() && forever {
        return Err(Usage::new(Command::Get, "--forever and --ttl contradict each other"));
    }
    Ok(GetArgs {
        name,
        wait: wait(matches).unwrap_or(Wait::For(Duration::from_millis(500))),
        conflict_exit_code: matches.remove_one("conflict-exit-code"),
        message: text(matches, "message").unwrap_or_else(|| "cli".to_owned()),
        mode: mode(matches),
        same_process_ok: matches.get_flag("same-process-ok"),
        create: create(matches),
        auto_unget: non_zero(matches, "auto-unget"),
        pid: matches.remove_one("pid"),
        ttl,
        forever,
        json: matches.get_flag("json"),
    })
}

fn unget(name: String, matches: &mut ArgMatches) -> Result<UngetArgs, Usage> {
    let (pid, token) = (matches.remove_one("pid"), matches.remove_one("token"));
    if pid.is_some() && token.is_some() {
        return Err(Usage::new(
            Command::Unget,
            "--pid and --token name a hold in two ways: choose one",
        ));
    }
    Ok(UngetArgs {
        name,
        message: text(matches, "message").unwrap_or_else(|| "cli".to_owned()),
        pid,
        token,
        json: matches.get_flag("json"),
    })
}

fn trace(name: String, matches: &mut ArgMatches) -> Result<TraceArgs, Usage> {
    let update = matches.remove_one("update");
    let follow = matches.get_flag("follow");
    if update.is_some() && follow {
        return Err(Usage::new(
            Command::Trace,
            "-f prints changes as they happen, -u at an interval: choose one",
        ));
    }
    Ok(TraceArgs {
        name,
        update: update.unwrap_or(Duration::from_millis(500)),
        follow,
        json: matches.get_flag("json"),
    })
}

fn run(name: String, matches: &mut ArgMatches) -> Result<RunArgs, Usage> {
    let refuse = |what: &str| Err(Usage::new(Command::Run, what));
    let words: Vec<OsString> = matches.remove_many("COMMAND").unwrap_or_default().collect();
    let payload = match (matches.remove_one("command"), words.is_empty()) {
        (Some(shell), true) => Payload::Shell(shell),
        (None, false) => Payload::Words(words),
        (Some(_), false) => return refuse("either -c or COMMAND, not both"),
        (None, true) => return refuse("which command? resourcelock NAME run [--] COMMAND [ARG...]"),
    };
    let given = |id: &str| matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
    let no_fork = matches.get_flag("no-fork");
    if no_fork
        && let Some(id) = ["limit", "kill-after", "signal", "until"]
            .into_iter()
            .find(|id| given(id))
    {
        return refuse(&format!("-F leaves nobody who could see to --{id}: choose one"));
    }
    if !given("limit")
        && let Some(id) = ["kill-after", "signal"].into_iter().find(|id| given(id))
    {
        return refuse(&format!(
            "--{id} says how --limit ends the command: give --limit as well"
        ));
    }
    let wait = wait(matches).unwrap_or(Wait::Forever);
    let replace = matches.get_flag("replace");
    if replace && wait == Wait::No {
        return refuse("--replace waits until the holder has ended: not together with -n");
    }
    let chosen = |id: &str| matches.get_one::<String>(id).map(String::as_str);
    let until = match chosen("until") {
        Some("tree") => Until::Tree,
        _ => Until::Command,
    };
    let on_abandoned = match chosen("on-abandoned") {
        Some("fail") => OnAbandoned::Fail,
        _ => OnAbandoned::Run,
    };
    Ok(RunArgs {
        name,
        payload,
        wait,
        conflict_exit_code: matches.remove_one("conflict-exit-code"),
        message: text(matches, "message"),
        mode: mode(matches),
        same_process_ok: matches.get_flag("same-process-ok"),
        create: create(matches),
        limit: non_zero(matches, "limit"),
        kill_after: matches.remove_one("kill-after"),
        signal: matches.remove_one("signal"),
        no_fork,
        until,
        replace,
        on_abandoned,
        recover: matches.remove_one("recover"),
        ttl: matches.remove_one("ttl"),
    })
}

/// `-t` or `-n`, whichever came last.
fn wait(matches: &mut ArgMatches) -> Option<Wait> {
    if matches.get_flag("nonblock") {
        return Some(Wait::No);
    }
    matches.remove_one("get-timeout")
}

fn mode(matches: &mut ArgMatches) -> Mode {
    match matches.remove_one("slots") {
        Some(slots) => Mode::Slots(slots),
        None if matches.get_flag("shared") => Mode::Shared,
        None => Mode::Exclusive,
    }
}

fn create(matches: &mut ArgMatches) -> Create {
    Create {
        mode: matches.remove_one("mode"),
        group: matches.remove_one("group"),
    }
}

/// Free text. Bytes that are not UTF-8 become replacement characters: a note is for reading.
fn text(matches: &mut ArgMatches, id: &str) -> Option<String> {
    matches
        .remove_one::<OsString>(id)
        .map(|text| text.to_string_lossy().into_owned())
}

/// A time of which 0 means none.
fn non_zero(matches: &mut ArgMatches, id: &str) -> Option<Duration> {
    matches.remove_one::<Duration>(id).filter(|time| !time.is_zero())
}
