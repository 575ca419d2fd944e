//! When a hold is certain.

use crate::lock::sys;
use std::time::Duration;

/// The length of a lease if nothing else is asked for.
pub const USUAL_TTL: Duration = Duration::from_secs(10);

/// Shorter leases are refused: a lost packet or a busy machine would end them.
pub const SHORTEST_TTL: Duration = Duration::from_secs(5);

/// A hold's time, as its holder has to see it: counted from before the request was sent, so that it ends before the
/// engine's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// When the request for it (or for its last renewal) was sent: CLOCK_BOOTTIME in nanoseconds.
    pub begun: u64,
    /// Its length.
    pub ttl: Duration,
}

impl Lease {
    fn after(&self, time: Duration) -> u64 {
        self.begun
            .saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    /// From here on (CLOCK_BOOTTIME, ns), at 70 % of its length, what runs under it is asked to end.
    pub fn ask_to_end_at(&self) -> u64 {
        self.after(self.ask_after())
    }

    /// At this time it is killed: so long before the end that it is gone by then, even on a busy machine.
    pub fn kill_at(&self) -> u64 {
        self.after(self.kill_after())
    }

    /// At this time the engine may give the lock to the next one.
    pub fn ends_at(&self) -> u64 {
        self.after(self.ttl)
    }

    /// See [`ask_to_end_at`](Self::ask_to_end_at): counted from [`begun`](Self::begun).
    pub fn ask_after(&self) -> Duration {
        self.ttl * 7 / 10
    }

    /// See [`kill_at`](Self::kill_at): counted from [`begun`](Self::begun).
    pub fn kill_after(&self) -> Duration {
        self.ttl.saturating_sub(Duration::from_millis(500).max(self.ttl / 10))
    }

    /// What is left of it now; zero at its end.
    pub fn left(&self) -> Duration {
        Duration::from_nanos(self.ends_at().saturating_sub(sys::boottime()))
    }
}

/// What is certain about a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It lasts until it is released or taken away by force.
    Unlimited,
    /// It is certain until this lease ends.
    Until(Lease),
    /// It is gone: somebody else may have the lock.
    Lost,
}

impl Validity {
    /// Whether it is certain now.
    pub fn is_certain(&self) -> bool {
        match self {
            Self::Unlimited => true,
            Self::Until(lease) => !lease.left().is_zero(),
            Self::Lost => false,
        }
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
            assert!(lease.begun < lease.ask_to_end_at() && lease.ask_to_end_at() < lease.kill_at());
            assert!(lease.kill_at() < lease.ends_at());
        }
    }
}
