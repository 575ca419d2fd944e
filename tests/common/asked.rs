//! How long the tests go on that do so for any time (`scripts/soak.sh`), and with what choices.

use std::time::Duration;

/// RESOURCELOCK_STRESS: `90s`, `30m`, `2h`.
pub fn time() -> Option<Duration> {
    let text = std::env::var("RESOURCELOCK_STRESS").ok()?;
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => panic!("RESOURCELOCK_STRESS={text} is not a time"),
    };
    Some(Duration::from_secs(
        number.parse::<u64>().expect("a number in RESOURCELOCK_STRESS") * unit,
    ))
}

/// RESOURCELOCK_STRESS_SEED.
pub fn seed() -> Option<u64> {
    number("SEED")
}

/// RESOURCELOCK_STRESS_PROCESSES.
pub fn processes() -> Option<u64> {
    number("PROCESSES")
}

fn number(what: &str) -> Option<u64> {
    let name = format!("RESOURCELOCK_STRESS_{what}");
    let text = std::env::var(&name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
