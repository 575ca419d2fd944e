//! Names of users, and of those who hold and wait.

use super::shown;
use resourcelock::system;
use resourcelock::{Host, Requester, State};
use std::collections::HashMap;
use std::sync::OnceLock;

/// The user's name, else the number.
pub fn user(uid: u32) -> String {
    static USERS: OnceLock<HashMap<u32, String>> = OnceLock::new();
    let users = USERS.get_or_init(|| {
        let names = system::user_names().into_iter();
        names.map(|(uid, name)| (uid, shown(name))).collect()
    });
    users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
}

/// The lock's owner. `None` if he is not known.
pub fn owner(state: &State) -> Option<String> {
    state.owner.map(user)
}

/// The user who made a request: the name from its own host, else the name on this one.
pub fn user_of(requester: &Requester) -> Option<String> {
    requester.user.clone().or_else(|| requester.uid.map(user))
}

/// The requester in a few words: `4711@web2 (scan.sh, alice)`, `another program (psql)`.
pub fn requester(requester: &Requester) -> String {
    let command = requester.command.as_deref();
    if requester.is_foreign() {
        return match command {
            None => "another program".to_owned(),
            Some(command) => format!("another program ({command})"),
        };
    }
    let user = user_of(requester).map_or_else(String::new, |user| format!(", {user}"));
    format!("{} ({}{user})", process(requester), command.unwrap_or("?"))
}

/// The process, with its host if that may be another one: `4711` or `4711@web2`.
fn process(requester: &Requester) -> String {
    process_on(requester.pid, &requester.host)
}

/// A process by its number and host: `4711`, `4711@web2`.
pub fn process_on(pid: Option<u32>, host: &Host) -> String {
    let pid = pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
    match host {
        Host::Local => pid,
        host => format!("{pid}@{}", host.name().unwrap_or_default()),
    }
}

/// The process ID.
pub fn pid(requester: &Requester) -> String {
    requester.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string())
}

/// `TERM`; a real-time signal has a number only.
pub fn signal(signal: i32) -> String {
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(signal) => signal.as_str().trim_start_matches("SIG").to_owned(),
        Err(_) => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_strangers_are_numbers() {
        assert_eq!(user(0), "root");
        assert_eq!(user(4_000_000_001), "4000000001");
    }
}
