//! Users and groups by name and number, as passwd(5) and group(5) list them; who is not listed there is asked for with
//! getent(1).

use super::getent::getent;
use std::collections::HashMap;

/// The user's name, else the number as text. Reads the file each time.
pub fn user_name(uid: u32) -> String {
    let found = entries(&read("/etc/passwd")).find(|entry| entry.number == uid);
    found.map_or_else(|| uid.to_string(), |entry| entry.name)
}

/// The names of all users by number. If there are several, the first one counts.
pub fn user_names() -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for entry in entries(&read("/etc/passwd")) {
        names.entry(entry.number).or_insert(entry.name);
    }
    names
}

/// The number of a user who is given by name or number.
pub fn user_number(user: &str) -> Option<u32> {
    number_of(user, "/etc/passwd", "passwd")
}

/// The number of a group that is given by name or number.
pub fn group_number(group: &str) -> Option<u32> {
    number_of(group, "/etc/group", "group")
}

/// The group's name, else the number as text. Reads the file each time.
pub fn group_name(gid: u32) -> String {
    let found = entries(&read("/etc/group")).find(|entry| entry.number == gid);
    found.map_or_else(|| gid.to_string(), |entry| entry.name)
}

/// The group of a user's new files.
pub(crate) fn primary_group(uid: u32) -> Option<u32> {
    account(uid).and_then(|entry| entry.group())
}

/// True if the user's account or the group's entry says that he is a member.
pub(crate) fn is_member(uid: u32, gid: u32) -> bool {
    let Some(user) = account(uid) else { return false };
    let find = |text: &str| entries(text).find(|entry| entry.number == gid);
    let is_listed = |group: Entry| {
        group
            .rest
            .rsplit(':')
            .next()
            .unwrap_or_default()
            .split(',')
            .any(|name| name == user.name)
    };
    user.group() == Some(gid)
        || find(&read("/etc/group"))
            .or_else(|| find(&asked("group", &gid.to_string())))
            .is_some_and(is_listed)
}

fn account(uid: u32) -> Option<Entry> {
    let find = |text: &str| entries(text).find(|entry| entry.number == uid);
    find(&read("/etc/passwd")).or_else(|| find(&asked("passwd", &uid.to_string())))
}

fn number_of(name: &str, path: &str, database: &str) -> Option<u32> {
    let find = |text: &str| {
        let found = entries(text).find(|entry| entry.name == name);
        found.map(|entry| entry.number)
    };
    find(&read(path))
        .or_else(|| name.parse().ok())
        .or_else(|| find(&asked(database, name)))
        .filter(|number| *number != u32::MAX) // which means nobody, as in chown(2)
}

/// A line of passwd(5) or group(5).
struct Entry {
    name: String,
    number: u32,
    /// What follows the number.
    rest: String,
}

impl Entry {
    /// The group, in passwd(5).
    fn group(&self) -> Option<u32> {
        self.rest.split(':').next()?.parse().ok()
    }
}

fn entries(text: &str) -> impl Iterator<Item = Entry> {
    text.lines().filter_map(|line| {
        let mut fields = line.splitn(4, ':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        let number = fields.nth(1)?.parse().ok()?;
        let rest = fields.next().unwrap_or_default().to_owned();
        Some(Entry { name, number, rest })
    })
}

/// Nothing, if the file cannot be read.
fn read(path: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// What getent(1) prints; nothing, if it cannot be run or finds nothing.
fn asked(database: &str, key: &str) -> String {
    if key.is_empty() || key.starts_with('-') {
        return String::new(); // it would be an option
    }
    match getent(&[database, key], |command| command.env_clear().output()) {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_strangers_are_numbers() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_001), "4000000001");
        assert_eq!(user_names().get(&0).map(String::as_str), Some("root"));
        assert_eq!(user_number("root"), Some(0));
        assert_eq!(user_number("12345"), Some(12345));
        assert_eq!(user_number("no such user"), None);
        for none in ["", "-s", "4294967295"] {
            assert_eq!((user_number(none), group_number(none)), (None, None), "{none}");
        }
        assert_eq!(group_number("root"), Some(0));
        assert_eq!(group_number("12345"), Some(12345));
        assert_eq!(group_number("no such group"), None);
        assert_eq!(
            (group_name(0), group_name(4_000_000_001)),
            ("root".into(), "4000000001".into())
        );
    }

    #[test]
    fn members() {
        assert_eq!(primary_group(0), Some(0));
        assert_eq!(primary_group(4_000_000_001), None);
        assert!(is_member(0, 0));
        assert!(!is_member(4_000_000_001, 0) && !is_member(0, 4_000_000_001));
    }

    #[test]
    fn lines_of_both_files() {
        let user = entries("pi:x:1000:100:Raspberry Pi:/home/pi:/bin/sh\n").next().unwrap();
        assert_eq!((user.name.as_str(), user.number, user.group()), ("pi", 1000, Some(100)));
        let group = entries("i2c:x:998:pi,alice").next().unwrap();
        assert_eq!((group.number, group.rest.as_str()), (998, "pi,alice"));
        assert_eq!(entries(":x:0:0::/:\nbroken\nx:y\n# a:b:c\nz:x:z:").count(), 0);
    }
}
