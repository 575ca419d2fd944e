//! `--once-every`: if a job is due again. The decision, without I/O.

use std::time::Duration;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// It is due.
    Now,
    /// It is due, as far as anybody knows: the last run is said to begin only so much later.
    NotByTheirClock(Duration),
    /// It is not: the last run began so long ago, and it is due again in so long.
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
    Due::Later {
        ago,
        left: every - tolerance - ago,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: u64 = 10;
    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(86_400);

    /// Random enough, and the same every time.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % n
        }

        fn part_of(&mut self, time: Duration) -> Duration {
            Duration::from_millis(self.below(time.as_millis() as u64 + 1))
        }
    }

    /// Whose clock tells when a run began, and what is now.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Clock {
        /// Each host's own: etcd.
        Hosts,
        /// One for all: this machine, PostgreSQL.
        One,
    }

    /// Ten hosts whose cron starts the same job once in each period.
    #[derive(Debug, Clone, Copy)]
    struct Simulation {
        periods: u64,
        every: Duration,
        clock: Clock,
        /// The hosts' clocks are ahead by up to this.
        skew: Duration,
        /// Their cron is late by up to this.
        jitter: Duration,
        /// How long a run takes that succeeds.
        takes: Duration,
        /// Of a hundred runs, so many fail at their end.
        fail: u64,
        /// Of those that do not, so many are killed in the middle.
        killed: u64,
    }

    /// What came of it, for each period of the hosts whose it was, and of all of them.
    struct Outcome {
        started: Vec<u32>,
        succeeded: Vec<u32>,
        /// The shortest time between the beginnings of two runs that succeeded, by a true clock.
        closest: Duration,
    }

    impl Outcome {
        fn is_once_each(&self) -> bool {
            self.started.iter().chain(&self.succeeded).all(|runs| *runs == 1)
        }
    }

    impl Simulation {
        fn run(self, seed: u64) -> Outcome {
            let Self { every, clock, .. } = self;
            let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let ahead: Vec<Duration> = (0..HOSTS).map(|_| dice.part_of(self.skew)).collect();
            let mut starts = Vec::new();
            for period in 0..self.periods {
                for ahead in &ahead {
                    // By the host's own clock; by a true one, whatever it is ahead earlier.
                    let own = every * u32::try_from(period + 1).unwrap() + dice.part_of(self.jitter);
                    starts.push((own - *ahead, *ahead, period as usize));
                }
            }
            starts.sort_unstable();
            let none = vec![0; self.periods as usize];
            let (mut started, mut succeeded, mut closest) = (none.clone(), none, Duration::MAX);
            let mut recorded: Option<Duration> = None;
            let mut last_success: Option<Duration> = None;
            // When the last run has released the lock.
            let mut free = Duration::ZERO;
            for (start, ahead, period) in starts {
                let is_due = |now| recorded.is_none_or(|began| !matches!(due(began, now, every), Due::Later { .. }));
                let shown = |time| if clock == Clock::Hosts { time + ahead } else { time };
                // Before it queues, and under the lock.
                let granted = start.max(free);
                if !is_due(shown(start)) || !is_due(shown(granted)) {
                    continue;
                }
                started[period] += 1;
                if dice.below(100) < self.fail {
                    free = granted + self.takes;
                } else if dice.below(100) < self.killed {
                    free = granted + self.takes / 2;
                } else {
                    free = granted + self.takes;
                    recorded = Some(shown(granted));
                    succeeded[period] += 1;
                    closest = closest.min(last_success.map_or(Duration::MAX, |last| granted - last));
                    last_success = Some(granted);
                }
            }
            Outcome {
                started,
                succeeded,
                closest,
            }
        }
    }

    const NIGHTLY: Simulation = Simulation {
        periods: 365,
        every: DAY,
        clock: Clock::Hosts,
        skew: MINUTE,
        jitter: Duration::from_secs(30),
        takes: SECOND,
        fail: 0,
        killed: 0,
    };

    const MINUTELY: Simulation = Simulation {
        periods: 60,
        every: MINUTE,
        skew: Duration::from_secs(50),
        jitter: SECOND,
        takes: Duration::from_millis(50),
        ..NIGHTLY
    };

    /// The simulation with both clocks, and random choices of its own each time.
    fn outcomes(simulation: Simulation) -> impl Iterator<Item = Outcome> {
        let times = if simulation.periods > 100 { 10 } else { 200 };
        let of = move |clock| (1..=times).map(move |seed| Simulation { clock, ..simulation }.run(seed));
        [Clock::Hosts, Clock::One].into_iter().flat_map(of)
    }

    #[test]
    fn each_period_once() {
        for simulation in [NIGHTLY, MINUTELY] {
            for outcome in outcomes(simulation) {
                assert!(outcome.is_once_each(), "{simulation:?}: {:?}", outcome.started);
            }
        }
    }

    /// What fails, or is killed in the middle, is done by another host in the same period, and once, if the clocks differ by
    /// less than a tenth of the period. About half of the runs do not succeed here: so in one of a thousand periods, the
    /// job fails on all ten hosts.
    #[test]
    fn again_elsewhere() {
        let skew = Duration::from_secs(4);
        for simulation in [NIGHTLY, Simulation { skew, ..MINUTELY }] {
            let mut failed = 0;
            let mut periods = 0;
            for outcome in outcomes(Simulation {
                fail: 30,
                killed: 30,
                ..simulation
            }) {
                for (started, succeeded) in outcome.started.iter().zip(outcome.succeeded) {
                    assert!(
                        succeeded == 1 || (succeeded == 0 && *started == HOSTS as u32),
                        "{simulation:?}"
                    );
                    failed += 1 - succeeded;
                }
                periods += outcome.started.len();
                let started: u32 = outcome.started.iter().sum();
                assert!(started as usize > outcome.started.len() * 3 / 2);
            }
            assert!((failed as usize) * 200 < periods, "{failed} of {periods}");
        }
    }

    /// Clocks that differ by more than the period, less what cron is late: there are runs too many. By one clock, nine tenths
    /// of the period lie between two of them all the same.
    #[test]
    fn clocks_that_differ_by_the_whole_period() {
        let simulation = Simulation {
            skew: MINUTE,
            ..MINUTELY
        };
        let runs = |clock| {
            let simulation = Simulation { clock, ..simulation };
            let outcomes: Vec<Outcome> = (1..=200).map(|seed| simulation.run(seed)).collect();
            if clock == Clock::One {
                assert!(outcomes.iter().all(|outcome| outcome.closest >= MINUTE * 9 / 10));
            }
            let runs = outcomes.iter().map(|outcome| outcome.succeeded.iter().sum::<u32>());
            (runs.clone().min(), runs.max())
        };
        let of = [Clock::Hosts, Clock::One].map(|clock| (clock, runs(clock)));
        println!("60 minutes, clocks that differ by up to a minute, fewest and most runs: {of:?}");
        for (_, (fewest, most)) in of {
            assert!(fewest == Some(60) && most.is_some_and(|most| (61..=63).contains(&most)));
        }
    }

    /// Without the tenth, a second of jitter would lose many nights.
    #[test]
    fn the_whole_period_would_be_too_long() {
        let mut dice = Dice(1);
        let mut last = Duration::ZERO;
        let nights = (1..=365).filter(|night| {
            let now = DAY * *night + dice.part_of(SECOND);
            let is_due = now - last >= DAY;
            last = if is_due { now } else { last };
            is_due
        });
        let nights = nights.count();
        println!("without the tenth: {nights} of 365 nights");
        assert!(nights < 300, "{nights}");
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
        assert_eq!(at(1000, 1089), later(89, 1));
        assert_eq!(at(1000, 1000), later(0, 90));
        assert_eq!(at(1010, 1000), later(0, 90));
        assert_eq!(at(1011, 1000), Due::NotByTheirClock(seconds(11)));
        assert_eq!(
            due(Duration::MAX, Duration::ZERO, Duration::MAX),
            Due::NotByTheirClock(Duration::MAX)
        );
        assert_eq!(due(Duration::ZERO, Duration::MAX, seconds(1)), Due::Now);
    }
}
