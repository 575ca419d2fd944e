//! Asking the command of a hold to end: only a process that is proven to run under it is signalled.
//!
//! A table says which process runs under a hold, and whoever may write the table may say what he likes. So its word is
//! where to look, not a proof. A process is proven to run under a hold if
//! 1. its environment, as it was when it was executed, has exactly that hold in `RESOURCELOCK_HELD`; or
//! 2. its environment has been overwritten or emptied, as some programs do, and its parent is a living process that
//!    executes this very program and has the lock's table mapped.
//!
//! An engine says which process requested a hold, and that one's host. There, and where only what a command has left behind
//! keeps a hold, the processes of which the first is true are looked for.
//!
//! A descriptor proves nothing: it can be passed to any process. In all this the process is held by a pidfd, so that its
//! number cannot come to mean another one before it is signalled.

use super::job;
use crate::exec;
use nix::poll::{PollTimeout, poll};
use nix::sys::signal::kill;
use nix::unistd::{Pid, geteuid};
use resourcelock::system::{self, Process, Stat};
use resourcelock::{Holder, LockName, State};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// How long a new holder may take to start its command and to say which process that is.
pub const STARTING: Duration = Duration::from_secs(1);
/// Between two views of a holder that is starting, in milliseconds.
const VIEW_EVERY_MS: u8 = 2;

/// Why a holder's command was not asked to end.
#[derive(Debug)]
pub enum NotAsked {
    /// The hold has none: it was left taken, or its holder has not started one.
    NoCommand,
    /// It runs on this host.
    OtherHost(String),
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
            Self::OtherHost(host) => write!(f, "it runs on {host}"),
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

/// The holder as it is when its command has been started: it is granted the lock before. `view` views the lock. `None`: it has
/// released it.
pub fn when_started<E>(
    holder: &Holder,
    until: Instant,
    view: impl Fn() -> Result<Option<State>, E>,
) -> Result<Option<Holder>, E> {
    let mut holder = holder.clone();
    let is_recorded = |holder: &Holder| holder.bound_pid.is_some() && holder.bound_start.is_some();
    while !is_recorded(&holder) && !holder.detached && Instant::now() < until {
        // Ends early when a signal comes.
        let _ = poll(&mut [], PollTimeout::from(VIEW_EVERY_MS));
        let holders = view()?.map(|state| state.holders).unwrap_or_default();
        match holders.into_iter().find(|now| now.token == holder.token) {
            Some(now) => holder = now,
            None => return Ok(None),
        }
    }
    Ok(Some(holder))
}

/// Sends `signal` to the command that runs under the hold of a lock of this machine. Returns that process; `None`: it has
/// ended meanwhile.
///
/// # Errors
/// See [`NotAsked`]: nothing was signalled.
pub fn ask_to_end(lock: &LockName, holder: &Holder, signal: i32) -> Result<Option<Process>, NotAsked> {
    let (Some(pid), Some(token), false) = (holder.bound_pid, holder.token, holder.detached) else {
        return Err(NotAsked::NoCommand);
    };
    if !holder.requester.same_pid_namespace {
        return Err(NotAsked::OtherNamespace);
    }
    // What is read of it from here on is about this process as long as it has not ended.
    let process = match Process::open(pid) {
        Err(error) if has_ended(&error) => return Ok(None),
        opened => opened.map_err(|error| NotAsked::System(pid, "pidfd_open(2)", error))?,
    };
    let Some(recorded) = holder.bound_start else {
        return Err(NotAsked::Unproven(pid));
    };
    match Stat::of(pid) {
        Ok(stat) if stat.start_time == recorded => {}
        Ok(_) => return Ok(None), // it has ended, and its number has been given to another process
        Err(error) if has_ended(&error) => return Ok(None),
        Err(error) => return Err(NotAsked::System(pid, "reading /proc/PID/stat", error)),
    }
    let proof = prove(pid, &job::entry(token, None, lock), lock);
    if process.has_ended() {
        return Ok(None);
    }
    proof?;
    send(process, pid, signal)
}

/// The same for the command of a hold that an engine keeps (`remote`), and for what a command has left behind that keeps a
/// hold of this machine: for those processes that prove by their environment that they run under the hold, and were not
/// started by others that do. Returns them.
///
/// # Errors
/// See [`NotAsked`]. Some may have been signalled nevertheless.
pub fn ask_marked_to_end(
    lock: &LockName,
    holder: &Holder,
    remote: bool,
    signal: i32,
) -> Result<Vec<Process>, NotAsked> {
    let requester = &holder.requester;
    let (Some(entry), Some(pid), false) = (job::entry_of(holder, lock, remote), requester.pid, holder.detached) else {
        return Err(NotAsked::NoCommand);
    };
    if !requester.same_pid_namespace {
        return Err(match requester.host.name() {
            Some(host) if host != system::host_name() => NotAsked::OtherHost(host.to_owned()),
            _ => NotAsked::OtherNamespace,
        });
    }
    let under = running_under(&entry);
    let mut asked = Vec::new();
    for pid in outermost(&under) {
        match Process::open(pid) {
            Err(error) if has_ended(&error) => {}
            Err(error) => return Err(NotAsked::System(pid, "pidfd_open(2)", error)),
            // Whoever has this number now has to prove it.
            Ok(process) if exec::environment(pid).is_ok_and(|environment| has_hold(&environment, &entry)) => {
                asked.extend(send(process, pid, signal)?);
            }
            Ok(_) => {}
        }
    }
    let me = geteuid();
    match asked.is_empty() {
        true if !me.is_root() && requester.uid.is_some_and(|uid| uid != me.as_raw()) => Err(NotAsked::Unreadable(pid)),
        true => Err(NotAsked::Unproven(pid)),
        false => Ok(asked),
    }
}

/// The processes that say in their environment that they run under this hold ([`job::entry_of`]), as far as this user may see
/// that.
pub fn running_under(entry: &str) -> HashSet<u32> {
    exec::processes_marked(job::HELD, entry)
}

/// Those whose parents are not among them.
fn outermost(pids: &HashSet<u32>) -> Vec<u32> {
    let is_outermost = |pid: &u32| !Stat::of(*pid).is_ok_and(|stat| pids.contains(&stat.parent));
    let mut outermost: Vec<u32> = pids.iter().copied().filter(is_outermost).collect();
    outermost.sort_unstable();
    outermost
}

fn send(process: Process, pid: u32, signal: i32) -> Result<Option<Process>, NotAsked> {
    match process.signal(signal) {
        Err(error) if has_ended(&error) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !may_signal(pid) => {
            return Err(NotAsked::NotPermitted(pid));
        }
        result => result.map_err(|error| NotAsked::System(pid, "pidfd_send_signal(2)", error))?,
    }
    // What is stopped reacts only when it is continued.
    if Stat::of(pid).is_ok_and(|stat| stat.stopped) {
        let _ = process.signal(libc::SIGCONT);
    }
    Ok(Some(process))
}

/// True if it is not this user who may not signal the process, but this program that may not do it by a descriptor.
fn may_signal(pid: u32) -> bool {
    kill(Pid::from_raw(pid.cast_signed()), None).is_ok()
}

fn has_ended(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

fn prove(pid: u32, entry: &str, lock: &LockName) -> Result<(), NotAsked> {
    match exec::environment(pid) {
        Ok(environment) if has_hold(&environment, entry) => Ok(()),
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

fn has_hold(environment: &[u8], entry: &str) -> bool {
    held(environment).any(|list| list.split(|byte| *byte == b'/').any(|hold| hold == entry.as_bytes()))
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
        let has = |held: &str| has_hold(format!("A=1\0RESOURCELOCK_HELD={held}\0B=2\0").as_bytes(), "7:bus");
        assert!(has("7:bus") && has("1:disk/7:bus") && has("7:bus/9:disk"));
        for other in ["", "17:bus", "7:busy", "7:disk", "7", "7@1@host:bus"] {
            assert!(!has(other), "{other}");
        }
        assert!(!has_hold(b"XRESOURCELOCK_HELD=7:bus\0", "7:bus"));
        assert!(says_nothing(b"A=1\0") && !says_nothing(b"RESOURCELOCK_HELD=\0"));
    }

    #[test]
    fn lines_of_maps() {
        let line =
            "7f0c8a400000-7f0c8a42b000 rw-s 00000000 00:1a 4242                       /dev/shm/resourcelock3.b us";
        assert!(maps_file(line, 4242, "/dev/shm/resourcelock3.b us"));
        assert!(!maps_file(line, 4243, "/dev/shm/resourcelock3.b us"));
        assert!(!maps_file(line, 4242, "/dev/shm/resourcelock3.b"));
        assert!(!maps_file("", 0, ""));
    }
}
