//! What to do about an error of the library: it states the fact, and the program adds the advice.

use super::own_locks::space_in_idle_locks;
use crate::cli::{Common, quoted, shell_word};
use crate::exec::sys::command_line;
use crate::output::names::user;
use crate::output::shown;
use nix::unistd::{getegid, geteuid, getgroups};
use resourcelock::engines::passwords_in;
use resourcelock::{Error, system};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// For somebody who is to give a lock to a group without being a member.
pub const JOIN_GROUP: &str =
    "have yourself added to it (usermod -aG) and log in again, or choose one of your groups (id -Gn)";

/// Where the locks of this machine are.
pub const SHM: &str = "/dev/shm";

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

/// A command line longer than this is not repeated in advice.
const LONGEST: usize = 2_000;

/// This command line once more, to be pasted, with another option in front. Not if it has that option already, or may
/// have it: the last one counts.
fn mended(option: &str) -> String {
    let words = command_line::words();
    let name = option.split(' ').next().unwrap_or_default();
    let is_said = |word: &OsString| {
        let word = word.to_string_lossy();
        let given = word.split('=').next().unwrap_or_default();
        given.len() > 2 && name.starts_with(given)
    };
    // Owners are added to each other.
    if name != "--owner" && words.iter().skip(1).any(is_said) {
        return format!("say {option} instead");
    }
    let arguments: Vec<String> = words.iter().skip(1).map(quoted).collect();
    let line = format!("resourcelock {option} {}", arguments.join(" "));
    if line.len() > LONGEST {
        format!("add {option}")
    } else {
        line
    }
}

/// The owner of the file that an error is about, if he is known.
pub fn owner(error: &Error) -> Option<u32> {
    match error {
        Error::Permission { owner, .. }
        | Error::Untrusted { owner, .. }
        | Error::ForeignFile { owner, .. }
        | Error::NotDeletable { owner, .. }
        | Error::WrongObject { owner, .. }
        | Error::Damaged { owner, .. } => *owner,
        Error::HalfMade { owner, .. } | Error::UnsafeDirectory { owner, .. } | Error::ForEverybody { owner, .. } => {
            Some(*owner)
        }
        _ => None,
    }
}

/// What `error` says, with the names of users.
pub fn fact(error: &Error) -> String {
    let of = |owner: &Option<u32>| {
        let owner = owner.map(|uid| format!(" (it belongs to {})", user(uid)));
        owner.unwrap_or_default()
    };
    match error {
        Error::Permission { path, owner, .. } => format!("no permission for {}{}", shown(path.display()), of(owner)),
        Error::Untrusted { path, owner, .. } => {
            let path = shown(path.display());
            let me = geteuid().as_raw();
            let own = if me == 0 {
                "root uses only its own locks".to_owned()
            } else {
                format!("{} uses only locks of {0} and root", user(me))
            };
            match owner {
                Some(owner) => format!("{path} belongs to {}, but {own}", user(*owner)),
                None => format!("{path} belongs to somebody whom this user namespace does not know, but {own}"),
            }
        }
        Error::ForEverybody { path, owner } => format!(
            "everybody may write {} (it belongs to {}), and may have given it this name",
            shown(path.display()),
            user(*owner)
        ),
        Error::UnsafeDirectory { path, owner, mode } => format!(
            "{} is not safe: it has mode {mode:04o} and belongs to {}, so that others can delete or replace locks",
            shown(path.display()),
            user(*owner)
        ),
        Error::HalfMade { path, owner } => {
            let path = shown(path.display());
            format!(
                "the lock is half made: {path} is missing, and only {} can create it",
                or_root(*owner, "and")
            )
        }
        Error::NotDeletable { path, owner } => format!(
            "cannot delete {}: in this directory only a file's owner and root may delete it{}",
            shown(path.display()),
            of(owner)
        ),
        Error::ForeignFile { path, owner } => {
            format!("{} is a file of another program{}", shown(path.display()), of(owner))
        }
        Error::WrongObject { path, what, owner } => {
            format!("{} is not usable: {}{}", shown(path.display()), shown(what), of(owner))
        }
        Error::Damaged { path, what, owner } => {
            format!("{} is damaged: {}{}", shown(path.display()), shown(what), of(owner))
        }
        Error::Os { .. } | Error::NoProcess { .. } => error.with_source(),
        error => error.to_string(),
    }
}

fn has_other_names(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|found| found.is_file() && found.nlink() > 1)
}

/// What the user can do about `error`, in the words of the command line. `lock` is the lock's name.
pub fn advice(error: &Error, lock: Option<&str>) -> Option<String> {
    Some(match error {
        Error::Permission { .. } => {
            "use the lock as its owner, or create it with a mode and group that let both in".to_owned()
        }
        Error::Untrusted { owner, group, mode, .. } => untrusted(*owner, *group, *mode),
        Error::ForEverybody { .. } => for_everybody(),
        Error::UnsafeDirectory { path, .. } => format!(
            "make it safe: chown root {0} && chmod 1777 {0}; or share locks with whoever can write there: {1}",
            quoted(path),
            mended("--mode 666")
        ),
        Error::HalfMade { owner, .. } => format!("let {} use it once", user(*owner)),
        Error::NotInGroup { .. } => JOIN_GROUP.to_owned(),
        Error::NotDeletable { owner, .. } => {
            let who = owner.map_or_else(|| "root".to_owned(), |owner| or_root(owner, "or"));
            format!("as {who}: resourcelock {} remove", shell_word(lock?))
        }
        Error::ForeignFile { path, .. } => {
            format!(
                "use another name for the lock; or, if no program needs that file, delete it: rm {}",
                quoted(path)
            )
        }
        // Whoever deletes one name leaves the others' maker with an object of this owner.
        Error::WrongObject { path, .. } if has_other_names(path) => {
            format!(
                "find its other names, and out who uses them: find {SHM} -samefile {}",
                quoted(path)
            )
        }
        Error::WrongObject { path, .. } => {
            let delete = if path.is_symlink() || !path.is_dir() {
                "rm"
            } else {
                "rm -r"
            };
            format!("if nobody uses it, delete it: {delete} {}", quoted(path))
        }
        Error::Damaged { .. } => format!(
            "if nobody uses the lock, delete it, as its owner or root: resourcelock {} remove --force",
            shell_word(lock?)
        ),
        Error::Os { doing, path, source } => return limit(doing, source).or_else(|| directory(path, source)),
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

/// A user and root, who can do what that user can.
fn or_root(uid: u32, word: &str) -> String {
    if uid == 0 {
        user(0)
    } else {
        format!("{} {word} root", user(uid))
    }
}

/// Something is wrong with the directory of locks.
fn directory(path: &Path, error: &io::Error) -> Option<String> {
    if !path.starts_with(SHM) {
        return None;
    }
    Some(match error.kind() {
        ErrorKind::NotFound if !Path::new(SHM).is_dir() => format!("mount a tmpfs at {SHM}"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => match space_in_idle_locks() {
            Some(idle) => format!("free some space in {SHM}: {idle}"),
            None => format!("free some space in {SHM}"),
        },
        ErrorKind::ReadOnlyFilesystem => format!("{SHM} must be writable"),
        _ => return None,
    })
}

/// This process may not have what every process usually has: by a limit (setrlimit(2)), a sandbox (seccomp(2)), or because
/// the kernel is too old.
fn limit(doing: &str, error: &io::Error) -> Option<String> {
    Some(match error.raw_os_error()? {
        libc::EMFILE => "raise the limit of open files (ulimit -n)".to_owned(),
        libc::ENFILE => "the whole system has too many files open".to_owned(),
        libc::EFBIG => "raise the limit of the size of files (ulimit -f)".to_owned(),
        libc::ENOMEM => "free some memory, or raise its limit (ulimit -v)".to_owned(),
        libc::EPERM | libc::ENOSYS => match call(doing) {
            Some(call) => format!("a sandbox or the kernel refuses {call}"),
            None => "a sandbox or the kernel refuses a system call".to_owned(),
        },
        _ => return None,
    })
}

/// The system call that is made for it.
fn call(doing: &str) -> Option<&'static str> {
    Some(match doing {
        "open" | "create" => "openat(2)",
        "examine" => "fstat(2)",
        "look at" => "lstat(2)",
        "map" | "keep open" => "mmap(2)",
        "lock a byte of" | "open again" => "fcntl(2) for open file descriptions",
        "allocate space for" => "fallocate(2)",
        "size" => "ftruncate(2)",
        "write" => "write(2)",
        "give its name to" => "linkat(2)",
        "set the mode of" => "fchmod(2)",
        "change the group of" => "fchown(2)",
        "delete" => "unlink(2)",
        "find out who uses" => "fcntl(2) for leases",
        "read" => "fstat(2), getdents64(2) or pread64(2)",
        _ => return None,
    })
}

/// How to use a lock that everybody may write: whose it is does not matter.
fn for_everybody() -> String {
    format!("if the lock is for everybody: {}", mended("--mode 666"))
}

/// How to use the lock all the same.
fn untrusted(owner: Option<u32>, group: u32, mode: u32) -> String {
    let is_mine = || {
        let groups = getgroups().unwrap_or_default();
        groups.iter().chain([&getegid()]).any(|gid| gid.as_raw() == group)
    };
    match owner {
        Some(_) if mode & 0o002 != 0 => for_everybody(),
        Some(_) if mode & 0o020 != 0 && is_mine() => {
            let group = system::group_name(group);
            let option = format!("--group {}", quoted(&group));
            format!("to use the locks of group {}, too: {}", shown(&group), mended(&option))
        }
        Some(owner) => {
            let owner = user(owner);
            format!(
                "to use the locks of {owner}, too: {}",
                mended(&format!("--owner {}", quoted(&owner)))
            )
        }
        None => format!(
            "to share locks with whoever can write to {SHM}: {}",
            mended("--mode 666")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_named_as_the_shell_wants_it() {
        let error = Error::Damaged {
            path: "/dev/shm/resourcelock3.a b".into(),
            what: "it has 7 bytes where a table has more".to_owned(),
            owner: None,
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
