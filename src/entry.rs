//! The program's first and last instructions, below C's `main` (which is used instead of std's).
//!
//! std's runtime ignores SIGPIPE, opens closed standard streams so that a command would inherit them, and catches
//! SEGV and BUS for its stack-overflow message. A command that is run through this program would find a world that
//! its caller did not make; besides, it costs about 140 µs a start. What is wanted of it is done here:
//! - standard streams that the caller closed are occupied, but the command finds them closed again;
//! - passwords in the command line are overwritten where `ps` reads them;
//! - a panic becomes one line on standard error and status 125, after unwinding (which releases locks);
//! - a file that would grow beyond the limit of its size is an error, not the end by SIGXFSZ;
//! - memory that is not to be had becomes one line and status 125;
//! - a SIGBUS because somebody truncated a lock's file in /dev/shm loses the lock, and nothing else; any other one becomes
//!   one line and status 125.

use crate::exec;
use crate::exec::sys::{bus_error, command_line, memory, streams};
use crate::exit::Exit;
use resourcelock::engines::passwords_in;
use resourcelock::system::{keep_mask, printable};
use std::ffi::{OsString, c_int};
use std::os::unix::ffi::OsStrExt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::OnceLock;

/// What an error message begins with, once the lock's name is known: `resourcelock: NAME: `.
static PREFIX: OnceLock<String> = OnceLock::new();

/// Names the lock in the message of a SIGBUS or a panic. Later calls change nothing.
pub fn set_subject(name: &str) {
    let _ = PREFIX.set(printable(&format!("resourcelock: {name}: ")));
}

fn prefix() -> &'static str {
    PREFIX.get().map_or("resourcelock: ", String::as_str)
}

/// Runs `program` with the command line, which begins with the program's own name, and ends the process as it says.
#[cfg_attr(test, allow(dead_code))] // the test harness brings a `main` of its own
pub fn enter(program: fn(Vec<OsString>) -> Exit) -> ! {
    memory::outlive_forks();
    let words = take_words();
    streams::occupy_closed();
    exec::ignore_file_limit();
    keep_mask(|| {
        bus_error::exit_after(report_bus_error, Exit::Failed.status());
        // If that fails, the line above is what happens.
        let _ = resourcelock::survive_truncation();
    });
    let status = unless_panicking(|| match program(words) {
        Exit::Signal(signal) => exec::die_of(signal),
        exit => exit.status().into(),
    });
    // Flushes standard output, which returning from C's `main` would not.
    std::process::exit(status)
}

/// The command line. From now on `ps` does not show its passwords.
fn take_words() -> Vec<OsString> {
    let words = command_line::words();
    for (index, word) in words.iter().enumerate() {
        for place in passwords_in(word.as_bytes()) {
            command_line::overwrite(index, place, b'x');
        }
    }
    words
}

/// Runs in the signal handler: it writes, and [`OnceLock::get`] is a load.
fn report_bus_error() {
    exec::give_back();
    streams::write_error(prefix().as_bytes());
    streams::write_error(b"a file of the lock in /dev/shm was truncated while in use; remove the lock and try again\n");
}

/// Runs `body`; a panic in it unwinds, is reported in one line, and becomes status 125.
pub fn unless_panicking(body: impl FnOnce() -> c_int) -> c_int {
    panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map(|l| format!(" at {}:{}", l.file(), l.line()))
            .unwrap_or_default();
        let payload = info.payload();
        let what = payload.downcast_ref::<&str>().copied();
        let what = what
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let line = format!(
            "{}this program failed{place}: {}; please report it\n",
            prefix(),
            printable(what)
        );
        exec::give_back();
        streams::write_error(line.as_bytes());
    }));
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or(Exit::Failed.status().into())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Whoever tests what a panic does: there is one hook in a process.
    pub static HOOK: Mutex<()> = Mutex::new(());

    #[test]
    fn a_panic_unwinds_and_becomes_125() {
        let _alone = HOOK.lock();
        struct Releases<'a>(&'a mut bool);
        impl Drop for Releases<'_> {
            fn drop(&mut self) {
                *self.0 = true;
            }
        }
        let mut released = false;
        let status = unless_panicking(|| {
            let _guard = Releases(&mut released);
            panic!("tried on purpose")
        });
        let _ = panic::take_hook();
        assert_eq!(status, 125);
        assert!(released);
    }
}
