//! The command line. [`options`] is the table of options, [`command`] that of the command words; parser, help, manual
//! page, completion and refusals read them. No I/O.
//!
//! | file | what |
//! |---|---|
//! | `options.rs`, `options/table.rs`, `command.rs` | the definitions |
//! | `args.rs`, `values.rs` | what was typed, as typed values |
//! | `arrange.rs` | which word is NAME, COMMAND, an option, an operand |
//! | `patterns.rs` | names that fit a pattern |
//! | `parse.rs` | from words to a command; what the engine has to have for it |
//! | `usage.rs` | what is wrong with a command line, and what was probably meant |
//! | `help.rs` | help |
//! | `complete.rs`, `bash_words.rs` | what may stand at the cursor |
//! | `shell_words.rs` | words and names quoted for the shell, for advice that can be pasted |

mod args;
mod arrange;
mod bash_words;
mod command;
mod complete;
#[cfg(test)]
mod generated;
mod help;
mod options;
mod parse;
mod patterns;
#[cfg(test)]
mod seed_parser;
mod shell_words;
mod usage;
mod values;

pub use args::{
    Access, Common, CompletionsArgs, DoctorArgs, GetArgs, HistoryArgs, ListArgs, Name, OnAbandoned, Payload, PruneArgs,
    RemoveArgs, RunArgs, StateArgs, StopArgs, Task, TraceArgs, UngetArgs, Until,
};
pub use bash_words::{meaning as bash_meaning, replacement as bash_replacement};
pub use complete::{Candidate, Offer, offer, typed_name};
pub use options::Need;
pub use parse::{Invocation, Parsed, parse};
pub use patterns::{fits, is_pattern};
pub use shell_words::{quoted, shell_word};
