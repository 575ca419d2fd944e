//! The definitions of the command line: which commands and options there are. What was typed becomes typed values in
//! `args`; what the words' order means is decided in `words`.
//!
//! Each command has a function of its own, so that a run builds no more than the chosen one; [`tree`] puts all of
//! them together for help, completions and the manual page.

mod args;
mod bash_words;
mod complete;
#[cfg(test)]
mod generated;
mod help;
mod parse;
mod quick;
#[cfg(test)]
mod seed_parser;
mod usage;
mod values;
mod words;

pub use args::{
    Common, CompletionsArgs, Create, DoctorArgs, GetArgs, HistoryArgs, ListArgs, OnAbandoned, Payload, RemoveArgs,
    RunArgs, StateArgs, Task, TraceArgs, UngetArgs, Until,
};
pub use bash_words::{meaning as bash_meaning, replacement as bash_replacement};
pub use complete::{Candidate, Offer, offer, typed_name};
pub use parse::{Parsed, parse};

use clap::{Arg, ArgAction, value_parser};
use words::Command;

/// The whole tree. NAME stands before the command, which clap cannot express; it is an operand of the tree's root.
pub fn tree() -> clap::Command {
    let mut root = clap::Command::new("resourcelock")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Named locks between processes: run a command under a lock, see who has it and who waits.")
        .override_usage(help::USAGE)
        .help_template(help::TEMPLATE)
        .after_help(help::EXAMPLES)
        .disable_help_subcommand(true)
        .args(common())
        .arg(Arg::new("NAME").help("The lock, the same word for all who share the resource"));
    for command in Command::ALL {
        root = root.subcommand(definition(command));
    }
    root
}

/// The definitions of one command.
pub fn definition(command: Command) -> clap::Command {
    let (about, examples, args) = match command {
        Command::Run => (
            "Run a command under the lock; give it back whatever way it ends",
            help::RUN,
            run(),
        ),
        Command::Get => ("Take the lock and leave it taken", help::GET, get()),
        Command::Unget => ("Release the lock, whoever has it", help::UNGET, unget()),
        Command::State => ("Show who has the lock and who waits", help::STATE, state()),
        Command::Trace => ("Follow the lock", help::TRACE, trace()),
        Command::History => (
            "Show the last grants, as a table or a picture",
            help::HISTORY,
            history(),
        ),
        Command::Remove => ("Delete an idle lock's objects", help::REMOVE, remove()),
        Command::List => ("List all locks of this machine", help::LIST, list()),
        Command::Doctor => ("Look for what could hurt here", help::DOCTOR, doctor()),
        Command::Completions => (
            "Print a completion script for a shell",
            help::COMPLETIONS,
            completions(),
        ),
    };
    let word = command.word();
    let usage = match command {
        Command::Run => "resourcelock NAME run [OPTIONS] [--] COMMAND [ARG...]".to_owned(),
        Command::Completions => "resourcelock completions SHELL".to_owned(),
        _ if command.wants_name() => format!("resourcelock NAME {word} [OPTIONS]"),
        _ => format!("resourcelock {word} [OPTIONS]"),
    };
    clap::Command::new(word)
        .about(about)
        .override_usage(usage)
        .after_help(examples)
        .args_override_self(true)
        .args(args)
        .args(common())
}

/// All options of all commands, for words that stand before the command.
fn all_options() -> clap::Command {
    let mut all = clap::Command::new("resourcelock").args(common());
    let mut taken = std::collections::HashSet::new();
    for command in Command::ALL {
        for arg in definition(command).get_arguments() {
            if arg.get_long().is_some()
                && !all.get_arguments().any(|other| other.get_id() == arg.get_id())
                && taken.insert(arg.get_id().clone())
            {
                all = all.arg(arg.clone());
            }
        }
    }
    all
}

/// Options of every command.
fn common() -> [Arg; 3] {
    [
        flag("quiet", "No messages").short('q'),
        flag("verbose", "Log on stderr (-vv: in detail; RESOURCELOCK_LOG)")
            .short('v')
            .action(ArgAction::Count),
        value("backend", "URL", "Another engine (RESOURCELOCK_BACKEND)"),
    ]
}

fn flag(long: &'static str, help: &'static str) -> Arg {
    Arg::new(long).long(long).help(help).action(ArgAction::SetTrue)
}

fn value(long: &'static str, name: &'static str, help: &'static str) -> Arg {
    Arg::new(long)
        .long(long)
        .help(help)
        .value_name(name)
        .action(ArgAction::Set)
        .allow_hyphen_values(true)
}

fn json() -> Arg {
    flag("json", "Print JSON (see docs/json.md)")
}

/// The Python tool takes its four options with every command: accepted and ignored where they mean nothing.
fn ignored(long: &'static str, short: char) -> Arg {
    let arg = value(long, "IGNORED", "Ignored").short(short).hide(true);
    if long == "message" {
        arg.value_parser(value_parser!(std::ffi::OsString))
    } else {
        arg.value_parser(values::wait)
    }
}

fn timeout() -> Arg {
    value("get-timeout", "SECS", "Wait: 1.5, 500ms, 2m; 0 = not, -1 = no limit\n")
        .short('t')
        .visible_short_alias('w')
        .visible_aliases(["wait", "timeout"])
        .value_parser(values::wait)
        .overrides_with("nonblock")
}

fn nonblock() -> Arg {
    flag("nonblock", "Do not wait: the same as -t 0")
        .short('n')
        .visible_alias("nb")
        .overrides_with("get-timeout")
}

fn message() -> Arg {
    value("message", "TEXT", "The note: what the lock is taken for")
        .short('m')
        .value_parser(value_parser!(std::ffi::OsString))
}

fn auto_unget() -> Arg {
    value("auto-unget", "SECS", "Keep it for that long, then release it and exit")
        .short('a')
        .value_parser(values::duration)
}

fn update() -> Arg {
    value("update", "SECS", "Print at this interval (default 0.5)")
        .short('u')
        .value_parser(values::duration)
}

/// What `get` and `run` ask for alike.
fn request() -> Vec<Arg> {
    vec![
        timeout(),
        nonblock(),
        value("conflict-exit-code", "N", "Status when not had in time (default 75)")
            .short('E')
            .value_parser(value_parser!(u8)),
        message(),
        flag("shared", "Share the lock with others that share it")
            .short('s')
            .overrides_with_all(["exclusive", "slots"]),
        flag("exclusive", "Have the lock alone (default)")
            .short('x')
            .visible_short_alias('e')
            .overrides_with_all(["shared", "slots"]),
        value("slots", "N", "A counting lock: up to N at once")
            .short('j')
            .value_parser(value_parser!(u32).range(1..))
            .overrides_with_all(["shared", "exclusive"]),
        flag("same-process-ok", "If this job holds it already, go on at once"),
        value("mode", "OCTAL", "Permissions if it is created now: 600, 660").value_parser(values::mode),
        value("group", "NAME", "Group if it is created now"),
    ]
}

fn run() -> Vec<Arg> {
    let mut args = request();
    args.extend([
        value("command", "COMMAND", "One string for the shell, instead of COMMAND")
            .short('c')
            .value_parser(value_parser!(std::ffi::OsString)),
        value("limit", "DUR", "End the command after this time").value_parser(values::duration),
        value("kill-after", "DUR", "Kill it if it runs this much longer")
            .short('k')
            .value_parser(values::duration),
        value("signal", "SIG", "What it is sent at the limit (default TERM)").value_parser(values::signal),
        flag("no-fork", "Execute the command in this process").short('F'),
        value(
            "until",
            "WHAT",
            "When to give back: command (default) or tree,
when all that the command left behind has ended",
        )
        .value_parser(["command", "tree"])
        .hide_possible_values(true),
        flag("replace", "Ask the holder to end, then wait for the turn"),
        value(
            "on-abandoned",
            "WHAT",
            "If the previous holder died: run (default)
or fail (status 65)",
        )
        .value_parser(["run", "fail"])
        .hide_possible_values(true),
        value("recover", "CMD", "If the previous holder died: run CMD first")
            .value_parser(value_parser!(std::ffi::OsString)),
        value("ttl", "DUR", "Engines: the lease (default 10s, at least 5s)").value_parser(values::duration),
        flag("close", "As in flock(1); has no effect").short('o').hide(true),
        Arg::new("COMMAND")
            .help("The command and its arguments; never looked at")
            .num_args(0..)
            .last(true)
            .action(ArgAction::Append)
            .value_parser(value_parser!(std::ffi::OsString)),
    ]);
    args
}

fn get() -> Vec<Arg> {
    let mut args = request();
    args.extend([
        auto_unget(),
        value("pid", "PID", "Hold it for this process, until that ends").value_parser(value_parser!(u32).range(1..)),
        value("ttl", "DUR", "The hold ends after this time").value_parser(values::duration),
        flag("forever", "A hold without a lease (engines with leases)"),
        json(),
    ]);
    args.push(ignored("update", 'u'));
    args
}

fn unget() -> Vec<Arg> {
    let mut args = vec![
        message(),
        value("pid", "PID", "Release only what is held for this process").value_parser(value_parser!(u32).range(1..)),
        value("token", "N", "Release only the hold with this token").value_parser(value_parser!(u64)),
        json(),
    ];
    args.extend([
        ignored("get-timeout", 't'),
        ignored("auto-unget", 'a'),
        ignored("update", 'u'),
    ]);
    args
}

fn state() -> Vec<Arg> {
    let mut args = vec![
        flag("mine", "With -q: 0 only if this job's inherited hold stands"),
        json(),
    ];
    args.extend([
        ignored("get-timeout", 't'),
        ignored("message", 'm'),
        ignored("auto-unget", 'a'),
        ignored("update", 'u'),
    ]);
    args
}

fn trace() -> Vec<Arg> {
    let mut args = vec![
        update(),
        flag("follow", "Print changes only, as they happen").short('f'),
        json(),
    ];
    args.extend([
        ignored("get-timeout", 't'),
        ignored("message", 'm'),
        ignored("auto-unget", 'a'),
    ]);
    args
}

fn history() -> Vec<Arg> {
    vec![
        value("svg", "FILE", "Write a timeline as an SVG picture").value_parser(value_parser!(std::path::PathBuf)),
        value("html", "FILE", "Write a timeline as an HTML page").value_parser(value_parser!(std::path::PathBuf)),
        json(),
    ]
}

fn remove() -> Vec<Arg> {
    vec![flag("force", "Also if it is in use: its holder goes on unprotected")]
}

fn list() -> Vec<Arg> {
    vec![
        flag("prometheus", "Print metrics for node_exporter's textfile collector"),
        json(),
    ]
}

fn doctor() -> Vec<Arg> {
    vec![flag("fix", "Mend what is safe to mend"), json()]
}

fn completions() -> Vec<Arg> {
    vec![
        Arg::new("SHELL")
            .help("bash, zsh or fish")
            .required(true)
            .value_parser(["bash", "zsh", "fish"])
            .hide_possible_values(true),
        // An unfinished command line, for the scripts themselves: what may stand at its end is printed.
        Arg::new("WORD")
            .hide(true)
            .num_args(0..)
            .value_parser(value_parser!(std::ffi::OsString)),
    ]
}
