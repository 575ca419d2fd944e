//! What can be seen of a lock: holders, waiters, history, counters. Plain values, copied out without disturbing anyone.

use crate::{LockName, Mode};
use std::time::{Duration, SystemTime};

/// A lock as it was at one instant.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct State {
    /// The lock's name.
    pub name: LockName,
    /// Whether anybody has it: one of ours, or a user of the Python module. An abandoned hold (see
    /// [`Holder::alive`]) does not count.
    pub locked: bool,
    /// The semaphore's value: 0 = taken, 1 = free, more = released by force too often.
    pub value: u32,
    /// It is taken by a process that does not use the table (the Python module, or a copy whose table was deleted).
    pub foreign: bool,
    /// The note: who took the lock last and when. Unprintable characters are escaped.
    pub note: String,
    /// Who holds it, by token. Empty for a foreign holder.
    pub holders: Vec<Holder>,
    /// Who waits, in the order in which they will be served.
    pub waiters: Vec<Waiter>,
    /// The semaphore's waiter count: processes asleep in sem_wait(3), such as the Python module's.
    pub foreign_waiters: u32,
    /// The number of slots, if the lock is in use as a counting lock.
    pub slots: Option<u32>,
    /// Token of the last hold whose holder died, until a later holder has ended well.
    pub abandoned: Option<u64>,
    /// Sums since the table was made; `None` on an engine, which does not count.
    pub counters: Option<Counters>,
    /// When this was read.
    pub read_at: SystemTime,
}

/// One hold.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Holder {
    /// The grant's number: later grants have larger ones.
    pub token: u64,
    /// Exclusive, shared, or a slot.
    pub mode: Mode,
    /// The request's number: the order of asking.
    pub ticket: u64,
    /// The process that asked (0 if unknown: on an engine with an empty host, another program). For a detached hold it
    /// has usually ended.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its command's name; unprintable characters are escaped.
    pub command: String,
    /// The process on whose life the hold depends besides its own, if any: the command of `run`, or `--pid`.
    pub bound_pid: Option<u32>,
    /// That process's start time after boot in clock ticks (field 22 of /proc/PID/stat), to tell it from a later one
    /// with its number.
    pub bound_start: Option<u64>,
    /// No process keeps it alive: it lasts until it is released, until `bound_pid` ends, or until it expires.
    pub detached: bool,
    /// False: its holder has died; the next one who looks will release it.
    pub alive: bool,
    /// Whether `pid` and `bound_pid` belong to the reader's PID namespace.
    pub same_pid_namespace: bool,
    /// When it was granted; 1970 if that is unknown (another program on an engine).
    pub since: SystemTime,
    /// How long it has been held.
    pub held: Duration,
    /// How long it had waited.
    pub waited: Duration,
    /// When it will expire.
    pub expires_in: Option<Duration>,
    /// The machine on which it asked, if the lock is kept by an engine that serves several.
    pub host: Option<String>,
    /// The user's name there.
    pub user: Option<String>,
}

/// One request that waits.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Waiter {
    /// The request's number: the order of asking.
    pub ticket: u64,
    /// What it asks for.
    pub mode: Mode,
    /// The process.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its command's name; unprintable characters are escaped.
    pub command: String,
    /// When it asked.
    pub since: SystemTime,
    /// How long it has waited.
    pub waited: Duration,
    /// It was offered the lock and did not react (a stopped process): passed over until it runs again.
    pub stalled: bool,
    /// False: it has died in the queue.
    pub alive: bool,
    /// Whether `pid` belongs to the reader's PID namespace.
    pub same_pid_namespace: bool,
    /// The machine on which it asked, if the lock is kept by an engine that serves several.
    pub host: Option<String>,
    /// The user's name there.
    pub user: Option<String>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// Its holder released it.
    Released,
    /// Its holder died; the lock was taken back.
    Abandoned,
    /// It ran into its expiry.
    Expired,
    /// Somebody released it by force.
    Forced,
    /// It was never granted: its time was up.
    TimedOut,
}

impl Ended {
    /// One word, as shown by the command-line tool.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Abandoned => "abandoned",
            Self::Expired => "expired",
            Self::Forced => "forced",
            Self::TimedOut => "timed out",
        }
    }
}

/// One ended request, from the table's ring of the last 256.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HistoryRecord {
    /// Position in the lock's life: consecutive; a gap means that records were overwritten before they were read.
    pub sequence: u64,
    /// The request's number: the order of asking.
    pub ticket: u64,
    /// The grant's token; 0 if it was never granted.
    pub token: u64,
    /// Exclusive, shared, or a slot.
    pub mode: Mode,
    /// The process that asked.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its command's name; unprintable characters are escaped.
    pub command: String,
    /// When it asked.
    pub queued: SystemTime,
    /// How long it waited.
    pub waited: Duration,
    /// How long it held (0 if never granted).
    pub held: Duration,
    /// When it ended.
    pub ended: SystemTime,
    /// How it ended.
    pub how: Ended,
    /// The machine on which it asked, if the lock is kept by an engine that serves several.
    pub host: Option<String>,
    /// The user's name there.
    pub user: Option<String>,
}

/// Sums since the table was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    /// Holds released by force.
    pub forced: u64,
    /// Time spent waiting by requests that were granted.
    pub waited: Duration,
    /// Time held, of holds that have ended.
    pub held: Duration,
}
