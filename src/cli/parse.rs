//! From words to a typed command.

use super::args::{self, Common, Task};
use super::quick;
use super::usage::Usage;
use super::words::{self, Arranged, Command, Opt};
use std::ffi::{OsStr, OsString};

/// What a command line asks for.
#[derive(Debug)]
pub enum Parsed {
    /// Something to do.
    Task(Common, Task),
    /// A text to print: help or version.
    Text(clap::builder::StyledStr),
}

/// Reads a command line without the program's own name.
///
/// # Errors
/// [`Usage`] says in one line what is wrong and what to do.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Parsed, Usage> {
    let words: Vec<OsString> = words.into_iter().collect();
    match quick::read(&words) {
        Some((common, task)) => Ok(Parsed::Task(common, task)),
        None => generally(words),
    }
}

/// The same for every line, at the cost of building the definitions.
pub(super) fn generally(words: Vec<OsString>) -> Result<Parsed, Usage> {
    match words::arrange(words, options).map_err(Usage::disorder)? {
        Arranged::Version => Ok(Parsed::Text(super::tree().render_version().into())),
        Arranged::Help(None) => Ok(Parsed::Text(super::tree().render_help())),
        Arranged::Help(Some(command)) => Ok(Parsed::Text(super::definition(command).render_help())),
        Arranged::Line {
            name,
            command,
            options,
            operands,
        } => {
            // Their operands are other programs' words: options among them are not ours.
            let foreign = matches!(command, Command::Run | Command::Completions);
            let separator = foreign.then(|| OsString::from("--"));
            let words = std::iter::once(OsString::from("resourcelock"))
                .chain(options)
                .chain(separator)
                .chain(operands);
            let mut matches = super::definition(command)
                .try_get_matches_from(words)
                .map_err(|error| Usage::refused(command, &error))?;
            let (common, task) = args::read(command, name.as_deref().map(OsStr::new), &mut matches)?;
            Ok(Parsed::Task(common, task))
        }
    }
}

/// The options of a command, or of all, as the ordering step wants them.
pub(super) fn options(command: Option<Command>) -> Vec<Opt> {
    let definition = match command {
        Some(command) => super::definition(command),
        None => super::all_options(),
    };
    definition
        .get_arguments()
        .filter(|arg| arg.get_long().is_some())
        .map(|arg| Opt {
            shorts: arg.get_short_and_visible_aliases().unwrap_or_default(),
            longs: arg
                .get_long_and_visible_aliases()
                .unwrap_or_default()
                .into_iter()
                .map(str::to_owned)
                .collect(),
            value: arg.get_action().takes_values(),
            text: matches!(
                arg.get_id().as_str(),
                "command" | "recover" | "backend" | "group" | "svg" | "html"
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{OnAbandoned, Payload, RunArgs, Until};
    use resourcelock::{Mode, Wait};
    use std::time::Duration;

    fn parse_words(line: &[&str]) -> Result<Parsed, Usage> {
        parse(line.iter().map(OsString::from))
    }

    fn run(line: &[&str]) -> RunArgs {
        match parse_words(line) {
            Ok(Parsed::Task(_, Task::Run(args))) => *args,
            other => panic!("{line:?} became {other:?}"),
        }
    }

    fn refusal(line: &[&str]) -> String {
        match parse_words(line) {
            Err(usage) => usage.to_string(),
            other => panic!("{line:?} became {other:?}"),
        }
    }

    #[test]
    fn what_follows_the_command_of_run_is_its_own() {
        for (line, words) in [
            (&["bus", "run", "ls", "-l", "-n"][..], &["ls", "-l", "-n"][..]),
            (&["bus", "run", "--", "ls", "-l"], &["ls", "-l"]),
            (&["bus", "run", "ls", "--", "-h"], &["ls", "--", "-h"]),
            (&["bus", "run", "--", "--", "x"], &["--", "x"]),
            (&["bus", "run", "--", "-n", "x"], &["-n", "x"]),
            (&["--", "bus", "run", "ls", "-n"], &["ls", "-n"]),
            (&["--", "bus", "run", "--", "ls"], &["ls"]),
            (&["bus", "--", "run", "-n", "x"], &["-n", "x"]),
            (&["list", "run", "ls"], &["ls"]),
            (&["bus", "run", "--", ""], &[""]),
            (&["bus", "run", "run", "get"], &["run", "get"]),
        ] {
            let args = run(line);
            assert_eq!(
                args.payload,
                Payload::Words(words.iter().map(OsString::from).collect()),
                "{line:?}"
            );
            assert_eq!(args.wait, Wait::Forever, "{line:?}");
        }
    }

    #[test]
    fn options_of_run_stand_before_its_command() {
        for line in [
            &["bus", "run", "-n", "ls", "-l"][..],
            &["-n", "bus", "run", "ls"],
            &["bus", "-t", "0", "run", "--", "ls"],
            &["bus", "run", "-t", "5", "--nb", "ls"],
            &["bus", "run", "-w0", "ls"],
            &["bus", "run", "--wait", "0", "ls"],
            &["bus", "run", "--timeou=0", "ls"],
        ] {
            assert_eq!(run(line).wait, Wait::No, "{line:?}");
        }
        assert_eq!(run(&["bus", "run", "-n", "-t", "-1", "ls"]).wait, Wait::Forever);
        assert_eq!(
            run(&["bus", "run", "-n", "-t", "2", "ls"]).wait,
            Wait::For(Duration::from_secs(2))
        );
        assert_eq!(run(&["bus", "run", "-sx", "ls"]).mode, Mode::Exclusive);
        assert_eq!(run(&["bus", "run", "-e", "-s", "ls"]).mode, Mode::Shared);
        assert_eq!(run(&["bus", "run", "-j3", "ls"]).mode, Mode::Slots(3));
        assert_eq!(run(&["bus", "run", "-oE0", "ls"]).conflict_exit_code, Some(0));
    }

    #[test]
    fn every_value_of_run_arrives() {
        let args = run(&[
            "bus",
            "run",
            "--limit",
            "2m",
            "-k",
            "500ms",
            "--signal",
            "INT",
            "--until",
            "tree",
            "--replace",
            "--on-abandoned",
            "fail",
            "--recover",
            "reset it",
            "-m",
            "why",
            "--mode",
            "660",
            "--group",
            "i2c",
            "--same-process-ok",
            "-c",
            "echo a b",
        ]);
        assert_eq!(args.payload, Payload::Shell("echo a b".into()));
        assert_eq!(args.limit, Some(Duration::from_secs(120)));
        assert_eq!(args.kill_after, Some(Duration::from_millis(500)));
        assert_eq!(args.signal, Some(2));
        assert_eq!((args.until, args.on_abandoned), (Until::Tree, OnAbandoned::Fail));
        assert!(args.replace && args.same_process_ok);
        assert_eq!(args.recover, Some("reset it".into()));
        assert_eq!(args.message.as_deref(), Some("why"));
        assert_eq!(
            (args.create.mode, args.create.group.as_deref()),
            (Some(0o660), Some("i2c"))
        );
        assert_eq!(run(&["bus", "run", "--limit", "0", "ls"]).limit, None);
        assert_eq!(run(&["bus", "run", "-cls -l"]).payload, Payload::Shell("ls -l".into()));
        assert_eq!(run(&["bus", "run", "-c", ""]).payload, Payload::Shell("".into()));
    }

    #[test]
    fn words_of_their_own_and_locks_that_are_called_like_them() {
        let task = |line: &[&str]| match parse_words(line) {
            Ok(Parsed::Task(_, task)) => task,
            other => panic!("{line:?} became {other:?}"),
        };
        assert!(matches!(task(&["list"]), Task::List(_)));
        assert!(matches!(task(&["--json", "list"]), Task::List(args) if args.json));
        assert!(matches!(task(&["doctor", "--fix"]), Task::Doctor(args) if args.fix));
        assert!(matches!(task(&["completions", "zsh"]), Task::Completions(args) if args.shell == "zsh"));
        assert!(matches!(task(&["list", "state"]), Task::State(args) if args.name == "list"));
        assert!(matches!(task(&["/list", "state"]), Task::State(args) if args.name == "/list"));
        assert!(matches!(task(&["completions", "get"]), Task::Get(args) if args.name == "completions"));
        assert!(matches!(task(&["get", "get"]), Task::Get(args) if args.name == "get"));
        assert!(matches!(task(&["/help", "state"]), Task::State(args) if args.name == "/help"));
        for line in [
            &["help"][..],
            &["help", "state"],
            &["bus", "get", "-h"],
            &["get", "-h"],
            &["-h"],
            &["help", "help"],
        ] {
            assert!(matches!(parse_words(line), Ok(Parsed::Text(_))), "{line:?}");
        }
    }

    #[test]
    fn mistakes_name_the_right_word() {
        for (line, part) in [
            (&[][..], "which lock"),
            (&["bus"], "bus: what to do with it? one of run, get"),
            (&["get"], "which lock? The name comes first"),
            (&["get", "bus"], "resourcelock bus get"),
            (&["bus", "gte"], "did you mean 'get'?"),
            (&["bus", "unlock"], "did you mean 'unget'?"),
            (&["bus", "status"], "did you mean 'state'?"),
            (&["sate", "bus"], "did you mean 'resourcelock bus state'?"),
            (
                &["bus", "sleep", "5"],
                "to run a program: resourcelock bus run -- sleep",
            ),
            (
                &["bus", "list"],
                "no command 'list' of a lock; did you mean 'resourcelock list'?",
            ),
            (&["ls"], "or did you mean 'list'?"),
            (&["bus", "get", "--mesage", "x"], "did you mean '--message'?"),
            (&["--tiemout", "5", "bus", "get"], "did you mean '--timeout'?"),
            (&["bus", "get", "-t"], "'-t' needs a value"),
            (&["bus", "get", "-t", "-x"], "'-t' needs a value"),
            (&["bus", "get", "-n=1"], "'-n' takes no value"),
            (
                &["bus", "get", "-t", "nan"],
                "'nan' for '--get-timeout <SECS>': not a time",
            ),
            (&["bus", "get", "-E", "256"], "256 is not in 0..=255"),
            (&["bus", "get", "-j", "0"], "'0' for '--slots <N>'"),
            (
                &["bus", "state", "-E", "5"],
                "is an option of run and get, not of state",
            ),
            (&["bus", "get", "more"], "'more' is too much here"),
            (&["list", "more"], "'more' is too much here"),
            (&["bus", "get", "--ver"], "--verbose or --version"),
            (&["completions"], "<SHELL> is missing"),
            (&["help", "lits"], "did you mean 'list'?"),
            (&["bus", "run"], "which command?"),
            (&["bus", "run", "-n"], "which command?"),
        ] {
            let refusal = refusal(line);
            assert!(refusal.contains(part), "{line:?}: {refusal}");
            assert_eq!(refusal.lines().count(), 1, "{refusal}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for line in [
            &["bus", "run", "-F", "--limit", "5", "ls"][..],
            &["bus", "run", "-F", "--limit", "5", "-k", "1", "ls"],
            &["bus", "run", "-F", "--until", "tree", "ls"],
            &["bus", "run", "--replace", "-n", "ls"],
            &["bus", "run", "--replace", "-t", "0", "ls"],
            &["bus", "run", "-c", "ls", "ls"],
            &["bus", "run", "-k", "5", "ls"],
            &["bus", "run", "--signal", "INT", "ls"],
            &["bus", "trace", "-f", "-u", "1"],
            &["bus", "unget", "--pid", "1", "--token", "1"],
            &["bus", "get", "--ttl", "1", "--forever"],
            &["list", "--json", "--prometheus"],
        ] {
            refusal(line);
        }
        run(&["bus", "run", "--replace", "-n", "-t", "5", "ls"]);
    }
}
