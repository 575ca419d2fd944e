//! The command line as typed values. Each option's definition in [`super::options`] says how its value gets into its
//! field.

use super::command::Command;
use super::values::{self, Past};
use resourcelock::{Mode, Wait};
use std::ffi::OsString;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

/// The options of every command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Common {
    /// `-q`: no messages.
    pub quiet: bool,
    /// `--syslog`.
    pub syslog: bool,
    /// How often `-v` was given.
    pub verbose: u8,
    /// `--backend`.
    pub backend: Option<String>,
    /// `--owner`, `--group`, `--mode`.
    pub access: Access,
}

/// Whose locks are used, and how new ones are created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// `--owner`: names or numbers.
    pub owners: Vec<String>,
    /// `--group`: a name or a number.
    pub group: Option<String>,
    /// `--mode`: permission bits.
    pub mode: Option<u32>,
}

/// A lock's name as it was typed: it may still have a leading slash, and has only been checked to be UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name(pub String);

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A command with its own options and operands.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// `NAME get`.
    Get(GetArgs),
    /// `NAME unget`.
    Unget(UngetArgs),
    /// `NAME stop`.
    Stop(StopArgs),
    /// `NAME state`.
    State(StateArgs),
    /// `NAME trace`.
    Trace(TraceArgs),
    /// `NAME run`.
    Run(Box<RunArgs>),
    /// `[NAME] history`.
    History(HistoryArgs),
    /// `NAME remove`.
    Remove(RemoveArgs),
    /// `prune`.
    Prune(PruneArgs),
    /// `list`.
    List(ListArgs),
    /// `top`.
    Top,
    /// `doctor`.
    Doctor(DoctorArgs),
    /// `completions`.
    Completions(CompletionsArgs),
}

/// The request for a lock, in `get` and `run`.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// `-t`, `-n`.
    pub wait: Wait,
    /// `-E`.
    pub conflict_exit_code: Option<u8>,
    /// `-s`, `-x`, `-j`.
    pub mode: Mode,
    /// `--same-process-ok`.
    pub same_process_ok: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            wait: Wait::Forever,
            conflict_exit_code: None,
            mode: Mode::Exclusive,
            same_process_ok: false,
        }
    }
}

/// `NAME get`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GetArgs {
    /// The lock.
    pub name: Name,
    /// The request.
    pub request: Request,
    /// `-m`.
    pub message: String,
    /// `-a`.
    pub auto_unget: Option<Duration>,
    /// `--pid`.
    pub pid: Option<u32>,
    /// `--must-unget`.
    pub must_unget: bool,
    /// `--ttl`.
    pub ttl: Option<Duration>,
    /// `--forever`.
    pub forever: bool,
    /// `--json`.
    pub json: bool,
}

/// `NAME unget`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UngetArgs {
    /// The lock.
    pub name: Name,
    /// `-m`.
    pub message: String,
    /// `--pid`.
    pub pid: Option<u32>,
    /// `--token`.
    pub token: Option<u64>,
    /// `--json`.
    pub json: bool,
}

/// `NAME stop`.
#[derive(Debug, Clone, PartialEq)]
pub struct StopArgs {
    /// The lock.
    pub name: Name,
    /// `-t`.
    pub wait: Wait,
    /// `--signal`, as a number.
    pub signal: i32,
    /// `-k`.
    pub kill_after: Option<Duration>,
    /// `--token`.
    pub token: Option<u64>,
}

/// `NAME state`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateArgs {
    /// The lock.
    pub name: Name,
    /// `--mine`.
    pub mine: bool,
    /// `--json`.
    pub json: bool,
}

/// `NAME trace`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceArgs {
    /// The lock.
    pub name: Name,
    /// `-u`.
    pub update: Duration,
    /// `-f`.
    pub follow: bool,
    /// `--json`.
    pub json: bool,
}

/// `NAME run`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunArgs {
    /// The lock.
    pub name: Name,
    /// The request.
    pub request: Request,
    /// `--with`, `--with-shared`: further locks, and how they are held.
    pub with: Vec<(Name, Mode)>,
    /// What to run.
    pub payload: Payload,
    /// `-m`; `None`: the command's name is the note.
    pub message: Option<String>,
    /// `--limit`; 0 is no limit.
    pub limit: Option<Duration>,
    /// `-k`.
    pub kill_after: Option<Duration>,
    /// `--signal`, as a number.
    pub signal: i32,
    /// `--show-args`.
    pub show_args: bool,
    /// `-F`.
    pub no_fork: bool,
    /// `--until`.
    pub until: Until,
    /// `--once-every`.
    pub once_every: Option<Duration>,
    /// `--hold-at-least`.
    pub hold_at_least: Option<Duration>,
    /// `--max-skips`.
    pub max_skips: Option<u32>,
    /// `--replace`.
    pub replace: bool,
    /// `--on-abandoned`.
    pub on_abandoned: OnAbandoned,
    /// `--recover`.
    pub recover: Option<OsString>,
    /// `--ttl`: the length of the lease, on an engine that has leases.
    pub ttl: Option<Duration>,
}

/// What `run` runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// COMMAND and its arguments; never empty once the command line has been parsed.
    Words(Vec<OsString>),
    /// `-c`: one string for the shell.
    Shell(OsString),
}

impl Default for Payload {
    fn default() -> Self {
        Self::Words(Vec::new())
    }
}

/// `--until`: how long `run` holds the lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Until {
    /// Until the command has exited.
    #[default]
    Command,
    /// Until all its descendants have exited, too.
    Tree,
}

/// `--on-abandoned`: what to do if the previous holder died while holding the lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnAbandoned {
    /// Run anyway.
    #[default]
    Run,
    /// Exit with 65.
    Fail,
}

impl RunArgs {
    /// True if `-s SIG` was probably meant as `--signal SIG`, as in timeout(1): worth a hint if the command is not found.
    pub fn meant_signal(&self) -> bool {
        self.request.mode == Mode::Shared
            && matches!(&self.payload, Payload::Words(words)
                if words[0].to_str().is_some_and(|word| values::signal(word).is_ok()))
    }
}

/// `[NAME] history`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryArgs {
    /// The lock; `None` = all.
    pub name: Option<Name>,
    /// `-n`.
    pub last: Option<usize>,
    /// `--since`.
    pub since: Option<Past>,
    /// `--failed`.
    pub failed: bool,
    /// `--svg`.
    pub svg: Option<PathBuf>,
    /// `--html`.
    pub html: Option<PathBuf>,
    /// `--json`.
    pub json: bool,
}

/// `NAME remove`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoveArgs {
    /// The locks, or patterns of their names; never empty.
    pub names: Vec<Name>,
    /// `--force`.
    pub force: bool,
}

/// `prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneArgs {
    /// Names of locks, or patterns; none = all.
    pub patterns: Vec<Name>,
    /// `--idle`.
    pub idle: Duration,
    /// `--dry-run`.
    pub dry_run: bool,
    /// `--json`.
    pub json: bool,
}

/// `list`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListArgs {
    /// `--prometheus`.
    pub prometheus: bool,
    /// `--json`.
    pub json: bool,
}

/// `doctor`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DoctorArgs {
    /// `--fix`.
    pub fix: bool,
    /// `--json`.
    pub json: bool,
}

/// `completions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompletionsArgs {
    /// `bash`, `zsh` or `fish`.
    pub shell: String,
    /// An unfinished command line, without the program's name; the cursor is at the end of the last word. If empty, the
    /// script itself is printed.
    pub words: Vec<OsString>,
}

impl Task {
    /// The lock that the command is for, if it is for one.
    pub fn name(&self) -> Option<&Name> {
        match self {
            Self::Get(args) => Some(&args.name),
            Self::Unget(args) => Some(&args.name),
            Self::Stop(args) => Some(&args.name),
            Self::State(args) => Some(&args.name),
            Self::Trace(args) => Some(&args.name),
            Self::Run(args) => Some(&args.name),
            Self::History(args) => args.name.as_ref(),
            Self::Remove(args) => args.names.first(),
            Self::Prune(_) | Self::List(_) | Self::Top | Self::Doctor(_) | Self::Completions(_) => None,
        }
    }

    /// `command` for the lock `name`, without any options. A command that takes no name ignores it.
    pub(super) fn new(command: Command, name: Option<Name>) -> Self {
        if command == Command::History {
            return Self::History(HistoryArgs {
                name,
                ..HistoryArgs::default()
            });
        }
        let name = name.unwrap_or_default();
        match command {
            Command::Run => Self::Run(Box::new(RunArgs {
                name,
                ..RunArgs::default()
            })),
            Command::Get => Self::Get(GetArgs {
                name,
                ..GetArgs::default()
            }),
            Command::Unget => Self::Unget(UngetArgs {
                name,
                ..UngetArgs::default()
            }),
            Command::Stop => Self::Stop(StopArgs {
                name,
                wait: Wait::Forever,
                signal: 0,
                kill_after: None,
                token: None,
            }),
            Command::State => Self::State(StateArgs {
                name,
                ..StateArgs::default()
            }),
            Command::Trace => Self::Trace(TraceArgs {
                name,
                ..TraceArgs::default()
            }),
            Command::History => Self::History(HistoryArgs::default()),
            Command::Remove => Self::Remove(RemoveArgs {
                names: vec![name],
                ..RemoveArgs::default()
            }),
            Command::Prune => Self::Prune(PruneArgs::default()),
            Command::List => Self::List(ListArgs::default()),
            Command::Top => Self::Top,
            Command::Doctor => Self::Doctor(DoctorArgs::default()),
            Command::Completions => Self::Completions(CompletionsArgs::default()),
        }
    }
}
