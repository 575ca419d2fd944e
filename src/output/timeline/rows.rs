//! Which request is in which row of the picture, and in which lane of the row.

use super::BAR;
use super::spans::Span;
use crate::output::names;
use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

/// More rows make no picture that could be read.
pub const MOST: usize = 40;
/// But a lock has at least so many.
const LEAST: usize = 3;
/// Requests of one row that overlap are beside each other, as far as there is space.
const MOST_LANES: usize = 8;

/// Above and below the bars of a row.
const MARGIN: f64 = 4.0;
/// The height of one of several lanes.
const LANE: f64 = 8.0;

/// A row.
pub struct Row {
    pub label: String,
    /// Its distance from the first row's top.
    pub top: f64,
    lanes: usize,
}

impl Row {
    pub fn height(&self) -> f64 {
        2.0 * MARGIN + self.lanes as f64 * self.lane()
    }

    /// Where the bars in this lane begin, below the first row's top.
    pub fn lane_top(&self, lane: usize) -> f64 {
        self.top + MARGIN + lane as f64 * self.lane()
    }

    /// The height of a bar.
    pub fn bar(&self) -> f64 {
        self.lane() - if self.lanes > 1 { 1.0 } else { 0.0 }
    }

    /// The height of a lane.
    fn lane(&self) -> f64 {
        if self.lanes > 1 { LANE } else { BAR }
    }
}

/// What the requests of a row have in common: the command, and the process or the user.
type Key = (String, String);

/// A request's place.
#[derive(Clone, Copy)]
pub struct Place {
    pub row: usize,
    pub lane: usize,
}

/// How many rows each of so many locks may have.
pub fn most_of_each(locks: usize) -> usize {
    (MOST / locks.max(1)).max(LEAST)
}

/// At most so many rows: one for each process; if these are too many, one for each command and user, and if these are too many, one more for
/// all the others. In the order of their first requests.
pub fn arrange(spans: &[Span], most: usize) -> (Vec<Row>, Vec<Place>) {
    let process = |span: &Span| (span.command(), names::pid(&span.requester));
    let processes: HashSet<_> = spans.iter().map(process).collect();
    let keys: Vec<Key> = if processes.len() <= most {
        spans.iter().map(process).collect()
    } else {
        spans.iter().map(|span| (span.command(), span.user())).collect()
    };
    let shown = most_frequent(&keys, most);
    let mut rows: Vec<(Option<&Key>, HashSet<String>)> = Vec::new();
    let mut places: Vec<Place> = Vec::with_capacity(spans.len());
    for (span, key) in spans.iter().zip(&keys) {
        let key = shown.contains(key).then_some(key); // None: the others
        let row = rows.iter().position(|(other, _)| *other == key).unwrap_or_else(|| {
            rows.push((key, HashSet::new()));
            rows.len() - 1
        });
        rows[row].1.insert(names::pid(&span.requester));
        places.push(Place { row, lane: 0 });
    }
    let lanes = lanes(spans, &mut places, rows.len());
    let grouped = processes.len() > most;
    let rows = rows.into_iter().zip(lanes).map(|((key, pids), lanes)| Row {
        label: match key {
            None => format!("other commands \u{d7}{}", pids.len()),
            Some((command, user)) if grouped && pids.len() > 1 => format!("{command} ({user}) \u{d7}{}", pids.len()),
            Some((command, _)) => format!("{command} {}", pids.into_iter().next().unwrap_or_default()),
        },
        top: 0.0,
        lanes,
    });
    let mut rows: Vec<Row> = rows.collect();
    let mut top = 0.0;
    for row in &mut rows {
        row.top = top;
        top += row.height();
    }
    (rows, places)
}

/// The keys that have a row of their own: all of them, or those with the most requests.
fn most_frequent(keys: &[Key], most: usize) -> HashSet<&Key> {
    let mut counted: HashMap<_, usize> = HashMap::new();
    for key in keys {
        *counted.entry(key).or_default() += 1;
    }
    let mut keys: Vec<_> = counted.into_iter().collect();
    if keys.len() > most {
        keys.sort_by(|(one, more), (other, less)| less.cmp(more).then(one.cmp(other)));
        keys.truncate(most - 1);
    }
    keys.into_iter().map(|(key, _)| key).collect()
}

/// Gives each request the first lane of its row that is free; returns the number of lanes of each row.
fn lanes(spans: &[Span], places: &mut [Place], rows: usize) -> Vec<usize> {
    let mut busy: Vec<Vec<SystemTime>> = vec![Vec::new(); rows];
    for (span, place) in spans.iter().zip(places) {
        let busy = &mut busy[place.row];
        let free = busy.iter().position(|until| *until <= span.queued);
        place.lane = match free {
            Some(lane) => lane,
            None if busy.len() < MOST_LANES => {
                busy.push(span.end);
                busy.len() - 1
            }
            // There is no more space: over the one that ends first.
            None => (0..busy.len()).min_by_key(|lane| busy[*lane]).unwrap_or_default(),
        };
        busy[place.lane] = busy[place.lane].max(span.end);
    }
    busy.iter().map(|lanes| lanes.len().max(1)).collect()
}
