//! What is wrong with a command line, in one line.

use super::arrange::Disorder;
use super::command::Command;
use super::options::options_of;
use super::shell_words::{quoted, shell_word};
use resourcelock::system::printable;
use std::ffi::{OsStr, OsString};
use std::fmt;

/// What is wrong with a command line. Shown as `resourcelock: …`, status 125.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    what: String,
    more: More,
}

/// Where there is more to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum More {
    /// In a command's help.
    Of(Command),
    /// In the general help.
    General,
    /// Nowhere: the line ends with a command line that can be pasted.
    Nothing,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match self.more {
            More::Of(command) => write!(f, " (see 'resourcelock help {}')", command.word()),
            More::General => f.write_str(" (see 'resourcelock --help')"),
            More::Nothing => Ok(()),
        }
    }
}

impl Usage {
    /// `command` is used wrongly.
    pub(super) fn new(command: Command, what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            more: More::Of(command),
        }
    }

    fn general(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            more: More::General,
        }
    }

    /// `line` is what was meant: a command line that can be pasted.
    fn meant(what: &str, line: &str) -> Self {
        Self {
            what: format!("{what}: {line}"),
            more: More::Nothing,
        }
    }

    /// The words make no command line.
    pub(super) fn disorder(disorder: Disorder) -> Self {
        Self::general(match disorder {
            Disorder::UnknownOption(word) => no_such_option(None, &word),
            Disorder::Ambiguous(option, fitting) => {
                format!("'{}' could mean {}", show(option.as_ref()), fitting.join(" or "))
            }
            Disorder::ValueMissing(option) => format!("'{option}' needs a value"),
            Disorder::ValueUnwanted(option) => format!("'{option}' takes no value"),
            Disorder::Empty => "which lock, and what to do with it? resourcelock NAME COMMAND".to_owned(),
            Disorder::CommandMissing(name) => command_missing(&name),
            Disorder::UnknownCommand { name, word, rest } => return unknown_command(&name, &word, &rest),
            Disorder::UnknownHelp(word) => match nearest_command(&word) {
                Some(near) => format!("there is no command '{}': did you mean '{}'?", show(&word), near.word()),
                None => format!("there is no command '{}': {}", show(&word), all_commands()),
            },
        })
    }

    /// An option has an invalid value.
    pub(super) fn value(command: Command, option: &str, value: &OsStr, why: &str) -> Self {
        Self::new(
            command,
            format!("invalid value '{}' for '{option}': {why}", show(value)),
        )
    }

    /// An option that `command` does not have.
    pub(super) fn unknown_option(command: Command, word: &OsStr) -> Self {
        let what = match elsewhere(word) {
            Some(others) => format!("'{}' is an option of {others}, not of {}", show(word), command.word()),
            None => no_such_option(Some(command), word),
        };
        Self::new(command, what)
    }
}

/// A word for display: what could disturb a reader is escaped.
pub(super) fn show(word: &OsStr) -> String {
    printable(&word.to_string_lossy())
}

/// An option that no command has.
fn no_such_option(command: Option<Command>, word: &OsStr) -> String {
    let typed = word.to_string_lossy();
    let name = typed.split('=').next().unwrap_or_default();
    let near = name.strip_prefix("--").and_then(|name| {
        let names = options_of(command).flat_map(move |option| option.names_for(command));
        nearest(name, names.chain(["help", "version"]))
    });
    match near {
        Some(near) => format!("there is no option '{}': did you mean '--{near}'?", show(name.as_ref())),
        None => format!("there is no option '{}'", show(name.as_ref())),
    }
}

/// Which commands have this option.
fn elsewhere(word: &OsStr) -> Option<String> {
    let word = word.to_str()?;
    let word = word.split('=').next().unwrap_or(word);
    let has = |command: Command| {
        options_of(Some(command)).any(|option| match word.strip_prefix("--") {
            Some(name) => option.names_for(None).any(|long| long == name),
            None => option.letters.iter().any(|letter| word == format!("-{letter}")),
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
            "which lock? The name comes first: resourcelock NAME {word} (for a lock named '{word}', add a command)",
            word = command.word()
        );
    }
    let what = format!("what to do with {}? {}", show(name), lock_commands());
    match nearest_command(name) {
        Some(near) if !near.needs_name() => format!("{what}; or did you mean '{}'?", near.word()),
        _ => what,
    }
}

fn unknown_command(name: &OsStr, word: &OsStr, rest: &[OsString]) -> Usage {
    if let Some(command) = Command::ALL.into_iter().find(|command| name == command.word()) {
        let line = format!("resourcelock {} {}", typed(word), command.word());
        return Usage::meant("the lock's name comes first", &line);
    }
    let unknown = format!("{}: there is no command '{}'", show(name), show(word));
    match (nearest_command(word), nearest_command(name)) {
        (Some(near), _) if !near.takes_name() => Usage::meant(
            &format!("{unknown} for a lock; did you mean"),
            &format!("resourcelock {}", near.word()),
        ),
        (Some(near), _) => Usage::general(format!("{unknown}: did you mean '{}'?", near.word())),
        (None, Some(near)) if near.takes_name() => Usage::meant(
            &format!("{unknown}; did you mean"),
            &format!("resourcelock {} {}", typed(word), near.word()),
        ),
        // As with flock(1), where the program follows the lock.
        _ => {
            let mut line = format!("resourcelock {} run --", typed(name));
            for word in std::iter::once(word).chain(rest.iter().map(OsString::as_os_str)) {
                line.push(' ');
                line.push_str(&quoted(word));
            }
            Usage::meant(&format!("{unknown}: {}; to run a program", lock_commands()), &line)
        }
    }
}

/// A lock's name as it can be typed.
pub(super) fn typed(name: &OsStr) -> String {
    name.to_str().map_or_else(|| quoted(name), shell_word)
}

fn lock_commands() -> String {
    let words: Vec<&str> = Command::ALL
        .into_iter()
        .filter(|command| command.takes_name())
        .map(Command::word)
        .collect();
    format!("one of {}", words.join(", "))
}

fn all_commands() -> String {
    format!("one of {}", Command::ALL.map(Command::word).join(", "))
}

/// What other tools call the same commands.
const SYNONYMS: [(&str, Command); 33] = [
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
    ("kill", Command::Stop),
    ("end", Command::Stop),
    ("terminate", Command::Stop),
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
    ("gc", Command::Prune),
    ("clean", Command::Prune),
    ("purge", Command::Prune),
    ("ls", Command::List),
    ("locks", Command::List),
    ("htop", Command::Top),
    ("live", Command::Top),
    ("check", Command::Doctor),
    ("completion", Command::Completions),
];

/// The command that was probably meant: another tool's name for it, or a similar word.
fn nearest_command(word: &OsStr) -> Option<Command> {
    // With a slash it is a lock's name, or a program.
    let word = word.to_str().filter(|word| !word.contains('/'))?;
    let synonym = SYNONYMS.into_iter().find(|(other, _)| *other == word);
    synonym
        .map(|(_, command)| command)
        .or_else(|| Command::from_word(nearest(word, Command::ALL.map(Command::word))?.as_ref()))
}

/// The word that was probably meant: the one with the fewest letters missing, added, changed or swapped, if that is at
/// most two of them and less than half.
fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|near| (strsim::osa_distance(word, near), near))
        .filter(|&(distance, near)| distance <= 2 && 2 * distance < near.len().max(word.len()))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, near)| near)
}
