//! Brings the words of a command line into the order NAME COMMAND OPTIONS… OPERANDS.
//!
//! The Python tool accepts its options before, between and after its two words, abbreviated, bundled and repeated, and
//! takes `-1` as a number. No declarative parser does all that with a command word in second place, so this step
//! finds NAME, COMMAND, and the definition ([`super::options`]) of each option. What the values mean is decided later.
//!
//! Pure: no I/O, no environment. The rules for what counts as an option word are those of Python's argparse, with which
//! the Python tool reads its command line; a test compares the two.

use super::command::Command;
use super::options::{OPTIONS, OptionDef};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// An option that was typed.
#[derive(Clone)]
pub struct Given {
    /// Its definition.
    pub option: &'static OptionDef,
    /// How it was typed, without its value: `-t`, `--wait`.
    pub typed: String,
    /// Its value, if it takes one.
    pub value: Option<OsString>,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.typed, self.value)
    }
}

/// A command line, sorted.
pub enum Arranged {
    /// Something to do.
    Line {
        /// The lock, for commands that take one.
        name: Option<OsString>,
        /// What to do.
        command: Command,
        /// The command's options, in the order in which they were typed.
        options: Vec<Given>,
        /// What looks like an option but is not one of the command's.
        unknown: Vec<OsString>,
        /// The other words; for `run`, COMMAND and its arguments, unchanged.
        operands: Vec<OsString>,
    },
    /// `-h`, `--help`, `help [COMMAND]`.
    Help(Option<Command>),
    /// `-V`, `--version`.
    Version,
}

/// Why the words could not be sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disorder {
    /// An option that does not exist, before the command was known.
    UnknownOption(OsString),
    /// An abbreviation that fits several options.
    Ambiguous(String, Vec<String>),
    /// An option whose value is missing.
    ValueMissing(String),
    /// A value for an option that takes none.
    ValueUnwanted(String),
    /// No lock's name and no command.
    Empty,
    /// A lock's name (or a lone command word) and nothing else.
    CommandMissing(OsString),
    /// The second word is not a command.
    UnknownCommand {
        /// The first word.
        name: OsString,
        /// The second.
        word: OsString,
        /// What follows, without options.
        rest: Vec<OsString>,
    },
    /// `help WORD` with a word that is not a command.
    UnknownHelp(OsString),
}

/// The Python tool's long options: an abbreviation of exactly one of these means that one, whatever else exists.
const PYTHON_LONGS: [&str; 7] = [
    "help",
    "get-timeout",
    "message",
    "auto-unget",
    "update",
    "verbose",
    "version",
];
const PYTHON_SHORTS: &[u8] = b"htmauvV";

/// Sorts `words`, which do not include the program's own name.
pub fn arrange(words: impl IntoIterator<Item = OsString>) -> Result<Arranged, Disorder> {
    let mut known = None;
    // The only word so far: a command that needs no name, unless it turns out to be a lock's name.
    let mut alone = None;
    let mut seen = Seen::default();
    let mut rest = words.into_iter().peekable();
    let mut only_operands = false;

    while let Some(word) = rest.next() {
        let in_run = known == Some(Command::Run) && seen.operands.len() == 2;
        match classify(&word, known) {
            // What follows COMMAND, or a double dash, is the command's own.
            Class::DashDash if in_run => break,
            Class::Operand if in_run => {
                seen.operands.push(word);
                break;
            }
            Class::DashDash if !only_operands => only_operands = true,
            Class::Option if !only_operands => match seen.option(&word, known, alone, &mut rest) {
                // After -h, mistakes do not matter.
                Err(_) if seen.asked.is_some() => break,
                taken => taken?,
            },
            _ if in_run => {
                seen.operands.push(word);
                break;
            }
            _ => seen.operands.push(word),
        }
        match seen.operands.as_slice() {
            [word] => alone = Command::from_word(word).filter(|command| !command.needs_name()),
            [name, word] => (known, alone) = (lock_command(name, word), None),
            _ => {}
        }
    }
    seen.operands.extend(rest);
    seen.arranged()
}

/// The command, if these two words are a lock and a command for it.
fn lock_command(name: &OsStr, word: &OsStr) -> Option<Command> {
    Command::from_word(word).filter(|command| command.takes_name() && name != "help")
}

/// What was found so far.
#[derive(Default)]
struct Seen {
    operands: Vec<OsString>,
    found: Vec<Found>,
    unknown: Option<OsString>,
    /// Help or version, whichever came first.
    asked: Option<Asked>,
}

#[derive(Clone, Copy)]
enum Asked {
    Help,
    Version,
}

/// An option as it was typed. Which definition it has may depend on the command, which may come later.
enum Found {
    Short(char, Option<OsString>),
    Long(String, Option<OsString>),
    Unknown(OsString),
}

impl Seen {
    /// Records an option word, and consumes the word after it if that is its value.
    fn option(
        &mut self,
        word: &OsStr,
        known: Option<Command>,
        alone: Option<Command>,
        rest: &mut std::iter::Peekable<impl Iterator<Item = OsString>>,
    ) -> Result<(), Disorder> {
        let mut next_value = |name: &dyn Fn() -> String| {
            rest.next_if(|next| can_be_value(next))
                .ok_or_else(|| Disorder::ValueMissing(name()))
        };
        let bytes = word.as_bytes();
        if let Some(long) = bytes.strip_prefix(b"--") {
            let (name, attached) = split_value(long);
            match resolve_long(&name, known)? {
                Some(Meaning::Asked(asked)) => self.ask(asked),
                Some(Meaning::Takes(true)) => {
                    let value = match attached {
                        Some(value) => value,
                        None => next_value(&|| format!("--{name}"))?,
                    };
                    self.found.push(Found::Long(name, Some(value)));
                }
                Some(Meaning::Takes(false)) if attached.is_some() => {
                    return Err(Disorder::ValueUnwanted(format!("--{name}")));
                }
                Some(Meaning::Takes(false)) => self.found.push(Found::Long(name, None)),
                None => self.unknown(word),
            }
            return Ok(());
        }
        let mut letters = &bytes[1..];
        while let Some((&letter, after)) = letters.split_first() {
            let letter = char::from(letter);
            match letter {
                'h' => self.ask(Asked::Help),
                'V' => self.ask(Asked::Version),
                _ => match alone
                    .and_then(|_| find_letter(letter, alone))
                    .or_else(|| find_letter(letter, known))
                {
                    None => {
                        self.unknown(word);
                        return Ok(());
                    }
                    Some(option) if option.value.is_some() => {
                        let value = match after {
                            [] => next_value(&|| format!("-{letter}"))?,
                            [b'=', value @ ..] => OsString::from_vec(value.to_vec()),
                            value => OsString::from_vec(value.to_vec()),
                        };
                        self.found.push(Found::Short(letter, Some(value)));
                        return Ok(());
                    }
                    Some(_) => self.found.push(Found::Short(letter, None)),
                },
            }
            if after.first() == Some(&b'=') {
                return Err(Disorder::ValueUnwanted(format!("-{letter}")));
            }
            letters = after;
        }
        Ok(())
    }

    fn ask(&mut self, asked: Asked) {
        self.asked.get_or_insert(asked);
    }

    fn unknown(&mut self, word: &OsStr) {
        self.unknown.get_or_insert_with(|| word.to_owned());
        self.found.push(Found::Unknown(word.to_owned()));
    }

    /// Decides between a command on a lock and one that takes no name, and identifies the options.
    fn arranged(self) -> Result<Arranged, Disorder> {
        let mut operands = self.operands.into_iter();
        let first = operands.next();
        let second = operands.next();
        if let Some(asked) = self.asked {
            return Ok(match asked {
                Asked::Version => Arranged::Version,
                Asked::Help => Arranged::Help(
                    [second, first]
                        .iter()
                        .flatten()
                        .find_map(|word| Command::from_word(word)),
                ),
            });
        }
        let own_word = first
            .as_deref()
            .and_then(Command::from_word)
            .filter(|command| !command.needs_name());
        let (name, command, third) = match (first, second) {
            (Some(help), word) if help == "help" => {
                return match word {
                    None => Ok(Arranged::Help(None)),
                    Some(word) => match Command::from_word(&word) {
                        Some(command) => Ok(Arranged::Help(Some(command))),
                        None if word == "help" => Ok(Arranged::Help(None)),
                        None => Err(Disorder::UnknownHelp(word)),
                    },
                };
            }
            (Some(name), Some(word)) => match (lock_command(&name, &word), own_word) {
                (Some(command), _) => (Some(name), command, None),
                (None, Some(command)) => (None, command, Some(word)),
                (None, None) => {
                    let rest = operands.collect();
                    return Err(self
                        .unknown
                        .map_or(Disorder::UnknownCommand { name, word, rest }, Disorder::UnknownOption));
                }
            },
            (Some(name), None) => match own_word {
                Some(command) => (None, command, None),
                None => {
                    return Err(self
                        .unknown
                        .map_or(Disorder::CommandMissing(name), Disorder::UnknownOption));
                }
            },
            (None, _) => return Err(self.unknown.map_or(Disorder::Empty, Disorder::UnknownOption)),
        };
        let mut options = Vec::with_capacity(self.found.len());
        let mut unknown = Vec::new();
        for found in self.found {
            match found.identified(command)? {
                Ok(given) => options.push(given),
                Err(word) => unknown.push(word),
            }
        }
        Ok(Arranged::Line {
            name,
            command,
            options,
            unknown,
            operands: third.into_iter().chain(operands).collect(),
        })
    }
}

impl Found {
    /// Finds its definition for `command`; the inner error is the word if there is none.
    fn identified(self, command: Command) -> Result<Result<Given, OsString>, Disorder> {
        let known = Some(command);
        let (typed, option, value) = match self {
            Self::Unknown(word) => return Ok(Err(word)),
            Self::Short(letter, value) => (format!("-{letter}"), find_letter(letter, known), value),
            Self::Long(name, value) => (format!("--{name}"), find_long(&name, known)?, value),
        };
        Ok(match option {
            Some(option) => Ok(Given { option, typed, value }),
            None => Err(typed.into()),
        })
    }
}

/// What a word looks like.
enum Class {
    Operand,
    DashDash,
    Option,
}

/// By the rules of argparse: a word that begins with a dash is an option, unless it is a lone dash, a negative
/// number, or contains a space and does not begin like an existing option.
fn classify(word: &OsStr, known: Option<Command>) -> Class {
    let bytes = word.as_bytes();
    if !starts_with_dash(word) || bytes.len() < 2 || is_negative_number(bytes) {
        return Class::Operand;
    }
    if bytes == b"--" {
        return Class::DashDash;
    }
    if !bytes.contains(&b' ') || begins_like_python_option(bytes) || begins_like_text_option(bytes, known) {
        return Class::Option;
    }
    Class::Operand
}

/// True if an option may take this word as its value.
fn can_be_value(word: &OsStr) -> bool {
    let bytes = word.as_bytes();
    !starts_with_dash(word)
        || bytes.len() < 2
        || is_negative_number(bytes)
        || (bytes.contains(&b' ') && !begins_like_python_option(bytes))
}

fn starts_with_dash(word: &OsStr) -> bool {
    word.as_bytes().first() == Some(&b'-')
}

/// `-1`, `-.5`, `-12.5`.
fn is_negative_number(word: &[u8]) -> bool {
    let number = &word[1..];
    let is_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    match number.iter().position(|&byte| byte == b'.') {
        None => !number.is_empty() && is_digits(number),
        Some(dot) => is_digits(&number[..dot]) && dot + 1 < number.len() && is_digits(&number[dot + 1..]),
    }
}

fn begins_like_python_option(word: &[u8]) -> bool {
    match word.strip_prefix(b"--") {
        Some(long) => {
            let (name, _) = split_value(long);
            PYTHON_LONGS.iter().any(|long| long.starts_with(name.as_str()))
        }
        None => PYTHON_SHORTS.contains(&word[1]),
    }
}

/// `-c'echo a b'`, `--recover=i2c reset`: our own options whose attached value is free text.
fn begins_like_text_option(word: &[u8], known: Option<Command>) -> bool {
    match word.strip_prefix(b"--") {
        Some(long) => {
            let (name, value) = split_value(long);
            value.is_some() && accepted(known).any(|option| option.takes_text() && is_called(option, &name, known))
        }
        None => find_letter(char::from(word[1]), known).is_some_and(OptionDef::takes_text),
    }
}

/// Splits `name=value`. A name that is not UTF-8 fits no option, so replacement characters do no harm.
fn split_value(long: &[u8]) -> (String, Option<OsString>) {
    let (name, value) = match long.iter().position(|&byte| byte == b'=') {
        Some(at) => (&long[..at], Some(OsString::from_vec(long[at + 1..].to_vec()))),
        None => (long, None),
    };
    (String::from_utf8_lossy(name).into_owned(), value)
}

/// What a long option is, as far as it matters before the command is known.
enum Meaning {
    Asked(Asked),
    /// An option; true if it takes a value.
    Takes(bool),
}

fn resolve_long(name: &str, known: Option<Command>) -> Result<Option<Meaning>, Disorder> {
    match python_long(name)? {
        Some("help") => return Ok(Some(Meaning::Asked(Asked::Help))),
        Some("version") => return Ok(Some(Meaning::Asked(Asked::Version))),
        _ => {}
    }
    match find_long(name, known) {
        Ok(option) => Ok(option.map(|option| Meaning::Takes(option.value.is_some()))),
        Err(ambiguous) => {
            // Which one is not known yet; but if all agree on taking a value, the words can be sorted.
            let mut fitting = fitting(name, known).map(|(option, _)| option.value.is_some());
            match fitting.next() {
                Some(value) if fitting.all(|other| other == value) => Ok(Some(Meaning::Takes(value))),
                _ => Err(ambiguous),
            }
        }
    }
}

/// The Python tool's option that `name` is, or abbreviates.
fn python_long(name: &str) -> Result<Option<&'static str>, Disorder> {
    let fitting: Vec<&str> = PYTHON_LONGS.into_iter().filter(|long| long.starts_with(name)).collect();
    match fitting.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => Err(Disorder::Ambiguous(
            format!("--{name}"),
            several.iter().map(|long| format!("--{long}")).collect(),
        )),
    }
}

/// The options that may be typed with a command, or with any command.
fn accepted(known: Option<Command>) -> impl Iterator<Item = &'static OptionDef> {
    OPTIONS.iter().filter(move |option| option.is_accepted_by(known))
}

fn find_letter(letter: char, known: Option<Command>) -> Option<&'static OptionDef> {
    accepted(known).find(|option| option.letters_for(known).contains(&letter))
}

fn is_called(option: &OptionDef, name: &str, known: Option<Command>) -> bool {
    option.names_for(known).any(|long| long == name)
}

/// The option with exactly this name, else the Python tool's option that it abbreviates, else the only one that fits.
fn find_long(name: &str, known: Option<Command>) -> Result<Option<&'static OptionDef>, Disorder> {
    let exact = |name: &str| accepted(known).find(|option| is_called(option, name, known));
    if let Some(option) = exact(name) {
        return Ok(Some(option));
    }
    if let Some(option) = python_long(name)?.and_then(exact) {
        return Ok(Some(option));
    }
    let mut names: Vec<&str> = Vec::new();
    for (_, long) in fitting(name, known) {
        if !names.contains(&long) {
            names.push(long);
        }
    }
    match names.as_slice() {
        [] => Ok(None),
        [long] => Ok(exact(long)),
        several => Err(Disorder::Ambiguous(
            format!("--{name}"),
            several.iter().map(|long| format!("--{long}")).collect(),
        )),
    }
}

/// The options that have a name with this beginning, each with the first such name.
fn fitting(name: &str, known: Option<Command>) -> impl Iterator<Item = (&'static OptionDef, &'static str)> {
    accepted(known).filter_map(move |option| {
        let long = option.names_for(known).find(|long| long.starts_with(name))?;
        Some((option, long))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Before the command is known, an option is recognized by its spelling alone, whatever command it turns out to be for.
    #[test]
    fn options_of_one_spelling_agree_on_taking_a_value() {
        for (one, other) in OPTIONS
            .iter()
            .flat_map(|one| OPTIONS.iter().map(move |other| (one, other)))
        {
            let letters = one.letters_for(None).iter();
            let letter = letters.clone().any(|letter| other.letters_for(None).contains(letter));
            let name = one
                .names_for(None)
                .any(|name| other.names_for(None).any(|long| long == name));
            if letter || name {
                assert_eq!(
                    one.value.is_some(),
                    other.value.is_some(),
                    "{} {}",
                    one.name,
                    other.name
                );
                assert_eq!(one.takes_text(), other.takes_text(), "{} {}", one.name, other.name);
            }
        }
    }

    /// Two options may have one name, but not for the same command.
    #[test]
    fn a_spelling_means_one_option_of_a_command() {
        for command in Command::ALL {
            let mut spellings: Vec<String> = Vec::new();
            for option in accepted(Some(command)) {
                spellings.extend(
                    option
                        .letters_for(Some(command))
                        .iter()
                        .map(|letter| format!("-{letter}")),
                );
                spellings.extend(option.names_for(Some(command)).map(|long| format!("--{long}")));
            }
            let count = spellings.len();
            spellings.sort();
            spellings.dedup();
            assert_eq!(spellings.len(), count, "{command:?}: {spellings:?}");
        }
    }
}
