//! How long the tests go on that do so for any time (`scripts/soak.sh`), and with what choices; how long all of them wait.

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

/// How long a test waits before it fails: far longer than anything takes, so that no test fails on a slow machine. (Where
/// fifty processes share a processor with others, and have the least right to it, one may get none for minutes.)
pub fn patience() -> Duration {
    Duration::from_secs(if time().is_some() { 1800 } else { 120 })
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
