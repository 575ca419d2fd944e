//! The options: everything that is known about each of them, once. Parser, help, man page, completion and refusals read
//! the table, which is in `options/table.rs`; here is what can be said there.
//!
//! A new option of `run` is an entry in [`OPTIONS`] and a field of [`RunArgs`] that its `set` writes.

mod table;

pub use table::OPTIONS;
#[cfg(test)]
pub use table::{CREATE_NOTHING, LOCAL};

use super::args::{
    Common, DoctorArgs, GetArgs, HistoryArgs, ListArgs, PruneArgs, RemoveArgs, Request, RunArgs, StateArgs, StopArgs,
    Task, TraceArgs, UngetArgs,
};
use super::command::Command;
use super::values::Value;

/// What an option, or a command, needs from the engine that keeps the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// All users of the lock are on this machine.
    Local,
    /// A lock has files.
    Files,
    /// It knows the processes of this machine.
    Processes,
    /// Leases, which end unless they are renewed.
    Lease,
    /// Holds that outlive the process that acquired them.
    Detached,
    /// Counting locks.
    Slots,
    /// It reports that the previous holder died.
    Abandoned,
    /// It keeps a history.
    History,
    /// It counts skipped runs.
    Skips,
}

impl Need {
    /// For the man page: where an option with this need works.
    #[cfg(test)]
    pub fn where_met(self) -> &'static str {
        match self {
            Self::Local | Self::Files | Self::Processes | Self::Abandoned | Self::History => {
                "Only for locks of this machine."
            }
            Self::Lease => "Only on engines.",
            Self::Detached | Self::Slots | Self::Skips => "Not on PostgreSQL.",
        }
    }
}

/// A need, and what the user is told where it is not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    /// What is needed.
    pub need: Need,
    /// Why it is needed, and what to do instead; shown after "not on ENGINE: --option: ".
    pub why: &'static str,
    /// With this other option, it is not needed.
    pub unless: Option<&'static str>,
}

/// What kind of value an option takes, for completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A time.
    Time,
    /// A number.
    Number,
    /// Free text.
    Text,
    /// A command line.
    Command,
    /// A file.
    File,
    /// A group of users.
    Group,
    /// A user.
    User,
    /// A lock.
    Lock,
    /// A process ID.
    Process,
    /// Permission bits.
    Permissions,
    /// A signal.
    Signal,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// What applies if an option is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Off, or not given.
    None,
    /// The same as with this value.
    Value(&'static str),
    /// The same as with this value, for each command.
    ValueFor(&'static [(Command, &'static str)]),
    /// This, by a decision that is made elsewhere.
    Said(&'static str),
}

/// Options that cannot be used together with this one.
pub struct Conflict {
    /// Their names.
    pub with: &'static [&'static str],
    /// Why not; `{}` stands for the other's name.
    pub why: &'static str,
}

/// How the value gets into its field.
pub enum Set {
    Common(fn(&mut Common, &Value<'_>) -> Stored),
    Request(fn(&mut Request, &Value<'_>) -> Stored),
    Run(fn(&mut RunArgs, &Value<'_>) -> Stored),
    Get(fn(&mut GetArgs, &Value<'_>) -> Stored),
    Unget(fn(&mut UngetArgs, &Value<'_>) -> Stored),
    Stop(fn(&mut StopArgs, &Value<'_>) -> Stored),
    State(fn(&mut StateArgs, &Value<'_>) -> Stored),
    Trace(fn(&mut TraceArgs, &Value<'_>) -> Stored),
    History(fn(&mut HistoryArgs, &Value<'_>) -> Stored),
    Remove(fn(&mut RemoveArgs, &Value<'_>) -> Stored),
    Prune(fn(&mut PruneArgs, &Value<'_>) -> Stored),
    List(fn(&mut ListArgs, &Value<'_>) -> Stored),
    Doctor(fn(&mut DoctorArgs, &Value<'_>) -> Stored),
    /// `-t` of the command that has it.
    Wait,
    /// The note of the command that has one.
    Message,
    /// `--json` of the command that has it.
    Json,
    /// Nowhere: it is accepted for compatibility.
    Nothing,
}

/// The error says what is wrong with the value.
type Stored = Result<(), String>;

fn put<T>(field: &mut T, value: T) -> Stored {
    *field = value;
    Ok(())
}

/// One option.
pub struct OptionDef {
    /// The name, without dashes.
    pub name: &'static str,
    /// One-letter spellings; the first one is the usual one.
    pub letters: &'static [char],
    /// The letters are read behind the command word only: before it, they mean another option.
    pub late_letters: bool,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// The commands that have it.
    pub commands: &'static [Command],
    /// The commands that accept it, by its name and first letter, and ignore it: the Python tool accepts its four options
    /// with every command.
    pub ignored_by: &'static [Command],
    /// The name of its value in help, and its kind; `None` if it takes no value.
    pub value: Option<(&'static str, Kind)>,
    /// What applies if it is not given.
    pub preset: Preset,
    /// One sentence for help, without a full stop. The default is appended.
    pub help: &'static str,
    /// Further sentences for the man page.
    #[cfg_attr(not(test), allow(dead_code, reason = "a test writes the man page"))]
    pub more: &'static str,
    /// It counts how often it is given.
    pub counted: bool,
    /// If it is given several times, all values count.
    pub repeats: bool,
    /// Not in help.
    pub hidden: bool,
    /// What it needs from the engine.
    pub needs: Option<Requirement>,
    /// What it cannot be used together with.
    pub conflicts: Option<Conflict>,
    /// The option without which this one means nothing.
    pub refines: Option<&'static str>,
    /// Where its value goes.
    pub set: Set,
}

/// The options that `command` has; all of them, if it is not known yet.
pub fn options_of(command: Option<Command>) -> impl Iterator<Item = &'static OptionDef> + Clone {
    OPTIONS
        .iter()
        .filter(move |option| command.is_none_or(|command| option.commands.contains(&command)))
}

impl OptionDef {
    /// True if it may be typed with `command`, or with any command if that is not known yet.
    pub fn is_accepted_by(&self, command: Option<Command>) -> bool {
        command.is_none_or(|command| self.commands.contains(&command) || self.ignored_by.contains(&command))
    }

    fn is_ignored_by(&self, command: Option<Command>) -> bool {
        command.is_some_and(|command| self.ignored_by.contains(&command))
    }

    /// The letters that may be typed for it with `command`.
    pub fn letters_for(&self, command: Option<Command>) -> &'static [char] {
        match self.letters {
            _ if self.late_letters && command.is_none() => &[],
            [first, ..] if self.is_ignored_by(command) => std::slice::from_ref(first),
            letters => letters,
        }
    }

    /// The names that may be typed for it with `command`, without dashes.
    pub fn names_for(&self, command: Option<Command>) -> impl Iterator<Item = &'static str> + use<> {
        let aliases = if self.is_ignored_by(command) { &[] } else { self.aliases };
        std::iter::once(self.name).chain(aliases.iter().copied())
    }

    /// True if its value may contain spaces.
    pub fn takes_text(&self) -> bool {
        matches!(
            self.value,
            Some((
                _,
                Kind::Text | Kind::Command | Kind::File | Kind::Group | Kind::User | Kind::Lock
            ))
        )
    }

    /// The value that applies to `command` if none is given.
    pub fn preset_for(&self, command: Command) -> Option<&'static str> {
        match self.preset {
            Preset::Value(value) => Some(value),
            Preset::ValueFor(values) => values
                .iter()
                .find(|(whose, _)| *whose == command)
                .map(|(_, value)| *value),
            Preset::None | Preset::Said(_) => None,
        }
    }

    /// Its help with `command`, the default included.
    pub fn help_for(&self, command: Command) -> String {
        let default = match self.preset {
            Preset::Said(value) => Some(value),
            _ => self.preset_for(command),
        };
        match default {
            Some(default) => format!("{} (default: {default})", self.help),
            None => self.help.to_owned(),
        }
    }

    /// Puts `value` into its field of `common` or `task`. If the task ignores the option, the value is only checked.
    pub fn store(&self, common: &mut Common, task: &mut Task, value: &Value<'_>) -> Stored {
        if let Some((_, Kind::OneOf(words))) = self.value
            && !words.iter().any(|word| value.is(word))
        {
            return Err(format!("use {}", words.join(" or ")));
        }
        match (&self.set, task) {
            (Set::Common(set), _) => set(common, value),
            (Set::Request(set), Task::Run(run)) => set(&mut run.request, value),
            (Set::Request(set), Task::Get(get)) => set(&mut get.request, value),
            (Set::Run(set), Task::Run(run)) => set(run, value),
            (Set::Get(set), Task::Get(get)) => set(get, value),
            (Set::Unget(set), Task::Unget(unget)) => set(unget, value),
            (Set::Stop(set), Task::Stop(stop)) => set(stop, value),
            (Set::State(set), Task::State(state)) => set(state, value),
            (Set::Trace(set), Task::Trace(trace)) => set(trace, value),
            (Set::History(set), Task::History(history)) => set(history, value),
            (Set::Remove(set), Task::Remove(remove)) => set(remove, value),
            (Set::Prune(set), Task::Prune(prune)) => set(prune, value),
            (Set::List(set), Task::List(list)) => set(list, value),
            (Set::Doctor(set), Task::Doctor(doctor)) => set(doctor, value),
            (Set::Wait, Task::Run(run)) => put(&mut run.request.wait, value.wait()?),
            (Set::Wait, Task::Get(get)) => put(&mut get.request.wait, value.wait()?),
            (Set::Wait, Task::Stop(stop)) => put(&mut stop.wait, value.wait()?),
            (Set::Message, Task::Run(run)) => put(&mut run.message, Some(value.lossy())),
            (Set::Message, Task::Get(get)) => put(&mut get.message, value.lossy()),
            (Set::Message, Task::Unget(unget)) => put(&mut unget.message, value.lossy()),
            (Set::Json, Task::Get(get)) => put(&mut get.json, true),
            (Set::Json, Task::Unget(unget)) => put(&mut unget.json, true),
            (Set::Json, Task::State(state)) => put(&mut state.json, true),
            (Set::Json, Task::Trace(trace)) => put(&mut trace.json, true),
            (Set::Json, Task::History(history)) => put(&mut history.json, true),
            (Set::Json, Task::Prune(prune)) => put(&mut prune.json, true),
            (Set::Json, Task::List(list)) => put(&mut list.json, true),
            (Set::Json, Task::Doctor(doctor)) => put(&mut doctor.json, true),
            _ if matches!(self.value, Some((_, Kind::Time))) => value.wait().map(drop),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::values;
    use crate::exit::Exit;
    use resourcelock::engines::USUAL_TTL;
    use std::ffi::OsStr;

    #[test]
    fn options_refer_to_others_of_the_same_command() {
        for option in OPTIONS {
            let conflicts = option.conflicts.as_ref().map_or(&[][..], |conflict| conflict.with);
            for other in conflicts.iter().chain(&option.refines) {
                for command in option.commands {
                    assert!(
                        options_of(Some(*command)).any(|option| option.name == *other),
                        "{}: {command:?} has no --{other}",
                        option.name
                    );
                }
            }
            for command in option.ignored_by {
                assert!(!option.commands.contains(command), "{}", option.name);
            }
        }
    }

    #[test]
    fn defaults_are_valid() {
        for command in Command::ALL {
            for option in options_of(Some(command)) {
                if let Some(preset) = option.preset_for(command) {
                    let mut task = Task::new(command, None);
                    let stored = option.store(&mut Common::default(), &mut task, &Value(OsStr::new(preset)));
                    assert_eq!(stored, Ok(()), "{}", option.name);
                }
            }
        }
    }

    /// Defaults that are applied elsewhere are what help says.
    #[test]
    fn defaults_elsewhere() {
        let said = |name: &str| {
            let preset = OPTIONS
                .iter()
                .find(|option| option.name == name)
                .map(|option| option.preset);
            match preset {
                Some(Preset::Said(said)) => said,
                other => panic!("{name}: {other:?}"),
            }
        };
        assert_eq!(values::duration(said("ttl")), Ok(USUAL_TTL));
        assert_eq!(said("conflict-exit-code"), Exit::NotAcquired(None).status().to_string());
    }
}
