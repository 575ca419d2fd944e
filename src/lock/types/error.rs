//! Everything that can go wrong in the library: one enum, which keeps the cause. The messages state facts. What can be
//! done about them depends on the program that uses the library, so advice is the program's.

use crate::lock::system::{printable, printable_bytes};
use crate::lock::types::LockName;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

fn shown(path: &Path) -> String {
    printable_bytes(path.as_os_str().as_bytes())
}

/// Why a call of this library failed. A lock that was not acquired in time is not an error: see
/// [`ResourceLock::acquire_with`](crate::ResourceLock::acquire_with).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The lock's name cannot be used.
    #[error("'{}' cannot be a lock's name: {reason}", printable(name))]
    Name {
        /// The name.
        name: String,
        /// Why it is refused.
        reason: String,
    },
    /// This user may not open an object of the lock.
    #[error("no permission for {}{}", shown(path), belongs(*owner))]
    Permission {
        /// The object.
        path: PathBuf,
        /// The object's owner, if that can be read.
        owner: Option<u32>,
        /// The system's error.
        source: io::Error,
    },
    /// The lock belongs to somebody whom the caller does not trust: whoever owns a lock's files can release it, keep it
    /// taken, and make up what they say. See [`Builder::owner`](crate::Builder::owner).
    #[error(
        "{} belongs to {}, whose locks this user does not use",
        shown(path),
        owner.map_or_else(|| "a user whom this user namespace does not know".to_owned(), |uid| format!("user {uid}"))
    )]
    Untrusted {
        /// The object.
        path: PathBuf,
        /// Its owner; `None` if this user namespace does not know him.
        owner: Option<u32>,
        /// Its group.
        group: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// Everybody may write the lock's files, and may thus have given them this name; the caller has not said that the lock
    /// is for everybody ([`Builder::mode`](crate::Builder::mode) 0o666).
    #[error("everybody may write {} (of user {owner})", shown(path))]
    ForEverybody {
        /// The object.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Others can delete or replace anybody's files in the directory where locks are.
    #[error("{} is not safe: mode {mode:04o}, of user {owner}", shown(path))]
    UnsafeDirectory {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// The lock lacks an object that only its owner and root can create, as it must belong to the owner of the others.
    #[error("the lock is half made: {} does not exist, and must be user {owner}'s", shown(path))]
    HalfMade {
        /// The object that is missing.
        path: PathBuf,
        /// The owner of the others.
        owner: u32,
    },
    /// The file where the lock's note would be is not one: another program keeps something else there. It was neither
    /// changed nor deleted.
    #[error("{} is a file of another program{}", shown(path), belongs(*owner))]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: Option<u32>,
    },
    /// A new lock is to belong to a group that the user is not a member of.
    #[error("a lock can be given to group {gid} by its members and root only, and this process is not in it")]
    NotInGroup {
        /// The group.
        gid: u32,
        /// The system's error.
        source: io::Error,
    },
    /// In the directory where locks are, a file can be deleted by its owner and root only, even if others may use it.
    #[error(
        "cannot delete {}: in this directory only a file's owner and root may delete it{}",
        shown(path),
        belongs(*owner)
    )]
    NotDeletable {
        /// The file.
        path: PathBuf,
        /// Its owner, if that can be read.
        owner: Option<u32>,
    },
    /// An object of the lock does not exist, and was not to be created.
    #[error("there is no lock here: {} does not exist", shown(path))]
    NotFound {
        /// The object.
        path: PathBuf,
    },
    /// What is at one of the lock's paths cannot be an object of a lock; nothing was changed.
    #[error("{} is not usable: {what}{}", shown(path), belongs(*owner))]
    WrongObject {
        /// The object.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// Its owner, where that can be read.
        owner: Option<u32>,
    },
    /// The lock's semaphore or table is damaged; nothing was changed.
    #[error("{} is damaged: {what}{}", shown(path), belongs(*owner))]
    Damaged {
        /// The object.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// Its owner, where that can be read.
        owner: Option<u32>,
    },
    /// A system call failed.
    #[error("cannot {doing} {}", shown(path))]
    Os {
        /// What was tried.
        doing: &'static str,
        /// On which object.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Each byte of the lock's table that could show this process to be alive is locked by somebody else, who must have
    /// taken them all on purpose.
    #[error(
        "another process keeps every byte of {} locked that could show this one to be alive",
        shown(path)
    )]
    BeaconsTaken {
        /// The table.
        path: PathBuf,
    },
    /// The lock is in use with another number of slots.
    #[error("the lock is in use with {in_use} slots, not {asked}")]
    SlotsDiffer {
        /// The number asked for.
        asked: u32,
        /// The number in use.
        in_use: u32,
    },
    /// A counting lock with no slot at all was asked for.
    #[error("a lock with 0 slots could never be acquired")]
    NoSlots,
    /// A text that names no [`Mode`](crate::Mode).
    #[error("'{}' is no mode: exclusive, shared, or slots:N", printable(text))]
    Mode {
        /// The text.
        text: String,
    },
    /// The same lock was named twice ([`ResourceLock::acquire_all`](crate::ResourceLock::acquire_all)).
    #[error("the lock {name} is named twice, and would wait for itself")]
    Twice {
        /// Its name.
        name: LockName,
    },
    /// The hold is over: released by force, or already released.
    #[error("the lock is no longer held")]
    NotHeld,
    /// The wait was ended through its [`Cancel`](crate::Cancel).
    #[error("the wait was cancelled")]
    Cancelled,
    /// A newer request waits that is to [replace](crate::GetOptions::replaces) others, as this one was.
    #[error("replaced by a newer request")]
    Superseded,
    /// The handle was opened before a `fork` and is used in the child. Open the lock again there.
    #[error("this lock handle was opened in the parent process, before a fork")]
    Forked,
    /// The lock was not acquired in time. The library answers `None` instead; this is for programs to which that is an
    /// error: `lock.try_acquire()?.ok_or(Error::TimedOut)`.
    #[error("the lock was not acquired in time")]
    TimedOut,
    /// The process that a hold is to be bound to does not exist, or cannot be examined.
    #[error("cannot bind the lock to process {pid}")]
    NoProcess {
        /// The process.
        pid: u32,
        /// The system's error.
        source: io::Error,
    },
    /// A URL that names no engine, or is not valid.
    #[error("the URL '{url}' cannot be used: {reason}")]
    Url {
        /// The URL, without a password.
        url: String,
        /// Why it is refused, and what is expected.
        reason: String,
    },
    /// The engine is not part of this build.
    #[error("this build has no {engine} support")]
    NotBuiltIn {
        /// The engine, and the feature.
        engine: &'static str,
    },
    /// The engine cannot be reached, or has no leader: it is not known who holds the lock, if anybody does.
    #[error("{engine} cannot be reached: {what}")]
    Unreachable {
        /// The engine and where it is, without a password.
        engine: String,
        /// What happened.
        what: String,
    },
    /// The engine could no longer be reached while a hold was being detached from this process: it is not known whether
    /// the lock stays taken.
    #[error("{engine} cannot be reached: {what}; the lock may stay taken, under token {token}")]
    MayStayTaken {
        /// The engine and where it is, without a password.
        engine: String,
        /// What happened.
        what: String,
        /// The hold's token, if it stays.
        token: u64,
    },
    /// The engine was reached, and refuses.
    #[error("{engine} refuses: {what}")]
    Refused {
        /// The engine and where it is, without a password.
        engine: String,
        /// What it said, and what to do.
        what: String,
    },
    /// The engine cannot do that.
    #[error("not on {engine}: {what}")]
    Unsupported {
        /// The engine.
        engine: &'static str,
        /// What it cannot do, and what to use instead.
        what: String,
    },
    /// The lock was not removed ([`remove`](crate::remove)): its semaphore counts processes that wait for it, as users
    /// of the Python module do. It cannot be told whether they are alive.
    #[error(
        "not removed: {waiters} waiting in the semaphore itself (the Python module), unless they were killed there"
    )]
    WaitedFor {
        /// How many.
        waiters: u32,
    },
    /// Another process is removing the lock ([`remove`](crate::remove)), and did not finish before the deadline.
    #[error("the lock is being removed{}", pid.map(|p| format!(" (by process {p})")).unwrap_or_default())]
    BeingRemoved {
        /// The process that removes it, if that is known.
        pid: Option<u32>,
    },
    /// The lock's table stayed busy until the deadline: a process may be stopped inside it. Until that one runs again or
    /// ends, nobody can acquire the lock.
    #[error("the lock's table stayed busy{}", pid.map(|p| format!(" (process {p} is inside)")).unwrap_or_default())]
    Busy {
        /// The process inside, if that is known.
        pid: Option<u32>,
    },
}

impl Error {
    /// The message and, after a colon, that of the system's error that it comes from, if there is one: for the line of a
    /// log. (The message alone does not repeat its [`source`](std::error::Error::source).)
    pub fn with_source(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// For programs whose own errors are the system's. The kind is that of what went wrong; the error itself is kept inside.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        use io::ErrorKind;
        let kind = match &error {
            Error::Name { .. } | Error::Mode { .. } | Error::NoSlots | Error::Url { .. } | Error::Twice { .. } => {
                ErrorKind::InvalidInput
            }
            Error::Permission { .. }
            | Error::Untrusted { .. }
            | Error::ForEverybody { .. }
            | Error::UnsafeDirectory { .. }
            | Error::HalfMade { .. }
            | Error::NotInGroup { .. }
            | Error::NotDeletable { .. }
            | Error::Refused { .. } => ErrorKind::PermissionDenied,
            Error::NotFound { .. } | Error::NoProcess { .. } => ErrorKind::NotFound,
            Error::WrongObject { .. } | Error::Damaged { .. } | Error::ForeignFile { .. } => ErrorKind::InvalidData,
            Error::Os { source, .. } => source.kind(),
            Error::Cancelled | Error::Superseded => ErrorKind::Interrupted,
            Error::TimedOut => ErrorKind::TimedOut,
            Error::NotBuiltIn { .. } | Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Unreachable { .. } | Error::MayStayTaken { .. } => ErrorKind::HostUnreachable,
            Error::Busy { .. } | Error::BeingRemoved { .. } | Error::WaitedFor { .. } => ErrorKind::ResourceBusy,
            Error::SlotsDiffer { .. } | Error::BeaconsTaken { .. } | Error::NotHeld | Error::Forked => ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

fn belongs(owner: Option<u32>) -> String {
    owner.map_or_else(String::new, |uid| format!(" (it belongs to user {uid})"))
}

/// The result of this library's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each, with what makes its text longest.
    fn examples() -> Vec<Error> {
        let (path, owner) = (PathBuf::from("/dev/shm/sem.bus"), Some(1000));
        let source = || io::Error::from_raw_os_error(libc::EACCES);
        let text = |text: &str| text.to_owned();
        let (name, reason) = (text("a/b"), text("it has a slash"));
        let engine = || text("etcd at 127.0.0.1:2379");
        vec![
            Error::Name { name, reason },
            Error::Permission {
                path: path.clone(),
                owner,
                source: source(),
            },
            Error::Untrusted {
                path: path.clone(),
                owner,
                group: 100,
                mode: 0o600,
            },
            Error::Untrusted {
                path: path.clone(),
                owner: None,
                group: 100,
                mode: 0o600,
            },
            Error::ForEverybody {
                path: path.clone(),
                owner: 1000,
            },
            Error::UnsafeDirectory {
                path: "/dev/shm".into(),
                owner: 1000,
                mode: 0o777,
            },
            Error::HalfMade {
                path: path.clone(),
                owner: 1000,
            },
            Error::ForeignFile {
                path: "/dev/shm/bus".into(),
                owner,
            },
            Error::NotInGroup {
                gid: 100,
                source: source(),
            },
            Error::NotDeletable {
                path: path.clone(),
                owner,
            },
            Error::NotFound { path: path.clone() },
            Error::WrongObject {
                path: path.clone(),
                what: text("it is a directory"),
                owner,
            },
            Error::Damaged {
                path: path.clone(),
                what: text("it has 7 bytes"),
                owner,
            },
            Error::Os {
                doing: "map",
                path: path.clone(),
                source: source(),
            },
            Error::BeaconsTaken { path },
            Error::SlotsDiffer { asked: 2, in_use: 3 },
            Error::NoSlots,
            Error::Mode { text: text("many") },
            Error::Twice {
                name: LockName::new("bus").unwrap(),
            },
            Error::NotHeld,
            Error::Cancelled,
            Error::Superseded,
            Error::Forked,
            Error::TimedOut,
            Error::NoProcess {
                pid: 4711,
                source: source(),
            },
            Error::Url {
                url: text("nosuch://host"),
                reason: text("there is no engine nosuch"),
            },
            Error::NotBuiltIn { engine: "etcd" },
            Error::Unreachable {
                engine: engine(),
                what: text("connection refused"),
            },
            Error::MayStayTaken {
                engine: engine(),
                what: text("connection refused"),
                token: 7,
            },
            Error::Refused {
                engine: engine(),
                what: text("permission denied"),
            },
            Error::Unsupported {
                engine: "PostgreSQL",
                what: text("counting locks"),
            },
            Error::WaitedFor { waiters: 2 },
            Error::BeingRemoved { pid: Some(4711) },
            Error::BeingRemoved { pid: None },
            Error::Busy { pid: Some(4711) },
            Error::Busy { pid: None },
        ]
    }

    /// Whoever changes a message, or adds one, sees it in the difference of `messages.txt`, and reads it.
    #[test]
    fn the_committed_messages_are_what_is_said() {
        let source = include_str!("error.rs");
        let (variants, _) = source
            .split_once("pub enum Error {")
            .unwrap()
            .1
            .split_once("\n}")
            .unwrap();
        let mut text =
            "What the library's errors say. Rewritten by: BLESS=1 cargo test committed_messages\n".to_owned();
        let examples = examples();
        for line in variants.lines() {
            let name = line
                .strip_prefix("    ")
                .unwrap_or_default()
                .trim_end_matches([' ', '{', ',']);
            if !name.starts_with(|first: char| first.is_ascii_uppercase()) {
                continue;
            }
            let of_it = examples.iter().filter(|error| {
                let shown = format!("{error:?}");
                shown.split(' ').next() == Some(name)
            });
            let before = text.len();
            for error in of_it {
                text.push_str(&format!("\n{name}\n    {}\n", error.with_source()));
            }
            assert!(text.len() > before, "{name} has no example");
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lock/types/messages.txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert!(
            committed == text,
            "messages.txt is stale: BLESS=1 cargo test --lib committed_messages"
        );
    }
}
