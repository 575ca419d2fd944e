//! When the last run was that was recorded as done: in the head of the table.

use crate::lock::shm::layout::Header;
use crate::lock::shm::process;
use crate::lock::sys;
use crate::lock::types::{Host, LastDone};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Records a run that began this long ago, and is to be done once in `every`. In the latch; the namespaces have been looked
/// up.
pub(crate) fn record(header: &Header, began_ago: Duration, every: Duration) {
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let ago = ns(began_ago);
    header.once_every_ns.store(ns(every), Relaxed);
    header.once_boot_ns.store(sys::boottime().saturating_sub(ago), Relaxed);
    header.once_time_namespace.store(process::time_namespace(), Relaxed);
    // At least 1, as 0 means that there was none.
    let wall_us = (sys::realtime().saturating_sub(ago) / 1000).max(1);
    header.once_wall_us.store(wall_us, Relaxed);
    header.once_pid.store(std::process::id(), Relaxed);
}

/// What was recorded. In another time namespace the wall clock is what both have.
pub(crate) fn recorded(header: &Header) -> Option<LastDone> {
    let wall_us = header.once_wall_us.load(Relaxed);
    if wall_us == 0 {
        return None;
    }
    let (began, now) = if process::is_own_time(header.once_time_namespace.load(Relaxed)) {
        let began = header.once_boot_ns.load(Relaxed);
        (Duration::from_nanos(began), Duration::from_nanos(sys::boottime()))
    } else {
        (Duration::from_micros(wall_us), Duration::from_nanos(sys::realtime()))
    };
    let pid = header.once_pid.load(Relaxed);
    Some(LastDone {
        began,
        now,
        pid: (pid != 0).then_some(pid),
        host: Host::Local,
    })
}

/// True if the period of what was recorded is not over: whoever asks should still find it.
pub(crate) fn is_recent(header: &Header) -> bool {
    let every = Duration::from_nanos(header.once_every_ns.load(Relaxed));
    recorded(header).is_some_and(|last| last.now.abs_diff(last.began) < every)
}
