//! Sentences about a lock: why it was not acquired, whom a request waits for.

use super::{names, shown};
use resourcelock::{Holder, Mode, State};
use std::time::Duration;

/// For a request that was not granted in time: who holds the lock, for how long, what for, how many wait, and the command
/// line that shows more. Without the lock's name in front.
pub fn refusal(state: &State, more: &str) -> String {
    let mut text = if state.locked || !state.holders.is_empty() {
        format!("held by {}", holders(state))
    } else {
        "not acquired in time".to_owned()
    };
    if !state.waiters.is_empty() {
        text.push_str(&format!("; {} waiting", state.waiters.len()));
    }
    text.push_str(&format!("; see: {more}"));
    text
}

/// For a request that waits: `waiting for i2c: held by 4711 (read_sensor.sh, alice) for 12 s: bus scan; 2 ahead`.
/// This process itself is not counted.
pub fn waiting(state: &State) -> String {
    let own = std::process::id();
    let ahead = state
        .waiters
        .iter()
        .position(|waiter| waiter.requester.pid == Some(own) && waiter.requester.same_pid_namespace)
        .unwrap_or(state.waiters.len());
    let mut text = format!("waiting for {}", shown(&state.name));
    if state.locked || !state.holders.is_empty() {
        text.push_str(&format!(": held by {}", holders(state)));
    }
    if ahead > 0 {
        text.push_str(&format!("; {ahead} ahead"));
    }
    text
}

/// A lock in a few words, to choose among several: `free`, `held by 4711 (scan.sh, alice) for 12 s: bus scan; 2 waiting`.
/// What an owner claims who is not trusted is not repeated.
pub fn brief(state: &State) -> String {
    if !state.trusted {
        return names::owner(state).map_or_else(|| "not known whose".to_owned(), |owner| format!("of {owner}"));
    }
    let mut text = if state.locked || !state.holders.is_empty() {
        format!("held by {}", holders(state))
    } else {
        "free".to_owned()
    };
    let waiting = state.waiters.len() + state.waiters_left_out;
    if waiting > 0 {
        text.push_str(&format!("; {waiting} waiting"));
    }
    text
}

/// Of a holder of whom it cannot be found out from here if it lives.
pub const PRESUMED: &str = "if it has ended, only root on the host of its container can tell: ask there";

/// Who holds the lock, for how long, with what note.
fn holders(state: &State) -> String {
    let mut text = match state.holders.as_slice() {
        [] if state.foreign => "a program that uses the Python module or the bare semaphore".to_owned(),
        [] => "an unknown process".to_owned(),
        [one] => format!("{}{}", self::holder(one), held(" for", one.held)),
        [first, others @ ..] => {
            let longest = state.holders.iter().max_by_key(|holder| holder.held).unwrap_or(first);
            let kind = match first.mode {
                Mode::Shared => " (shared)",
                _ => "",
            };
            format!(
                "{} and {} more{kind}{}",
                self::holder(first),
                others.len() + state.holders_left_out,
                held(" for up to", longest.held)
            )
        }
    };
    if state.holders.iter().any(|holder| !holder.alive) {
        text.push_str(" (it died; the next request gets the lock)");
    } else if state.holders.iter().any(|holder| holder.presumed) {
        text.push_str(&format!(" ({PRESUMED})"));
    }
    // The note outlives the hold, so it may be an earlier one's.
    let note = note_text(&state.note);
    if !note.is_empty() {
        text.push_str(&format!(": {note}"));
    }
    text
}

/// A time with a word in front, such as ` for 12 s`, if the time is known.
pub fn held(how: &str, time: Option<Duration>) -> String {
    time.map_or_else(String::new, |time| format!("{how} {}", duration(time)))
}

/// Who holds the lock: `4711 (read_sensor.sh, alice)`, or `'get' from 4711 (bash, alice)` (or `'run --hold-at-least' from …`) if
/// no process does.
/// After the requester's death, who keeps the hold: `4712 (sleep), left behind by 4711 (bash, alice)`.
pub fn holder(holder: &Holder) -> String {
    let mut requester = holder.requester.clone();
    if holder.detached || holder.kept_by.is_some() {
        requester.pid = holder.bound_pid.or(requester.pid);
    }
    if let Some(survivor) = &holder.kept_by
        && survivor.pid != requester.pid
    {
        let kept_by = match (survivor.pid, &survivor.command) {
            (Some(pid), Some(command)) => format!("{pid} ({command})"),
            (Some(pid), None) => pid.to_string(),
            (None, _) => "a process that cannot be seen".to_owned(),
        };
        return format!("{kept_by}, left behind by {}", names::requester(&requester));
    }
    let requester = names::requester(&requester);
    if holder.lingers {
        format!("'run --hold-at-least' from {requester}")
    } else if holder.detached && holder.bound_pid.is_none() {
        format!("'get' from {requester}")
    } else {
        requester
    }
}

/// The note without its date: `2024-10-20 16:01:39.571127 - cli` → `cli`.
pub fn note_text(note: &str) -> &str {
    match note.split_once(" - ") {
        Some((date, text)) if date.starts_with(|first: char| first.is_ascii_digit()) => text,
        _ => note,
    }
}

/// A time for people: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if time < Duration::from_millis(1) => format!("{} µs", time.as_micros()),
        0 => format!("{} ms", time.as_millis()),
        1..10 => format!("{}.{} s", seconds, time.subsec_millis() / 100),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        7200..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The same in up to six letters, for a column: `12s`, `3m05s`, `2h10m`, `3d04h`.
pub fn short_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6000 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        6000..172_800 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        172_800..8_640_000 => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_for_a_column() {
        for (seconds, text) in [
            (0, "0s"),
            (99, "99s"),
            (185, "3m05s"),
            (5_999, "99m59s"),
            (7_800, "2h10m"),
            (273_600, "3d04h"),
            (40_000_000, "462d"),
        ] {
            assert_eq!(short_duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn times_for_the_eyes() {
        for (millis, text) in [
            (0, "0 µs"),
            (40, "40 ms"),
            (1200, "1.2 s"),
            (12_000, "12 s"),
            (185_000, "3 min 5 s"),
            (7_800_000, "2 h 10 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn note_without_date() {
        assert_eq!(note_text("2024-10-20 16:01:39.571127 - cli - x"), "cli - x");
        assert_eq!(note_text("free text - here"), "free text - here");
        assert_eq!(note_text(""), "");
    }
}
