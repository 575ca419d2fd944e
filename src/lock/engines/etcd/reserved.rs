//! Keys beside the locks: `PREFIX/WORD/NAME`, which hang on no lease. Not below `PREFIX/NAME/`, where `etcdctl lock` would
//! queue behind them.

use super::gateway::Gateway;
use crate::lock::types::{Error, LockName, Result};

/// A kind of such keys.
pub(super) struct Reserved {
    /// What would be the lock's name if these keys were requests: no lock is called that.
    word: &'static str,
    what: &'static str,
}

pub(super) const DONE: Reserved = Reserved {
    word: ".done",
    what: "tell when runs with --once-every were done",
};
pub(super) const SKIPS: Reserved = Reserved {
    word: ".skips",
    what: "count the skips of runs with --max-skips",
};

impl Reserved {
    /// The one of a lock.
    pub(super) fn key(&self, gateway: &Gateway, name: &LockName) -> String {
        format!("{}{}/{name}", gateway.root(), self.word)
    }
}

/// Refuses the locks whose keys these would be.
pub(super) fn check(name: &LockName) -> Result<()> {
    match [DONE, SKIPS].iter().find(|reserved| reserved.word == name.as_str()) {
        None => Ok(()),
        Some(Reserved { word, what }) => Err(Error::Unsupported {
            engine: "etcd",
            what: format!("a lock named '{word}': its keys {what}"),
        }),
    }
}
