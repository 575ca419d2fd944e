//! What is shown of a lock, as plain structs, for JSON. It is described in docs/json.md and docs/schema; a change that
//! could break its readers raises [`VERSION`].

use super::names;
use super::past::{Past, PastLock};
use super::text::Unreadable;
use chrono::{DateTime, Local, SecondsFormat};
use resourcelock::{
    Change, CommandEnd, Counters, HistoryRecord, Holder, Host, LockName, Mode, Requester, State, Unused, Waiter,
};
use serde::Serialize;
use std::time::{Duration, SystemTime};

/// Version of the JSON.
pub const VERSION: u32 = 1;

/// One lock.
#[derive(Debug, Serialize)]
pub struct LockView {
    /// See [`VERSION`].
    pub version: u32,
    pub lock: String,
    /// False if nobody has used the lock yet.
    pub exists: bool,
    #[serde(flatten)]
    pub owner: OwnerView,
    pub locked: bool,
    pub value: u32,
    pub foreign: bool,
    pub note: String,
    pub slots: Option<u32>,
    pub abandoned: Option<u64>,
    pub holders: Vec<HolderView>,
    /// How many more there are, in a list of all locks.
    pub holders_left_out: usize,
    pub waiters: Vec<WaiterView>,
    pub waiters_left_out: usize,
    pub foreign_waiters: u32,
    /// Null on an engine, which does not count.
    pub counters: Option<CountersView>,
    pub read_at: String,
}

/// Whose a lock is.
#[derive(Debug, Serialize)]
pub struct OwnerView {
    /// The user's name, else the number. Null on an engine, for a lock that does not exist, and if it is not known.
    pub owner: Option<String>,
    pub owner_uid: Option<u32>,
    /// False: what is said of the lock is what its owner claims.
    pub trusted: bool,
}

impl OwnerView {
    /// Of a lock that does not exist.
    pub fn nobody() -> Self {
        Self {
            owner: None,
            owner_uid: None,
            trusted: true,
        }
    }
}

impl From<&State> for OwnerView {
    fn from(state: &State) -> Self {
        Self {
            owner: state.owner.map(names::user),
            owner_uid: state.owner,
            trusted: state.trusted,
        }
    }
}

/// One hold. What is not known about it is null.
#[derive(Debug, Serialize)]
pub struct HolderView {
    pub token: Option<u64>,
    pub mode: &'static str,
    #[serde(flatten)]
    pub requester: RequesterView,
    pub bound_pid: Option<u32>,
    pub detached: bool,
    /// The command has ended, and the hold lasts until it expires.
    pub lingers: bool,
    pub alive: bool,
    /// It counts as alive, since it cannot be found out from here.
    pub presumed: bool,
    /// Who keeps the hold after the requester's death.
    pub kept_by: Option<SurvivorView>,
    pub same_pid_namespace: bool,
    pub since: Option<String>,
    pub held_seconds: Option<f64>,
    pub waited_seconds: Option<f64>,
    pub expires_in_seconds: Option<f64>,
}

/// What keeps a hold after the death of whoever requested it. What is not known is null.
#[derive(Debug, Serialize)]
pub struct SurvivorView {
    pub pid: Option<u32>,
    pub command: Option<String>,
}

/// Who made a request. What is not known is null.
#[derive(Debug, Serialize)]
pub struct RequesterView {
    pub pid: Option<u32>,
    pub uid: Option<u32>,
    pub user: Option<String>,
    /// Absent for a lock of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Option<String>>,
    pub command: String,
}

/// One request that waits.
#[derive(Debug, Serialize)]
pub struct WaiterView {
    pub mode: &'static str,
    #[serde(flatten)]
    pub requester: RequesterView,
    pub since: Option<String>,
    pub waited_seconds: Option<f64>,
    pub stalled: bool,
    pub alive: bool,
    pub same_pid_namespace: bool,
}

/// Sums since the lock's table was made.
#[derive(Debug, Default, Serialize)]
pub struct CountersView {
    pub acquisitions: u64,
    pub conflicts: u64,
    pub timeouts: u64,
    pub consecutive_timeouts: u64,
    pub abandoned: u64,
    pub crashed: u64,
    pub forced: u64,
    pub waited_seconds: f64,
    pub held_seconds: f64,
}

/// One ended request.
#[derive(Debug, Serialize)]
pub struct RecordView {
    pub sequence: u64,
    /// Null if it was never granted.
    pub token: Option<u64>,
    pub mode: &'static str,
    #[serde(flatten)]
    pub requester: RequesterView,
    pub queued: Option<String>,
    /// Null if it was never granted.
    pub granted: Option<String>,
    pub ended: String,
    pub waited_seconds: Option<f64>,
    pub held_seconds: Option<f64>,
    /// Of a hold that ended by itself, unnoticed. Otherwise null.
    pub last_alive: Option<String>,
    pub how: &'static str,
    /// How the command ended that ran under the lock: one of these two, if it is known.
    pub exit_status: Option<i32>,
    pub signal: Option<i32>,
    /// Up to 80 bytes; empty if there was none, or if it is not known.
    pub note: String,
}

/// The last ended requests of a lock.
#[derive(Debug, Serialize)]
pub struct HistoryView {
    pub version: u32,
    pub lock: String,
    #[serde(flatten)]
    pub owner: OwnerView,
    pub records: Vec<RecordView>,
}

impl HistoryView {
    /// Of this lock, the only one.
    pub fn new(lock: &PastLock, past: &Past) -> Self {
        Self {
            version: VERSION,
            lock: lock.name.clone(),
            owner: lock.owner(),
            records: past.iter().map(|(_, record)| RecordView::from(record)).collect(),
        }
    }
}

/// The last ended requests of all locks, in the order in which they ended.
#[derive(Debug, Serialize)]
pub struct HistoriesView {
    pub version: u32,
    pub records: Vec<RecordOfLockView>,
    /// Locks that exist but cannot be inspected.
    pub unreadable: Vec<UnreadableView>,
}

/// One ended request of one of several locks.
#[derive(Debug, Serialize)]
pub struct RecordOfLockView {
    pub lock: String,
    #[serde(flatten)]
    pub owner: OwnerView,
    #[serde(flatten)]
    pub record: RecordView,
}

impl HistoriesView {
    /// Of all locks.
    pub fn new(past: &Past, unreadable: Vec<Unreadable>) -> Self {
        let record = |(lock, record): (&PastLock, &HistoryRecord)| RecordOfLockView {
            lock: lock.name.clone(),
            owner: lock.owner(),
            record: RecordView::from(record),
        };
        Self {
            version: VERSION,
            records: past.iter().map(record).collect(),
            unreadable: unreadable.into_iter().map(UnreadableView::from).collect(),
        }
    }
}

impl PastLock {
    fn owner(&self) -> OwnerView {
        self.state.as_ref().map_or_else(OwnerView::nobody, OwnerView::from)
    }
}

/// All locks.
#[derive(Debug, Serialize)]
pub struct ListView {
    pub version: u32,
    pub locks: Vec<LockView>,
    /// Locks that exist but cannot be inspected.
    pub unreadable: Vec<UnreadableView>,
}

/// A lock that cannot be inspected.
#[derive(Debug, Serialize)]
pub struct UnreadableView {
    pub lock: String,
    pub reason: String,
    /// The owner of the file that is the reason; null if it is not known.
    pub owner: Option<String>,
    pub owner_uid: Option<u32>,
}

impl From<Unreadable> for UnreadableView {
    fn from(unreadable: Unreadable) -> Self {
        Self {
            lock: unreadable.name.to_string(),
            reason: unreadable.reason,
            owner: unreadable.owner.map(names::user),
            owner_uid: unreadable.owner,
        }
    }
}

/// How `get` ended.
#[derive(Debug, Serialize)]
pub struct GotView {
    pub version: u32,
    pub lock: String,
    pub got: bool,
    pub token: Option<u64>,
    /// Who holds it, if it was not acquired in time.
    pub state: Option<LockView>,
}

/// How `unget` ended.
#[derive(Debug, Serialize)]
pub struct ReleasedView {
    pub version: u32,
    pub lock: String,
    pub released: bool,
}

/// Something that happened to a lock, for `trace -f`.
#[derive(Debug, Serialize)]
pub struct EventView {
    pub version: u32,
    pub lock: String,
    pub at: String,
    /// `queued`, `granted`, `released`, `crashed`, `ended with its process`, `abandoned`, `expired`, `forced`, `timed out`,
    /// `foreign taken`, `foreign released`, `missed`, `removed`.
    pub event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiter: Option<WaiterView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<HolderView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordView>,
    /// How many records of ended requests were overwritten before they could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<u64>,
}

impl EventView {
    /// Of the lock `name`.
    pub fn new(name: &str, change: &Change) -> Self {
        let mut view = Self {
            version: VERSION,
            lock: name.to_owned(),
            at: timestamp(change.at()),
            event: event(change),
            waiter: None,
            holder: None,
            record: None,
            missed: None,
        };
        match change {
            Change::Queued(waiter) => view.waiter = Some(WaiterView::from(waiter)),
            Change::Granted(holder) => view.holder = Some(HolderView::from(holder)),
            Change::Ended(record) => view.record = Some(RecordView::from(record)),
            Change::Missed(missed) => view.missed = Some(*missed),
            _ => {}
        }
        view
    }
}

/// An event in a word or two.
pub fn event(change: &Change) -> &'static str {
    match change {
        Change::Queued(_) => "queued",
        Change::Granted(_) => "granted",
        Change::Ended(record) => record.how.as_str(),
        Change::Foreign(true) => "foreign taken",
        Change::Foreign(false) => "foreign released",
        Change::Missed(_) => "missed",
        Change::Removed => "removed",
        _ => "changed",
    }
}

/// What `prune` has removed, or would.
#[derive(Debug, Serialize)]
pub struct PruneView {
    pub version: u32,
    pub dry_run: bool,
    pub locks: Vec<PrunedView>,
    /// Of all of them together.
    pub bytes: u64,
    /// Those that could not be examined or removed.
    pub failed: Vec<UnreadableView>,
}

/// One of these locks.
#[derive(Debug, Serialize)]
pub struct PrunedView {
    pub lock: String,
    pub owner: String,
    pub owner_uid: u32,
    pub last_used: String,
    pub unused_seconds: f64,
    pub bytes: u64,
}

impl From<&(LockName, Unused)> for PrunedView {
    fn from((name, unused): &(LockName, Unused)) -> Self {
        Self {
            lock: name.to_string(),
            owner: names::user(unused.owner),
            owner_uid: unused.owner,
            last_used: timestamp(unused.since),
            unused_seconds: unused.time.as_secs_f64(),
            bytes: unused.size,
        }
    }
}

/// What `doctor` found.
#[derive(Debug, Serialize)]
pub struct DoctorView {
    pub version: u32,
    pub findings: Vec<FindingView>,
    /// Number of locks whose owners are not trusted.
    pub not_examined: usize,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is to be solved: status 1.
    Problem,
    /// It may be as it should be: status 0.
    Note,
}

/// A problem, or a note.
#[derive(Debug, Serialize)]
pub struct FindingView {
    pub level: Level,
    pub kind: &'static str,
    pub lock: Option<String>,
    pub what: String,
    pub why: &'static str,
    pub mend: String,
    pub mended: bool,
}

impl LockView {
    /// A lock that nobody has used yet.
    pub fn absent(name: &str) -> Self {
        Self {
            version: VERSION,
            lock: name.to_owned(),
            exists: false,
            owner: OwnerView::nobody(),
            locked: false,
            value: 1,
            foreign: false,
            note: String::new(),
            slots: None,
            abandoned: None,
            holders: Vec::new(),
            holders_left_out: 0,
            waiters: Vec::new(),
            waiters_left_out: 0,
            foreign_waiters: 0,
            counters: Some(CountersView::default()),
            read_at: timestamp(SystemTime::now()),
        }
    }
}

impl From<&Requester> for RequesterView {
    fn from(requester: &Requester) -> Self {
        Self {
            pid: requester.pid,
            uid: requester.uid,
            user: names::user_of(requester),
            host: match &requester.host {
                Host::Local => None,
                host => Some(host.name().map(str::to_owned)),
            },
            command: requester.command.clone().unwrap_or_default(),
        }
    }
}

impl From<&State> for LockView {
    fn from(state: &State) -> Self {
        Self {
            version: VERSION,
            lock: state.name.to_string(),
            exists: true,
            owner: OwnerView::from(state),
            locked: state.locked,
            value: state.value,
            foreign: state.foreign,
            note: state.note.clone(),
            slots: state.slots,
            abandoned: state.abandoned,
            holders: state.holders.iter().map(HolderView::from).collect(),
            holders_left_out: state.holders_left_out,
            waiters: state.waiters.iter().map(WaiterView::from).collect(),
            waiters_left_out: state.waiters_left_out,
            foreign_waiters: state.foreign_waiters,
            counters: state.counters.as_ref().map(CountersView::from),
            read_at: timestamp(state.read_at),
        }
    }
}

impl From<&Holder> for HolderView {
    fn from(holder: &Holder) -> Self {
        Self {
            token: holder.token,
            mode: mode(holder.mode),
            requester: RequesterView::from(&holder.requester),
            bound_pid: holder.bound_pid,
            detached: holder.detached,
            lingers: holder.lingers,
            alive: holder.alive,
            presumed: holder.presumed,
            kept_by: holder.kept_by.as_ref().map(|survivor| SurvivorView {
                pid: survivor.pid,
                command: survivor.command.clone(),
            }),
            same_pid_namespace: holder.requester.same_pid_namespace,
            held_seconds: holder.held.map(seconds),
            waited_seconds: holder.waited.map(seconds),
            since: holder.since.map(timestamp),
            expires_in_seconds: holder.expires_in.map(seconds),
        }
    }
}

impl From<&Waiter> for WaiterView {
    fn from(waiter: &Waiter) -> Self {
        Self {
            mode: mode(waiter.mode),
            requester: RequesterView::from(&waiter.requester),
            waited_seconds: waiter.waited.map(seconds),
            since: waiter.since.map(timestamp),
            stalled: waiter.stalled,
            alive: waiter.alive,
            same_pid_namespace: waiter.requester.same_pid_namespace,
        }
    }
}

impl From<&Counters> for CountersView {
    fn from(counters: &Counters) -> Self {
        Self {
            acquisitions: counters.acquisitions,
            conflicts: counters.conflicts,
            timeouts: counters.timeouts,
            consecutive_timeouts: counters.consecutive_timeouts,
            abandoned: counters.abandoned,
            crashed: counters.crashed,
            forced: counters.forced,
            waited_seconds: seconds(counters.waited),
            held_seconds: seconds(counters.held),
        }
    }
}

impl From<&HistoryRecord> for RecordView {
    fn from(record: &HistoryRecord) -> Self {
        Self {
            sequence: record.sequence,
            token: record.token,
            mode: mode(record.mode),
            requester: RequesterView::from(&record.requester),
            queued: record.queued.map(timestamp),
            granted: record.granted().map(timestamp),
            ended: timestamp(record.ended),
            waited_seconds: record.waited.map(seconds),
            // 0 for a request that was never granted.
            held_seconds: record.queued.map(|_| seconds(record.held.unwrap_or_default())),
            last_alive: record.last_alive().map(timestamp),
            how: record.how.as_str(),
            exit_status: match record.command_end {
                Some(CommandEnd::Exited(status)) => Some(status),
                _ => None,
            },
            signal: match record.command_end {
                Some(CommandEnd::Killed(signal)) => Some(signal),
                _ => None,
            },
            note: record.note.clone(),
        }
    }
}

/// One word for a mode.
pub fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "exclusive",
        Mode::Shared => "shared",
        Mode::Slots(_) => "slot",
    }
}

/// RFC 3339 in local time, to the microsecond.
pub fn timestamp(time: SystemTime) -> String {
    DateTime::<Local>::from(time).to_rfc3339_opts(SecondsFormat::Micros, false)
}

/// Seconds to the microsecond.
pub fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}
