//! `--syslog`: grants, ends and refusals as one line each in the system's log, which survives a restart: in journald with
//! a field for each fact, else in syslog as `key=value`. Nothing waits for the log, and nothing fails because of it: if it is
//! full or absent, the line is lost.

use crate::cli::Common;
use crate::exec;
use resourcelock::system::printable;
use std::fmt::Write;
use std::os::unix::net::UnixDatagram;

/// journald's own socket: datagrams of `FIELD=value` lines.
const JOURNALD: &str = "/run/systemd/journal/socket";
/// The socket of every other log.
const SYSLOG: &str = "/dev/log";
/// Facility daemon, level notice.
const PRIORITY: u8 = 3 << 3 | LEVEL;
const LEVEL: u8 = 5;

/// A fact about what has happened.
pub type Fact = (&'static str, String);

/// Writes a line, if that was asked for: what happened to the lock, and the facts that are known of it.
pub fn tell<const N: usize>(common: &Common, lock: &str, event: &str, facts: impl FnOnce() -> [Fact; N]) {
    if is_wanted(common) {
        send(lock, event, &facts());
    }
}

fn is_wanted(common: &Common) -> bool {
    common.syslog || exec::variable("RESOURCELOCK_SYSLOG").is_some_and(|value| value == "1")
}

#[cold]
fn send(lock: &str, event: &str, facts: &[Fact]) {
    let known = facts.iter().filter(|(_, value)| !value.is_empty());
    let facts: Vec<Fact> = known.map(|(name, value)| (*name, printable(value))).collect();
    let mut message = format!("{} {event}", printable(lock));
    for (name, value) in &facts {
        let _ = match value.contains([' ', '"', '=']) {
            true => write!(message, " {name}={value:?}"),
            false => write!(message, " {name}={value}"),
        };
    }
    let Ok(socket) = UnixDatagram::unbound() else { return };
    if socket.set_nonblocking(true).is_err() {
        return;
    }
    let pid = std::process::id();
    let mut entry = format!(
        "MESSAGE={message}\nPRIORITY={LEVEL}\nSYSLOG_IDENTIFIER=resourcelock\nSYSLOG_PID={pid}\n\
         RESOURCELOCK_NAME={}\nRESOURCELOCK_EVENT={event}\n",
        printable(lock)
    );
    for (name, value) in &facts {
        let _ = writeln!(entry, "RESOURCELOCK_{}={value}", name.to_uppercase());
    }
    if socket.send_to(entry.as_bytes(), JOURNALD).is_err() {
        let line = format!("<{PRIORITY}>resourcelock[{pid}]: {message}");
        let _ = socket.send_to(line.as_bytes(), SYSLOG);
    }
}
