//! What people and scripts see: view structs, text, JSON. It is no error if the reader has gone away (a broken pipe).

mod columns;
pub mod metrics;
pub mod names;
pub mod past;
mod sentence;
pub mod text;
pub mod timeline;
pub mod top;
pub mod view;

pub use sentence::{brief, duration, holder, refusal, waiting};

use crate::exit::Exit;
use resourcelock::system::printable;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// A lock's name, or other text that somebody else has chosen, for display.
pub fn shown(text: impl Display) -> String {
    printable(&text.to_string())
}

/// Prints a line on standard error, in one piece, since other processes write there, too. Whatever could disturb a reader
/// is escaped. If it cannot be written, there is nobody left to tell.
pub fn message(line: &str) {
    let _ = io::stderr().write_all(format!("{}\n", printable(line)).as_bytes());
}

/// Prints text on standard output. False if the reader has gone away: there is no point in printing more.
///
/// # Errors
/// The system's error.
pub fn print(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Prints a line of JSON on standard output, like [`print`].
pub fn print_json(view: &impl Serialize) -> io::Result<bool> {
    print(&format!("{}\n", serde_json::to_string(view)?))
}

/// The number of columns of standard output, if it is a terminal.
pub fn width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let from_environment = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    from_environment
        .or_else(|| crate::exec::sys::terminal_size(&out).map(|size| size.columns))
        .filter(|&columns| columns > 0)
}

/// True if words are coloured. By default not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// For standard output, whatever it is.
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

    /// `parameters` are those of SGR in ECMA-48.
    fn paint(self, parameters: &str, word: &str) -> String {
        if self.colour {
            format!("\x1b[{parameters}m{word}\x1b[0m")
        } else {
            word.to_owned()
        }
    }
}

/// True if `stream` may be coloured: it is a terminal, and the user has not said no (<https://no-color.org>).
pub fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Prints help or the version.
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
