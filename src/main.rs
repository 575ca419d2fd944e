//! The program: parse, set up the log, perform the command, turn an error into an exit status, once.
#![cfg_attr(not(test), no_main)]

mod cli;
mod commands;
mod entry;
mod exec;
mod exit;
#[cfg(test)]
mod fuzzing;
mod logging;
mod output;
mod syslog;

use cli::{Parsed, Task};
use exit::Exit;
use std::ffi::OsString;

exec::sys::command_line::c_main!(start);

#[global_allocator]
static MEMORY: exec::sys::memory::OrEnd<125> = exec::sys::memory::OrEnd;

#[cfg_attr(test, allow(dead_code))] // the test harness brings a `main` of its own
fn start() -> ! {
    entry::enter(run)
}

/// The whole program. `words` begins with the program's own name.
fn run(words: Vec<OsString>) -> Exit {
    let parsed = cli::parse(words.into_iter().skip(1));
    if !matches!(&parsed, Ok(Parsed::Invocation(invocation)) if matches!(invocation.task, Task::Run(_))) {
        exec::ignore_broken_pipes();
    }
    let invocation = match parsed {
        Ok(Parsed::Invocation(invocation)) => invocation,
        Ok(Parsed::Text(text)) => return output::print_styled(&text),
        Err(usage) => return fail(&usage),
    };
    logging::set_up(&invocation.common);
    match commands::perform(invocation) {
        Ok(exit) => exit,
        Err(failure) => {
            let exit = failure.exit();
            fail(&failure);
            exit
        }
    }
}

fn fail(what: &dyn std::fmt::Display) -> Exit {
    output::message(&format!("resourcelock: {what}"));
    Exit::Failed
}
