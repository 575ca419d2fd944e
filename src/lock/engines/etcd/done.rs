//! When the last run was that was recorded as done: `PREFIX/.done/NAME`.

use super::gateway::Gateway;
use super::gateway_messages::{Compare, Number, Operation, Range, Transaction};
use super::reserved;
use super::timeouts::Timeouts;
use crate::lock::sys;
use crate::lock::system::{self, printable};
use crate::lock::types::{Host, LastDone, LockName, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is stored. Any field may be missing: anybody may have written it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    /// When the run began: wall clock of its host, µs since 1970.
    began: u64,
    host: String,
    pid: u32,
}

/// To be done while the lock is held: records a run that began this long ago.
pub(super) fn record(gateway: &Gateway, name: &LockName, began_ago: Duration) -> Operation {
    let now = Duration::from_nanos(sys::realtime());
    let stored = Stored {
        began: u64::try_from(now.saturating_sub(began_ago).as_micros()).unwrap_or(u64::MAX),
        host: system::host_name(),
        pid: std::process::id(),
    };
    Operation::Put {
        key: reserved::DONE.key(gateway, name).as_str().into(),
        value: serde_json::to_string(&stored).unwrap_or_default().as_str().into(),
        lease: Number(0),
    }
}

/// What was recorded; what nobody understands counts as nothing. Refused if nothing could be recorded: then everybody
/// who waits would do the job in turn. So this is a transaction that would write, under a condition that never holds,
/// and reads instead: for either branch, etcd checks whether this user may do what is in it, and whether there is
/// space.
pub(super) fn recorded(gateway: &Gateway, name: &LockName, timeouts: Timeouts<'_>) -> Result<Option<LastDone>> {
    let key = reserved::DONE.key(gateway, name);
    let never = Compare::Create {
        key: key.as_str().into(),
        create_revision: Number(-1),
    };
    let transaction = Transaction {
        compare: vec![never],
        success: vec![record(gateway, name, Duration::ZERO)],
        failure: vec![Operation::Read(Range::of(&key))],
    };
    let answer = gateway.call(&transaction, timeouts);
    let answer = answer.map_err(|fault| gateway.error_about(&key, fault))?;
    let Some(stored) = answer.value.keys().first().map(|kv| kv.value.text()) else {
        return Ok(None);
    };
    let Ok(stored) = serde_json::from_str::<Stored>(&stored) else {
        return Ok(None);
    };
    Ok(Some(LastDone {
        began: Duration::from_micros(stored.began),
        now: Duration::from_nanos(sys::realtime()),
        pid: (stored.pid != 0).then_some(stored.pid),
        host: Host::Named(printable(&stored.host.chars().take(255).collect::<String>())),
    }))
}
