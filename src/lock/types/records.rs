//! What can be seen of a lock: holders, waiters, history, and counters.

use crate::lock::types::{Ended, LockName, Mode};
use std::fmt;
use std::time::{Duration, SystemTime};

/// A lock as it was at one instant.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct State {
    /// The lock's name.
    pub name: LockName,
    /// The user to whom its files belong. `None` on an engine, for a lock that does not exist, and if this user namespace
    /// does not know the user.
    pub owner: Option<u32>,
    /// False if the caller does not trust the owner (see [`Builder::owner`](crate::Builder::owner)): then everything that
    /// is said here of the lock is what he claims.
    pub trusted: bool,
    /// True if anybody holds it: a process that uses the table, or a user of the Python module. An abandoned hold (see
    /// [`Holder::alive`]) does not count.
    pub locked: bool,
    /// The semaphore's value: 0 = taken, 1 = free, more = released by force too often.
    pub value: u32,
    /// True if a process that does not use the table holds it (the Python module's, or one whose table was deleted).
    pub foreign: bool,
    /// The note: who last took the lock, and when. Unprintable characters are escaped.
    pub note: String,
    /// The holders, by token. Empty if the holder is a foreign one.
    pub holders: Vec<Holder>,
    /// How many more there are than [`holders`](Self::holders) has: only in a list of all locks, where each has at most
    /// 16.
    pub holders_left_out: usize,
    /// The waiters, in the order in which they will be served.
    pub waiters: Vec<Waiter>,
    /// The same of [`waiters`](Self::waiters).
    pub waiters_left_out: usize,
    /// The semaphore's waiter count: processes asleep in sem_wait(3), such as the Python module's.
    pub foreign_waiters: u32,
    /// The number of slots, if the lock is in use as a counting lock.
    pub slots: Option<u32>,
    /// The token of the last hold whose holder died, or under which something crashed, until a later holder has said that what that one may have left half
    /// done is in order again.
    pub abandoned: Option<u64>,
    /// When the lock was last granted, as far as the table remembers. On an engine, as far as holders tell.
    pub last_grant: Option<SystemTime>,
    /// When the last command that ran under the lock and succeeded ended ([`Guard::command_ended`](crate::Guard::command_ended)
    /// with status 0), as far as the table remembers. `None` on an engine.
    pub last_success: Option<SystemTime>,
    /// The handle that was just changing the table: for well under a microsecond each time, unless its process is stopped.
    /// Never on an engine.
    pub inside: Option<Inside>,
    /// Sums since the table was created; `None` on an engine, which does not count.
    pub counters: Option<Counters>,
    /// When this was read.
    pub read_at: SystemTime,
}

/// A handle that was changing a lock's table when that was read. Nobody else can change it meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Inside {
    /// A number that no other living handle of the lock has.
    pub handle: u32,
    /// Its process, as far as its requests tell. Not one of another PID namespace.
    pub pid: Option<u32>,
}

/// The process that requested a lock, and its user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Requester {
    /// The process. `None` for another program's request on an engine.
    pub pid: Option<u32>,
    /// The process's user. `None` if that is not known.
    pub uid: Option<u32>,
    /// The user's name on the host where the process runs, as far as an engine knows it. `None` for a lock of this
    /// machine, where `uid` says it all.
    pub user: Option<String>,
    /// Where the process runs.
    pub host: Host,
    /// The command's name, with unprintable characters escaped. `None` if that is not known.
    pub command: Option<String>,
    /// False if the process IDs of this request are those of another PID namespace than the reader's (of another
    /// container, of another host). True where that is not recorded, as in the history of a lock of this machine.
    pub same_pid_namespace: bool,
}

impl Requester {
    /// True if the request is another program's: the engine shows it, but not the process that made it.
    pub fn is_foreign(&self) -> bool {
        self.pid.is_none() && self.host != Host::Local
    }
}

/// The host from which a lock was requested.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Host {
    /// This machine: the lock is kept here, where only its own processes can ask for it.
    Local,
    /// The host with this name; unprintable characters are escaped.
    Named(String),
    /// An engine keeps the lock and does not know the host.
    Unknown,
}

impl Host {
    /// The host's name, where an engine tells it.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Local | Self::Unknown => None,
        }
    }
}

/// One hold.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Holder {
    /// The grant's number: later grants have larger ones. `None` for another program's hold on an engine that does not
    /// number it.
    pub token: Option<u64>,
    /// Exclusive, shared, or a slot.
    pub mode: Mode,
    /// The request's number: requests are numbered in the order in which they were made.
    pub ticket: u64,
    /// The process that requested it. For a detached hold, it has usually ended.
    pub requester: Requester,
    /// The process on whose life the hold depends besides its own, if any: the command of `run`, or `--pid`.
    pub bound_pid: Option<u32>,
    /// That process's start time after boot in clock ticks (field 22 of /proc/PID/stat), to tell it from a later one
    /// with its number.
    pub bound_start: Option<u64>,
    /// True if no process keeps the hold alive: it lasts until it is released, until `bound_pid` ends, or until it
    /// expires.
    pub detached: bool,
    /// True if what ran under it has ended, and it stands until it expires all the same
    /// ([`Guard::linger`](crate::Guard::linger)).
    pub lingers: bool,
    /// False if the holder has died; the next process that checks will release the hold.
    pub alive: bool,
    /// True if it cannot be found out from here if the holder lives: all that its hold depends on is a process of another
    /// PID namespace, or one that is hidden. It counts as alive. In the machine's first PID namespace (on the host of
    /// containers), root can tell.
    pub presumed: bool,
    /// Who keeps the hold, if the process that requested it has died: its command, or what that has left behind.
    pub kept_by: Option<Survivor>,
    /// When it was granted. `None` if that is not known (another program's hold on an engine).
    pub since: Option<SystemTime>,
    /// How long it has been held; known if `since` is. If the holder has died: until it was last known to live.
    pub held: Option<Duration>,
    /// How long the request had waited; known if `since` is.
    pub waited: Option<Duration>,
    /// When it will expire.
    pub expires_in: Option<Duration>,
}

impl Holder {
    /// When it was requested, if that is known.
    pub fn queued(&self) -> Option<SystemTime> {
        let since = self.since?;
        Some(since.checked_sub(self.waited.unwrap_or_default()).unwrap_or(since))
    }
}

/// What keeps a hold after the death of the process that requested it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Survivor {
    /// The process. `None` if it cannot be seen: another user's descriptors are not shown.
    pub pid: Option<u32>,
    /// Its name, with unprintable characters escaped.
    pub command: Option<String>,
}

/// One request that waits.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Waiter {
    /// The request's number: requests are numbered in the order in which they were made.
    pub ticket: u64,
    /// The mode requested.
    pub mode: Mode,
    /// The process that requests it.
    pub requester: Requester,
    /// When it was requested. `None` if that is not known (another program's request on an engine).
    pub since: Option<SystemTime>,
    /// How long the request has waited; known if `since` is.
    pub waited: Option<Duration>,
    /// True if it was offered the lock and did not react (a stopped process): it is passed over until it runs again.
    pub stalled: bool,
    /// False if it has died in the queue.
    pub alive: bool,
}

/// How a command that ran under a hold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum CommandEnd {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

/// How a hold was taken away from its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Lost {
    /// Somebody released it by force, or it expired.
    Forced,
    /// The lock's files were deleted or replaced.
    Replaced,
    /// The lock's files were truncated or overwritten (see [`survive_truncation`](crate::survive_truncation)).
    Damaged,
    /// On an engine: its lease could not be renewed, or somebody released it by force.
    Lease,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Forced => "released by force, or expired",
            Self::Replaced => "the lock's files were deleted or replaced",
            Self::Damaged => "the lock's files were damaged",
            Self::Lease => "the lease is over, or it was released by force",
        })
    }
}

/// One ended request. The table keeps those of the last 24 hours, up to 256 holds and 64 requests that gave up, and at least
/// the last 23 of each, if there was space in /dev/shm.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct HistoryRecord {
    /// Its position in the lock's life; holds are numbered apart from requests that gave up. Positions are consecutive: a
    /// gap means that records were overwritten before they were read.
    pub sequence: u64,
    /// The request's number: requests are numbered in the order in which they were made. 0 for one that gave up without
    /// having joined the queue.
    pub ticket: u64,
    /// The grant's token. `None` if the request was never granted, or the engine does not number the grant.
    pub token: Option<u64>,
    /// Exclusive, shared, or a slot.
    pub mode: Mode,
    /// The process that requested it.
    pub requester: Requester,
    /// When it was requested. `None` if that is not known (another program's request on an engine).
    pub queued: Option<SystemTime>,
    /// How long it waited; known if `queued` is.
    pub waited: Option<Duration>,
    /// How long it was held. `None` if it was never granted, or if that is not known. Of a hold whose holder or process was
    /// found gone ([`Ended::Abandoned`], [`Ended::WithProcess`]): until it was last known to live.
    pub held: Option<Duration>,
    /// When it ended. Of a hold whose holder or process was found gone: when that was found.
    pub ended: SystemTime,
    /// How it ended.
    pub how: Ended,
    /// How the command that ran under it ended, if whoever ran it has said so
    /// ([`Guard::command_ended`](crate::Guard::command_ended)).
    pub command_end: Option<CommandEnd>,
    /// What the lock was requested for: up to 80 bytes of the note's message, with unprintable characters escaped. Empty if
    /// there was none, or if it is not known (of a hold that somebody else ended after others had been granted).
    pub note: String,
}

impl HistoryRecord {
    /// When the holder was last known to live, of a hold that ended by itself at a time that nobody knows.
    pub fn last_alive(&self) -> Option<SystemTime> {
        let unknown = matches!(self.how, Ended::Abandoned | Ended::WithProcess);
        unknown.then(|| Some(self.granted()? + self.held?))?
    }

    /// True unless all went well, as far as is known: it was never granted, the hold did not end as it should, or the
    /// command that ran under it did not exit with status 0.
    pub fn failed(&self) -> bool {
        !matches!(self.how, Ended::Released | Ended::WithProcess)
            || self.command_end.is_some_and(|end| end != CommandEnd::Exited(0))
    }

    /// When it was granted. `None` if it was never granted, or if that is not known.
    pub fn granted(&self) -> Option<SystemTime> {
        self.token?;
        Some(self.queued? + self.waited.unwrap_or_default())
    }
}

/// Sums since the table was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Counters {
    /// Grants.
    pub acquisitions: u64,
    /// Requests that found the lock taken.
    pub conflicts: u64,
    /// Requests that ended without the lock.
    pub timeouts: u64,
    /// Requests that ended without the lock since the last grant.
    pub consecutive_timeouts: u64,
    /// Holds whose holder died.
    pub abandoned: u64,
    /// Holds that were released after what ran under them had crashed.
    pub crashed: u64,
    /// Holds released by force.
    pub forced: u64,
    /// Time that granted requests have waited.
    pub waited: Duration,
    /// Time that ended holds have lasted.
    pub held: Duration,
}
