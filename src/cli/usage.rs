//! What is wrong with a command line, in one line.

use super::words::{Command, Disorder};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsStr;
use std::fmt;

/// A command line that cannot be carried out. Shown as `resourcelock: …`, status 125.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    what: String,
    command: Option<Command>,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.command {
            Some(command) => write!(f, "{} (see 'resourcelock help {}')", self.what, command.word()),
            None => write!(f, "{} (see 'resourcelock --help')", self.what),
        }
    }
}

impl Usage {
    /// A mistake in the use of `command`.
    pub(super) fn new(command: Command, what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            command: Some(command),
        }
    }

    fn general(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            command: None,
        }
    }

    /// Words that could not be brought into order.
    pub(super) fn disorder(disorder: Disorder) -> Self {
        Self::general(match disorder {
            Disorder::UnknownOption(word) => unknown_option(&word),
            Disorder::Ambiguous(option, fitting) => {
                format!("'{}' could mean {}", show(option.as_ref()), fitting.join(" or "))
            }
            Disorder::ValueMissing(option) => format!("'{option}' needs a value"),
            Disorder::ValueUnwanted(option) => format!("'{option}' takes no value"),
            Disorder::Empty => "which lock, and what to do with it? resourcelock NAME COMMAND".to_owned(),
            Disorder::CommandMissing(name) => command_missing(&name),
            Disorder::UnknownCommand { name, word } => unknown_command(&name, &word),
            Disorder::UnknownHelp(word) => match nearest(&word) {
                Some(near) => format!("there is no command '{}': did you mean '{}'?", show(&word), near.word()),
                None => format!("there is no command '{}': {}", show(&word), all_commands()),
            },
        })
    }

    /// What clap refused, in our words.
    pub(super) fn refused(command: Command, error: &clap::Error) -> Self {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.escape_debug().to_string()),
            Some(ContextValue::Strings(several)) => Some(several.join(", ")),
            _ => None,
        };
        let argument = text(ContextKind::InvalidArg).unwrap_or_default();
        let value = text(ContextKind::InvalidValue).unwrap_or_default();
        let what = match error.kind() {
            ErrorKind::UnknownArgument if !argument.starts_with('-') => {
                format!(
                    "'{argument}' is too much here: NAME and '{}' are all words",
                    command.word()
                )
            }
            ErrorKind::UnknownArgument => match elsewhere(&argument) {
                Some(others) => format!("'{argument}' is an option of {others}, not of {}", command.word()),
                None => match text(ContextKind::SuggestedArg) {
                    Some(near) => format!("there is no option '{argument}': did you mean '{near}'?"),
                    None => format!("there is no option '{argument}'"),
                },
            },
            ErrorKind::InvalidValue => match text(ContextKind::ValidValue) {
                Some(valid) => format!("'{value}' for '{argument}': one of {valid} is wanted"),
                None => format!("'{argument}' needs a value"),
            },
            ErrorKind::MissingRequiredArgument => format!("{argument} is missing"),
            ErrorKind::InvalidUtf8 => "an argument is not valid UTF-8".to_owned(),
            _ => match std::error::Error::source(error) {
                Some(source) => format!("'{value}' for '{argument}': {source}"),
                None => first_line(&error.to_string()),
            },
        };
        Self::new(command, what)
    }
}

/// A word for the eyes: control characters escaped.
fn show(word: &OsStr) -> String {
    word.to_string_lossy().escape_debug().to_string()
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// An option that no command has: clap, given all options, knows the nearest.
fn unknown_option(word: &OsStr) -> String {
    let near = super::all_options()
        .try_get_matches_from([OsStr::new("resourcelock"), word])
        .err()
        .and_then(|error| match error.get(ContextKind::SuggestedArg) {
            Some(ContextValue::String(near)) => Some(near.clone()),
            _ => None,
        });
    match near {
        Some(near) => format!("there is no option '{}': did you mean '{near}'?", show(word)),
        None => format!("there is no option '{}'", show(word)),
    }
}

/// Which other commands have this option.
fn elsewhere(option: &str) -> Option<String> {
    let option = option.split(['=', ' ']).next().unwrap_or(option);
    let has = |command: Command| {
        super::definition(command).get_arguments().any(|arg| {
            let short = arg.get_short_and_visible_aliases().unwrap_or_default();
            let long = arg.get_long_and_visible_aliases().unwrap_or_default();
            match option.strip_prefix("--") {
                Some(name) => long.contains(&name),
                None => option.strip_prefix('-').is_some_and(|letter| {
                    let mut letters = letter.chars();
                    letters.next().is_some_and(|letter| short.contains(&letter)) && letters.next().is_none()
                }),
            }
        })
    };
    let others: Vec<&str> = Command::ALL
        .into_iter()
        .filter(|&command| has(command))
        .map(Command::word)
        .collect();
    (!others.is_empty()).then(|| others.join(" and "))
}

fn command_missing(name: &OsStr) -> String {
    if let Some(command) = Command::ALL.into_iter().find(|command| name == command.word()) {
        return format!(
            "which lock? The name comes first: resourcelock NAME {word} (a lock that is called '{word}': add a command)",
            word = command.word()
        );
    }
    let what = format!("{}: what to do with it? {}", show(name), lock_commands());
    match nearest(name) {
        Some(near) if !near.wants_name() => format!("{what}; or did you mean '{}'?", near.word()),
        _ => what,
    }
}

fn unknown_command(name: &OsStr, word: &OsStr) -> String {
    if let Some(command) = Command::ALL.into_iter().find(|command| name == command.word()) {
        return format!(
            "the lock's name comes first: resourcelock {} {}",
            show(word),
            command.word()
        );
    }
    let unknown = format!("{}: there is no command '{}'", show(name), show(word));
    match (nearest(word), nearest(name)) {
        (Some(near), _) if !near.wants_name() => {
            format!("{unknown} of a lock; did you mean 'resourcelock {}'?", near.word())
        }
        (Some(near), _) => format!("{unknown}: did you mean '{}'?", near.word()),
        (None, Some(near)) if near.wants_name() => {
            format!("{unknown}: did you mean 'resourcelock {} {}'?", show(word), near.word())
        }
        // Who comes from flock(1) writes the program at once.
        _ => format!(
            "{unknown}: {}; to run a program: resourcelock {} run -- {}",
            lock_commands(),
            show(name),
            show(word)
        ),
    }
}

fn lock_commands() -> String {
    let words: Vec<&str> = Command::ALL
        .into_iter()
        .filter(|command| command.wants_name())
        .map(Command::word)
        .collect();
    format!("one of {}", words.join(", "))
}

fn all_commands() -> String {
    format!("one of {}", Command::ALL.map(Command::word).join(", "))
}

/// Words that other tools use for the same.
const SYNONYMS: [(&str, Command); 25] = [
    ("exec", Command::Run),
    ("execute", Command::Run),
    ("lock", Command::Get),
    ("acquire", Command::Get),
    ("take", Command::Get),
    ("hold", Command::Get),
    ("unlock", Command::Unget),
    ("release", Command::Unget),
    ("free", Command::Unget),
    ("drop", Command::Unget),
    ("put", Command::Unget),
    ("status", Command::State),
    ("info", Command::State),
    ("show", Command::State),
    ("who", Command::State),
    ("watch", Command::Trace),
    ("follow", Command::Trace),
    ("monitor", Command::Trace),
    ("log", Command::History),
    ("rm", Command::Remove),
    ("delete", Command::Remove),
    ("ls", Command::List),
    ("locks", Command::List),
    ("check", Command::Doctor),
    ("completion", Command::Completions),
];

/// The command that was probably meant: the one with the fewest letters missing, added, changed or swapped, if those
/// are less than half of them, or one that means the same.
fn nearest(word: &OsStr) -> Option<Command> {
    let word = word.to_str()?;
    let synonym = SYNONYMS.into_iter().find(|(other, _)| *other == word);
    synonym.map(|(_, command)| command).or_else(|| {
        Command::ALL
            .into_iter()
            .map(|command| (distance(word, command.word()), command))
            .filter(|&(distance, near)| distance <= 2 && 2 * distance < near.word().len().max(word.len()))
            .min_by_key(|&(distance, _)| distance)
            .map(|(_, near)| near)
    })
}

/// How many letters must be inserted, deleted, changed or swapped with their neighbour (optimal string alignment).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let changed = last[j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut least = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}
