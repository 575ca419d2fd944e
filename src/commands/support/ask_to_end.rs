//! Asking the command of a hold to end: only a process that is proven to run under it is signalled.
//!
//! A table says which process runs under a hold, and whoever may write the table may say what he likes. So its word is
//! where to look, not a proof. A process is proven to run under a hold if
//! 1. its environment, as it was when it was executed, has exactly that hold in `RESOURCELOCK_HELD`; or
//! 2. its environment has been overwritten or emptied, as some programs do, and its parent is a living process that
//!    executes this very program and has the lock's table mapped.
//!
//! A descriptor proves nothing: it can be passed to any process. In all this the process is held by a pidfd, so that its
//! number cannot come to mean another one before it is signalled.

use super::job;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use resourcelock::system::{Process, Stat};
use resourcelock::{Holder, LockName};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Why a holder's command was not asked to end.
#[derive(Debug)]
pub enum NotAsked {
    /// The hold has none: it was left taken, or its holder has not started one.
    NoCommand,
    /// Its number means another process here.
    OtherNamespace,
    /// It cannot be examined: it belongs to another user, or is set-uid.
    Unreadable(u32),
    /// It does not run under this hold, or cannot prove it.
    Unproven(u32),
    /// This user may not signal it.
    NotPermitted(u32),
    /// The system refuses this call.
    System(u32, &'static str, io::Error),
}

impl std::fmt::Display for NotAsked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoCommand => f.write_str("it does not run a command for the lock"),
            Self::OtherNamespace => f.write_str("it is in another PID namespace"),
            Self::Unreadable(pid) => write!(
                f,
                "process {pid} belongs to another user and cannot be examined; if it is the one, end it with: kill {pid}"
            ),
            Self::Unproven(pid) => write!(
                f,
                "process {pid} is not proven to run under the lock; if it is the one, end it with: kill {pid}"
            ),
            Self::NotPermitted(pid) => write!(f, "this user may not signal process {pid}"),
            Self::System(pid, call, error) => write!(f, "{call} is refused for process {pid}: {error}"),
        }
    }
}

/// Sends `signal` to the command that runs under the hold. A command that has ended meanwhile is no error.
///
/// # Errors
/// See [`NotAsked`]: nothing was signalled.
pub fn ask_to_end(lock: &LockName, holder: &Holder, signal: i32) -> Result<(), NotAsked> {
    let (Some(pid), Some(token), false) = (holder.bound_pid, holder.token, holder.detached) else {
        return Err(NotAsked::NoCommand);
    };
    if !holder.requester.same_pid_namespace {
        return Err(NotAsked::OtherNamespace);
    }
    // What is read of it from here on is about this process as long as it has not ended.
    let process = match Process::open(pid) {
        Err(error) if has_ended(&error) => return Ok(()),
        opened => opened.map_err(|error| NotAsked::System(pid, "pidfd_open(2)", error))?,
    };
    let Some(recorded) = holder.bound_start else {
        return Err(NotAsked::Unproven(pid));
    };
    match Stat::of(pid) {
        Ok(stat) if stat.start_time == recorded => {}
        Ok(_) => return Ok(()), // it has ended, and its number has been given to another process
        Err(error) if has_ended(&error) => return Ok(()),
        Err(error) => return Err(NotAsked::System(pid, "reading /proc/PID/stat", error)),
    }
    let proof = prove(pid, token, lock);
    if process.has_ended() {
        return Ok(());
    }
    proof?;
    match process.signal(signal) {
        Err(error) if has_ended(&error) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !may_signal(pid) => {
            Err(NotAsked::NotPermitted(pid))
        }
        result => result.map_err(|error| NotAsked::System(pid, "pidfd_send_signal(2)", error)),
    }
}

/// True if it is not this user who may not signal the process, but this program that may not do it by a descriptor.
fn may_signal(pid: u32) -> bool {
    kill(Pid::from_raw(pid.cast_signed()), None).is_ok()
}

fn has_ended(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

fn prove(pid: u32, token: u64, lock: &LockName) -> Result<(), NotAsked> {
    match fs::read(format!("/proc/{pid}/environ")) {
        Ok(environment) if has_hold(&environment, token, lock) => Ok(()),
        Ok(environment) if says_nothing(&environment) && parent_is_ours(pid, lock) => Ok(()),
        Ok(_) => Err(NotAsked::Unproven(pid)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(NotAsked::Unreadable(pid)),
        Err(_) => Err(NotAsked::Unproven(pid)),
    }
}

/// The values of `RESOURCELOCK_HELD`.
fn held(environment: &[u8]) -> impl Iterator<Item = &[u8]> {
    environment
        .split(|byte| *byte == 0)
        .filter_map(|entry| entry.strip_prefix(job::HELD.as_bytes())?.strip_prefix(b"="))
}

fn has_hold(environment: &[u8], token: u64, lock: &LockName) -> bool {
    let hold = format!("{token}:{lock}");
    held(environment).any(|list| list.split(|byte| *byte == b'/').any(|entry| entry == hold.as_bytes()))
}

/// True if it does not even say that it runs under other locks.
fn says_nothing(environment: &[u8]) -> bool {
    held(environment).next().is_none()
}

/// True if the parent executes this program and has the table of the lock mapped.
fn parent_is_ours(pid: u32, lock: &LockName) -> bool {
    let parent_of = |pid| Stat::of(pid).ok().map(|stat| stat.parent).filter(|parent| *parent > 1);
    let Some(parent) = parent_of(pid) else { return false };
    let Ok(process) = Process::open(parent) else {
        return false;
    };
    let file = |path: String| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let own = file("/proc/self/exe".to_owned());
    let is_this_program = own.is_some() && file(format!("/proc/{parent}/exe")) == own;
    let table = lock.table_path();
    let maps_table = file(table.to_string_lossy().into_owned()).is_some_and(|(_, inode)| {
        let maps = fs::read_to_string(format!("/proc/{parent}/maps")).unwrap_or_default();
        maps.lines()
            .any(|line| maps_file(line, inode, &table.to_string_lossy()))
    });
    // All of this was about the parent if it is so still.
    is_this_program && maps_table && !process.has_ended() && parent_of(pid) == Some(parent)
}

/// True if a line of /proc/PID/maps is about this file (proc_pid_maps(5)).
fn maps_file(line: &str, inode: u64, path: &str) -> bool {
    let mut fields = line.splitn(6, ' ');
    fields.nth(4).and_then(|field| field.parse().ok()) == Some(inode)
        && fields.next().map(str::trim_start) == Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_hold_counts() {
        let lock = LockName::new("bus").unwrap();
        let has = |held: &str| has_hold(format!("A=1\0RESOURCELOCK_HELD={held}\0B=2\0").as_bytes(), 7, &lock);
        assert!(has("7:bus") && has("1:disk/7:bus") && has("7:bus/9:disk"));
        for other in ["", "17:bus", "7:busy", "7:disk", "7", "7@1@host:bus"] {
            assert!(!has(other), "{other}");
        }
        assert!(!has_hold(b"XRESOURCELOCK_HELD=7:bus\0", 7, &lock));
        assert!(says_nothing(b"A=1\0") && !says_nothing(b"RESOURCELOCK_HELD=\0"));
    }

    #[test]
    fn lines_of_maps() {
        let line =
            "7f0c8a400000-7f0c8a42b000 rw-s 00000000 00:1a 4242                       /dev/shm/resourcelock2.b us";
        assert!(maps_file(line, 4242, "/dev/shm/resourcelock2.b us"));
        assert!(!maps_file(line, 4243, "/dev/shm/resourcelock2.b us"));
        assert!(!maps_file(line, 4242, "/dev/shm/resourcelock2.b"));
        assert!(!maps_file("", 0, ""));
    }
}
