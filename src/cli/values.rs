//! Reading single values: times, modes, signals. Pure.

use resourcelock::Wait;
use std::time::Duration;

/// Longer times are no limit: three hundred years, which every clock's arithmetic can add up.
const LONGEST: f64 = 1e10;

/// Reads a time in seconds (`1.5`), or with a unit: `500ms`, `30s`, `2m`, `1h`, `1d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text)?;
    if seconds < 0.0 {
        return Err("a time cannot be negative".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds.min(LONGEST)))
}

/// Reads how long to wait: a time, 0 = do not wait, -1 = no limit (as in the Python tool).
pub fn wait(text: &str) -> Result<Wait, String> {
    let seconds = seconds(text)?;
    if seconds == -1.0 || seconds >= LONGEST {
        return Ok(Wait::Forever);
    }
    if seconds < 0.0 {
        return Err("a time cannot be negative, except -1 for no limit".to_owned());
    }
    let time = Duration::from_secs_f64(seconds);
    Ok(if time.is_zero() { Wait::No } else { Wait::For(time) })
}

/// Finite seconds, possibly negative. Takes every number that Python's `float()` takes.
fn seconds(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (number, unit) = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)]
        .into_iter()
        .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|number| (number, unit)))
        .unwrap_or((text, 1.0));
    let seconds = number
        .ends_with(|last: char| last.is_ascii_digit() || last == '.')
        .then(|| without_underscores(number)?.parse::<f64>().ok())
        .flatten()
        .ok_or("not a time: write seconds (1.5) or 500ms, 30s, 2m, 1h, 1d")?
        * unit;
    if seconds.is_finite() {
        Ok(seconds)
    } else {
        Err("too large a number".to_owned())
    }
}

/// Python allows single underscores between digits.
fn without_underscores(number: &str) -> Option<String> {
    let bytes = number.as_bytes();
    for (at, _) in number.match_indices('_') {
        let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
        if at == 0 || !is_digit(bytes.get(at - 1)) || !is_digit(bytes.get(at + 1)) {
            return None;
        }
    }
    Some(number.replace('_', ""))
}

/// Reads permission bits for a new lock. Reading is granted only together with writing: who can read the lock's
/// table could make a dead holder look alive.
pub fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).map_err(|_| "not an octal number such as 660".to_owned())?;
    if mode > 0o777 {
        return Err("only the nine permission bits can be given, such as 660".to_owned());
    }
    let (read, write, execute) = (mode >> 2 & 0o111, mode >> 1 & 0o111, mode & 0o111);
    if read != write || execute != 0 || mode & 0o600 != 0o600 {
        return Err("a lock is either read and written or not used at all: 600, 660 or 666".to_owned());
    }
    Ok(mode)
}

/// Reads a signal: `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+1`, `RTMAX-1`.
pub fn signal(text: &str) -> Result<i32, String> {
    let unknown = || "not a signal: write a name such as TERM or a number".to_owned();
    let (first_real_time, last_real_time) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=last_real_time).contains(&number) {
            Ok(number)
        } else {
            Err(unknown())
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(signal) = format!("SIG{name}").parse::<nix::sys::signal::Signal>() {
        return Ok(signal as i32);
    }
    let offset = |rest: &str, sign: char| -> Option<i32> {
        if rest.is_empty() {
            Some(0)
        } else {
            rest.strip_prefix(sign)?.parse().ok()
        }
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        offset(rest, '+').and_then(|plus| first_real_time.checked_add(plus))
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        offset(rest, '-').and_then(|minus| last_real_time.checked_sub(minus))
    } else {
        None
    };
    number
        .filter(|number| (first_real_time..=last_real_time).contains(number))
        .ok_or_else(unknown)
}

/// The names that [`signal`] takes, without real-time signals.
pub fn signal_names() -> Vec<String> {
    nix::sys::signal::Signal::iterator()
        .map(|signal| signal.as_str().trim_start_matches("SIG").to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, millis) in [
            ("0", 0),
            ("1.5", 1500),
            (".5", 500),
            ("5.", 5000),
            ("1e1", 10_000),
            ("+2", 2000),
            (" 2 ", 2000),
            ("1_000", 1_000_000),
            ("500ms", 500),
            ("2s", 2000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("0.5m", 30_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text:?}");
        }
        for bad in [
            "", "x", "nan", "inf", "-inf", "infinity", "-1", "-5", "1_", "_1", "1__0", "1e400", "5x", "ms", "1 0",
        ] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn waits() {
        assert_eq!(wait("0"), Ok(Wait::No));
        assert_eq!(wait("-0.0"), Ok(Wait::No));
        assert_eq!(wait("-1"), Ok(Wait::Forever));
        assert_eq!(wait("-1.0"), Ok(Wait::Forever));
        assert_eq!(wait("1e300"), Ok(Wait::Forever));
        assert_eq!(wait("0.25"), Ok(Wait::For(Duration::from_millis(250))));
        for bad in ["-2", "-0.5", "nan", "inf", "-inf", "soon", "-1ms"] {
            assert!(wait(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn modes() {
        for (text, bits) in [("600", 0o600), ("0660", 0o660), ("666", 0o666), ("606", 0o606)] {
            assert_eq!(mode(text), Ok(bits));
        }
        for bad in ["640", "644", "400", "700", "060", "0", "1660", "8", "", "rw"] {
            assert!(mode(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn signals() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("int", 2),
            ("WINCH", 28),
        ] {
            assert_eq!(signal(text), Ok(number), "{text:?}");
        }
        assert_eq!(signal("RTMIN"), Ok(libc::SIGRTMIN()));
        assert_eq!(signal("SIGRTMIN+2"), Ok(libc::SIGRTMIN() + 2));
        assert_eq!(signal("rtmax-1"), Ok(libc::SIGRTMAX() - 1));
        for bad in ["", "0", "-1", "65", "SIG", "NOPE", "RTMIN-1", "RTMAX+1", "RTMIN+99"] {
            assert!(signal(bad).is_err(), "{bad:?}");
        }
    }
}
