//! The note's date and time, formatted once a second, and the wall clock as an offset from the monotonic clock.

use crate::lock::sys;
use chrono::{DateTime, Datelike, Local, Offset, TimeZone, Timelike};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The offset is read again after this time, so that a step of the wall clock shows soon.
const OFFSET_VALID_NS: u64 = 10_000_000;

/// What the zone was said to be is valid for this time, in s, so that a change of it shows soon.
const ZONE_VALID_S: u64 = 10;
/// In the middle of a quarter of an hour no zone changes its offset.
const QUARTER_S: u64 = 900;

/// See the module. One per handle, behind its mutex.
#[derive(Debug, Default)]
pub(crate) struct NoteClock {
    /// Wall clock minus monotonic clock, ns.
    offset: u64,
    offset_read: u64,
    /// The zone's offset, and in which second that was found out.
    zone: Option<(i32, u64)>,
    /// The last note's text (ASCII but for the message), and in which second it was written: mostly, only the microseconds
    /// of the next one differ.
    text: Vec<u8>,
    second: u64,
}

/// Where the microseconds stand in a note's text, and where its message begins.
const MICROSECONDS: Range<usize> = 20..26;
const MESSAGE: usize = 29;

impl NoteClock {
    /// The wall clock, in µs since 1970, at monotonic time `now`.
    #[inline]
    pub(crate) fn wall_us(&mut self, now: u64) -> u64 {
        if self.offset_read == 0 || now.saturating_sub(self.offset_read) > OFFSET_VALID_NS {
            self.read_offset(now);
        }
        self.offset.wrapping_add(now) / 1000
    }

    #[cold]
    fn read_offset(&mut self, now: u64) {
        self.offset = wall_offset();
        self.offset_read = now;
    }

    /// Before a note is written at about this time: does what takes system calls.
    pub(crate) fn prepare(&mut self, now: u64, zone: &AtomicU64) {
        let second = self.wall_us(now) / 1_000_000;
        self.utc_offset(second, zone);
    }

    /// Seconds east of UTC in that second. See [`utc_offset`].
    fn utc_offset(&mut self, second: u64, zone: &AtomicU64) -> i32 {
        let is_same = |found: u64| second / QUARTER_S == found / QUARTER_S && second.abs_diff(found) < ZONE_VALID_S;
        match self.zone {
            Some((offset, found)) if is_same(found) => offset,
            _ => {
                let offset = utc_offset(i64::try_from(second).unwrap_or(i64::MAX), zone);
                self.zone = Some((offset, second));
                offset
            }
        }
    }

    /// The note's text: `YYYY-MM-DD HH:MM:SS.ffffff - MESSAGE`, local time. `zone`: see [`utc_offset`].
    pub(crate) fn note(&mut self, wall_us: u64, message: &str, zone: &AtomicU64) -> &[u8] {
        let second = wall_us / 1_000_000;
        if second != self.second || self.text.is_empty() {
            self.date_note(second, zone);
        }
        if self.text[MESSAGE..] != *message.as_bytes() {
            self.text.truncate(MESSAGE);
            self.text.extend_from_slice(message.as_bytes());
        }
        put_digits(&mut self.text[MICROSECONDS], (wall_us % 1_000_000) as u32);
        &self.text
    }

    /// Begins the note's text anew, with the date and the time but for the microseconds.
    #[cold]
    fn date_note(&mut self, second: u64, zone: &AtomicU64) {
        self.second = second;
        let seconds = i64::try_from(second).unwrap_or(i64::MAX);
        let offset = self.utc_offset(second, zone);
        self.text.clear();
        self.text.extend_from_slice(b"YYYY-MM-DD HH:MM:SS.ffffff - ");
        // There is none for what an engine's server may say that is no time.
        let Some(local) = DateTime::from_timestamp(seconds.saturating_add(offset.into()), 0) else {
            return;
        };
        put_digits(&mut self.text[..4], local.year().unsigned_abs());
        let rest = [local.month(), local.day(), local.hour(), local.minute(), local.second()];
        for (at, number) in (5..).step_by(3).zip(rest) {
            put_digits(&mut self.text[at..at + 2], number);
        }
    }
}

/// Wall clock minus monotonic clock, in ns. If this thread was kept from running between the two, they are read again,
/// a few times.
fn wall_offset() -> u64 {
    const CLOSE_NS: u64 = 5_000;
    let mut best = (u64::MAX, 0);
    for _ in 0..4 {
        let before = sys::monotonic();
        let wall = sys::realtime();
        let apart = sys::monotonic().saturating_sub(before);
        if apart < best.0 {
            best = (apart, wall.wrapping_sub(before.wrapping_add(apart / 2)));
        }
        if apart < CLOSE_NS {
            break;
        }
    }
    best.1
}

/// Puts the last digits of a number there.
fn put_digits(to: &mut [u8], mut number: u32) {
    for digit in to.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Seconds east of UTC at that time.
///
/// Reading and parsing the zone file takes longer than taking the lock. So a process that takes one lock in its life
/// finds the last answer in the lock's table (`zone`). It is valid for the same quarter of an hour, in the middle of
/// which no zone changes its offset, and for the same state of /etc/localtime. It is not used if TZ is set, which
/// differs between processes. It consists of 24 bits of the file's identity, 22 bits of the quarter, and 18 bits of the
/// offset + 1 day.
fn utc_offset(second: i64, zone: &AtomicU64) -> i32 {
    const DAY: i32 = 86_400;
    let quarter = (second.unsigned_abs() / QUARTER_S) & 0x3f_ffff;
    let key = std::env::var_os("TZ")
        .is_none()
        .then(|| (zone_file_identity() << 40) | (quarter << 18));
    let cached = zone.load(Relaxed);
    if key == Some((cached >> 18) << 18) && cached != 0 {
        return (cached & 0x3_ffff) as i32 - DAY;
    }
    let local = Local.timestamp_opt(second, 0).earliest();
    let offset = local.map_or(0, |local| local.offset().fix().local_minus_utc());
    if let (Some(key), Ok(stored)) = (key, u64::try_from(offset + DAY)) {
        zone.store(key | (stored & 0x3_ffff), Relaxed);
    }
    offset
}

/// What changes when another file becomes /etc/localtime, or when it is written again; folded to 24 bits.
fn zone_file_identity() -> u64 {
    let identity = nix::sys::stat::stat("/etc/localtime").map_or(1, |stat| {
        [
            stat.st_dev,
            stat.st_ino,
            stat.st_size.unsigned_abs(),
            stat.st_mtime.unsigned_abs(),
        ]
        .into_iter()
        .fold(stat.st_mtime_nsec.unsigned_abs(), |mixed, part| {
            (mixed ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        })
    });
    identity >> 40
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_is_formatted_as_by_python() {
        let mut clock = NoteClock::default();
        let zone = AtomicU64::new(0);
        let now = 1_729_440_048_415_898;
        let expected = Local
            .timestamp_opt(1_729_440_048, 0)
            .unwrap()
            .format("%Y-%m-%d %H:%M:%S.415898 - cli")
            .to_string();
        assert_eq!(clock.note(now, "cli", &zone), expected.as_bytes());
        assert!(clock.note(now - 415_890, "cli", &zone).ends_with(b".000008 - cli"));
        assert!(clock.note(now - 415_890, "x", &zone).ends_with(b".000008 - x"));
        assert!(clock.note(now + 1_000_000, "x", &zone).ends_with(b":49.415898 - x"));
        let no_time = NoteClock::default().note(u64::MAX, "x", &zone).to_vec();
        assert_eq!(no_time, b"YYYY-MM-DD HH:MM:SS.551615 - x");
        // Another handle uses the table's answer.
        assert_eq!(NoteClock::default().note(now, "cli", &zone), expected.as_bytes());
    }

    /// What a wait has prepared is used without asking the system, and not for long.
    #[test]
    fn the_offset_is_asked_for_again_after_a_while() {
        let (mut clock, zone) = (NoteClock::default(), AtomicU64::new(0));
        let second = 1_729_440_000; // the first one of a quarter
        let offset = clock.utc_offset(second, &zone);
        assert_eq!(offset, utc_offset(second.cast_signed(), &zone));
        clock.zone = Some((offset + 60, second)); // a wrong offset, to see that it is believed
        assert_eq!(clock.utc_offset(second + ZONE_VALID_S - 1, &zone), offset + 60);
        assert_eq!(clock.utc_offset(second + ZONE_VALID_S, &zone), offset);
        clock.zone = Some((offset + 60, second));
        assert_eq!(clock.utc_offset(second - 1, &zone), offset, "of another quarter");
        clock.prepare(sys::monotonic(), &zone);
        assert!(clock.zone.is_some_and(|(_, found)| found > second));
    }

    #[test]
    fn the_offset_in_the_table_is_used_only_for_its_quarter() {
        let zone = AtomicU64::new(0);
        let second = 1_729_440_048;
        let real = utc_offset(second, &zone);
        let stored = zone.load(Relaxed);
        if stored == 0 {
            assert!(std::env::var_os("TZ").is_some());
            return; // nothing is stored
        }
        assert_eq!((stored & 0x3_ffff) as i32 - 86_400, real);
        zone.store(stored ^ (1 << 3), Relaxed); // a wrong offset, to see that it is believed
        assert_ne!(utc_offset(second, &zone), real);
        assert_eq!(utc_offset(second + 900, &zone), real);
        zone.store(stored ^ (1 << 41) ^ (1 << 3), Relaxed); // of another zone file
        assert_eq!(utc_offset(second, &zone), real);
        zone.store(u64::MAX, Relaxed); // hostile
        assert_eq!(utc_offset(second, &zone), real);
    }
}
