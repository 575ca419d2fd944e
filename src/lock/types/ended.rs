//! How a request ended.

use std::fmt;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Ended {
    /// Its holder released it.
    Released,
    /// Its holder released it after what ran under it had crashed.
    Crashed,
    /// Its holder released it after the command that ran under it had been ended at its time limit.
    Limit,
    /// The process that it was meant to end with has ended.
    WithProcess,
    /// Its holder died; the lock was taken back.
    Abandoned,
    /// It expired.
    Expired,
    /// Somebody released it by force.
    Forced,
    /// It was never granted: it timed out. (On an engine that does not tell why a request has left the queue, it may have
    /// been cancelled.)
    TimedOut,
    /// It was never granted: it was not to wait, and the lock was taken.
    Refused,
    /// It was never granted: its wait was cancelled.
    Cancelled,
}

impl Ended {
    /// A word or two, as the command-line tool shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Crashed => "crashed",
            Self::Limit => "limit",
            Self::WithProcess => "ended with its process",
            Self::Abandoned => "abandoned",
            Self::Expired => "expired",
            Self::Forced => "forced",
            Self::TimedOut => "timed out",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }

    /// True if the request was never granted.
    pub fn gave_up(self) -> bool {
        matches!(self, Self::TimedOut | Self::Refused | Self::Cancelled)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
