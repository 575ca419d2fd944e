//! What can be completed at the cursor of an unfinished command line. Pure: the caller finds out which locks, files and
//! groups there are.
//!
//! The word at the cursor is replaced by a marker, and the line is read like any other: where the marker ends up tells
//! what can be completed. So the order of words, abbreviations and option values are known in one place only.

use super::arrange::{self, Arranged, Disorder, Given};
use super::command::Command;
use super::options::{Kind, OptionDef, options_of};
use super::patterns::is_pattern;
use super::values;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What can be completed at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// Nothing is known about it.
    Nothing,
    /// The name of a lock, or one of the commands that take no name.
    Locks(Vec<Candidate>),
    /// One of these.
    Words(Vec<Candidate>),
    /// Another program's command line, which begins at this word (counted from 0).
    CommandLine(usize),
    /// The name of a program.
    Program,
    /// A file.
    File,
    /// A group of users.
    Group,
    /// A user.
    User,
    /// A process ID.
    Process,
}

/// A word that can be inserted at the cursor.
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

/// A word that nobody types; it marks the cursor.
const MARK: &str = "\u{1}";
/// The same where an option is being typed.
const OPTION_MARK: &str = "-\u{1}";

/// Returns what can be completed at the end of the last of `words` (which do not include the program's own name).
pub fn offer(words: &[OsString]) -> Offer {
    let Some((current, before)) = words.split_last() else {
        return Offer::Nothing;
    };
    let arranged = |mark: OsString| arrange::arrange(before.iter().cloned().chain([mark]));
    if let Some(value) = attached_value(current) {
        // Attached to its option: `--until=`. The candidates include the option, since they replace the whole word.
        let mut mark = value.option.clone();
        mark.push(MARK);
        return match arranged(mark) {
            Ok(Arranged::Line { options, .. }) => wanted_value(&options, &value.option),
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
            options: given,
            unknown,
            operands,
            ..
        }) => {
            if unknown.iter().any(|option| is_mark(option)) {
                return Offer::Words(options(Some(command), current));
            }
            if operands.iter().any(|operand| is_mark(operand)) {
                return operand(command, &given, words.len() - operands.len(), operands.len(), current);
            }
            wanted_value(&given, OsStr::new(""))
        }
        _ => Offer::Nothing,
    }
}

/// `--long=` at the beginning of a word.
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

/// The first word: a lock, or a command that takes no name. Engines are not queried for their locks: that could take
/// long.
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

/// How a lock's name is typed: with a slash if it would be mistaken for something else, or if the user began with one.
pub fn typed_name(name: &str, current: &OsStr) -> String {
    let slash = current.as_bytes().starts_with(b"/")
        || is_own_word(name)
        || name == "help"
        || name.starts_with('-')
        || is_pattern(name);
    if slash { format!("/{name}") } else { name.to_owned() }
}

fn is_own_word(word: &str) -> bool {
    Command::ALL
        .into_iter()
        .any(|command| !command.needs_name() && command.word() == word)
}

/// The command words: all of them, or only those that follow a lock's name.
fn commands(for_locks: bool) -> Vec<Candidate> {
    Command::ALL
        .into_iter()
        .filter(|command| command.takes_name() || !for_locks)
        .map(|command| Candidate::new(command.word(), command.def().about))
        .collect()
}

/// An operand of the command. `first` is the position of the command's first operand.
fn operand(command: Command, given: &[Given], first: usize, count: usize, current: &OsStr) -> Offer {
    match command {
        Command::Run if !given.iter().any(|given| given.option.name == "command") => Offer::CommandLine(first),
        Command::Completions if count == 1 => {
            Offer::Words(["bash", "zsh", "fish"].map(|shell| Candidate::new(shell, "")).to_vec())
        }
        Command::Remove | Command::Prune => Offer::Locks(Vec::new()),
        // Only options can follow: show them right away.
        _ if current.is_empty() => Offer::Words(options(Some(command), current)),
        _ => Offer::Nothing,
    }
}

/// All spellings of the options of a command, or of all commands, that begin with `current`.
fn options(command: Option<Command>, current: &OsStr) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    let mut add = |letters: &[char], names: &mut dyn Iterator<Item = &'static str>, about: &str| {
        let letters = letters.iter().map(|letter| format!("-{letter}"));
        let names = names.map(|name| format!("--{name}"));
        for word in letters.chain(names) {
            let is_new = candidates.iter().all(|known: &Candidate| known.word != word);
            if is_new && word.as_bytes().starts_with(current.as_bytes()) {
                candidates.push(Candidate::new(word, about));
            }
        }
    };
    for option in options_of(command).filter(|option| !option.hidden) {
        let about = option.help_for(command.unwrap_or(option.commands[0]));
        add(option.letters, &mut option.names_for(None), &about);
    }
    add(&['h'], &mut ["help"].into_iter(), "Print help");
    if command.is_none() {
        add(&['V'], &mut ["version"].into_iter(), "Print version");
    }
    candidates
}

/// The values of the option whose value is at the cursor. `prefix` is what is typed before the value.
fn wanted_value(given: &[Given], prefix: &OsStr) -> Offer {
    let marked = given
        .iter()
        .find(|given| given.value.as_deref() == Some(OsStr::new(MARK)));
    let Some(OptionDef {
        value: Some((_, kind)), ..
    }) = marked.map(|given| given.option)
    else {
        return Offer::Nothing;
    };
    let words = |values: &mut dyn Iterator<Item = String>| {
        let prefix = prefix.to_string_lossy();
        Offer::Words(
            values
                .map(|value| Candidate::new(format!("{prefix}{value}"), ""))
                .collect(),
        )
    };
    match kind {
        Kind::OneOf(values) => words(&mut values.iter().map(ToString::to_string)),
        Kind::Permissions => words(&mut ["600", "660", "666"].map(str::to_owned).into_iter()),
        Kind::Signal => words(&mut values::signal_names()),
        Kind::Group => Offer::Group,
        Kind::User => Offer::User,
        // After `--with=`, the whole word would be replaced.
        Kind::Lock if prefix.is_empty() => Offer::Locks(Vec::new()),
        Kind::File => Offer::File,
        Kind::Process => Offer::Process,
        Kind::Command => Offer::Program,
        Kind::Lock | Kind::Time | Kind::Number | Kind::Text => Offer::Nothing,
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
            ("a*", "", "/a*"),
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
        assert_eq!(at(&["list", "--owner", "a", "--owner", ""]), Offer::User);
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
