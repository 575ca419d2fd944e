//! What the live view shows of one lock in the list: a row.

use super::Look;
use crate::output::columns::{Shape, Table};
use crate::output::sentence::{note_text, short_duration};
use crate::output::text::{self, Unreadable};
use crate::output::{names, shown};
use resourcelock::State;
use std::time::{Duration, Instant, SystemTime};

/// What is shown of a lock.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name as it is.
    pub name: String,
    pub(super) owner: String,
    pub(super) trusted: bool,
    pub(super) word: &'static str,
    /// How long it has been held, when this was read.
    pub(super) held: Option<Duration>,
    pub(super) since: Option<SystemTime>,
    /// When the longest wait began; if nobody waits, the oldest hold.
    pub(super) began: Option<SystemTime>,
    pub(super) process: String,
    pub(super) user: String,
    pub(super) command: String,
    pub(super) note: String,
    pub(super) waiting: usize,
    pub(super) longest: Option<Duration>,
    pub(super) skips: u64,
    pub(super) grants: Option<u64>,
    pub(super) token: Option<u64>,
    /// The holder has died, or an earlier one did, and nobody has said yet that all is well.
    pub(super) death: bool,
    pub(super) read: Instant,
}

impl Row {
    /// Of a lock that was read at this instant.
    pub fn new(state: &State, read: Instant) -> Self {
        let first = state.holders.first();
        let others = match state.holders.len().saturating_sub(1) + state.holders_left_out {
            0 => String::new(),
            others => format!(" +{others}"),
        };
        let held_for = first.map(|holder| {
            let mut requester = holder.requester.clone();
            // Whoever keeps it is the one to be looked at.
            if let Some(survivor) = &holder.kept_by {
                requester.pid = survivor.pid;
                requester.command = survivor.command.clone();
            } else if holder.detached {
                requester.pid = holder.bound_pid.or(requester.pid);
            }
            requester
        });
        let note = note_text(&state.note);
        Self {
            name: state.name.to_string(),
            owner: text::owner_cell(state),
            trusted: state.trusted,
            word: text::word(state),
            held: text::longest(state),
            since: first.and_then(|holder| holder.since),
            began: match state.waiters.as_slice() {
                [] => state.holders.iter().filter_map(|holder| holder.since).min(),
                waiters => waiters.iter().filter_map(|waiter| waiter.since).min(),
            },
            process: match &held_for {
                Some(requester) if requester.is_foreign() => "?".to_owned(),
                Some(requester) => names::process_on(requester.pid, &requester.host) + &others,
                None => String::new(),
            },
            user: held_for.as_ref().and_then(names::user_of).unwrap_or_default(),
            command: match &held_for {
                Some(requester) => requester.command.clone().unwrap_or_default(),
                None if state.foreign => "(Python module)".to_owned(),
                None => String::new(),
            },
            note: held_for
                .as_ref()
                .map_or(note, |requester| text::note_cell(note, requester))
                .to_owned(),
            waiting: state.waiters.len() + state.waiters_left_out,
            longest: state.waiters.iter().filter_map(|waiter| waiter.waited).max(),
            skips: state.counters.map_or(0, |counters| counters.consecutive_timeouts),
            grants: state.counters.map(|counters| counters.acquisitions),
            token: first.and_then(|holder| holder.token),
            death: state.abandoned.is_some() || state.holders.iter().any(|holder| !holder.alive),
            read,
        }
    }

    /// Of a lock that cannot be inspected.
    pub fn unreadable(unreadable: &Unreadable, read: Instant) -> Self {
        Self {
            name: unreadable.name.to_string(),
            owner: unreadable.owner.map(names::user).unwrap_or_default(),
            trusted: true,
            word: "?",
            held: None,
            since: None,
            began: None,
            process: String::new(),
            user: String::new(),
            command: String::new(),
            note: shown(&unreadable.reason),
            waiting: 0,
            longest: None,
            skips: 0,
            grants: None,
            token: None,
            death: false,
            read,
        }
    }

    pub(super) fn is_held(&self) -> bool {
        !matches!(self.word, "free" | "?")
    }

    /// Where it stands in the list: first what is waited for, the longest wait first; then what is held, the oldest hold
    /// first; then what is free; last what cannot be inspected. Time passes for all alike, so nothing moves by itself.
    pub(super) fn rank(&self) -> (usize, bool, u128, &str) {
        let group = match () {
            () if self.waiting > 0 => 0,
            () if self.is_held() => 1,
            () if self.word == "free" => 2,
            () => 3,
        };
        // Two views of one time differ by less than that.
        let began = self
            .began
            .filter(|_| group < 2)
            .and_then(|began| began.duration_since(SystemTime::UNIX_EPOCH).ok());
        let tenths = began.map_or(0, |began| began.as_millis() / 100);
        (group, began.is_none(), tenths, &self.name)
    }

    /// True if any of what is shown contains this text, in capitals or not.
    pub fn contains(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        [
            &shown(&self.name),
            &self.owner,
            &self.process,
            &self.user,
            &self.command,
            &self.note,
        ]
        .iter()
        .any(|cell| cell.to_lowercase().contains(&text))
    }

    pub(super) fn look(&self) -> Look {
        match () {
            () if self.death || self.word == "?" => Look::Alarm,
            () if self.waiting > 0 => Look::Busy,
            () if self.is_held() => Look::Plain,
            () => Look::Faint,
        }
    }

    fn sign(&self) -> char {
        match () {
            () if !self.trusted => '?',
            () if self.death => '!',
            () => ' ',
        }
    }
}

/// A column of the list.
struct Column {
    heading: &'static str,
    /// How wide a terminal has to be to have it.
    from: usize,
    shape: Shape,
    /// The time is the one that has passed since the lock was read.
    cell: fn(&Row, Duration) -> String,
}

const fn column(heading: &'static str, from: usize, shape: Shape, cell: fn(&Row, Duration) -> String) -> Column {
    Column {
        heading,
        from,
        shape,
        cell,
    }
}

/// A number that is worth to be looked at.
fn unless_zero(number: u64) -> String {
    match number {
        0 => String::new(),
        number => number.to_string(),
    }
}

/// Behind the lock's name, which every row begins with.
const COLUMNS: [Column; 13] = [
    column("OWNER", 120, Shape::words(5), |row, _| row.owner.clone()),
    column("STATE", 120, Shape::words(6), |row, _| row.word.to_owned()),
    column("AGE", 0, Shape::number(6), |row, passed| match row.held {
        Some(held) => short_duration(held.saturating_add(passed)),
        None if row.is_held() => "?".to_owned(),
        None => row.word.to_owned(),
    }),
    column("SINCE", 150, Shape::words(8), |row, _| {
        row.since.map(text::clock).unwrap_or_default()
    }),
    column("PID", 0, Shape::words(7), |row, _| row.process.clone()),
    column("USER", 0, Shape::words(4), |row, _| row.user.clone()),
    column("COMMAND", 0, Shape::words(7), |row, _| row.command.clone()),
    column("QUEUE", 0, Shape::number(5), |row, _| unless_zero(row.waiting as u64)),
    column("LONGEST", 0, Shape::number(7), |row, passed| {
        row.longest
            .map(|longest| short_duration(longest.saturating_add(passed)))
            .unwrap_or_default()
    }),
    column("SKIPS", 0, Shape::number(5), |row, _| unless_zero(row.skips)),
    column("GRANTS", 150, Shape::number(6), |row, _| {
        row.grants.map(unless_zero).unwrap_or_default()
    }),
    column("TOKEN", 170, Shape::number(16), |row, _| {
        row.token.map(|token| token.to_string()).unwrap_or_default()
    }),
    column("NOTE", 0, Shape::words(4), |row, _| row.note.clone()),
];

/// The columns that a terminal of this width has.
fn columns(width: usize) -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(move |column| column.from <= width)
}

/// The headings, and a line of text for each lock; `chosen` is the place of one of them.
pub(super) fn listed(rows: &[&Row], chosen: Option<usize>, width: usize, now: Instant) -> (String, Vec<String>) {
    let headings: Vec<&str> = std::iter::once("  LOCK")
        .chain(columns(width).map(|column| column.heading))
        .collect();
    let shapes: Vec<Shape> = std::iter::once(Shape::words(14))
        .chain(columns(width).map(|column| column.shape))
        .collect();
    let mut table = Table::new(&headings);
    for (place, row) in rows.iter().enumerate() {
        let mark = if Some(place) == chosen { '>' } else { ' ' };
        let name = format!("{mark}{}{}", row.sign(), shown(&row.name));
        let passed = now.saturating_duration_since(row.read);
        let cells = columns(width).map(|column| (column.cell)(row, passed));
        table.push(std::iter::once(name).chain(cells).collect::<Vec<_>>());
    }
    let mut lines = table.fit(&shapes, width);
    (lines.remove(0), lines)
}
