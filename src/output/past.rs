//! Ended requests of one lock or several, in the order in which they ended.

use resourcelock::{HistoryRecord, State};

/// See the module.
#[derive(Default)]
pub struct Past {
    pub locks: Vec<PastLock>,
    /// Each with its lock's place in [`locks`](Self::locks).
    pub records: Vec<(usize, HistoryRecord)>,
}

/// A lock whose past is shown.
pub struct PastLock {
    pub name: String,
    /// `None`: it does not exist.
    pub state: Option<State>,
}

impl Past {
    /// Adds a lock and what has ended of it, oldest first.
    pub fn add(&mut self, name: &str, state: Option<State>, records: Vec<HistoryRecord>) {
        let name = name.to_owned();
        let place = self.locks.len();
        self.locks.push(PastLock { name, state });
        self.records.extend(records.into_iter().map(|record| (place, record)));
        // One lock's own order does not depend on the wall clock.
        if place > 0 {
            self.records.sort_by_key(|(_, record)| record.ended);
        }
    }

    /// The records with their locks.
    pub fn iter(&self) -> impl Iterator<Item = (&PastLock, &HistoryRecord)> {
        let records = self.records.iter();
        records.filter_map(|(place, record)| Some((self.locks.get(*place)?, record)))
    }
}
