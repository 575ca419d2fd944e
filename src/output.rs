//! What a person or a script sees: view structs, text, JSON. A reader that has gone away (a broken pipe) is no error.

pub mod names;
mod sentence;

pub use sentence::{duration, note_text, refusal, waiting};

use crate::exit::Exit;
use std::io::{self, IsTerminal, Write};

/// One line on standard error. If that cannot be written there is nobody left to tell.
pub fn message(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Text on standard output.
///
/// # Errors
/// What the system said, except that a reader has gone away.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Whether `stream` may be coloured: a terminal, and the user has not said no (<https://no-color.org>).
pub fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Help and version.
pub fn print_styled(text: &clap::builder::StyledStr) -> Exit {
    let text = if colour(&io::stdout()) {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    match print(&text) {
        Ok(()) => Exit::Done,
        Err(_) => Exit::Failed,
    }
}
