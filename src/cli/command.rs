//! The command words: how each is used, what help says about it, what it needs from the engine.

use super::options::{Need, Requirement};
use std::ffi::OsStr;

/// A command word. The order is the one in which help lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Run a command under the lock.
    Run,
    /// Acquire the lock and leave it held.
    Get,
    /// Release it.
    Unget,
    /// End the command that runs under it.
    Stop,
    /// Who holds it.
    State,
    /// Watch it.
    Trace,
    /// The last grants.
    History,
    /// Delete idle locks' files.
    Remove,
    /// Delete the files of locks that were not used for a while.
    Prune,
    /// All locks.
    List,
    /// All locks, as they change.
    Top,
    /// What could cause trouble.
    Doctor,
    /// Print a completion script.
    Completions,
}

/// Whether a lock's name comes before a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// It is for one lock.
    One,
    /// Without a name, it is for all locks.
    OneOrAll,
    /// It is for no lock.
    None,
}

/// Everything that is known about a command except its options, which are in [`super::options`].
pub struct CommandDef {
    /// The word that is typed.
    pub word: &'static str,
    /// Whether a lock's name comes before the word.
    pub name: Named,
    /// What comes after the word.
    pub operands: &'static str,
    /// One line for help, without a full stop.
    pub about: &'static str,
    /// Two lines for help: what is typed, and what it does.
    pub examples: [&'static str; 2],
    /// What the command as a whole needs from the engine.
    pub needs: Option<Requirement>,
}

/// In the order of [`Command`].
static COMMANDS: [CommandDef; 13] = [
    CommandDef {
        word: "run",
        name: Named::One,
        operands: "[OPTIONS] [--] COMMAND [ARG...]",
        about: "Run a command under the lock; release it however the command ends",
        examples: [
            "resourcelock i2c run -t 10 -- i2cget -y 1 0x48   wait up to 10 s, else exit with 75",
            "resourcelock nightly run -n -E 0 --limit 2h -- nightly.sh",
        ],
        needs: None,
    },
    CommandDef {
        word: "get",
        name: Named::One,
        operands: "[OPTIONS]",
        about: "Acquire the lock and leave it held",
        examples: [
            "resourcelock i2c get --pid $$ || exit       in a script: held until the script ends",
            "resourcelock i2c get -t 5 -m 'bus scan'     held until 'resourcelock i2c unget'",
        ],
        needs: Some(Requirement {
            need: Need::Detached,
            why: "the lock would not outlive this process; use run, or get -a SECONDS in the background",
            unless: Some("auto-unget"),
        }),
    },
    CommandDef {
        word: "unget",
        name: Named::One,
        operands: "[OPTIONS]",
        about: "Release the lock, whoever holds it",
        examples: [
            "resourcelock i2c unget                      release it, whoever holds it",
            "trap 'resourcelock i2c unget --pid $$ || :' EXIT",
        ],
        needs: None,
    },
    CommandDef {
        word: "stop",
        name: Named::One,
        operands: "[OPTIONS]",
        about: "Ask the command that runs under the lock to end, and wait until the lock is free",
        examples: [
            "resourcelock nightly stop                   send TERM, wait up to 10 s",
            "resourcelock nightly stop -t 1m -k 30       send KILL after 30 s, wait up to a minute",
        ],
        needs: None,
    },
    CommandDef {
        word: "state",
        name: Named::One,
        operands: "[OPTIONS]",
        about: "Show who holds the lock and who is waiting",
        examples: [
            "resourcelock i2c state",
            "resourcelock nightly state -q --mine || exec resourcelock nightly run -n -- \"$0\" \"$@\"",
        ],
        needs: None,
    },
    CommandDef {
        word: "trace",
        name: Named::One,
        operands: "[OPTIONS]",
        about: "Watch the lock: its state at intervals, or each change",
        examples: [
            "resourcelock i2c trace -u 1                 one line per second",
            "resourcelock i2c trace -f --json            one line per change",
        ],
        needs: None,
    },
    CommandDef {
        word: "history",
        name: Named::OneOrAll,
        operands: "[OPTIONS]",
        about: "Show how the last requests ended, of a lock or of all, as a table or a picture",
        examples: [
            "resourcelock history --since 'yesterday 22:00' --failed     what went wrong last night",
            "resourcelock i2c history --svg i2c.svg",
        ],
        needs: Some(Requirement {
            need: Need::History,
            why: "it keeps no history of a lock; 'trace -f' follows it",
            unless: None,
        }),
    },
    CommandDef {
        word: "remove",
        name: Named::One,
        operands: "[OPTIONS] [NAME...]",
        about: "Delete the files of idle locks",
        examples: [
            "resourcelock i2c remove --force             even if it is held or waited for",
            "resourcelock 'ci-*' remove nightly          those that begin with ci-, and nightly",
        ],
        needs: Some(Requirement {
            need: Need::Files,
            why: "there is nothing to remove: a lock exists only while it is used",
            unless: None,
        }),
    },
    CommandDef {
        word: "prune",
        name: Named::None,
        operands: "[OPTIONS] [PATTERN...]",
        about: "Delete the files of locks that have not been used for a while",
        examples: [
            "resourcelock prune --dry-run                what was not used for a day",
            "resourcelock prune --idle 1h 'ci-*'         of these, what was not used for an hour",
        ],
        needs: Some(Requirement {
            need: Need::Files,
            why: "there is nothing to remove: a lock exists only while it is used",
            unless: None,
        }),
    },
    CommandDef {
        word: "list",
        name: Named::None,
        operands: "[OPTIONS]",
        about: "List all locks",
        examples: [
            "resourcelock list",
            "resourcelock list --prometheus > .locks && mv .locks locks.prom   never half-written",
        ],
        needs: None,
    },
    CommandDef {
        word: "top",
        name: Named::None,
        operands: "[OPTIONS]",
        about: "Watch all locks: who holds them, who waits",
        examples: [
            "resourcelock top                            arrows select, Enter shows one, q quits",
            "ssh -t pi resourcelock top                  another machine's locks",
        ],
        needs: None,
    },
    CommandDef {
        word: "doctor",
        name: Named::None,
        operands: "[OPTIONS]",
        about: "Look for problems with the locks of this machine",
        examples: ["resourcelock doctor", "resourcelock doctor --fix"],
        needs: Some(Requirement {
            need: Need::Files,
            why: "it examines the locks of this machine; leave out --backend (RESOURCELOCK_BACKEND)",
            unless: None,
        }),
    },
    CommandDef {
        word: "completions",
        name: Named::None,
        operands: "SHELL",
        about: "Print a completion script for a shell",
        examples: [
            "source <(resourcelock completions bash)     in ~/.bashrc; for zsh in ~/.zshrc, after compinit",
            "resourcelock completions fish > ~/.config/fish/completions/resourcelock.fish",
        ],
        needs: None,
    },
];

impl Command {
    /// All of them, in the order in which help lists them.
    pub const ALL: [Self; 13] = [
        Self::Run,
        Self::Get,
        Self::Unget,
        Self::Stop,
        Self::State,
        Self::Trace,
        Self::History,
        Self::Remove,
        Self::Prune,
        Self::List,
        Self::Top,
        Self::Doctor,
        Self::Completions,
    ];

    /// Its definition.
    pub fn def(self) -> &'static CommandDef {
        &COMMANDS[self as usize]
    }

    /// The word that is typed.
    pub fn word(self) -> &'static str {
        self.def().word
    }

    /// True if a lock's name may come before it.
    pub fn takes_name(self) -> bool {
        self.def().name != Named::None
    }

    /// True if a lock's name has to come before it.
    pub fn needs_name(self) -> bool {
        self.def().name == Named::One
    }

    /// The command that this word is.
    pub fn from_word(word: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|command| word == command.word())
    }
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, Command};

    #[test]
    fn each_word_means_its_own_command() {
        for (index, (command, def)) in Command::ALL.into_iter().zip(&COMMANDS).enumerate() {
            assert_eq!(command as usize, index, "{}", def.word);
            assert_eq!(Command::from_word(def.word.as_ref()), Some(command));
            assert_eq!(format!("{command:?}").to_lowercase(), def.word);
        }
    }
}
