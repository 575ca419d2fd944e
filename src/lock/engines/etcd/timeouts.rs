//! How long an answer is waited for.

use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::types::Cancel;
use std::time::{Duration, Instant};

/// How long an answer may take that nothing depends on.
pub(super) const PARTING_TIMEOUT: Duration = Duration::from_millis(500);
/// One server is given this at first, and twice as much each time that it is asked again.
pub(super) const FIRST_SHARE: Duration = Duration::from_secs(1);
/// The same for an answer that is urgent, at least: an honest one takes some milliseconds.
pub(super) const URGENT_SHARE: Duration = Duration::from_millis(300);
/// Between rounds of asking all servers.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Whether it is worth asking again when nobody listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contact {
    /// Nothing is at stake yet: if all servers refuse the connection, that is the answer.
    First,
    /// A restart or an election is waited for, within the limit.
    Running,
}

/// How long an answer is waited for.
#[derive(Clone, Copy)]
pub(super) struct Timeouts<'a> {
    pub(super) contact: Contact,
    /// In all, over all servers.
    pub(super) limit: Duration,
    /// After this the answer is of little use: several servers are tried by then.
    useful: Duration,
    /// After that, no server is asked any more.
    cancel: Option<&'a Cancel>,
}

impl From<Contact> for Timeouts<'_> {
    fn from(contact: Contact) -> Self {
        Self {
            contact,
            limit: ANSWER_TIMEOUT,
            useful: Duration::MAX,
            cancel: None,
        }
    }
}

impl<'a> Timeouts<'a> {
    /// No longer than until `cancel`. What was asked may have arrived all the same.
    pub(super) fn until(contact: Contact, cancel: Option<&'a Cancel>) -> Self {
        Self {
            cancel,
            ..contact.into()
        }
    }

    /// No longer than `time` either.
    pub(super) fn at_most(self, time: Duration) -> Self {
        Self {
            limit: self.limit.min(time),
            ..self
        }
    }

    /// No longer than `time`.
    pub(super) fn within(time: Duration) -> Self {
        Self {
            limit: time,
            ..Self::useful_for(time)
        }
    }

    /// As long as usual, although the answer is of little use after `time`.
    pub(super) fn useful_for(time: Duration) -> Self {
        Self {
            useful: time,
            ..Contact::Running.into()
        }
    }

    /// How long one of so many servers is given at first. The server or the connection may be dead without anybody
    /// knowing: not too long. One that is slow is given more at the next try.
    pub(super) fn share(&self, servers: usize) -> Duration {
        let tries = u32::try_from(servers).unwrap_or(u32::MAX).saturating_add(1);
        (self.useful / tries).clamp(URGENT_SHARE, FIRST_SHARE)
    }

    /// True if no answer is waited for any more.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.is_some_and(Cancel::is_cancelled)
    }
}

/// What is left of the time that an answer may take. A process that was stopped has not waited meanwhile: it gets its time
/// anew.
pub(super) struct Budget {
    end: Instant,
    checked: Instant,
    time: Duration,
}

impl Budget {
    pub(super) fn new(time: Duration) -> Self {
        let checked = Instant::now();
        let end = checked + time;
        Self { end, checked, time }
    }

    /// What is left. Since the last call, this process had something to do for `busy`.
    pub(super) fn left(&mut self, busy: Duration) -> Duration {
        let now = Instant::now();
        if now.duration_since(self.checked) > busy + FIRST_SHARE {
            self.end = now + self.time;
        }
        self.checked = now;
        self.end.saturating_duration_since(now)
    }
}
