//! getent(1), which comes with libc and asks the system's name services.

use std::io;
use std::process::{Command, Stdio};

/// Where it is. Not searched for in PATH: what is found there may be another user's choice.
const PLACES: [&str; 3] = ["/usr/bin/getent", "/bin/getent", "/run/current-system/sw/bin/getent"];

/// Starts it with these arguments by `start`, at the first place where it is. It reads nothing, and its complaints are
/// dropped.
///
/// # Errors
/// It is not installed, or cannot be started.
pub(crate) fn getent<T>(arguments: &[&str], mut start: impl FnMut(&mut Command) -> io::Result<T>) -> io::Result<T> {
    for place in PLACES {
        let mut command = Command::new(place);
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
        match start(&mut command) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            started => return started,
        }
    }
    Err(io::Error::other("it is not installed"))
}
