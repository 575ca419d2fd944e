//! What a person or a script sees: view structs, text, JSON. A reader that has gone away (a broken pipe) is no error.

pub mod metrics;
pub mod names;
mod sentence;
mod table;
pub mod text;
pub mod timeline;
pub mod view;

/// What whoever comes after a dead holder is told.
pub const ABANDONED: &str = "a previous holder died while it had the lock: what it protects may be in disorder";

pub use sentence::{duration, refusal, shell_word, standing, waiting};

use crate::exit::Exit;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// One line on standard error, in one piece: other processes write there as well. If that cannot be written there is
/// nobody left to tell.
pub fn message(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Text on standard output. False: the reader has gone away, so that there is no point in printing more.
///
/// # Errors
/// What the system said.
pub fn print(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// One line of JSON on standard output; as [`print`].
pub fn print_json(view: &impl Serialize) -> io::Result<bool> {
    print(&format!("{}\n", serde_json::to_string(view)?))
}

/// Columns that standard output has, if it is a terminal.
pub fn width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let from_environment = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    from_environment
        .or_else(|| crate::exec::sys::terminal_columns(&out))
        .filter(|&columns| columns > 0)
}

/// Whether words are coloured.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// For standard output as it is.
    pub fn of_stdout() -> Self {
        Self {
            colour: colour(&io::stdout()),
        }
    }

    fn taken(self, word: &str) -> String {
        self.paint("31", word)
    }

    fn free(self, word: &str) -> String {
        self.paint("32", word)
    }

    /// SGR parameters as in ECMA-48.
    fn paint(self, parameters: &str, word: &str) -> String {
        if self.colour {
            format!("\x1b[{parameters}m{word}\x1b[0m")
        } else {
            word.to_owned()
        }
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
        Ok(_) => Exit::Done,
        Err(_) => Exit::Failed,
    }
}
