//! What a handle tells of its lock: of the one that stands at the lock's paths, whoever has removed or created it since
//! the handle was opened. All of it works in the child of a fork, too, and blocks there as little as anywhere.

use crate::lock::acquire::handle::Handle;
use crate::lock::inspect::sight::Sight;
use crate::lock::inspect::snapshot::{self, Owned};
use crate::lock::shm::done;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::note::Note;
use crate::lock::types::{Error, HistoryRecord, Holder, LastDone, Result, State};
use std::sync::Arc;

/// What a lock is inspected through.
enum Seen {
    Handle(Arc<Objects>),
    /// Opened for this call: the handle's own objects are no longer those at the lock's paths, or cannot be reached in the
    /// child of a fork.
    Sight(Box<Sight>),
    /// The lock no longer exists.
    Nothing,
}

impl Seen {
    fn value(&self) -> u32 {
        match self {
            Self::Handle(objects) => objects.semaphore.load().value(),
            Self::Sight(sight) => sight.value(),
            Self::Nothing => 1,
        }
    }

    fn note(&self) -> &Note {
        match self {
            Self::Handle(objects) => &objects.note,
            Self::Sight(sight) => sight.note(),
            Self::Nothing => &Note::Absent,
        }
    }

    fn objects(&self) -> Option<&Objects> {
        match self {
            Self::Handle(objects) => Some(objects),
            Self::Sight(sight) => sight.objects(),
            Self::Nothing => None,
        }
    }
}

impl Handle {
    /// Creates nothing, even if the lock no longer exists.
    fn seen(&self) -> Result<Seen> {
        if let Some(mut current) = self.current_unless_stuck()
            && self.stands(&mut current)
        {
            return Ok(Seen::Handle(current.objects.clone()));
        }
        match Sight::open(self.name(), self.terms().trust()) {
            Ok(sight) => Ok(Seen::Sight(Box::new(sight))),
            Err(Error::NotFound { .. }) => Ok(Seen::Nothing),
            Err(error) => Err(error),
        }
    }

    /// The token of its latest hold, if it has one. `None` in the child of a fork: the hold is its parent's.
    pub(crate) fn token(&self) -> Option<u64> {
        self.check_fork().ok()?;
        let current = self.current();
        let mut latest_first = current.holds.iter().rev();
        latest_first.find(|hold| !hold.detached).map(|hold| hold.token)
    }

    /// The semaphore's value: 0 = taken, 1 = free.
    pub(crate) fn value(&self) -> Result<u32> {
        Ok(self.seen()?.value())
    }

    /// The note, with what is not printable escaped.
    pub(crate) fn note(&self) -> Result<String> {
        Ok(self.seen()?.note().text())
    }

    /// Writes the note: false = it did not fit and was cut.
    pub(crate) fn write_note(&self, text: &str) -> Result<bool> {
        match self.seen()? {
            Seen::Handle(objects) => Ok(objects.note.write(text.as_bytes())),
            // That note can only be read.
            Seen::Sight(sight) => Ok(sight.open_note()?.write(text.as_bytes())),
            Seen::Nothing => Ok(true),
        }
    }

    /// True if the table contains a hold with this token now, and its holder is not proven dead.
    pub(crate) fn is_held(&self, token: u64) -> Result<bool> {
        let is_it = |holder: &Holder| holder.token == Some(token) && holder.alive;
        let seen = self.seen()?;
        let holders = seen.objects().map(snapshot::holders).unwrap_or_default();
        Ok(holders.iter().any(|(_, _, holder)| is_it(holder)))
    }

    /// Holders, waiters, note, and counters.
    pub(crate) fn state(&self) -> Result<State> {
        Ok(match self.seen()? {
            Seen::Handle(objects) => {
                let (semaphore, note) = (&objects.semaphore, &objects.note);
                snapshot::state(self.name(), Owned::used(semaphore), semaphore, note, Some(&objects))
            }
            Seen::Sight(sight) => sight.state(),
            Seen::Nothing => snapshot::state_of_none(self.name()),
        })
    }

    /// The last run that was recorded as done; `None` = none was, or the lock no longer exists.
    pub(crate) fn last_done(&self) -> Result<Option<LastDone>> {
        let seen = self.seen()?;
        Ok(seen.objects().and_then(|objects| done::recorded(&objects.table.header)))
    }

    /// See [`ResourceLock::history`](crate::ResourceLock::history).
    pub(crate) fn history(&self) -> Result<Vec<HistoryRecord>> {
        let seen = self.seen()?;
        Ok(seen.objects().map(snapshot::history).unwrap_or_default())
    }
}
