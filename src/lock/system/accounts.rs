//! Users and groups by name and number, as passwd(5) and group(5) list them.

use std::collections::HashMap;

/// The user's name, else the number as text. Reads the file each time.
pub fn user_name(uid: u32) -> String {
    let found = entries("/etc/passwd").into_iter().find(|(_, number)| *number == uid);
    found.map_or_else(|| uid.to_string(), |(name, _)| name)
}

/// The names of all users by number. If there are several, the first one counts.
pub fn user_names() -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for (name, number) in entries("/etc/passwd") {
        names.entry(number).or_insert(name);
    }
    names
}

/// The number of a group that is given by name or number.
pub fn group_number(group: &str) -> Option<u32> {
    let found = entries("/etc/group").into_iter().find(|(name, _)| name == group);
    found.map(|(_, number)| number).or_else(|| group.parse().ok())
}

/// Name and number of each line. Nothing, if the file cannot be read.
fn entries(path: &str) -> Vec<(String, u32)> {
    let text = std::fs::read(path).unwrap_or_default();
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((name, fields.nth(1)?.parse().ok()?))
    };
    String::from_utf8_lossy(&text).lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_strangers_are_numbers() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_001), "4000000001");
        assert_eq!(user_names().get(&0).map(String::as_str), Some("root"));
        assert_eq!(group_number("root"), Some(0));
        assert_eq!(group_number("12345"), Some(12345));
        assert_eq!(group_number("no such group"), None);
    }
}
