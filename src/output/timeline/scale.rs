//! The time axis.

use super::spans::Span;
use super::{LABELS, RIGHT, WIDTH};
use chrono::{DateTime, Local};
use std::time::{Duration, SystemTime};

const SECOND: u128 = 1_000_000;
/// How wide a character of a label is.
const CHARACTER: f64 = 6.7;
/// The least between two labels.
const GAP: f64 = 12.0;

/// Maps times to positions.
pub struct Scale {
    first: SystemTime,
    length: Duration,
}

/// A time on the axis.
pub struct Tick {
    pub x: f64,
    pub label: String,
    /// `start`, `middle`, `end`: so that the whole label is in the picture.
    pub anchor: &'static str,
}

impl Scale {
    /// For these requests, if there are any.
    pub fn of<'s>(spans: impl Iterator<Item = &'s Span> + Clone) -> Option<Self> {
        let first = spans.clone().map(|span| span.queued).min()?;
        let last = spans.map(|span| span.end).max()?;
        // A single instant is shown as a millisecond.
        let length = last.duration_since(first).unwrap_or_default();
        let length = length.max(Duration::from_millis(1));
        Some(Self { first, length })
    }

    pub fn x(&self, time: SystemTime) -> f64 {
        let since = time.duration_since(self.first).unwrap_or_default();
        LABELS + since.as_secs_f64() / self.length.as_secs_f64() * (WIDTH - RIGHT - LABELS)
    }

    /// The date, the time from which to which, and the zone that all times are in.
    pub fn period(&self) -> String {
        let [first, last] = [self.first, self.first + self.length].map(DateTime::<Local>::from);
        let clock = if self.length < Duration::from_secs(2) {
            "%H:%M:%S%.3f"
        } else {
            "%H:%M:%S"
        };
        let day = "%a %Y-%m-%d";
        let first_zone = if first.offset() == last.offset() {
            ""
        } else {
            " (UTC%:z)"
        };
        let last_day = if first.date_naive() == last.date_naive() {
            ""
        } else {
            "%a %Y-%m-%d "
        };
        format!(
            "{} to {}",
            first.format(&format!("{day} {clock}{first_zone}")),
            last.format(&format!("{last_day}{clock} (UTC%:z)"))
        )
    }

    /// Round times, with labels that are no more precise than necessary, and do not touch each other.
    pub fn ticks(&self) -> Vec<Tick> {
        const STEPS: [u128; 12] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 900, 1800, 3600];
        let length = self.length.as_micros();
        let decimal = (0..6).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u128.pow(power)));
        let sexagesimal = STEPS.map(|step| step * SECOND);
        let daily = (0..20).map(|power| (2 * 3600 * SECOND) << power);
        let fits = |step: &u128| {
            let label = self.label(self.first, *step).len() as f64 * CHARACTER + GAP;
            let apart = *step as f64 / length as f64 * (WIDTH - RIGHT - LABELS);
            apart > label
        };
        let mut steps = decimal.chain(sexagesimal).chain(daily);
        let step = steps.find(fits).unwrap_or(length);
        let local = DateTime::<Local>::from(self.first);
        // Ticks are at round local times.
        let offset = i128::from(local.offset().local_minus_utc()) * SECOND as i128;
        let since = self.first.duration_since(SystemTime::UNIX_EPOCH);
        let first = since.unwrap_or_default().as_micros() as i128;
        let round = step as i128;
        let mut at = (first + offset + round - 1).div_euclid(round) * round - offset;
        let (mut ticks, mut free) = (Vec::new(), 0.0);
        while at <= first + length as i128 {
            let time = SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(at).unwrap_or_default());
            let (x, label) = (self.x(time), self.label(time, step));
            let width = label.len() as f64 * CHARACTER;
            let (anchor, left) = match x + width / 2.0 > WIDTH {
                true => ("end", x - width),
                false => ("middle", x - width / 2.0),
            };
            // The edge pushes the last one to the left, where the one before it may be.
            if left >= free {
                ticks.push(Tick { x, label, anchor });
                free = left + width + GAP;
            }
            at += round;
        }
        ticks
    }

    fn label(&self, time: SystemTime, step: u128) -> String {
        let format = match step {
            0..1000 => "%H:%M:%S%.6f",
            1000..SECOND => "%H:%M:%S%.3f",
            SECOND..60_000_000 => "%H:%M:%S",
            _ if self.length > Duration::from_secs(86_400) => "%m-%d %H:%M",
            _ => "%H:%M",
        };
        DateTime::<Local>::from(time).format(format).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_touch_and_are_not_cut_off() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_889_281_234_567);
        let lengths = (3..17).flat_map(|power| [1, 2, 3, 7].map(|digit| digit * 10_u64.pow(power)));
        let scales = lengths.flat_map(|micros| (0..20).map(move |phase| (micros, micros / 20 * phase)));
        for (length, phase) in
            scales.map(|(length, phase)| (Duration::from_micros(length), Duration::from_micros(phase)))
        {
            let ticks = Scale {
                first: start + phase,
                length,
            }
            .ticks();
            assert!((1..20).contains(&ticks.len()), "{length:?}: {}", ticks.len());
            let edges = |tick: &Tick| {
                let width = tick.label.len() as f64 * CHARACTER;
                let right = tick.x + if tick.anchor == "end" { 0.0 } else { width / 2.0 };
                (right - width, right)
            };
            for (tick, next) in ticks.iter().zip(ticks.iter().skip(1)) {
                assert!(edges(tick).1 < edges(next).0, "{length:?}, {phase:?}: {}", next.label);
                assert_ne!(tick.label, next.label);
            }
            for tick in &ticks {
                assert!(
                    tick.x >= LABELS && edges(tick).1 <= WIDTH,
                    "{length:?}, {phase:?}: {} at {}",
                    tick.label,
                    tick.x
                );
            }
        }
    }

    #[test]
    fn the_period_names_each_day() {
        let day = Duration::from_secs(86_400);
        let first = SystemTime::UNIX_EPOCH + 20_000 * day + day / 2;
        let period = |length| Scale { first, length }.period();
        assert_eq!(period(Duration::from_secs(3)).matches("202").count(), 1);
        assert_eq!(period(3 * day).matches("202").count(), 2);
        assert!(period(day).contains("(UTC"));
    }
}
