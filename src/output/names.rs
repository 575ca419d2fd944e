//! Names of users and groups, read from the files themselves: a statically linked program must not ask the C library
//! (getpwuid and getgrnam load shared objects, which crashes there).

use std::collections::HashMap;
use std::sync::OnceLock;

/// The user's name, else the number.
pub fn user(uid: u32) -> String {
    static USERS: OnceLock<HashMap<u32, String>> = OnceLock::new();
    let users = USERS.get_or_init(|| {
        let text = std::fs::read("/etc/passwd").unwrap_or_default();
        let mut users = HashMap::new();
        for (name, number) in entries(&String::from_utf8_lossy(&text)) {
            users.entry(number).or_insert_with(|| name.escape_debug().to_string());
        }
        users
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

/// The number of a group that is given by name or number.
pub fn group(name: &str) -> Option<u32> {
    let text = std::fs::read("/etc/group").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let found = entries(&text)
        .find(|(entry, _)| *entry == name)
        .map(|(_, number)| number);
    found.or_else(|| name.parse().ok())
}

/// Name and number of each line of passwd(5) or group(5).
fn entries(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?.parse().ok()?;
        Some((name, number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_strangers_are_numbers() {
        assert_eq!(user(0), "root");
        assert_eq!(user(4_000_000_001), "4000000001");
        assert_eq!(group("root"), Some(0));
        assert_eq!(group("12345"), Some(12345));
        assert_eq!(group("no such group"), None);
    }
}
