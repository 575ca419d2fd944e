//! Names of users, and of those who hold and wait.

use resourcelock::system;
use std::collections::HashMap;
use std::sync::OnceLock;

/// The user's name, else the number.
pub fn user(uid: u32) -> String {
    static USERS: OnceLock<HashMap<u32, String>> = OnceLock::new();
    let users = USERS.get_or_init(|| {
        let names = system::user_names().into_iter();
        names
            .map(|(uid, name)| (uid, name.escape_debug().to_string()))
            .collect()
    });
    users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
}

/// The user of a request: by the name that it brought from another machine, else as known here.
pub fn user_of(brought: &Option<String>, uid: u32) -> String {
    brought.clone().unwrap_or_else(|| user(uid))
}

/// Whether a request is one of another program, in an engine that knows little of it.
pub fn is_foreign(pid: u32, host: &Option<String>) -> bool {
    pid == 0 && host.is_some()
}

/// Whether the user of a request is known. (Where only an engine tells of it, it may not be.)
pub fn is_known(brought: &Option<String>) -> bool {
    brought.as_deref() != Some("")
}

/// Who asks or asked: `4711@web2 (scan.sh, alice)`, `another program (psql)`.
pub fn party(pid: u32, host: &Option<String>, command: &str, brought: &Option<String>, uid: u32) -> String {
    match (is_foreign(pid, host), command) {
        (true, "") => "another program".to_owned(),
        (true, command) => format!("another program ({command})"),
        (false, command) => {
            let command = if command.is_empty() { "?" } else { command };
            let user = match is_known(brought) {
                true => format!(", {}", user_of(brought, uid)),
                false => String::new(),
            };
            format!("{} ({command}{user})", process(pid, host))
        }
    }
}

/// A process, with its machine if that may be another one: `4711` or `4711@web2`.
fn process(pid: u32, host: &Option<String>) -> String {
    match host {
        Some(host) => format!("{pid}@{host}"),
        None => pid.to_string(),
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
