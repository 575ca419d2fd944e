//! What can be seen of a lock, as plain Python objects. `_native.pyi` describes them.

use pyo3::prelude::*;
use resourcelock::{HistoryRecord, Requester};
use std::time::{Duration, SystemTime};

/// A process that has the lock, waits for it, or had it.
#[pyclass(frozen, get_all, module = "resourcelock._native")]
#[derive(Clone)]
pub struct Process {
    pid: Option<u32>,
    uid: Option<u32>,
    user: Option<String>,
    host: Option<String>,
    command: Option<String>,
}

impl From<Requester> for Process {
    fn from(requester: Requester) -> Self {
        Self {
            pid: requester.pid,
            uid: requester.uid,
            user: requester.user,
            host: requester.host.name().map(str::to_owned),
            command: requester.command,
        }
    }
}

#[pymethods]
impl Process {
    fn __repr__(&self) -> String {
        let command = self.command.as_deref().unwrap_or("?");
        match self.pid {
            Some(pid) => format!("<process {pid} {command}>"),
            None => format!("<process {command}>"),
        }
    }
}

/// One hold.
#[pyclass(frozen, get_all, module = "resourcelock._native")]
#[derive(Clone)]
pub struct Holder {
    token: Option<u64>,
    mode: String,
    process: Process,
    alive: bool,
    since: Option<SystemTime>,
    held: Option<Duration>,
    waited: Option<Duration>,
}

#[pymethods]
impl Holder {
    fn __repr__(&self) -> String {
        format!("<holder {}, {}>", self.process.__repr__(), self.mode)
    }
}

/// One request that waits.
#[pyclass(frozen, get_all, module = "resourcelock._native")]
#[derive(Clone)]
pub struct Waiter {
    mode: String,
    process: Process,
    alive: bool,
    since: Option<SystemTime>,
    waited: Option<Duration>,
}

#[pymethods]
impl Waiter {
    fn __repr__(&self) -> String {
        format!("<waiter {}, {}>", self.process.__repr__(), self.mode)
    }
}

/// The lock at one moment.
#[pyclass(frozen, get_all, module = "resourcelock._native")]
pub struct State {
    name: String,
    locked: bool,
    note: String,
    holders: Vec<Holder>,
    waiters: Vec<Waiter>,
    foreign: bool,
    foreign_waiters: u32,
    slots: Option<u32>,
    abandoned: bool,
}

impl From<resourcelock::State> for State {
    fn from(state: resourcelock::State) -> Self {
        let holder = |holder: resourcelock::Holder| Holder {
            token: holder.token,
            mode: holder.mode.to_string(),
            process: holder.requester.into(),
            alive: holder.alive,
            since: holder.since,
            held: holder.held,
            waited: holder.waited,
        };
        let waiter = |waiter: resourcelock::Waiter| Waiter {
            mode: waiter.mode.to_string(),
            process: waiter.requester.into(),
            alive: waiter.alive,
            since: waiter.since,
            waited: waiter.waited,
        };
        Self {
            name: state.name.as_str().to_owned(),
            locked: state.locked,
            note: state.note,
            holders: state.holders.into_iter().map(holder).collect(),
            waiters: state.waiters.into_iter().map(waiter).collect(),
            foreign: state.foreign,
            foreign_waiters: state.foreign_waiters,
            slots: state.slots,
            abandoned: state.abandoned.is_some(),
        }
    }
}

#[pymethods]
impl State {
    fn __repr__(&self) -> String {
        let state = if self.locked { "locked" } else { "free" };
        format!("<state of '{}': {state}, {} waiting>", self.name, self.waiters.len())
    }
}

/// One request that has ended.
#[pyclass(frozen, get_all, module = "resourcelock._native")]
pub struct Record {
    token: Option<u64>,
    mode: String,
    process: Process,
    requested: Option<SystemTime>,
    waited: Option<Duration>,
    held: Option<Duration>,
    ended: SystemTime,
    how: &'static str,
    note: String,
}

impl From<HistoryRecord> for Record {
    fn from(record: HistoryRecord) -> Self {
        Self {
            token: record.token,
            mode: record.mode.to_string(),
            process: record.requester.into(),
            requested: record.queued,
            waited: record.waited,
            held: record.held,
            ended: record.ended,
            how: record.how.as_str(),
            note: record.note,
        }
    }
}

#[pymethods]
impl Record {
    fn __repr__(&self) -> String {
        format!("<record {}, {}>", self.process.__repr__(), self.how)
    }
}
