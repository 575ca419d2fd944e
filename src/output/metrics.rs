//! Metrics in the Prometheus text exposition format, for node_exporter's textfile collector.

use resourcelock::system::{disturbs, printable};
use resourcelock::{Counters, State};
use std::fmt::Write;
use std::time::SystemTime;

/// Name without prefix, type, help, value; a lock for which there is none has no line.
type Metric<T> = (&'static str, &'static str, &'static str, fn(&T) -> Option<f64>);

/// The present state of a lock.
const CURRENT: [Metric<State>; 5] = [
    ("held", "gauge", "1 if the lock is held, 0 if it is free.", |state| {
        Some(f64::from(u8::from(state.locked)))
    }),
    (
        "hold_start_timestamp_seconds",
        "gauge",
        "When the oldest of the current holds began, in seconds since 1970.",
        |state| {
            let living = state.holders.iter().filter(|holder| holder.alive);
            living.filter_map(|holder| holder.since).min().map(timestamp)
        },
    ),
    (
        "holders",
        "gauge",
        "Current holders; all users of the bare semaphore count as one.",
        |state| {
            let ours = state.holders.iter().filter(|holder| holder.alive).count() + state.holders_left_out;
            Some(ours.max(usize::from(state.foreign)) as f64)
        },
    ),
    ("waiters", "gauge", "Requests waiting in the queue.", |state| {
        Some((state.waiters.len() + state.waiters_left_out) as f64)
    }),
    (
        "oldest_wait_seconds",
        "gauge",
        "How long the oldest waiting request has waited.",
        |state| {
            let waited = state.waiters.iter().map(|waiter| waiter.waited.unwrap_or_default());
            Some(waited.max().unwrap_or_default().as_secs_f64())
        },
    ),
];

/// What the lock's table remembers; only a lock of this machine has one.
const REMEMBERED: [Metric<State>; 2] = [
    (
        "last_grant_timestamp_seconds",
        "gauge",
        "When the lock was last granted, in seconds since 1970.",
        |state| state.last_grant.map(timestamp),
    ),
    (
        "last_success_timestamp_seconds",
        "gauge",
        "When the last run that exited with status 0 ended, in seconds since 1970.",
        |state| state.last_success.map(timestamp),
    ),
];

/// What was counted since the lock's table was created; only a lock of this machine has one.
const COUNTED: [Metric<Counters>; 9] = [
    (
        "consecutive_timeouts",
        "gauge",
        "Requests that did not get the lock since the last grant.",
        |counters| Some(counters.consecutive_timeouts as f64),
    ),
    ("acquisitions_total", "counter", "Grants.", |counters| {
        Some(counters.acquisitions as f64)
    }),
    (
        "conflicts_total",
        "counter",
        "Requests that found the lock held.",
        |counters| Some(counters.conflicts as f64),
    ),
    (
        "timeouts_total",
        "counter",
        "Requests that did not get the lock.",
        |counters| Some(counters.timeouts as f64),
    ),
    ("abandoned_total", "counter", "Holds whose holder died.", |counters| {
        Some(counters.abandoned as f64)
    }),
    (
        "crashes_total",
        "counter",
        "Holds that were released after their command had crashed.",
        |counters| Some(counters.crashed as f64),
    ),
    ("forced_total", "counter", "Holds released by force.", |counters| {
        Some(counters.forced as f64)
    }),
    (
        "wait_seconds_total",
        "counter",
        "Time that granted requests waited.",
        |counters| Some(counters.waited.as_secs_f64()),
    ),
    (
        "hold_seconds_total",
        "counter",
        "Time that the lock was held, by holds that have ended.",
        |counters| Some(counters.held.as_secs_f64()),
    ),
];

/// One block per metric, one line per lock. `counted`: the engine keeps counters.
/// Locks of owners who are not trusted have none: whoever creates a lock could make it raise an alarm, or hide one.
/// `unreadable` is the number of locks that cannot be inspected.
pub fn prometheus(states: &[State], unreadable: usize, counted: bool) -> String {
    let mut text = String::new();
    let trusted = || states.iter().filter(|state| state.trusted);
    for metric in &CURRENT {
        block(&mut text, metric, trusted().map(|state| (state, state)));
    }
    for metric in REMEMBERED.iter().filter(|_| counted) {
        block(&mut text, metric, trusted().map(|state| (state, state)));
    }
    for metric in COUNTED.iter().filter(|_| counted) {
        let counters = trusted().filter_map(|state| Some((state, state.counters.as_ref()?)));
        block(&mut text, metric, counters);
    }
    if !counted {
        return text; // an engine shows all locks to whoever may use it
    }
    let others = states.len() - trusted().count() + unreadable;
    let _ = writeln!(
        text,
        "# HELP resourcelock_other_locks Locks without metrics: their owner is not trusted, or they cannot be inspected.\n\
         # TYPE resourcelock_other_locks gauge\nresourcelock_other_locks {others}"
    );
    text
}

fn block<'a, T: 'a>(text: &mut String, metric: &Metric<T>, of: impl Iterator<Item = (&'a State, &'a T)>) {
    let (name, kind, help, value) = metric;
    let _ = writeln!(
        text,
        "# HELP resourcelock_{name} {help}\n# TYPE resourcelock_{name} {kind}"
    );
    for (state, counted) in of {
        if let Some(value) = value(counted) {
            let lock = escape(state.name.as_str());
            let _ = writeln!(text, "resourcelock_{name}{{lock=\"{lock}\"}} {value}");
        }
    }
}

/// To the millisecond. A time, unlike an age, stays true while the collector's file is not renewed.
fn timestamp(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1000.0
}

/// A lock's name as a label's value. What disturbs is escaped; where a name holds that, or looks as if it did, its
/// backslashes are doubled, so that no two names have the same label: a collector refuses a file in which a line stands
/// twice.
fn escape(name: &str) -> String {
    let name = if name.contains(disturbs) || name.contains(r"\u{") {
        printable(&name.replace('\\', r"\\"))
    } else {
        name.to_owned()
    };
    name.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
