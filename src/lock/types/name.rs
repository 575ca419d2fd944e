//! A lock's name: the only place where it is checked.

use crate::lock::types::Error;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The longest name, in bytes. With `sem.` before it and space for temporary names it stays below `NAME_MAX`.
pub(crate) const MAX_LEN: usize = 200;

/// The directory of POSIX shared memory and named semaphores on Linux (shm_overview(7), sem_overview(7)).
pub(crate) const SHM: &str = "/dev/shm";

/// The file name prefix of a lock's table. A new table layout gets a new prefix: `resourcelock`, its number, a dot.
pub(crate) const TABLE_PREFIX: &str = "resourcelock3.";
/// The prefixes of layouts 1 and 2.
const OLDER_TABLE_PREFIXES: [&str; 2] = ["resourcelock.", "resourcelock2."];

/// What the temporary name of a new object begins with, where it needs one.
pub(crate) const TEMPORARY: &str = ".resourcelock-";

/// A checked lock name: what all processes that share a resource agree on.
///
/// One leading `/` is accepted and hidden, as in the Python module. See [`LockName::new`] for what is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockName(String);

impl LockName {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`Error::Name`] if it is empty, `.` or `..`, contains a further `/`, a NUL or a control character, is longer
    /// than 200 bytes, or could be that of another lock's file (`sem.…`; `resourcelock.…`, also with a number before the
    /// dot).
    pub fn new(name: impl AsRef<str>) -> Result<Self, Error> {
        let name = name.as_ref();
        let bare = name.strip_prefix('/').unwrap_or(name);
        let refuse = |reason: &str| {
            Err(Error::Name {
                name: name.to_owned(),
                reason: reason.to_owned(),
            })
        };
        if bare.is_empty() {
            return refuse("it is empty");
        }
        if bare == "." || bare == ".." {
            return refuse("it is a directory's name");
        }
        if bare.contains('/') {
            return refuse("it contains a '/'");
        }
        if bare.chars().any(char::is_control) {
            return refuse("it contains a control character");
        }
        if bare.len() > MAX_LEN {
            return refuse("it is longer than 200 bytes");
        }
        if bare.starts_with("sem.") {
            return refuse("names that begin with 'sem.' would collide with another lock's semaphore");
        }
        // Also with the numbers of layouts to come: whoever uses one of them may use this version beside it.
        let after_number = |rest: &'_ str| rest.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with('.');
        if let Some(prefix) = bare.split_inclusive('.').next()
            && bare.strip_prefix("resourcelock").is_some_and(after_number)
        {
            return refuse(&format!(
                "names that begin with '{prefix}' are reserved for the tables of locks"
            ));
        }
        Ok(Self(bare.to_owned()))
    }

    /// The name without a leading `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Path of the named semaphore.
    pub fn semaphore_path(&self) -> PathBuf {
        PathBuf::from(format!("{SHM}/sem.{}", self.0))
    }

    /// Path of the note (the shared memory segment).
    pub fn note_path(&self) -> PathBuf {
        PathBuf::from(format!("{SHM}/{}", self.0))
    }

    /// Path of the table (holders, queue, history).
    pub fn table_path(&self) -> PathBuf {
        PathBuf::from(format!("{SHM}/{TABLE_PREFIX}{}", self.0))
    }

    /// Paths of the tables that older versions make, which may be used beside this one.
    pub(crate) fn older_table_paths(&self) -> [PathBuf; 2] {
        OLDER_TABLE_PREFIXES.map(|prefix| PathBuf::from(format!("{SHM}/{prefix}{}", self.0)))
    }
}

impl AsRef<str> for LockName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for LockName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl TryFrom<&str> for LockName {
    type Error = Error;

    fn try_from(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl TryFrom<String> for LockName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        Self::new(name)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for LockName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names() {
        for (given, bare) in [
            ("i2c", "i2c"),
            ("/i2c", "i2c"),
            ("a b", "a b"),
            ("sem", "sem"),
            ("resourcelock", "resourcelock"),
            ("resourcelock3", "resourcelock3"),
            ("resourcelockx.y", "resourcelockx.y"),
            ("...", "..."),
            ("größe", "größe"),
        ] {
            assert_eq!(LockName::new(given).unwrap().as_str(), bare);
        }
        assert!(LockName::new("x".repeat(200)).is_ok());
    }

    #[test]
    fn refused_names() {
        for bad in [
            "",
            "/",
            ".",
            "..",
            "/..",
            "//a",
            "a/b",
            "a\0b",
            "a\nb",
            "\u{7f}",
            "\u{85}",
            "sem.x",
            "/sem.x",
            "resourcelock.",
            "resourcelock.x",
            "resourcelock2.x",
            "resourcelock3.x",
            "resourcelock10.x",
        ] {
            assert!(matches!(LockName::new(bad), Err(Error::Name { .. })), "{bad:?}");
        }
        assert!(LockName::new("x".repeat(201)).is_err());
        let said = LockName::new("resourcelock10.x").unwrap_err().to_string();
        assert!(said.contains("begin with 'resourcelock10.' are reserved"), "{said}");
    }
}
