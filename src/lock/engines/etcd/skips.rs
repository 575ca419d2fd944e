//! How many runs were skipped in a row: the version of the key `PREFIX/.skips/NAME`, as etcd counts how often a key was put
//! since it was created.

use super::gateway::Gateway;
use super::gateway_messages::{Compare, Number, Operation, Range, Transaction};
use super::reserved::SKIPS;
use super::timeouts::Timeouts;
use crate::lock::sys;
use crate::lock::system;
use crate::lock::types::{Error, LockName, Result};
use serde::Serialize;

/// What is stored, for people who look at the key; no two are the same.
#[derive(Serialize)]
struct Stored {
    /// When the run was skipped: wall clock of its host, ns since 1970.
    skipped: u64,
    host: String,
    pid: u32,
}

/// Counts one more, and returns the sum.
pub(super) fn count(gateway: &Gateway, name: &LockName, timeouts: Timeouts<'_>) -> Result<u64> {
    let key = SKIPS.key(gateway, name);
    let stored = Stored {
        skipped: sys::realtime(),
        host: system::host_name(),
        pid: std::process::id(),
    };
    let value = serde_json::to_string(&stored).unwrap_or_default();
    let read = || Operation::Read(Range::of(&key).keys_only());
    let put = Operation::Put {
        key: key.as_str().into(),
        value: value.as_str().into(),
        lease: Number(0),
    };
    // If the answer is lost and this is asked again, it counts once, unless somebody else has counted in between.
    let is_counted = Compare::Value {
        key: key.as_str().into(),
        value: value.as_str().into(),
    };
    let transaction = Transaction {
        compare: vec![is_counted],
        success: vec![read()],
        failure: vec![put, read()],
    };
    let answer = gateway.call(&transaction, timeouts);
    let answer = answer.map_err(|fault| gateway.error_about(&key, fault))?;
    match answer.value.keys().first().map(|kv| u64::try_from(kv.version.0)) {
        Some(Ok(count)) => Ok(count),
        _ => Err(Error::Refused {
            engine: gateway.place().to_owned(),
            what: "it is no etcd: it does not tell what was stored".to_owned(),
        }),
    }
}

/// To be done while the lock is held: begins anew.
pub(super) fn reset(gateway: &Gateway, name: &LockName) -> Operation {
    Operation::Delete {
        key: SKIPS.key(gateway, name).as_str().into(),
    }
}
