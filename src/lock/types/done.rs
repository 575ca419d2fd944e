//! Runs that were recorded as done.

use crate::lock::types::Host;
use std::time::Duration;

/// The last run under a lock that was recorded as done: see [`Guard::mark_done`](crate::Guard::mark_done). Both times are of
/// one clock: CLOCK_BOOTTIME on this machine, the wall clock of each host on etcd, the server's clock on PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastDone {
    /// When it began.
    pub began: Duration,
    /// What the clock says now.
    pub now: Duration,
    /// The process that recorded it.
    pub pid: Option<u32>,
    /// Its host.
    pub host: Host,
}
