//! From words to a typed command.

use super::args::{self, Common, Task};
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
            let separator = (command == Command::Run).then(|| OsString::from("--"));
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
fn options(command: Option<Command>) -> Vec<Opt> {
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
