//! `completions SHELL`: prints the script that a package installs. The scripts ask `completions words -- WORD...` what
//! could follow.

use super::Failure;
use super::list::look_at_all;
use crate::cli::{self, Completion, CompletionsArgs};
use crate::exit::Exit;
use crate::output;

/// Carries it out.
pub fn perform(args: CompletionsArgs) -> Result<Exit, Failure> {
    match args.shell.as_str() {
        "bash" => output::print(include_str!("../../completions/resourcelock.bash"))?,
        "zsh" => output::print(include_str!("../../completions/_resourcelock"))?,
        "fish" => output::print(include_str!("../../completions/resourcelock.fish"))?,
        _ => output::print(&answer(&cli::complete(args.words, locks)))?,
    };
    Ok(Exit::Done)
}

/// For a script: what to offer, in the first line; words and descriptions, a tab between them, in the others.
fn answer(completion: &Completion) -> String {
    match completion {
        Completion::Nothing => "words\n".to_owned(),
        Completion::Files => "files\n".to_owned(),
        Completion::Programs => "programs\n".to_owned(),
        Completion::CommandLine(first) => format!("line {first}\n"),
        Completion::Words(words) => {
            let mut text = "words\n".to_owned();
            for (word, description) in words {
                text.push_str(&format!("{word}\t{description}\n"));
            }
            text
        }
    }
}

/// The locks that exist, and whether they are free.
fn locks() -> Vec<(String, String)> {
    let seen = look_at_all().unwrap_or_default();
    let states = seen
        .states
        .iter()
        .map(|state| (state.name.to_string(), output::text::word(state).to_owned()));
    states.collect()
}
