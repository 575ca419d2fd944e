//! `completions SHELL`: prints the committed script, so that a package and a home directory get the same one.

use super::Failure;
use crate::cli::CompletionsArgs;
use crate::exit::Exit;
use crate::output;

/// Carries it out.
pub fn perform(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let script = match args.shell.as_str() {
        "bash" => include_str!("../../completions/resourcelock.bash"),
        "zsh" => include_str!("../../completions/_resourcelock"),
        _ => include_str!("../../completions/resourcelock.fish"),
    };
    output::print(script)?;
    Ok(Exit::Done)
}
