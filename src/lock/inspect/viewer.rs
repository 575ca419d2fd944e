//! Inspecting a lock without taking part: creates nothing, and needs only permission to read.

use crate::lock::inspect::snapshot;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::note::Note;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::shm::table::Table;
use crate::lock::types::{Error, HistoryRecord, LockName, Result, State};
use std::io::ErrorKind;

/// A lock that is only inspected (see [`Builder::open_existing`](crate::Builder::open_existing)).
pub struct Viewer {
    name: LockName,
    seen: Seen,
    pub(crate) writable: bool,
}

/// With a table, or as the Python module alone creates a lock.
enum Seen {
    Whole(Objects),
    SemaphoreOnly(Semaphore, Note),
}

impl Viewer {
    pub(crate) fn open(name: LockName) -> Result<Self> {
        // Writing is for being woken by what happens (`watch`). A reader that may not write polls.
        let may_write = |result: Result<Table>| match result {
            Err(Error::Permission { .. }) => Table::open(&name, false).map(|table| (table, false)),
            Err(Error::Os { source, .. }) if source.kind() == ErrorKind::ReadOnlyFilesystem => {
                Table::open(&name, false).map(|table| (table, false))
            }
            other => other.map(|table| (table, true)),
        };
        let semaphore = Semaphore::open(&name, false)?;
        let absent = |result: Result<Note>| match result {
            Err(Error::NotFound { .. }) => Ok(Note::Absent),
            other => other,
        };
        let note = absent(Note::open(&name, false))?;
        let (seen, writable) = match may_write(Table::open(&name, true)) {
            Ok((table, writable)) => (
                Seen::Whole(Objects {
                    semaphore,
                    note,
                    table,
                    id: 0,
                    beacon: None,
                }),
                writable,
            ),
            Err(Error::NotFound { .. }) => (Seen::SemaphoreOnly(semaphore, note), false),
            Err(other) => return Err(other),
        };
        Ok(Self { name, seen, writable })
    }

    pub(crate) fn objects(&self) -> Option<&Objects> {
        match &self.seen {
            Seen::Whole(objects) => Some(objects),
            Seen::SemaphoreOnly(..) => None,
        }
    }

    pub(crate) fn semaphore(&self) -> &Semaphore {
        match &self.seen {
            Seen::Whole(objects) => &objects.semaphore,
            Seen::SemaphoreOnly(semaphore, _) => semaphore,
        }
    }

    pub(crate) fn note(&self) -> &Note {
        match &self.seen {
            Seen::Whole(objects) => &objects.note,
            Seen::SemaphoreOnly(_, note) => note,
        }
    }

    /// The lock's name.
    pub fn name(&self) -> &LockName {
        &self.name
    }

    /// Holders, waiters, note, and counters. Takes no latch, disturbs nobody, and never blocks.
    pub fn state(&self) -> State {
        snapshot::state(&self.name, self.semaphore(), self.note(), self.objects())
    }

    /// The ended holds, up to the last 256, oldest first. Never blocks.
    pub fn history(&self) -> Vec<HistoryRecord> {
        match &self.seen {
            Seen::Whole(objects) => snapshot::history(&objects.table),
            Seen::SemaphoreOnly(..) => Vec::new(),
        }
    }

    /// True if the table contains a hold with this token now, and its holder is not proven dead. Never blocks.
    pub fn is_held(&self, token: u64) -> bool {
        self.state()
            .holders
            .iter()
            .any(|holder| holder.token == Some(token) && holder.alive)
    }
}

impl std::fmt::Debug for Viewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Viewer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
