//! Parsing single values: times, permissions, signals. Pure.

use chrono::{DateTime, Datelike, Days, FixedOffset, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use resourcelock::Wait;
use std::ffi::{OsStr, OsString};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// The value of an option as it was typed. The error of each conversion says what is wrong with it.
pub struct Value<'a>(pub &'a OsStr);

impl Value<'_> {
    fn utf8(&self) -> Result<&str, String> {
        self.0.to_str().ok_or_else(|| "it is not valid UTF-8".to_owned())
    }

    /// True if it is this word.
    pub fn is(&self, word: &str) -> bool {
        self.0 == word
    }

    /// Any bytes.
    pub fn os(&self) -> OsString {
        self.0.to_owned()
    }

    /// Text.
    pub fn text(&self) -> Result<String, String> {
        self.utf8().map(str::to_owned)
    }

    /// Text for display: what is not UTF-8 becomes replacement characters.
    pub fn lossy(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }

    /// Anything that can be parsed; `what` says what it has to be.
    pub fn parse<T: FromStr>(&self, what: &str) -> Result<T, String> {
        self.utf8()?.parse().map_err(|_| format!("not {what}"))
    }

    /// See [`duration`].
    pub fn time(&self) -> Result<Duration, String> {
        duration(self.utf8()?)
    }

    /// The same, but not zero.
    pub fn positive_time(&self) -> Result<Duration, String> {
        match self.time()? {
            Duration::ZERO => Err("the time must be longer than 0".to_owned()),
            time => Ok(time),
        }
    }

    /// See [`past`].
    pub fn past(&self) -> Result<Past, String> {
        past(self.utf8()?)
    }

    /// See [`wait`].
    pub fn wait(&self) -> Result<Wait, String> {
        wait(self.utf8()?)
    }

    /// See [`permissions`].
    pub fn permissions(&self) -> Result<u32, String> {
        permissions(self.utf8()?)
    }

    /// See [`signal`].
    pub fn signal(&self) -> Result<i32, String> {
        signal(self.utf8()?)
    }
}

/// Times are cut to this, about three hundred years: it does not overflow any clock. As a time to wait, it is forever.
const LONGEST: f64 = 1e10;

/// The units of time, in seconds, longest first.
const UNITS: [(&str, f64); 6] = [
    ("w", 604_800.0),
    ("d", 86_400.0),
    ("h", 3_600.0),
    ("m", 60.0),
    ("s", 1.0),
    ("ms", 0.001),
];

/// Parses a time in seconds (`1.5`), or with units: `500ms`, `30s`, `2m`, `1h30m`, `1d`, `1w`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text)?;
    if seconds < 0.0 {
        return Err("a time cannot be negative".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds.min(LONGEST)))
}

/// Parses how long to wait: a time, 0 = don't wait, -1 = forever (as in the Python tool).
pub fn wait(text: &str) -> Result<Wait, String> {
    let seconds = seconds(text)?;
    if seconds == -1.0 || seconds >= LONGEST {
        return Ok(Wait::Forever);
    }
    if seconds < 0.0 {
        return Err("a time cannot be negative, except -1, which means forever".to_owned());
    }
    let time = Duration::from_secs_f64(seconds);
    Ok(if time.is_zero() { Wait::No } else { Wait::For(time) })
}

/// A time in the past, as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// So long ago.
    Ago(Duration),
    /// This instant.
    Instant(DateTime<FixedOffset>),
    /// So many days before today, at this time, in the local zone.
    Days(u64, NaiveTime),
    /// When it was last this late.
    Last(NaiveTime),
    /// By the local clock.
    Date(NaiveDateTime),
}

impl Past {
    /// The instant that it means at `now`. A time that the local clock skipped is when it went on.
    pub fn instant(self, now: DateTime<Local>) -> SystemTime {
        let naive = match self {
            Self::Ago(time) => {
                return SystemTime::from(now)
                    .checked_sub(time)
                    .unwrap_or(SystemTime::UNIX_EPOCH);
            }
            Self::Instant(instant) => return instant.into(),
            Self::Date(naive) => naive,
            Self::Days(days, time) => (now.date_naive() - Days::new(days)).and_time(time),
            Self::Last(time) => {
                let days = u64::from(time > now.time());
                (now.date_naive() - Days::new(days)).and_time(time)
            }
        };
        let in_zone = |naive: NaiveDateTime| naive.and_local_timezone(Local).earliest();
        let later = || naive.checked_add_signed(TimeDelta::hours(1));
        let instant = in_zone(naive).or_else(|| later().and_then(in_zone));
        instant.map_or(SystemTime::UNIX_EPOCH, SystemTime::from)
    }
}

/// Parses a time in the past: `2h`, `22:00`, `today`, `yesterday 22:00`, `2026-11-28`, `2026-11-28 22:00`, RFC 3339.
pub fn past(text: &str) -> Result<Past, String> {
    let text = text.trim();
    if let Ok(ago) = duration(text.trim_end_matches("ago").trim_end()) {
        return Ok(Past::Ago(ago));
    }
    let clock = |text: &str| {
        let forms = ["%H:%M", "%H:%M:%S", "%H:%M:%S%.f"];
        forms.iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok())
    };
    let (day, rest) = text.split_once([' ', 'T']).unwrap_or((text, ""));
    let time = if rest.is_empty() {
        Some(NaiveTime::MIN)
    } else {
        clock(rest.trim_start())
    };
    let days = match day {
        "today" => Some(0),
        "yesterday" => Some(1),
        _ => None,
    };
    let past = match (days, day.parse::<NaiveDate>(), time) {
        (Some(days), _, Some(time)) => Some(Past::Days(days, time)),
        (None, Ok(date), Some(time)) if (1970..=9999).contains(&date.year()) => Some(Past::Date(date.and_time(time))),
        _ => clock(text)
            .map(Past::Last)
            .or_else(|| DateTime::parse_from_rfc3339(text).ok().map(Past::Instant)),
    };
    past.ok_or_else(|| {
        "not a time: write 2h (so long ago), 22:00, 'yesterday 22:00', 2026-11-28 or '2026-11-28 22:00'".to_owned()
    })
}

/// Finite seconds, possibly negative. Accepts every finite number that Python's `float()` accepts.
fn seconds(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let seconds = if text.contains(begins_unit) {
        with_units(text)
    } else {
        number(text)
    };
    let seconds = seconds.ok_or("not a time: write seconds (1.5) or 500ms, 30s, 2m, 1h30m, 1d, 1w")?;
    if seconds.is_finite() {
        Ok(seconds)
    } else {
        Err("the number is too large".to_owned())
    }
}

/// `1.5h`, `1h30m`: each unit at most once, the longest first. A sign or an exponent is allowed with a single unit only.
fn with_units(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut units = &UNITS[..];
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(begins_unit)?;
        let (digits, after) = rest.split_at(end);
        let letters = after
            .find(|letter: char| !letter.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let place = units.iter().position(|(unit, _)| *unit == &after[..letters])?;
        let is_whole = end + letters == text.len();
        if !is_whole
            && !digits
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"._".contains(&byte))
        {
            return None;
        }
        total += number(digits)? * units[place].1;
        units = &units[place + 1..];
        rest = &after[letters..];
    }
    Some(total)
}

/// True for the first letters of units, none of which occurs in a number.
fn begins_unit(letter: char) -> bool {
    "wdhms".contains(letter)
}

/// A number as Python's `float()` accepts it, except infinity and NaN.
fn number(text: &str) -> Option<f64> {
    text.ends_with(|last: char| last.is_ascii_digit() || last == '.')
        .then(|| without_underscores(text)?.parse().ok())
        .flatten()
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

/// Parses permission bits for a new lock. Read access only comes with write access, since whoever can read the lock's
/// table can make a dead holder look alive anyway.
pub fn permissions(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).map_err(|_| "not an octal number, such as 660".to_owned())?;
    if mode > 0o777 {
        return Err("only the nine permission bits can be set, as in 660".to_owned());
    }
    let (read, write, execute) = (mode >> 2 & 0o111, mode >> 1 & 0o111, mode & 0o111);
    if read != write || execute != 0 || mode & 0o600 != 0o600 {
        return Err("whoever may use a lock both reads and writes its files: use 600, 660 or 666".to_owned());
    }
    Ok(mode)
}

/// Parses a signal: `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+1`, `RTMAX-1`.
pub fn signal(text: &str) -> Result<i32, String> {
    let unknown = || "not a signal: use a name, such as TERM, or a number".to_owned();
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

/// The names that [`signal`] accepts, without real-time signals.
pub fn signal_names() -> impl Iterator<Item = String> {
    nix::sys::signal::Signal::iterator().map(|signal| signal.as_str().trim_start_matches("SIG").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    #[test]
    fn times_in_the_past() {
        let now = Local.with_ymd_and_hms(2026, 11, 29, 7, 0, 0).unwrap();
        let at = |text: &str| {
            let instant = past(text).unwrap_or_else(|why| panic!("{text}: {why}")).instant(now);
            let local = DateTime::<Local>::from(instant);
            local.format("%m-%d %H:%M:%S").to_string()
        };
        for (text, instant) in [
            ("2h", "11-29 05:00:00"),
            ("1h30m", "11-29 05:30:00"),
            ("90", "11-29 06:58:30"),
            ("15m ago", "11-29 06:45:00"),
            ("today", "11-29 00:00:00"),
            ("yesterday", "11-28 00:00:00"),
            ("yesterday 22:00", "11-28 22:00:00"),
            ("22:00", "11-28 22:00:00"),
            ("06:30:15", "11-29 06:30:15"),
            ("2026-11-27", "11-27 00:00:00"),
            ("2026-11-27 08:15", "11-27 08:15:00"),
            ("2026-11-27T08:15:30", "11-27 08:15:30"),
        ] {
            assert_eq!(at(text), instant, "{text}");
        }
        let utc = past("2026-11-27T08:15:30.5Z").unwrap().instant(now);
        assert_eq!(
            DateTime::<FixedOffset>::parse_from_rfc3339("2026-11-27T08:15:30.5Z").map(SystemTime::from),
            Ok(utc)
        );
        for text in [
            "",
            "tomorrow",
            "yesterday 25:00",
            "2026-13-01",
            "-2h",
            "2026-11-27 x",
            "today 8",
            "ago",
            "99999-01-01",
        ] {
            assert!(past(text).is_err(), "{text}");
        }
        // The clock's end, and before its beginning.
        let _ = past("1e300w").map(|past| past.instant(now));
        let _ = past("0000-01-01").map(|past| past.instant(now));
    }

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
            ("1w", 604_800_000),
            ("1h30m", 5_400_000),
            ("1d12h", 129_600_000),
            ("1w2d3h4m5s6ms", 788_645_006),
            ("1m0.5s", 60_500),
            ("1e1s", 10_000),
            ("+2s", 2000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text:?}");
        }
        for bad in [
            "", "x", "nan", "inf", "-inf", "infinity", "-1", "-5", "1_", "_1", "1__0", "1e400", "5x", "ms", "1 0",
            "30m1h", "1h1h", "1h30", "h", "1h-30m", "-1h90m", "1e1h5m", "1h 30m", "1hm", "1mss", "5sm", "1e400w",
            "1ms1s", "é1h",
        ] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_time_or_refused(text in "\\PC*|[-+0-9._e wdhms]{0,12}") {
            let _ = (duration(&text), wait(&text));
        }

        #[test]
        fn units_add_up(w in 0..100_u64, d in 0..100_u64, h in 0..100_u64, m in 0..100_u64, s in 0..100_u64, ms in 0..2000_u64) {
            let text = format!("{w}w{d}d{h}h{m}m{s}s{ms}ms");
            let millis = ((((w * 7 + d) * 24 + h) * 60 + m) * 60 + s) * 1000 + ms;
            let off = duration(&text).expect("a time").abs_diff(Duration::from_millis(millis));
            // The precision of a 64-bit floating-point number of seconds.
            proptest::prop_assert!(off < Duration::from_micros(1), "{text}");
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
    fn permission_bits() {
        for (text, bits) in [("600", 0o600), ("0660", 0o660), ("666", 0o666), ("606", 0o606)] {
            assert_eq!(permissions(text), Ok(bits));
        }
        for bad in ["640", "644", "400", "700", "060", "0", "1660", "8", "", "rw"] {
            assert!(permissions(bad).is_err(), "{bad:?}");
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
