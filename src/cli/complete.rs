//! What may stand at the cursor of an unfinished command line. Pure: which locks, files, groups there are is asked by
//! the caller.
//!
//! The word at the cursor is replaced by a marker and the line is read as any other: where the marker ends up says
//! what is wanted there. So completion knows the order of words, abbreviations and option values from the one place
//! that knows them.

use super::values;
use super::words::{self, Arranged, Command, Disorder};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What may stand at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// Nothing that could be known.
    Nothing,
    /// The name of a lock, or one of the words of their own.
    Locks(Vec<Candidate>),
    /// One of these.
    Words(Vec<Candidate>),
    /// From this word on (the first is 0) it is another program's command line.
    CommandLine(usize),
    /// The name of a program.
    Program,
    /// A file.
    File,
    /// A group of users.
    Group,
    /// A process id.
    Process,
}

/// A word that may stand at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The whole word, unquoted.
    pub word: String,
    /// What it means.
    pub about: String,
}

impl Candidate {
    /// A word and what it means.
    pub fn new(word: impl Into<String>, about: impl Into<String>) -> Self {
        Self {
            word: word.into(),
            about: about.into(),
        }
    }
}

/// A word that nobody types: where it ends up is where the cursor is.
const MARK: &str = "\u{1}";
/// The same where an option is being typed.
const OPTION_MARK: &str = "-\u{1}";

/// What may stand at the cursor, which is at the end of the last of `words` (without the program's own name).
pub fn offer(words: &[OsString]) -> Offer {
    let Some((current, before)) = words.split_last() else {
        return Offer::Nothing;
    };
    let arranged = |mark: OsString| {
        let line = before.iter().cloned().chain([mark]);
        words::arrange(line, super::parse::options)
    };
    if let Some(value) = attached_value(current) {
        // Attached to its option: `--until=`. The offered words contain the option, since they replace all of it.
        let mut mark = value.option.clone();
        mark.push(MARK);
        return match arranged(mark) {
            Ok(Arranged::Line { command, options, .. }) => wanted_value(command, &options, &value.option),
            _ => Offer::Nothing,
        };
    }
    let mark = if current.as_bytes().first() == Some(&b'-') {
        OPTION_MARK
    } else {
        MARK
    };
    let is_mark = |word: &OsStr| word == mark;
    match arranged(mark.into()) {
        Err(Disorder::CommandMissing(name)) if is_mark(&name) => first_word(current, before),
        Err(Disorder::UnknownCommand { word, .. }) if is_mark(&word) => Offer::Words(commands(true)),
        Err(Disorder::UnknownHelp(word)) if is_mark(&word) => Offer::Words(commands(false)),
        Err(Disorder::UnknownOption(word)) if is_mark(&word) => Offer::Words(options(None, current)),
        Ok(Arranged::Line {
            command,
            options: typed,
            operands,
            ..
        }) => {
            if typed.iter().any(|option| is_mark(option)) {
                return Offer::Words(options(Some(command), current));
            }
            if operands.iter().any(|operand| is_mark(operand)) {
                return operand(command, &typed, words.len() - operands.len(), operands.len(), current);
            }
            wanted_value(command, &typed, OsStr::new(""))
        }
        _ => Offer::Nothing,
    }
}

/// `--long=` at the head of a word.
struct Attached {
    option: OsString,
}

fn attached_value(word: &OsStr) -> Option<Attached> {
    let bytes = word.as_bytes();
    let equals = bytes.iter().position(|&byte| byte == b'=')?;
    bytes.starts_with(b"--").then(|| Attached {
        option: OsStr::from_bytes(&bytes[..=equals]).to_owned(),
    })
}

/// The first word: a lock or a word of its own. Locks of other engines are not asked for: that could take long.
fn first_word(current: &OsStr, before: &[OsString]) -> Offer {
    if before.iter().any(|word| word.as_bytes().starts_with(b"--ba")) {
        return Offer::Nothing;
    }
    let own = if current.as_bytes().starts_with(b"/") {
        Vec::new()
    } else {
        let own = commands(false)
            .into_iter()
            .filter(|candidate| is_own_word(&candidate.word));
        own.chain([Candidate::new("help", "Help for a command")]).collect()
    };
    Offer::Locks(own)
}

/// How a lock's name is typed: with a slash where it would be taken for something else, and where the user began so.
pub fn typed_name(name: &str, current: &OsStr) -> String {
    let slash = current.as_bytes().starts_with(b"/") || is_own_word(name) || name == "help" || name.starts_with('-');
    if slash { format!("/{name}") } else { name.to_owned() }
}

fn is_own_word(word: &str) -> bool {
    Command::ALL
        .into_iter()
        .any(|command| !command.wants_name() && command.word() == word)
}

/// The command words; only those that a lock's name precedes, or all.
fn commands(for_locks: bool) -> Vec<Candidate> {
    Command::ALL
        .into_iter()
        .filter(|command| command.wants_name() || !for_locks)
        .map(|command| {
            let about = super::definition(command).get_about().map(ToString::to_string);
            Candidate::new(command.word(), about.unwrap_or_default())
        })
        .collect()
}

/// A word behind the command that is no option. `first` is the place of the command's first operand.
fn operand(command: Command, typed: &[OsString], first: usize, count: usize, current: &OsStr) -> Offer {
    match command {
        Command::Run if !typed.iter().any(|option| option.as_bytes().starts_with(b"--command=")) => {
            Offer::CommandLine(first)
        }
        Command::Completions if count == 1 => {
            Offer::Words(["bash", "zsh", "fish"].map(|shell| Candidate::new(shell, "")).to_vec())
        }
        // Nothing but options can follow: show them at once.
        _ if current.is_empty() => Offer::Words(options(Some(command), current)),
        _ => Offer::Nothing,
    }
}

/// All spellings of the options of a command, or of all commands, that begin like `current`.
fn options(command: Option<Command>, current: &OsStr) -> Vec<Candidate> {
    let definition = match command {
        Some(command) => super::definition(command),
        None => super::all_options(),
    };
    let mut candidates = Vec::new();
    let mut add = |shorts: &[char], longs: &[&str], about: &str| {
        let shorts = shorts.iter().map(|letter| format!("-{letter}"));
        let longs = longs.iter().map(|long| format!("--{long}"));
        for word in shorts.chain(longs) {
            if word.as_bytes().starts_with(current.as_bytes()) {
                candidates.push(Candidate::new(word, about));
            }
        }
    };
    for arg in definition.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let shorts = arg.get_short_and_visible_aliases().unwrap_or_default();
        let longs = arg.get_long_and_visible_aliases().unwrap_or_default();
        let about = arg.get_help().map(ToString::to_string).unwrap_or_default();
        add(
            &shorts,
            &longs,
            about.split_whitespace().collect::<Vec<_>>().join(" ").as_str(),
        );
    }
    add(&['h'], &["help"], "Print help");
    if command.is_none() {
        add(&['V'], &["version"], "Print version");
    }
    candidates
}

/// The values of the option in `typed` (canonical: `--long=value`) whose value the cursor is at. `prefix` is typed
/// before the value.
fn wanted_value(command: Command, typed: &[OsString], prefix: &OsStr) -> Offer {
    let long = typed.iter().find_map(|option| {
        let option = option.to_str()?.strip_prefix("--")?;
        let (long, value) = option.split_once('=')?;
        (value == MARK).then_some(long)
    });
    let definition = super::definition(command);
    let Some(arg) = long.and_then(|long| definition.get_arguments().find(|arg| arg.get_long() == Some(long))) else {
        return Offer::Nothing;
    };
    let prefix = prefix.to_string_lossy();
    let words = |values: Vec<String>| {
        let candidates = values
            .into_iter()
            .map(|value| Candidate::new(format!("{prefix}{value}"), ""));
        Offer::Words(candidates.collect())
    };
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        return words(possible.iter().map(|value| value.get_name().to_owned()).collect());
    }
    let value_name = arg.get_value_names().and_then(|names| names.first());
    match (arg.get_id().as_str(), value_name.map(|name| name.as_str())) {
        ("group", _) => Offer::Group,
        ("mode", _) => words(["600", "660", "666"].map(str::to_owned).to_vec()),
        ("signal", _) => words(values::signal_names()),
        (_, Some("FILE")) => Offer::File,
        (_, Some("PID")) => Offer::Process,
        (_, Some("COMMAND" | "CMD")) => Offer::Program,
        _ => Offer::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &[&str]) -> Offer {
        offer(&line.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn words(line: &[&str]) -> Vec<String> {
        match at(line) {
            Offer::Words(candidates) => candidates.into_iter().map(|candidate| candidate.word).collect(),
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn the_name_of_a_lock_comes_first() {
        for line in [
            &[""][..],
            &["bu"],
            &["-v", ""],
            &["-t", "5", "b"],
            &["--message", "a b", ""],
            &["--nb", ""],
            &["--", "b"],
        ] {
            let offered = at(line);
            assert!(
                matches!(&offered, Offer::Locks(own) if own.iter().any(|word| word.word == "list")),
                "{line:?}: {offered:?}"
            );
        }
        assert_eq!(at(&["/l"]), Offer::Locks(Vec::new()));
        assert_eq!(at(&["--backend", "etcd://a", ""]), Offer::Nothing);
        assert_eq!(at(&[]), Offer::Nothing);
    }

    #[test]
    fn names_that_mean_something_else_are_typed_with_a_slash() {
        for (name, current, typed) in [
            ("bus", "", "bus"),
            ("bus", "/", "/bus"),
            ("list", "li", "/list"),
            ("help", "", "/help"),
            ("-x", "", "/-x"),
            ("get", "", "get"),
        ] {
            assert_eq!(typed_name(name, OsStr::new(current)), typed);
        }
    }

    #[test]
    fn a_command_comes_second() {
        for line in [
            &["bus", ""][..],
            &["bus", "g"],
            &["-t", "5", "bus", ""],
            &["bus", "-t", "5", ""],
            &["/list", ""],
            &["get", ""],
            &["--", "bus", ""],
        ] {
            let words = words(line);
            assert!(
                words.contains(&"get".to_owned()) && !words.contains(&"list".to_owned()),
                "{line:?}"
            );
        }
        assert!(words(&["help", ""]).contains(&"list".to_owned()));
        assert_eq!(words(&["completions", ""]), ["bash", "zsh", "fish"]);
    }

    #[test]
    fn options_of_the_command_or_of_all() {
        assert!(words(&["bus", "run", "-"]).contains(&"--limit".to_owned()));
        assert!(words(&["bus", "run", "-n", "--l"]).contains(&"--limit".to_owned()));
        assert!(!words(&["bus", "get", "-"]).contains(&"--limit".to_owned()));
        assert!(words(&["bus", "state", ""]).contains(&"--json".to_owned()));
        assert!(
            !words(&["bus", "state", "-"]).contains(&"-a".to_owned()),
            "it is ignored there"
        );
        assert!(words(&["list", "--"]).contains(&"--prometheus".to_owned()));
        assert!(words(&["-"]).contains(&"--version".to_owned()));
        assert!(words(&["bus", "--"]).contains(&"--limit".to_owned()));
        assert!(words(&["bus", "--"]).iter().all(|word| word.starts_with("--")));
    }

    #[test]
    fn values_of_options() {
        assert_eq!(words(&["bus", "run", "--until", ""]), ["command", "tree"]);
        assert_eq!(words(&["bus", "run", "--unt=tr"]), ["--unt=command", "--unt=tree"]);
        assert_eq!(
            words(&["--on-abandoned", "run", "bus", "run", "--on-abandoned", "f"]),
            ["run", "fail"]
        );
        assert!(words(&["bus", "run", "--signal", ""]).contains(&"TERM".to_owned()));
        assert_eq!(at(&["bus", "get", "--group", "i"]), Offer::Group);
        assert_eq!(at(&["bus", "get", "--pid", ""]), Offer::Process);
        assert_eq!(at(&["bus", "history", "--svg", ""]), Offer::File);
        assert_eq!(at(&["bus", "history", "--svg=a"]), Offer::File);
        assert_eq!(at(&["bus", "run", "-c", ""]), Offer::Program);
        for line in [
            &["bus", "get", "-t", ""][..],
            &["-t", ""],
            &["bus", "get", "-m", "x"],
            &["-h", ""],
        ] {
            assert_eq!(at(line), Offer::Nothing, "{line:?}");
        }
    }

    #[test]
    fn the_command_of_run_is_another_programs_line() {
        assert_eq!(at(&["bus", "run", ""]), Offer::CommandLine(2));
        assert_eq!(at(&["bus", "run", "--", ""]), Offer::CommandLine(3));
        assert_eq!(at(&["bus", "run", "--", "-"]), Offer::CommandLine(3));
        assert_eq!(
            at(&["-t", "5", "bus", "run", "-n", "ls", "-l", "a"]),
            Offer::CommandLine(5)
        );
        assert_eq!(at(&["bus", "run", "ls", "-"]), Offer::CommandLine(2));
        assert_eq!(at(&["bus", "run", "-c", "ls", "x"]), Offer::Nothing);
    }
}
