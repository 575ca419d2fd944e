//! The note's date and time, formatted once a second, and the wall clock as an offset from the monotonic clock.

use crate::lock::sys;
use chrono::{DateTime, Datelike, Local, Offset, TimeZone, Timelike};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The offset is read again after this time, so that a step of the wall clock shows soon.
const OFFSET_VALID_NS: u64 = 10_000_000;

/// See the module. One per handle, behind its mutex.
#[derive(Debug, Default)]
pub(crate) struct NoteClock {
    /// Wall clock minus monotonic clock, ns.
    offset: u64,
    offset_read: u64,
    second: u64,
    /// `YYYY-MM-DD HH:MM:SS.` of that second.
    prefix: String,
    /// The note's text, built here each time.
    text: String,
}

impl NoteClock {
    /// The wall clock, in µs since 1970, at monotonic time `now`.
    pub(crate) fn wall_us(&mut self, now: u64) -> u64 {
        if self.offset_read == 0 || now.saturating_sub(self.offset_read) > OFFSET_VALID_NS {
            self.offset = wall_offset();
            self.offset_read = now;
        }
        self.offset.wrapping_add(now) / 1000
    }

    /// The note's text: `YYYY-MM-DD HH:MM:SS.ffffff - MESSAGE`, local time. `zone`: see [`utc_offset`].
    pub(crate) fn note(&mut self, wall_us: u64, message: &str, zone: &AtomicU64) -> &str {
        let second = wall_us / 1_000_000;
        if second != self.second || self.prefix.is_empty() {
            self.second = second;
            self.prefix.clear();
            let signed = i64::try_from(second).unwrap_or(i64::MAX);
            if let Some(local) = DateTime::from_timestamp(signed.saturating_add(utc_offset(signed, zone).into()), 0) {
                push_digits(&mut self.prefix, local.year().unsigned_abs(), 4);
                for (before, number) in [('-', local.month()), ('-', local.day()), (' ', local.hour())] {
                    self.prefix.push(before);
                    push_digits(&mut self.prefix, number, 2);
                }
                for number in [local.minute(), local.second()] {
                    self.prefix.push(':');
                    push_digits(&mut self.prefix, number, 2);
                }
                self.prefix.push('.');
            }
        }
        self.text.clear();
        self.text.push_str(&self.prefix);
        push_digits(&mut self.text, (wall_us % 1_000_000) as u32, 6);
        self.text.push_str(" - ");
        self.text.push_str(message);
        &self.text
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

/// Appends a number with leading zeros.
fn push_digits(text: &mut String, mut number: u32, width: usize) {
    let mut digits = [b'0'; 6];
    let digits = &mut digits[..width.min(6)];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    text.push_str(std::str::from_utf8(digits).unwrap_or_default());
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
    let quarter = (second.unsigned_abs() / 900) & 0x3f_ffff;
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
        assert_eq!(clock.note(now, "cli", &zone), expected);
        assert!(clock.note(now - 415_890, "x", &zone).ends_with(".000008 - x"));
        // Another handle uses the table's answer.
        assert_eq!(NoteClock::default().note(now, "cli", &zone), expected);
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
