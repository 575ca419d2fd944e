//! Brings the words of a command line into the order NAME COMMAND OPTIONS… OPERANDS.
//!
//! The Python tool takes its options before, between and after its two words, abbreviated, bundled, repeated, and
//! takes `-1` for a number. No declarative parser does all that with a command word in second place, so this step
//! finds NAME and COMMAND and writes every option in one canonical form (`--long`, `--long=value`). What the options
//! mean, and whether they may be there, is decided afterwards, by the chosen command's definitions.
//!
//! Pure: no I/O, no environment. Which options exist and which take a value is asked from the definitions, so that
//! they are written down once. The rules for what counts as an option word are those of Python's argparse, by which
//! the Python tool reads its command line; a test holds both against each other.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A command word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Take the lock and leave it taken.
    Get,
    /// Release it.
    Unget,
    /// Who has it.
    State,
    /// Follow it.
    Trace,
    /// Run a command under it.
    Run,
    /// The last grants.
    History,
    /// Delete an idle lock's objects.
    Remove,
    /// All locks.
    List,
    /// What could hurt here.
    Doctor,
    /// Print a completion script.
    Completions,
}

impl Command {
    /// All of them, in the order in which help shows them.
    pub const ALL: [Self; 10] = [
        Self::Run,
        Self::Get,
        Self::Unget,
        Self::State,
        Self::Trace,
        Self::History,
        Self::Remove,
        Self::List,
        Self::Doctor,
        Self::Completions,
    ];

    /// The word that is typed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Unget => "unget",
            Self::State => "state",
            Self::Trace => "trace",
            Self::Run => "run",
            Self::History => "history",
            Self::Remove => "remove",
            Self::List => "list",
            Self::Doctor => "doctor",
            Self::Completions => "completions",
        }
    }

    fn from_word(word: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|command| word == command.word())
    }

    /// Whether a lock's name stands before it.
    pub fn wants_name(self) -> bool {
        !matches!(self, Self::List | Self::Doctor | Self::Completions)
    }
}

/// One option, as far as this step must know it.
#[derive(Debug, Clone, Default)]
pub struct Opt {
    /// Letters: `-t`, `-w`.
    pub shorts: Vec<char>,
    /// Long names without dashes; the first one is canonical.
    pub longs: Vec<String>,
    /// Whether a value follows.
    pub value: bool,
    /// Whether the value is free text, in which a space is nothing special.
    pub text: bool,
}

/// A command line in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arranged {
    /// Something to do.
    Line {
        /// The lock, for commands that want one.
        name: Option<OsString>,
        /// What to do.
        command: Command,
        /// Options in canonical form, in the order in which they were typed; unknown ones as typed.
        options: Vec<OsString>,
        /// Words that are neither; for `run`: COMMAND and its arguments, untouched.
        operands: Vec<OsString>,
    },
    /// `-h`, `--help`, `help [COMMAND]`.
    Help(Option<Command>),
    /// `-V`, `--version`.
    Version,
}

/// Why the words could not be brought into order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disorder {
    /// An option that does not exist, before the command was known.
    UnknownOption(OsString),
    /// An abbreviation that fits several options.
    Ambiguous(String, Vec<String>),
    /// An option at whose place a value is missing.
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
    },
    /// `help WORD` with a word that is not a command.
    UnknownHelp(OsString),
}

/// The Python tool's long options: an abbreviation that fits exactly one of these means it, whatever else exists.
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

/// Brings `words` (without the program's own name) into order. `definitions` gives the options of one command, or
/// of all commands together for `None`; it is asked as late as possible, since building all of them takes time.
pub fn arrange(
    words: impl IntoIterator<Item = OsString>,
    mut definitions: impl FnMut(Option<Command>) -> Vec<Opt>,
) -> Result<Arranged, Disorder> {
    let words: Vec<OsString> = words.into_iter().collect();
    let mut known = match (words.first(), words.get(1)) {
        // The usual case needs the definitions of one command only.
        (Some(name), Some(word)) if !starts_with_dash(name) => lock_command(name, word),
        _ => None,
    };
    let mut options = definitions(known);
    let mut seen = Seen::default();
    let mut rest = words.into_iter().peekable();
    let mut only_operands = false;

    while let Some(word) = rest.next() {
        let in_run = known == Some(Command::Run) && seen.operands.len() == 2;
        match classify(&word, &options) {
            // What follows COMMAND, or a double dash, is the command's own.
            Class::DashDash if in_run => break,
            Class::Operand if in_run => {
                seen.operands.push(word);
                break;
            }
            Class::DashDash if !only_operands => only_operands = true,
            Class::Option if !only_operands => match seen.option(&word, &options, &mut rest) {
                // Who has asked for help before is not told of mistakes.
                Err(_) if seen.asked.is_some() => break,
                taken => taken?,
            },
            _ if in_run => {
                seen.operands.push(word);
                break;
            }
            _ => seen.operands.push(word),
        }
        if let [name, word] = seen.operands.as_slice() {
            let command = lock_command(name, word);
            if command != known {
                known = command;
                options = definitions(known);
            }
        }
    }
    seen.operands.extend(rest);
    seen.arranged(definitions)
}

/// Whether these two words are a lock and a command for it.
fn lock_command(name: &OsStr, word: &OsStr) -> Option<Command> {
    Command::from_word(word).filter(|command| command.wants_name() && name != "help")
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

/// An option as typed; its canonical name waits until the command is known.
enum Found {
    Short(char, Option<OsString>),
    Long(String, Option<OsString>),
    Unknown(OsString),
}

impl Seen {
    /// Takes in an option word, and the word after it if that is its value.
    fn option(
        &mut self,
        word: &OsStr,
        options: &[Opt],
        rest: &mut std::iter::Peekable<impl Iterator<Item = OsString>>,
    ) -> Result<(), Disorder> {
        let mut next_value = |name: &dyn Fn() -> String| {
            rest.next_if(|next| can_be_value(next))
                .ok_or_else(|| Disorder::ValueMissing(name()))
        };
        let bytes = word.as_bytes();
        if let Some(long) = bytes.strip_prefix(b"--") {
            let (name, attached) = split_value(long);
            match resolve_long(&name, options)? {
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
                _ => match options.iter().find(|option| option.shorts.contains(&letter)) {
                    None => {
                        self.unknown(word);
                        return Ok(());
                    }
                    Some(option) if option.value => {
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

    /// Decides between the words of their own and a lock's command, and writes the options canonically.
    fn arranged(self, mut definitions: impl FnMut(Option<Command>) -> Vec<Opt>) -> Result<Arranged, Disorder> {
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
            .filter(|command| !command.wants_name());
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
                    return Err(self
                        .unknown
                        .map_or(Disorder::UnknownCommand { name, word }, Disorder::UnknownOption));
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
        let defined = definitions(Some(command));
        let mut options = Vec::with_capacity(self.found.len());
        for found in self.found {
            options.push(found.canonical(&defined)?);
        }
        Ok(Arranged::Line {
            name,
            command,
            options,
            operands: third.into_iter().chain(operands).collect(),
        })
    }
}

impl Found {
    /// `--long` or `--long=value`; as typed if the command does not know it (it will be refused then).
    fn canonical(self, options: &[Opt]) -> Result<OsString, Disorder> {
        let (typed, long, value) = match self {
            Self::Unknown(word) => return Ok(word),
            Self::Short(letter, value) => {
                let option = options.iter().find(|option| option.shorts.contains(&letter));
                (
                    format!("-{letter}"),
                    option.and_then(|option| option.longs.first().cloned()),
                    value,
                )
            }
            Self::Long(name, value) => {
                let long = find_long(&name, options)?.and_then(|option| option.longs.first().cloned());
                (format!("--{name}"), long, value)
            }
        };
        let Some(long) = long else {
            return Ok(OsString::from(typed));
        };
        let mut word = OsString::from(format!("--{long}"));
        if let Some(value) = value {
            word.push("=");
            word.push(value);
        }
        Ok(word)
    }
}

/// What a word is, by its looks.
enum Class {
    Operand,
    DashDash,
    Option,
}

/// By the rules of argparse: a word that begins with a dash is an option, unless it is a lone dash, a negative
/// number, or contains a space and does not begin like an option that exists.
fn classify(word: &OsStr, options: &[Opt]) -> Class {
    let bytes = word.as_bytes();
    if !starts_with_dash(word) || bytes.len() < 2 || is_negative_number(bytes) {
        return Class::Operand;
    }
    if bytes == b"--" {
        return Class::DashDash;
    }
    if !bytes.contains(&b' ') || begins_like_python_option(bytes) || begins_like_text_option(bytes, options) {
        return Class::Option;
    }
    Class::Operand
}

/// Whether an option may take this word for its value.
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

/// `-c'echo a b'`, `--recover=i2c reset`: options of ours whose attached value is free text.
fn begins_like_text_option(word: &[u8], options: &[Opt]) -> bool {
    match word.strip_prefix(b"--") {
        Some(long) => {
            let (name, value) = split_value(long);
            value.is_some() && options.iter().any(|option| option.text && option.longs.contains(&name))
        }
        None => options
            .iter()
            .any(|option| option.text && option.shorts.contains(&char::from(word[1]))),
    }
}

/// `name=value`. A name that is not UTF-8 fits no option, so it may be shown in replacement characters.
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
    /// Whether it takes a value.
    Takes(bool),
}

fn resolve_long(name: &str, options: &[Opt]) -> Result<Option<Meaning>, Disorder> {
    match python_long(name)? {
        Some("help") => return Ok(Some(Meaning::Asked(Asked::Help))),
        Some("version") => return Ok(Some(Meaning::Asked(Asked::Version))),
        _ => {}
    }
    match find_long(name, options) {
        Ok(option) => Ok(option.map(|option| Meaning::Takes(option.value))),
        Err(ambiguous) => {
            // Not yet known which one, but if all agree on taking a value the words can be sorted.
            let mut fitting = fitting(name, options).map(|option| option.value);
            match fitting.next() {
                Some(value) if fitting.all(|other| other == value) => Ok(Some(Meaning::Takes(value))),
                _ => Err(ambiguous),
            }
        }
    }
}

/// The one of the Python tool's options that `name` is or abbreviates.
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

/// The option with exactly this name, else the Python tool's that it abbreviates, else the only one that fits.
fn find_long<'a>(name: &str, options: &'a [Opt]) -> Result<Option<&'a Opt>, Disorder> {
    let exact = |name: &str| {
        options
            .iter()
            .find(|option| option.longs.iter().any(|long| long == name))
    };
    if let Some(option) = exact(name) {
        return Ok(Some(option));
    }
    if let Some(option) = python_long(name)?.and_then(exact) {
        return Ok(Some(option));
    }
    let mut found = fitting(name, options);
    match (found.next(), found.next()) {
        (one, None) => Ok(one),
        (Some(_), Some(_)) => Err(Disorder::Ambiguous(
            format!("--{name}"),
            fitting(name, options)
                .flat_map(|option| option.longs.iter().find(|long| long.starts_with(name)))
                .map(|long| format!("--{long}"))
                .collect(),
        )),
        (None, Some(_)) => Ok(None),
    }
}

fn fitting<'a>(name: &str, options: &'a [Opt]) -> impl Iterator<Item = &'a Opt> {
    options
        .iter()
        .filter(move |option| option.longs.iter().any(|long| long.starts_with(name)))
}
