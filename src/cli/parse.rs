//! From words to a command with typed values.

use super::args::{Common, HistoryArgs, Name, Payload, Task};
use super::arrange::{self, Arranged, Given};
use super::command::Command;
use super::help;
use super::options::{Need, OptionDef, options_of};
use super::patterns::is_pattern;
use super::usage::{Usage, show, typed};
use super::values::Value;
use resourcelock::Wait;
use std::ffi::{OsStr, OsString};

/// What a command line asks for.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // there is one, for a moment
pub enum Parsed {
    /// Something to do.
    Invocation(Invocation),
    /// A text to print: help or version.
    Text(clap::builder::StyledStr),
}

/// Something to do.
#[derive(Debug)]
pub struct Invocation {
    /// The options of every command.
    pub common: Common,
    /// The command with its own options.
    pub task: Task,
    /// The command.
    pub command: Command,
    /// The options that were given, in the order in which they were typed.
    pub given: Vec<Given>,
}

/// Something that was asked for and needs what the engine does not have.
#[derive(Debug, PartialEq, Eq)]
pub struct Lack<'a> {
    /// The option as it was typed, or the command.
    pub what: &'a str,
    /// What is missing.
    pub need: Need,
    /// Why it is needed, and what to do instead.
    pub why: &'static str,
}

impl Invocation {
    /// Returns the first thing, the command itself or an option, that needs what the engine does not have. An option that
    /// is given with its default value needs nothing.
    pub fn lacks(&self, has: impl Fn(Need) -> bool) -> Option<Lack<'_>> {
        let is_given = |name: &str| self.given.iter().any(|given| given.option.name == name);
        let asks = |given: &&Given| {
            let preset = given.option.preset_for(self.command);
            preset.is_none_or(|preset| given.value.as_deref() != Some(OsStr::new(preset)))
        };
        let command = (self.command.word(), self.command.def().needs);
        let options = self.given.iter().filter(asks);
        std::iter::once(command)
            .chain(options.map(|given| (given.typed.as_str(), given.option.needs)))
            .filter_map(|(what, needs)| Some((what, needs?)))
            .find(|(_, needs)| !has(needs.need) && !needs.unless.is_some_and(is_given))
            .map(|(what, needs)| Lack {
                what,
                need: needs.need,
                why: needs.why,
            })
    }
}

/// Parses a command line without the program's own name.
///
/// # Errors
/// [`Usage`] says in one line what is wrong and what to do.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Parsed, Usage> {
    match arrange::arrange(words).map_err(Usage::disorder)? {
        Arranged::Version => Ok(Parsed::Text(help::version())),
        Arranged::Help(None) => Ok(Parsed::Text(help::overview())),
        Arranged::Help(Some(command)) => Ok(Parsed::Text(help::of(command))),
        Arranged::Line {
            name,
            command,
            options,
            unknown,
            operands,
        } => match unknown.first() {
            Some(word) => Err(Usage::unknown_option(command, word)),
            None => read(name, command, options, operands).map(Parsed::Invocation),
        },
    }
}

fn read(
    name: Option<OsString>,
    command: Command,
    given: Vec<Given>,
    operands: Vec<OsString>,
) -> Result<Invocation, Usage> {
    let name = name
        .map(OsString::into_string)
        .transpose()
        .map_err(|_| Usage::new(command, "a lock's name must be valid UTF-8"))?;
    let mut common = Common::default();
    let mut task = Task::new(command, name.map(Name));
    for option in options_of(Some(command)) {
        if let Some(preset) = option.preset_for(command) {
            store(
                option,
                option.name,
                Some(OsStr::new(preset)),
                &mut common,
                &mut task,
                command,
            )?;
        }
    }
    for (at, Given { option, typed, value }) in given.iter().enumerate() {
        let stored = store(option, typed, value.as_deref(), &mut common, &mut task, command);
        // The last one wins, so the others need not be valid, unless all of them count.
        if option.repeats || !given[at + 1..].iter().any(|later| std::ptr::eq(later.option, *option)) {
            stored?;
        }
    }
    check_together(command, &given)?;
    take_operands(&mut task, operands).map_err(|what| Usage::new(command, what))?;
    Ok(Invocation {
        common,
        task,
        command,
        given,
    })
}

fn store(
    option: &OptionDef,
    typed: &str,
    value: Option<&OsStr>,
    common: &mut Common,
    task: &mut Task,
    command: Command,
) -> Result<(), Usage> {
    let value = value.unwrap_or_default();
    let stored = option.store(common, task, &Value(value));
    stored.map_err(|why| Usage::value(command, typed, value, &why))
}

/// Refuses options that contradict each other, and those that mean nothing without another one.
fn check_together(command: Command, given: &[Given]) -> Result<(), Usage> {
    let is_given = |name: &str| given.iter().any(|other| other.option.name == name);
    for option in given.iter().map(|given| given.option) {
        if let Some(conflict) = &option.conflicts
            && let Some(other) = conflict.with.iter().find(|other| is_given(other))
        {
            return Err(Usage::new(command, conflict.why.replace("{}", other)));
        }
        if let Some(main) = option.refines
            && !is_given(main)
        {
            return Err(Usage::new(
                command,
                format!("--{} means nothing without --{main}", option.name),
            ));
        }
    }
    Ok(())
}

/// Reads the operands, and checks what depends on them or on values.
fn take_operands(task: &mut Task, operands: Vec<OsString>) -> Result<(), String> {
    let mut operands = operands.into_iter();
    match task {
        Task::Run(run) => {
            let words: Vec<OsString> = operands.by_ref().collect();
            match (&run.payload, words.is_empty()) {
                (Payload::Words(_), false) => run.payload = Payload::Words(words),
                (Payload::Shell(_), true) => {}
                (Payload::Shell(_), false) => return Err("either -c or COMMAND, not both".to_owned()),
                (Payload::Words(_), true) => {
                    return Err("which command? resourcelock NAME run [--] COMMAND [ARG...]".to_owned());
                }
            }
            if run.replace && run.request.wait == Wait::No {
                return Err("--replace waits until the holder has ended, which -n (-t 0) does not allow".to_owned());
            }
        }
        Task::Remove(remove) => {
            remove.names.extend(names(operands.by_ref())?);
            if remove.force && remove.names.iter().any(|name| is_pattern(name)) {
                return Err("--force removes locks in use, so it takes names only, no patterns (a name with '*', '?' or '[' is \
                            typed with a slash in front)"
                    .to_owned());
            }
        }
        Task::Prune(prune) => prune.patterns = names(operands.by_ref())?,
        Task::Completions(completions) => {
            const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];
            let shell = operands.next().ok_or("SHELL is missing: bash, zsh or fish")?;
            let known = SHELLS.into_iter().find(|known| shell == *known);
            known
                .ok_or_else(|| format!("'{}' is not a known shell: use bash, zsh or fish", show(&shell)))?
                .clone_into(&mut completions.shell);
            completions.words = operands.by_ref().collect();
        }
        _ => {}
    }
    match operands.next() {
        Some(word) if matches!(task, Task::History(HistoryArgs { name: None, .. })) => Err(format!(
            "the lock's name comes first: resourcelock {} history",
            typed(&word)
        )),
        Some(word) => Err(format!("unexpected word '{}'", show(&word))),
        None => Ok(()),
    }
}

/// Operands that are names of locks, or patterns.
fn names(words: impl Iterator<Item = OsString>) -> Result<Vec<Name>, String> {
    let name = |word: OsString| word.into_string().map(Name);
    let names: Result<_, _> = words.map(name).collect();
    names.map_err(|_| "a lock's name must be valid UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::options::OPTIONS;
    use crate::cli::{OnAbandoned, RunArgs, Until};
    use resourcelock::Mode;
    use std::time::Duration;

    fn parse_words(line: &[&str]) -> Result<Parsed, Usage> {
        parse(line.iter().map(OsString::from))
    }

    fn invocation(line: &[&str]) -> Invocation {
        match parse_words(line) {
            Ok(Parsed::Invocation(invocation)) => invocation,
            other => panic!("{line:?} became {other:?}"),
        }
    }

    fn run(line: &[&str]) -> RunArgs {
        match invocation(line).task {
            Task::Run(args) => *args,
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
            assert_eq!(args.request.wait, Wait::Forever, "{line:?}");
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
            assert_eq!(run(line).request.wait, Wait::No, "{line:?}");
        }
        assert_eq!(run(&["bus", "run", "-n", "-t", "-1", "ls"]).request.wait, Wait::Forever);
        assert_eq!(
            run(&["bus", "run", "-n", "-t", "2", "ls"]).request.wait,
            Wait::For(Duration::from_secs(2))
        );
        assert_eq!(run(&["bus", "run", "-sx", "ls"]).request.mode, Mode::Exclusive);
        assert_eq!(run(&["bus", "run", "-e", "-s", "ls"]).request.mode, Mode::Shared);
        assert_eq!(run(&["bus", "run", "-j3", "ls"]).request.mode, Mode::Slots(3));
        assert_eq!(run(&["bus", "run", "-t", "x", "-t", "0", "ls"]).request.wait, Wait::No);
        assert_eq!(run(&["bus", "run", "-oE0", "ls"]).request.conflict_exit_code, Some(0));
    }

    #[test]
    fn every_value_of_run_arrives() {
        let Invocation { common, task, .. } = invocation(&[
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
            "--owner",
            "pi",
            "--owner=1001",
            "--same-process-ok",
            "-c",
            "echo a b",
        ]);
        let Task::Run(args) = task else { panic!("{task:?}") };
        assert_eq!(args.payload, Payload::Shell("echo a b".into()));
        assert_eq!(args.limit, Some(Duration::from_secs(120)));
        assert_eq!(args.kill_after, Some(Duration::from_millis(500)));
        assert_eq!(args.signal, libc::SIGINT);
        assert_eq!((args.until, args.on_abandoned), (Until::Tree, OnAbandoned::Fail));
        assert!(args.replace && args.request.same_process_ok);
        assert_eq!(args.recover, Some("reset it".into()));
        assert_eq!(args.message.as_deref(), Some("why"));
        assert_eq!(
            (common.access.mode, common.access.group.as_deref()),
            (Some(0o660), Some("i2c"))
        );
        assert_eq!(common.access.owners, ["pi", "1001"]);
        assert_eq!(run(&["bus", "run", "--limit", "0", "ls"]).limit, None);
        assert_eq!(run(&["bus", "run", "-cls -l"]).payload, Payload::Shell("ls -l".into()));
        assert_eq!(run(&["bus", "run", "-c", ""]).payload, Payload::Shell("".into()));
    }

    #[test]
    fn commands_without_a_name_and_locks_named_like_them() {
        let task = |line: &[&str]| invocation(line).task;
        assert!(matches!(task(&["list"]), Task::List(_)));
        assert!(matches!(task(&["--json", "list"]), Task::List(args) if args.json));
        assert!(matches!(task(&["doctor", "--fix"]), Task::Doctor(args) if args.fix));
        assert!(matches!(task(&["completions", "zsh"]), Task::Completions(args) if args.shell == "zsh"));
        assert!(matches!(task(&["list", "state"]), Task::State(args) if *args.name == *"list"));
        assert!(matches!(task(&["/list", "state"]), Task::State(args) if *args.name == *"/list"));
        assert!(matches!(task(&["completions", "get"]), Task::Get(args) if *args.name == *"completions"));
        assert!(matches!(task(&["get", "get"]), Task::Get(args) if *args.name == *"get"));
        assert!(matches!(task(&["/help", "state"]), Task::State(args) if *args.name == *"/help"));
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
            (&["bus"], "what to do with bus? one of run, get"),
            (&["get"], "which lock? The name comes first"),
            (&["get", "bus"], "resourcelock bus get"),
            (&["bus", "gte"], "did you mean 'get'?"),
            (&["bus", "unlock"], "did you mean 'unget'?"),
            (&["bus", "status"], "did you mean 'state'?"),
            (&["sate", "bus"], "did you mean: resourcelock bus state"),
            (
                &["bus", "sleep", "5"],
                "to run a program: resourcelock bus run -- sleep 5",
            ),
            (
                &["bus", "list"],
                "no command 'list' for a lock; did you mean: resourcelock list",
            ),
            (&["ls"], "or did you mean 'list'?"),
            (&["bus", "get", "--mesage", "x"], "did you mean '--message'?"),
            (&["--tiemout", "5", "bus", "get"], "did you mean '--timeout'?"),
            (&["bus", "get", "-t"], "'-t' needs a value"),
            (&["bus", "get", "-t", "-x"], "'-t' needs a value"),
            (&["bus", "get", "-n=1"], "'-n' takes no value"),
            (&["bus", "get", "-t", "nan"], "invalid value 'nan' for '-t': not a time"),
            (
                &["bus", "get", "-E", "256"],
                "invalid value '256' for '-E': not a status from 0 to 255",
            ),
            (&["bus", "get", "-j", "0"], "invalid value '0' for '-j'"),
            (&["bus", "get", "--ttl", "0"], "'--ttl': the time must be longer than 0"),
            (&["bus", "get", "-a", "0"], "'-a': the time must be longer than 0"),
            (&["bus", "run", "--unt", "x", "ls"], "for '--unt': use command or tree"),
            (&["bus", "state", "-u", "x"], "for '-u': not a time"),
            (&["bus", "state", "--wait", "5"], "'--wait' is an option of run and get"),
            (
                &["bus", "run", "-k", "5", "ls"],
                "--kill-after means nothing without --limit",
            ),
            (&["bus", "run", "--nonblok", "ls"], "did you mean '--nonblock'?"),
            (
                &["bus", "state", "-E", "5"],
                "is an option of run and get, not of state",
            ),
            (&["bus", "get", "more"], "unexpected word 'more'"),
            (&["list", "more"], "unexpected word 'more'"),
            (&["bus", "get", "--ver"], "--verbose or --version"),
            (&["completions"], "SHELL is missing"),
            (&["completions", "csh"], "'csh' is not a known shell"),
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
            &["bus", "get", "-a", "1", "--forever"],
            &["list", "--json", "--prometheus"],
        ] {
            refusal(line);
        }
        run(&["bus", "run", "--replace", "-n", "-t", "5", "ls"]);
    }

    #[test]
    fn defaults() {
        let get = |line: &[&str]| match invocation(line).task {
            Task::Get(args) => args,
            other => panic!("{line:?} became {other:?}"),
        };
        let args = get(&["bus", "get"]);
        assert_eq!(args.request.wait, Wait::For(Duration::from_millis(500)));
        assert_eq!((args.message.as_str(), args.auto_unget), ("cli", None));
        assert_eq!(get(&["bus", "get", "-m", ""]).message, "");
        let args = run(&["bus", "run", "ls"]);
        assert_eq!((args.request.wait, args.message), (Wait::Forever, None));
        assert_eq!((args.signal, args.until), (libc::SIGTERM, Until::Command));
        assert!(
            matches!(invocation(&["bus", "trace"]).task, Task::Trace(args) if args.update == Duration::from_millis(500))
        );
    }

    /// What an engine without this machine's files, processes and history refuses.
    #[test]
    fn what_an_engine_lacks() {
        let lacks = |line: &[&str], has: &[Need]| {
            let invocation = invocation(line);
            let lack = invocation.lacks(|need| has.contains(&need));
            lack.map(|lack| (lack.what.to_owned(), lack.need))
        };
        let etcd = [Need::Lease, Need::Detached, Need::Slots];
        let postgres = [Need::Lease];
        let local = [
            Need::Local,
            Need::Files,
            Need::Processes,
            Need::Detached,
            Need::Slots,
            Need::Abandoned,
            Need::History,
        ];
        for (line, what, need) in [
            (&["bus", "run", "-F", "ls"][..], "-F", Need::Processes),
            (&["bus", "run", "--no-f", "ls"], "--no-f", Need::Processes),
            (&["bus", "run", "--replace", "ls"], "--replace", Need::Local),
            (
                &["bus", "run", "--on-abandoned", "fail", "ls"],
                "--on-abandoned",
                Need::Abandoned,
            ),
            (&["bus", "run", "--recover", "x", "ls"], "--recover", Need::Abandoned),
            (&["bus", "run", "--mode", "660", "ls"], "--mode", Need::Files),
            (&["bus", "get", "-a", "1", "--group", "g"], "--group", Need::Files),
            (&["bus", "get", "--pid", "1", "-a", "1"], "--pid", Need::Processes),
            (&["bus", "unget", "--pid", "1"], "--pid", Need::Processes),
            (&["bus", "history"], "history", Need::History),
            (&["bus", "remove"], "remove", Need::Files),
            (&["doctor"], "doctor", Need::Files),
        ] {
            for engine in [&etcd[..], &postgres[..]] {
                assert_eq!(lacks(line, engine), Some((what.to_owned(), need)), "{line:?}");
            }
            assert_eq!(lacks(line, &local), None, "{line:?}");
        }
        for (line, what, need) in [
            (&["bus", "get"][..], "get", Need::Detached),
            (&["bus", "get", "--pid", "1"], "get", Need::Detached),
            (&["bus", "run", "-j", "2", "ls"], "-j", Need::Slots),
        ] {
            assert_eq!(lacks(line, &postgres), Some((what.to_owned(), need)), "{line:?}");
        }
        for line in [
            &["bus", "get", "-a", "1", "--ttl", "6"][..],
            &["bus", "run", "--on-abandoned", "run", "--until", "tree", "ls"],
            &["bus", "state", "--mine"],
            &["list"],
        ] {
            assert_eq!(lacks(line, &postgres), None, "{line:?}");
        }
        assert_eq!(
            lacks(&["bus", "run", "--ttl", "6", "ls"], &local),
            Some(("--ttl".to_owned(), Need::Lease))
        );
    }

    /// Words that mean something, and any others.
    fn word() -> impl proptest::strategy::Strategy<Value = OsString> {
        use proptest::prelude::*;
        use std::os::unix::ffi::OsStringExt;
        let option = (0..OPTIONS.len(), "=?\\PC{0,4}").prop_map(|(at, value)| format!("--{}{value}", OPTIONS[at].name));
        prop_oneof![
            Just("bus".into()),
            Just("--".into()),
            proptest::sample::select(Command::ALL.to_vec()).prop_map(|command| command.word().into()),
            option.prop_map(OsString::from),
            "-[a-zA-Z]{1,3}=?[0-9.]{0,3}".prop_map(OsString::from),
            "\\PC{0,6}".prop_map(OsString::from),
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(OsString::from_vec),
        ]
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read_or_refused_in_one_line(line in proptest::collection::vec(word(), 0..7)) {
            match parse(line) {
                Ok(Parsed::Invocation(invocation)) => {
                    let _ = invocation.lacks(|_| false);
                    if let Task::Run(run) = &invocation.task {
                        let _ = run.meant_signal();
                    }
                }
                Ok(Parsed::Text(_)) => {}
                Err(usage) => proptest::prop_assert_eq!(usage.to_string().lines().count(), 1),
            }
        }
    }
}
