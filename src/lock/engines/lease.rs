//! Leases: how long a hold lasts by itself.

use crate::lock::sys;
use std::time::Duration;

/// The length of a lease if nothing else is asked for.
pub const USUAL_TTL: Duration = Duration::from_secs(10);

/// Shorter leases are refused: a lost packet or a busy machine would end them.
pub const SHORTEST_TTL: Duration = Duration::from_secs(5);

/// The time of a hold, as its holder has to count it: from before the request was sent, so that it ends before the
/// engine's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// When the request for it (or for its last renewal) was sent: CLOCK_BOOTTIME in nanoseconds.
    pub begun: u64,
    /// Its length.
    pub ttl: Duration,
}

impl Lease {
    /// What runs under the lease is asked to end this long after [`begun`](Self::begun): at 70 % of its length.
    pub fn ask_after(&self) -> Duration {
        self.ttl * 7 / 10
    }

    /// What runs under the lease is killed this long after [`begun`](Self::begun): early enough to be gone by the end,
    /// even on a busy machine.
    pub fn kill_after(&self) -> Duration {
        self.ttl.saturating_sub(Duration::from_millis(500).max(self.ttl / 10))
    }

    /// What is left of it now; zero once it has ended.
    pub fn left(&self) -> Duration {
        self.left_of(self.ttl)
    }

    /// What is left of this much time from the beginning.
    pub(crate) fn left_of(&self, time: Duration) -> Duration {
        let gone = Duration::from_nanos(sys::boottime().saturating_sub(self.begun));
        time.saturating_sub(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_comes_before_the_leases_end() {
        for (ttl, ask, kill) in [(10.0, 7.0, 9.0), (5.0, 3.5, 4.5), (60.0, 42.0, 54.0)] {
            let lease = Lease {
                begun: 1_000,
                ttl: Duration::from_secs_f64(ttl),
            };
            assert_eq!(lease.ask_after(), Duration::from_secs_f64(ask));
            assert_eq!(lease.kill_after(), Duration::from_secs_f64(kill));
            assert!(lease.ask_after() < lease.kill_after() && lease.kill_after() < lease.ttl);
        }
    }
}
