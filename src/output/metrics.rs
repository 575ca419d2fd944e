//! Metrics in the Prometheus text exposition format, for node_exporter's textfile collector.

use resourcelock::{Counters, State};
use std::fmt::Write;

/// Name without prefix, type, help, value.
type Metric<T> = (&'static str, &'static str, &'static str, fn(&T) -> f64);

/// How a lock stands now.
const STANDING: [Metric<State>; 4] = [
    ("held", "gauge", "Whether the lock is held (1) or free (0).", |state| {
        f64::from(u8::from(state.locked))
    }),
    (
        "holders",
        "gauge",
        "Holds that stand, users of the bare semaphore counted as one.",
        |state| {
            let ours = state.holders.iter().filter(|holder| holder.alive).count();
            ours.max(usize::from(state.foreign)) as f64
        },
    ),
    ("waiters", "gauge", "Requests that wait in the queue.", |state| {
        state.waiters.len() as f64
    }),
    (
        "oldest_wait_seconds",
        "gauge",
        "How long the longest waiting request has waited.",
        |state| {
            state
                .waiters
                .iter()
                .map(|waiter| waiter.waited.unwrap_or_default().as_secs_f64())
                .fold(0.0, f64::max)
        },
    ),
];

/// What was counted since the lock's table was made: only a lock of this machine has one.
const COUNTED: [Metric<Counters>; 8] = [
    (
        "consecutive_conflicts",
        "gauge",
        "Requests that went without the lock since the last grant.",
        |counters| counters.consecutive_timeouts as f64,
    ),
    ("acquisitions_total", "counter", "Grants.", |counters| {
        counters.acquisitions as f64
    }),
    (
        "conflicts_total",
        "counter",
        "Requests that found the lock taken.",
        |counters| counters.conflicts as f64,
    ),
    (
        "timeouts_total",
        "counter",
        "Requests that ended without the lock.",
        |counters| counters.timeouts as f64,
    ),
    ("abandoned_total", "counter", "Holds whose holder died.", |counters| {
        counters.abandoned as f64
    }),
    (
        "forced_total",
        "counter",
        "Holds that were released by force.",
        |counters| counters.forced as f64,
    ),
    (
        "wait_seconds_total",
        "counter",
        "Time waited by requests that were granted.",
        |counters| counters.waited.as_secs_f64(),
    ),
    (
        "hold_seconds_total",
        "counter",
        "Time held, by holds that have ended.",
        |counters| counters.held.as_secs_f64(),
    ),
];

/// One block a metric, one line a lock. `counted`: the engine counts what has happened.
pub fn prometheus(states: &[State], counted: bool) -> String {
    let mut text = String::new();
    for metric in &STANDING {
        block(&mut text, metric, states.iter().map(|state| (state, state)));
    }
    for metric in COUNTED.iter().filter(|_| counted) {
        let counters = states
            .iter()
            .filter_map(|state| Some((state, state.counters.as_ref()?)));
        block(&mut text, metric, counters);
    }
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

/// A label's value, as the format wants it.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
