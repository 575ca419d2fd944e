//! Metrics in the Prometheus text exposition format, for node_exporter's textfile collector.

use resourcelock::system::{disturbs, printable};
use resourcelock::{Counters, State};
use std::fmt::Write;

/// Name without prefix, type, help, value.
type Metric<T> = (&'static str, &'static str, &'static str, fn(&T) -> f64);

/// The present state of a lock.
const CURRENT: [Metric<State>; 4] = [
    ("held", "gauge", "1 if the lock is held, 0 if it is free.", |state| {
        f64::from(u8::from(state.locked))
    }),
    (
        "holders",
        "gauge",
        "Current holders; all users of the bare semaphore count as one.",
        |state| {
            let ours = state.holders.iter().filter(|holder| holder.alive).count() + state.holders_left_out;
            ours.max(usize::from(state.foreign)) as f64
        },
    ),
    ("waiters", "gauge", "Requests waiting in the queue.", |state| {
        (state.waiters.len() + state.waiters_left_out) as f64
    }),
    (
        "oldest_wait_seconds",
        "gauge",
        "How long the oldest waiting request has waited.",
        |state| {
            state
                .waiters
                .iter()
                .map(|waiter| waiter.waited.unwrap_or_default().as_secs_f64())
                .fold(0.0, f64::max)
        },
    ),
];

/// What was counted since the lock's table was created; only a lock of this machine has one.
const COUNTED: [Metric<Counters>; 9] = [
    (
        "consecutive_timeouts",
        "gauge",
        "Requests that did not get the lock since the last grant.",
        |counters| counters.consecutive_timeouts as f64,
    ),
    ("acquisitions_total", "counter", "Grants.", |counters| {
        counters.acquisitions as f64
    }),
    (
        "conflicts_total",
        "counter",
        "Requests that found the lock held.",
        |counters| counters.conflicts as f64,
    ),
    (
        "timeouts_total",
        "counter",
        "Requests that did not get the lock.",
        |counters| counters.timeouts as f64,
    ),
    ("abandoned_total", "counter", "Holds whose holder died.", |counters| {
        counters.abandoned as f64
    }),
    (
        "crashes_total",
        "counter",
        "Holds that were released after their command had crashed.",
        |counters| counters.crashed as f64,
    ),
    ("forced_total", "counter", "Holds released by force.", |counters| {
        counters.forced as f64
    }),
    (
        "wait_seconds_total",
        "counter",
        "Time that granted requests waited.",
        |counters| counters.waited.as_secs_f64(),
    ),
    (
        "hold_seconds_total",
        "counter",
        "Time that the lock was held, by holds that have ended.",
        |counters| counters.held.as_secs_f64(),
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
        let _ = writeln!(
            text,
            "resourcelock_{name}{{lock=\"{}\"}} {}",
            escape(state.name.as_str()),
            value(counted)
        );
    }
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
