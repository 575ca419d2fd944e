//! The note's date and time, formatted once a second, and the wall clock as an offset to the monotonic one.

use crate::sys;
use chrono::{Local, TimeZone};
use std::fmt::Write;

/// The offset is read again after this time, so that a step of the wall clock shows up soon.
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
    /// Built here again and again.
    text: String,
}

impl NoteClock {
    /// Wall clock in µs since 1970 at monotonic time `now`.
    pub(crate) fn wall_us(&mut self, now: u64) -> u64 {
        if self.offset_read == 0 || now.saturating_sub(self.offset_read) > OFFSET_VALID_NS {
            self.offset = sys::realtime().wrapping_sub(sys::monotonic());
            self.offset_read = now;
        }
        self.offset.wrapping_add(now) / 1000
    }

    /// The note's text: `YYYY-MM-DD HH:MM:SS.ffffff - MESSAGE`, local time.
    pub(crate) fn note(&mut self, wall_us: u64, message: &str) -> &str {
        let second = wall_us / 1_000_000;
        if second != self.second || self.prefix.is_empty() {
            self.second = second;
            self.prefix.clear();
            let local = i64::try_from(second)
                .ok()
                .and_then(|s| Local.timestamp_opt(s, 0).earliest());
            if let Some(local) = local {
                let _ = write!(self.prefix, "{}.", local.format("%Y-%m-%d %H:%M:%S"));
            }
        }
        self.text.clear();
        self.text.push_str(&self.prefix);
        let mut micros = (wall_us % 1_000_000) as u32;
        let mut digits = [b'0'; 6];
        for digit in digits.iter_mut().rev() {
            *digit += (micros % 10) as u8;
            micros /= 10;
        }
        self.text.extend(digits.iter().map(|&b| char::from(b)));
        self.text.push_str(" - ");
        self.text.push_str(message);
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_is_formatted_as_by_python() {
        let mut clock = NoteClock::default();
        let now = 1_729_440_048_415_898;
        let expected = Local
            .timestamp_opt(1_729_440_048, 0)
            .unwrap()
            .format("%Y-%m-%d %H:%M:%S.415898 - cli")
            .to_string();
        assert_eq!(clock.note(now, "cli"), expected);
        assert!(clock.note(now - 415_890, "x").ends_with(".000008 - x"));
    }
}
