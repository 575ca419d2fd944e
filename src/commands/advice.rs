//! What to do about an error of the library: it states the fact, and the program adds the advice.

use crate::cli::{Common, quoted, shell_word};
use resourcelock::Error;
use resourcelock::engines::passwords_in;
use std::io::ErrorKind;
use std::path::Path;

/// For somebody who is to give a lock to a group without being a member.
pub const JOIN_GROUP: &str =
    "have yourself added to it (usermod -aG) and log in again, or choose one of your groups (id -Gn)";

const SHM: &str = "/dev/shm";

/// A command line about a lock on the engine that this one was about, to be pasted. A password is crossed out.
pub fn command_line(common: &Common, lock: &str, words: &str) -> String {
    let mut line = format!("resourcelock {} {words}", shell_word(lock));
    if let Some(url) = &common.backend {
        let mut bytes = url.clone().into_bytes();
        for place in passwords_in(url.as_bytes()) {
            bytes[place].fill(b'x');
        }
        line.push_str(&format!(" --backend {}", quoted(&*String::from_utf8_lossy(&bytes))));
    }
    line
}

/// What the user can do about `error`, in the words of the command line. `lock` is the lock's name.
pub fn advice(error: &Error, lock: Option<&str>) -> Option<String> {
    Some(match error {
        Error::Permission { .. } => {
            "use the lock as its owner, or create it with a mode and group that let both in".to_owned()
        }
        Error::NotInGroup { .. } => JOIN_GROUP.to_owned(),
        Error::WrongObject { path, .. } => wrong_object(path, lock?),
        Error::Os { path, source, .. } if path.starts_with(SHM) => match source.kind() {
            ErrorKind::NotFound if !Path::new(SHM).is_dir() => format!("mount a tmpfs at {SHM}"),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!("free some space in {SHM}"),
            ErrorKind::ReadOnlyFilesystem => format!("{SHM} must be writable"),
            _ => return None,
        },
        Error::BeaconsTaken { .. } => "find out who has the file open (lsof or fuser), and end it".to_owned(),
        Error::SlotsDiffer { in_use, .. } => format!("use -j {in_use}, or wait until nobody uses it"),
        Error::NotBuiltIn { engine } => format!("build with --features {engine}"),
        Error::WaitedFor { .. } => "wait until they have ended, or remove it with --force".to_owned(),
        Error::BeingRemoved { pid: Some(pid) } => format!("try again; if process {pid} is stopped, continue or end it"),
        Error::BeingRemoved { pid: None } => "try again; if the remover is stopped, continue or end it".to_owned(),
        Error::Busy { .. } => "continue or end the process that is stopped inside it".to_owned(),
        _ => return None,
    })
}

/// Something else stands where a lock's object should be. `remove` deletes whatever is a file.
fn wrong_object(path: &Path, lock: &str) -> String {
    if path.is_dir() {
        "remove it".to_owned()
    } else {
        let lock = shell_word(lock);
        format!("if nobody uses the lock, delete it with: resourcelock {lock} remove --force")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_named_as_the_shell_wants_it() {
        let error = Error::WrongObject {
            path: "/dev/shm/resourcelock2.a b".into(),
            what: "it has 7 bytes where a table has more".to_owned(),
        };
        let said = advice(&error, Some("a b")).unwrap();
        assert!(said.ends_with("resourcelock 'a b' remove --force"), "{said}");
    }

    #[test]
    fn the_engine_is_named_without_its_password() {
        let on = |url: &str| Common {
            backend: Some(url.to_owned()),
            ..Common::default()
        };
        for (url, named) in [
            ("local:", "local:"),
            ("etcd://a:b;c@h/x y", "'etcd://a:xxx@h/x y'"),
            ("postgres://u:password=x@h", "postgres://u:xxxxxxxxxxxx"),
        ] {
            let line = command_line(&on(url), "a b", "unget");
            assert_eq!(line, format!("resourcelock 'a b' unget --backend {named}"));
        }
    }

    #[test]
    fn what_only_the_system_knows_comes_without_advice() {
        let error = Error::Os {
            doing: "open",
            path: "/dev/shm/x".into(),
            source: std::io::Error::other("?"),
        };
        assert_eq!(advice(&error, Some("x")), None);
        assert_eq!(advice(&Error::Cancelled, Some("x")), None);
    }
}
