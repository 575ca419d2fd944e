//! `--once-every`: if a job is due again. The decision, without I/O.

use std::time::Duration;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// It is due.
    Now,
    /// It is due, as far as anybody knows: the last run is said to begin only so much later.
    NotByTheirClock(Duration),
    /// It is not: the last run began so long ago, and the next one is expected in so long.
    Later { ago: Duration, left: Duration },
}

/// If a job is due at `now` that is to run once every `every`, and began to run last at `began`.
///
/// It is due again a tenth of the time early: a daily job that says `1d` begins a second earlier on some days than on the
/// day before. By the same tenth, clocks may differ: a run that began a little after `now` has just begun.
pub(super) fn due(began: Duration, now: Duration, every: Duration) -> Due {
    let tolerance = every / 10;
    if let Some(ahead) = began.checked_sub(now).filter(|ahead| *ahead > tolerance) {
        return Due::NotByTheirClock(ahead);
    }
    let ago = now.saturating_sub(began);
    if ago >= every - tolerance {
        return Due::Now;
    }
    Due::Later { ago, left: every - ago }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: u64 = 10;

    /// Random enough, and the same every time.
    fn dice(state: &mut u64, below: u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state % below
    }

    /// Ten hosts start the same quick job once in each of so many periods, each by its own clock, which is off by up to
    /// `skew`, and late by up to `jitter`. Returns how often it succeeded in each period.
    fn simulate(periods: u64, every: Duration, skew: Duration, jitter: Duration, fails: u64) -> Vec<u32> {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let mut part_of = |time: Duration| Duration::from_millis(dice(&mut state, time.as_millis() as u64 + 1));
        let skews: Vec<Duration> = (0..HOSTS).map(|_| part_of(skew)).collect();
        let mut last: Option<Duration> = None;
        let mut other = 7;
        (1..=periods)
            .map(|period| {
                let mut starts: Vec<(Duration, Duration)> = skews
                    .iter()
                    .map(|ahead| {
                        // By the host's own clock; by a true one, whatever it is ahead earlier.
                        let local = every * u32::try_from(period).unwrap() + part_of(jitter);
                        (local - *ahead, local)
                    })
                    .collect();
                starts.sort_unstable();
                let mut succeeded = 0;
                for (_, local) in starts {
                    if last.is_some_and(|last| matches!(due(last, local, every), Due::Later { .. })) {
                        continue;
                    }
                    // One that fails, or is killed in the middle, records nothing.
                    if dice(&mut other, 100) >= fails {
                        succeeded += 1;
                        last = Some(local);
                    }
                }
                succeeded
            })
            .collect()
    }

    #[test]
    fn once_a_minute_and_once_a_day() {
        let (second, minute, day) = (
            Duration::from_secs(1),
            Duration::from_secs(60),
            Duration::from_secs(86_400),
        );
        assert!(
            simulate(60, minute, 5 * second, second, 0)
                .iter()
                .all(|runs| *runs == 1)
        );
        assert!(simulate(365, day, minute, 30 * second, 0).iter().all(|runs| *runs == 1));
        assert!(
            simulate(365, day, Duration::ZERO, minute, 0)
                .iter()
                .all(|runs| *runs == 1)
        );
        // If it fails on a host, the next one does it; that it fails on all ten is seldom.
        let runs = simulate(365, day, minute, 30 * second, 50);
        assert!(runs.iter().all(|runs| *runs <= 1));
        assert!(runs.iter().filter(|runs| **runs == 1).count() > 355, "{runs:?}");
    }

    #[test]
    fn at_the_edges() {
        let seconds = Duration::from_secs;
        let at = |began, now| due(seconds(began), seconds(now), seconds(100));
        assert_eq!(at(1000, 1090), Due::Now);
        let later = |ago, left| Due::Later {
            ago: seconds(ago),
            left: seconds(left),
        };
        assert_eq!(at(1000, 1089), later(89, 11));
        assert_eq!(at(1000, 1000), later(0, 100));
        assert_eq!(at(1010, 1000), later(0, 100));
        assert_eq!(at(1011, 1000), Due::NotByTheirClock(seconds(11)));
        assert_eq!(
            due(Duration::MAX, Duration::ZERO, Duration::MAX),
            Due::NotByTheirClock(Duration::MAX)
        );
        assert_eq!(due(Duration::ZERO, Duration::MAX, seconds(1)), Due::Now);
    }
}
