//! How long an answer is waited for.

use crate::Cancel;
use crate::lock::engines::ANSWER_TIMEOUT as BUDGET;
use std::time::{Duration, Instant};

/// One server is given this at first, and twice as much each time that it is asked again.
pub(super) const LEAST: Duration = Duration::from_secs(1);
/// The same for an answer that is urgent, at least: an honest one takes some milliseconds.
pub(super) const URGENT: Duration = Duration::from_millis(300);
/// How long an answer may take that nothing depends on.
pub(crate) const BRIEF: Duration = Duration::from_millis(500);
/// Between rounds of asking all servers.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Whether it is worth asking again when nobody listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contact {
    /// Nothing is at stake yet: if all servers refuse the connection, that is the answer.
    First,
    /// A restart or an election is waited for, within the budget.
    Running,
}

/// How an answer is waited for.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    pub(super) contact: Contact,
    /// For how long, over all servers.
    pub(super) time: Duration,
    /// After this the answer is of little use: several servers are tried by then.
    useful: Duration,
    /// No other try after that.
    cancel: Option<&'a Cancel>,
}

impl From<Contact> for Patience<'_> {
    fn from(contact: Contact) -> Self {
        Self {
            contact,
            time: BUDGET,
            useful: Duration::MAX,
            cancel: None,
        }
    }
}

impl<'a> Patience<'a> {
    /// Until then. What was asked may have arrived all the same.
    pub(crate) fn until(contact: Contact, cancel: Option<&'a Cancel>) -> Self {
        Self {
            cancel,
            ..contact.into()
        }
    }

    /// No longer than that.
    pub(crate) fn at_most(self, time: Duration) -> Self {
        Self {
            time: self.time.min(time),
            ..self
        }
    }

    /// For so long.
    pub(crate) fn within(time: Duration) -> Self {
        Self {
            time,
            useful: time,
            ..Contact::Running.into()
        }
    }

    /// For as long as usual, although it is of little use after `time`.
    pub(crate) fn soon(time: Duration) -> Self {
        Self {
            useful: time,
            ..Contact::Running.into()
        }
    }

    /// How long one of so many servers has at first. It, or a connection, may be dead without anybody knowing: not too
    /// much. One that is slow has more at the next try.
    pub(super) fn share(&self, servers: usize) -> Duration {
        let tries = u32::try_from(servers).unwrap_or(u32::MAX).saturating_add(1);
        (self.useful / tries).clamp(URGENT, LEAST)
    }

    pub(super) fn is_over(&self) -> bool {
        self.cancel.is_some_and(Cancel::is_cancelled)
    }
}

/// The time that an answer may take. A process that was stopped has not waited meanwhile: it gets its time anew.
pub(super) struct Budget {
    end: Instant,
    seen: Instant,
    time: Duration,
}

impl Budget {
    pub(super) fn new(time: Duration) -> Self {
        let seen = Instant::now();
        let end = seen + time;
        Self { end, seen, time }
    }

    /// What is left. Since the last look, this process had something to do for `busy`.
    pub(super) fn left(&mut self, busy: Duration) -> Duration {
        let now = Instant::now();
        if now.duration_since(self.seen) > busy + LEAST {
            self.end = now + self.time;
        }
        self.seen = now;
        self.end.saturating_duration_since(now)
    }
}
