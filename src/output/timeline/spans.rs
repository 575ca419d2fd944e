//! The requests in the picture.

use super::precise;
use crate::output::sentence::duration;
use crate::output::{names, view};
use resourcelock::{CommandEnd, Ended, HistoryRecord, Holder, Mode, Requester, State, Waiter};
use std::fmt::Write;
use std::time::SystemTime;

/// One request.
pub struct Span {
    pub requester: Requester,
    pub mode: Mode,
    token: Option<u64>,
    pub queued: SystemTime,
    /// `None`: never granted.
    pub granted: Option<SystemTime>,
    pub end: SystemTime,
    /// `None`: it has not ended yet.
    pub how: Option<Ended>,
    pub command_end: Option<CommandEnd>,
    note: String,
}

/// All requests that have a place on the time axis, in the order in which they were made.
pub fn all<'r>(records: impl Iterator<Item = &'r HistoryRecord>, state: Option<&State>) -> Vec<Span> {
    let mut spans: Vec<Span> = records.filter_map(Span::ended).collect();
    if let Some(state) = state {
        let holders = state.holders.iter();
        spans.extend(holders.filter_map(|holder| Span::holds(holder, state.read_at)));
        let waiters = state.waiters.iter();
        spans.extend(waiters.filter_map(|waiter| Span::waits(waiter, state.read_at)));
    }
    spans.sort_by_key(|span| span.queued);
    spans
}

impl Span {
    /// `None` if it is not known when the request was made.
    fn ended(record: &HistoryRecord) -> Option<Self> {
        Some(Self {
            requester: record.requester.clone(),
            mode: record.mode,
            token: record.token,
            queued: record.queued?,
            granted: record.granted(),
            end: record.ended,
            how: Some(record.how),
            command_end: record.command_end,
            note: record.note.clone(),
        })
    }

    fn holds(holder: &Holder, now: SystemTime) -> Option<Self> {
        Some(Self {
            requester: holder.requester.clone(),
            mode: holder.mode,
            token: holder.token,
            queued: holder.queued()?,
            granted: holder.since,
            end: now,
            how: None,
            command_end: None,
            note: String::new(),
        })
    }

    fn waits(waiter: &Waiter, now: SystemTime) -> Option<Self> {
        Some(Self {
            requester: waiter.requester.clone(),
            mode: waiter.mode,
            token: None,
            queued: waiter.since?,
            granted: None,
            end: now,
            how: None,
            command_end: None,
            note: String::new(),
        })
    }

    pub fn command(&self) -> String {
        self.requester.command.clone().unwrap_or_default()
    }

    pub fn user(&self) -> String {
        names::user_of(&self.requester).unwrap_or_default()
    }

    /// The text of the tooltip.
    pub fn description(&self) -> String {
        let (pid, mode) = (names::pid(&self.requester), view::mode(self.mode));
        let mut text = format!("{} {pid} ({}), {mode}", self.command(), self.user());
        let between = |from: SystemTime, to: SystemTime| duration(to.duration_since(from).unwrap_or_default());
        let waited = between(self.queued, self.granted.unwrap_or(self.end));
        let _ = write!(text, ", requested {}, waited {waited}", precise(self.queued));
        if let Some(granted) = self.granted {
            let _ = write!(text, ", held {}", between(granted, self.end));
        }
        if let Some(token) = self.token {
            let _ = write!(text, ", token {token}");
        }
        let end = match self.how {
            Some(how) => how.as_str(),
            None if self.granted.is_some() => "still holding",
            None => "still waiting",
        };
        let _ = write!(text, ", {end}");
        match self.command_end {
            Some(CommandEnd::Exited(status)) => _ = write!(text, ", status {status}"),
            Some(CommandEnd::Killed(signal)) => _ = write!(text, ", killed by {}", names::signal(signal)),
            _ => {}
        }
        if !self.note.is_empty() && self.note != self.command() {
            let _ = write!(text, ": {}", self.note);
        }
        text
    }
}
