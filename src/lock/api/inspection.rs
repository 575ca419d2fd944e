//! What a handle tells of its lock. All of it works in the child of a fork, too, and blocks there as little as
//! anywhere.

use crate::lock::inspect::snapshot;
use crate::lock::shm::note::Note;
use crate::lock::shm::real::Objects;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::system::printable_bytes;
use crate::{HistoryRecord, ResourceLock, State, Viewer};
use std::sync::Arc;

/// Where to look.
enum Seen {
    Handle(Arc<Objects>),
    /// Opened for this look: in the child of a fork, while the handle's own objects cannot be reached.
    Afresh(Box<Viewer>),
    /// The same, and there is no lock any more.
    Nothing,
}

impl Seen {
    fn semaphore(&self) -> Option<&Semaphore> {
        match self {
            Self::Handle(objects) => Some(&objects.semaphore),
            Self::Afresh(viewer) => Some(viewer.semaphore()),
            Self::Nothing => None,
        }
    }

    fn note(&self) -> Option<&Note> {
        match self {
            Self::Handle(objects) => Some(&objects.note),
            Self::Afresh(viewer) => Some(viewer.note()),
            Self::Nothing => None,
        }
    }

    fn objects(&self) -> Option<&Objects> {
        match self {
            Self::Handle(objects) => Some(objects),
            Self::Afresh(viewer) => viewer.objects(),
            Self::Nothing => None,
        }
    }
}

impl ResourceLock {
    fn seen(&self) -> Seen {
        match self.current_unless_stuck() {
            Some(current) => Seen::Handle(current.objects.clone()),
            None => match Viewer::open(self.name().clone()) {
                Ok(viewer) => Seen::Afresh(Box::new(viewer)),
                Err(_) => Seen::Nothing,
            },
        }
    }

    /// Token of this handle's latest hold, if it has one. None in the child of a fork: the hold is its parent's.
    pub fn token(&self) -> Option<u64> {
        self.check_fork().ok()?;
        self.current().holds.last().map(|hold| hold.token)
    }

    /// Whether the lock is taken (Python: `is_locked`), by anybody. Logged under a target of its own,
    /// `resourcelock::is_locked`, so that it may be called in a loop. Never blocks.
    pub fn is_locked(&self) -> bool {
        let locked = self.lock_value_now() == 0;
        if log::log_enabled!(target: "resourcelock::is_locked", log::Level::Debug) {
            log::debug!(
                target: "resourcelock::is_locked",
                "<{}> is currently locked?  <{}>  Prior info  <{}>",
                self.name(),
                if locked { "True" } else { "False" },
                self.get_lock_info()
            );
        }
        locked
    }

    fn lock_value_now(&self) -> u32 {
        self.seen().semaphore().map_or(1, |semaphore| semaphore.load().value())
    }

    /// The semaphore's value (Python: `lock_value`): 0 = taken, 1 = free.
    pub fn lock_value(&self) -> u32 {
        let value = self.lock_value_now();
        log::debug!("<{}> semaphore = {value}", self.name());
        value
    }

    /// The note (Python: `get_lock_info`): who took the lock last and when; bytes that are not UTF-8 and control
    /// characters escaped.
    pub fn get_lock_info(&self) -> String {
        self.seen()
            .note()
            .map_or_else(String::new, |note| printable_bytes(&note.read()))
    }

    /// Writes the note (Python: `set_lock_info`). Text that does not fit is cut at a character boundary, with a
    /// warning in the log.
    pub fn set_lock_info(&self, text: &str) {
        let whole = match self.seen() {
            Seen::Handle(objects) => objects.note.write(text),
            // A viewer's note is there to be read.
            Seen::Afresh(_) | Seen::Nothing => Note::open(self.name(), true).map_or(true, |note| note.write(text)),
        };
        if !whole {
            log::warn!("<{}> the note is too long for its segment and was cut", self.name());
        }
    }

    /// Whether a hold with this token stands in the table now and its holder is not proven dead.
    pub fn is_held(&self, token: u64) -> bool {
        self.seen().objects().is_some_and(|objects| {
            snapshot::holders(objects)
                .iter()
                .any(|(_, _, holder)| holder.token == Some(token) && holder.alive)
        })
    }

    /// Holders, waiters, note, counters. Takes no latch and disturbs nobody; never blocks.
    pub fn state(&self) -> State {
        let seen = self.seen();
        match seen.semaphore().zip(seen.note()) {
            Some((semaphore, note)) => snapshot::state(self.name(), semaphore, note, seen.objects()),
            None => snapshot::state_of_none(self.name()),
        }
    }

    /// The last (up to 256) ended holds, oldest first. Takes no latch; never blocks.
    pub fn history(&self) -> Vec<HistoryRecord> {
        self.seen()
            .objects()
            .map_or_else(Vec::new, |objects| snapshot::history(&objects.table))
    }
}
