//! What a handle tells of its lock. All of it works in the child of a fork, too, and blocks there as little as anywhere.

use crate::lock::api::resource_lock::ResourceLock;
use crate::lock::inspect::Viewer;
use crate::lock::inspect::snapshot::{self, Owned};
use crate::lock::shm::found::Retry;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::note::Note;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::types::{HistoryRecord, State};
use std::sync::Arc;

/// What a lock is inspected through.
enum Seen {
    Handle(Arc<Objects>),
    /// Opened for this call: in the child of a fork, when the handle's own objects cannot be reached.
    Viewer(Box<Viewer>),
    /// The same, and the lock no longer exists.
    Nothing,
}

impl Seen {
    fn semaphore(&self) -> Option<&Semaphore> {
        match self {
            Self::Handle(objects) => Some(&objects.semaphore),
            Self::Viewer(viewer) => Some(viewer.semaphore()),
            Self::Nothing => None,
        }
    }

    fn note(&self) -> Option<&Note> {
        match self {
            Self::Handle(objects) => Some(&objects.note),
            Self::Viewer(viewer) => Some(viewer.note()),
            Self::Nothing => None,
        }
    }

    fn objects(&self) -> Option<&Objects> {
        match self {
            Self::Handle(objects) => Some(objects),
            Self::Viewer(viewer) => viewer.objects(),
            Self::Nothing => None,
        }
    }
}

impl ResourceLock {
    fn seen(&self) -> Seen {
        match self.handle.current_unless_stuck() {
            Some(current) => Seen::Handle(current.objects.clone()),
            None => match Viewer::open(self.name(), self.handle.terms().trust(), &mut Retry::default()) {
                Ok(viewer) => Seen::Viewer(Box::new(viewer)),
                Err(_) => Seen::Nothing,
            },
        }
    }

    /// The token of this handle's latest hold, if it has one. `None` in the child of a fork: the hold is its parent's.
    /// Does not block.
    pub fn token(&self) -> Option<u64> {
        self.handle.check_fork().ok()?;
        let current = self.handle.current();
        let mut latest_first = current.holds.iter().rev();
        latest_first.find(|hold| !hold.detached).map(|hold| hold.token)
    }

    /// True if the lock is taken (Python: `is_locked`), by anybody. Logged under a target of its own,
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

    /// The semaphore's value (Python: `lock_value`): 0 = taken, 1 = free. Never blocks.
    pub fn lock_value(&self) -> u32 {
        let value = self.lock_value_now();
        log::debug!("<{}> semaphore = {value}", self.name());
        value
    }

    /// The note (Python: `get_lock_info`): who last took the lock, and when. Bytes that are not UTF-8 and control
    /// characters are escaped. Never blocks.
    pub fn get_lock_info(&self) -> String {
        self.seen().note().map_or_else(String::new, Note::text)
    }

    /// Writes the note (Python: `set_lock_info`). Text that does not fit is cut at a character boundary, with a warning
    /// in the log. Never blocks.
    pub fn set_lock_info(&self, text: &str) {
        let whole = match self.seen() {
            Seen::Handle(objects) => objects.note.write(text),
            // A viewer's note can only be read.
            Seen::Viewer(viewer) => viewer.open_note().map_or(true, |note| note.write(text)),
            Seen::Nothing => true,
        };
        if !whole {
            log::warn!("<{}> the note is too long for its segment and was cut", self.name());
        }
    }

    /// True if the table contains a hold with this token now, and its holder is not proven dead. Never blocks.
    pub fn is_held(&self, token: u64) -> bool {
        self.seen().objects().is_some_and(|objects| {
            snapshot::holders(objects)
                .iter()
                .any(|(_, _, holder)| holder.token == Some(token) && holder.alive)
        })
    }

    /// Holders, waiters, note, and counters. Takes no latch, disturbs nobody, and never blocks.
    pub fn state(&self) -> State {
        match self.seen() {
            Seen::Handle(objects) => {
                let (semaphore, note) = (&objects.semaphore, &objects.note);
                snapshot::state(self.name(), Owned::used(semaphore), semaphore, note, Some(&objects))
            }
            Seen::Viewer(viewer) => viewer.state(),
            Seen::Nothing => snapshot::state_of_none(self.name()),
        }
    }

    /// The ended holds, up to the last 256, oldest first. Takes no latch, and never blocks.
    pub fn history(&self) -> Vec<HistoryRecord> {
        self.seen()
            .objects()
            .map_or_else(Vec::new, |objects| snapshot::history(&objects.table))
    }
}
