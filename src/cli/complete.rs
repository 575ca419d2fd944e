//! What could follow a command line that is still being typed. The completion scripts ask this of the program itself,
//! so that they know every option, wherever it may stand, and the locks that exist now.

use super::parse::options;
use super::values;
use super::words::{self, Command, Place};
use std::ffi::OsString;

/// What the shell is to offer.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Completion {
    /// Words with their descriptions (possibly empty).
    Words(Vec<(String, String)>),
    /// File names.
    Files,
    /// Names of programs.
    Programs,
    /// What belongs to the command line that begins with this word (0 = the first after the program's own name).
    CommandLine(usize),
    /// Nothing.
    #[default]
    Nothing,
}

/// Completes the last of `typed`. `locks` gives the locks that exist, with their states.
pub fn complete(mut typed: Vec<OsString>, locks: impl FnOnce() -> Vec<(String, String)>) -> Completion {
    let unfinished = typed.pop().unwrap_or_default();
    let Some(unfinished) = unfinished.to_str() else {
        return Completion::Nothing;
    };
    let count = typed.len();
    match words::place(typed, options) {
        None => Completion::Nothing,
        Some(Place::Payload(first)) => Completion::CommandLine(first),
        Some(Place::Value(option)) => value(&option, "", unfinished),
        Some(Place::Ours(operands, command, may_be_option)) => {
            if let Some((option, begun)) = unfinished.split_once('=')
                && option.starts_with("--")
                && may_be_option
            {
                return value(option, &format!("{option}="), begun);
            }
            let own_word = operands.first().and_then(own_command).filter(|_| command.is_none());
            if operands.len() > 1 && command.or(own_word).is_none() {
                return Completion::Nothing; // not a command
            }
            let mut found = Vec::new();
            if operands.len() < 2 {
                found = self::operands(&operands, locks);
            } else if command == Some(Command::Run) && !(unfinished.starts_with('-') && may_be_option) {
                return Completion::CommandLine(count);
            }
            // Options are offered to who begins one, or where nothing else could stand.
            if may_be_option && (unfinished.starts_with('-') || found.is_empty()) {
                found = long_options(command.or(own_word));
            }
            Completion::Words(beginning_with(unfinished, found))
        }
    }
}

fn beginning_with(begun: &str, words: Vec<(String, String)>) -> Vec<(String, String)> {
    words.into_iter().filter(|(word, _)| word.starts_with(begun)).collect()
}

fn own_command(word: &OsString) -> Option<Command> {
    Command::ALL
        .into_iter()
        .find(|command| !command.wants_name() && word == command.word())
}

/// What could stand after these operands, options left aside.
fn operands(operands: &[OsString], locks: impl FnOnce() -> Vec<(String, String)>) -> Vec<(String, String)> {
    let about = |command: Command| {
        let about = super::definition(command)
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        (command.word().to_owned(), about)
    };
    let commands = |named: bool| {
        Command::ALL
            .into_iter()
            .filter(move |command| command.wants_name() == named)
            .map(about)
    };
    match operands {
        [] => {
            let mut found: Vec<_> = locks()
                .into_iter()
                // A lock that is called like a word of its own is written with a slash.
                .map(|(name, state)| {
                    if is_reserved(&name) {
                        (format!("/{name}"), state)
                    } else {
                        (name, state)
                    }
                })
                .collect();
            found.extend(commands(false));
            found.push(("help".to_owned(), "Help for a command".to_owned()));
            found
        }
        [word] if word == "completions" => ["bash", "zsh", "fish"]
            .map(|shell| (shell.to_owned(), String::new()))
            .into(),
        [word] if word == "help" => Command::ALL.into_iter().map(about).collect(),
        [word] if own_command(word).is_some() => Vec::new(),
        [_] => commands(true).collect(),
        _ => Vec::new(),
    }
}

fn is_reserved(name: &str) -> bool {
    name == "help"
        || Command::ALL
            .into_iter()
            .any(|command| !command.wants_name() && command.word() == name)
}

/// The long options of a command, or of all.
fn long_options(command: Option<Command>) -> Vec<(String, String)> {
    let definition = command.map_or_else(super::all_options, super::definition);
    let mut found: Vec<_> = definition
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .flat_map(|arg| {
            let help = arg
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default()
                .replace('\n', " ");
            let longs = arg.get_long_and_visible_aliases().unwrap_or_default();
            longs
                .into_iter()
                .map(move |long| (format!("--{long}"), help.trim_end().to_owned()))
        })
        .collect();
    found.push(("--help".to_owned(), "Print help".to_owned()));
    found
}

/// What the value of `option` (as typed) could be. Each word begins with `before`.
fn value(option: &str, before: &str, begun: &str) -> Completion {
    let all = super::all_options();
    let name = option.trim_start_matches('-');
    let arg = all.get_arguments().find(|arg| match option.strip_prefix("--") {
        Some(long) => arg.get_long_and_visible_aliases().unwrap_or_default().contains(&long),
        None => arg
            .get_short_and_visible_aliases()
            .unwrap_or_default()
            .into_iter()
            .any(|short| name == short.to_string()),
    });
    let words: Vec<String> = match arg.map(|arg| arg.get_id().as_str()) {
        Some("svg" | "html") => return Completion::Files,
        Some("command" | "recover") => return Completion::Programs,
        Some("until") => vec!["command".to_owned(), "tree".to_owned()],
        Some("on-abandoned") => vec!["run".to_owned(), "fail".to_owned()],
        Some("signal") => values::signal_names(),
        Some("mode") => ["600", "660", "666"].map(str::to_owned).into(),
        _ => return Completion::Nothing,
    };
    let words = words.into_iter().filter(|word| word.starts_with(begun));
    Completion::Words(words.map(|word| (format!("{before}{word}"), String::new())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<String> {
        let locks = || {
            vec![
                ("bus".to_owned(), "free".to_owned()),
                ("list".to_owned(), "locked".to_owned()),
            ]
        };
        match complete(line.iter().map(OsString::from).collect(), locks) {
            Completion::Words(words) => words.into_iter().map(|(word, _)| word).collect(),
            other => panic!("{line:?}: {other:?}"),
        }
    }

    fn other(line: &[&str]) -> Completion {
        complete(line.iter().map(OsString::from).collect(), Vec::new)
    }

    #[test]
    fn locks_and_commands() {
        assert_eq!(words(&[""]), ["bus", "/list", "list", "doctor", "completions", "help"]);
        assert_eq!(words(&["b"]), ["bus"]);
        assert_eq!(words(&["-t", "5", "b"]), ["bus"]);
        assert_eq!(words(&["bus", "st"]), ["state"]);
        assert_eq!(words(&["-n", "bus", "r"]), ["run", "remove"]);
        assert_eq!(words(&["/list", "un"]), ["unget"]);
        assert_eq!(words(&["completions", ""]), ["bash", "zsh", "fish"]);
        assert_eq!(words(&["help", "tr"]), ["trace"]);
        assert_eq!(other(&["bus", "gte", ""]), Completion::Nothing);
    }

    #[test]
    fn options_and_their_values() {
        assert_eq!(words(&["bus", "run", "--un"]), ["--until"]);
        assert_eq!(words(&["bus", "run", "--until", ""]), ["command", "tree"]);
        assert_eq!(words(&["bus", "run", "--until=t"]), ["--until=tree"]);
        assert_eq!(words(&["bus", "run", "--signal", "US"]), ["USR1", "USR2"]);
        assert_eq!(words(&["--pi"]), ["--pid"]);
        assert_eq!(words(&["list", "--p"]), ["--prometheus"]);
        assert_eq!(words(&["doctor", ""]), words(&["doctor", "--"]));
        assert_eq!(
            words(&["bus", "state", "--up"]),
            [""; 0],
            "what is ignored is not offered"
        );
        assert_eq!(other(&["bus", "history", "--svg", "a"]), Completion::Files);
        assert_eq!(other(&["bus", "run", "-c", "a"]), Completion::Programs);
        assert_eq!(other(&["bus", "run", "-t", ""]), Completion::Nothing);
    }

    #[test]
    fn the_command_of_run_is_the_shells_business() {
        assert_eq!(other(&["bus", "run", "l"]), Completion::CommandLine(2));
        assert_eq!(other(&["bus", "run", "-n", "--", "-"]), Completion::CommandLine(4));
        assert_eq!(other(&["-t", "5", "bus", "run", "ls", "-"]), Completion::CommandLine(4));
        assert_eq!(other(&["list", "run", "ls"]), Completion::CommandLine(2));
    }

    #[test]
    fn every_shown_option_is_offered() {
        for command in Command::ALL {
            let offered = long_options(Some(command));
            for arg in super::super::definition(command)
                .get_arguments()
                .filter(|arg| !arg.is_hide_set())
            {
                for long in arg.get_long_and_visible_aliases().unwrap_or_default() {
                    assert!(
                        offered.iter().any(|(option, _)| *option == format!("--{long}")),
                        "{command:?} --{long}"
                    );
                }
            }
        }
    }
}
