//! What a handle tells of its lock: of the one that stands at the lock's paths, whoever has removed or created it since
//! the handle was opened. All of it works in the child of a fork, too, and blocks there as little as anywhere.

use crate::lock::api::resource_lock::ResourceLock;
use crate::lock::inspect::sight::Sight;
use crate::lock::inspect::snapshot::{self, Owned};
use crate::lock::shm::found::Retry;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::note::Note;
use crate::lock::types::{Error, HistoryRecord, Result, State};
use std::sync::Arc;

/// What a lock is inspected through.
enum Seen {
    Handle(Arc<Objects>),
    /// Opened for this call: the handle's own objects are no longer those at the lock's paths, or cannot be reached in the
    /// child of a fork.
    Sight(Box<Sight>),
}

impl Seen {
    fn value(&self) -> u32 {
        match self {
            Self::Handle(objects) => objects.semaphore.load().value(),
            Self::Sight(sight) => sight.value(),
        }
    }

    fn note(&self) -> &Note {
        match self {
            Self::Handle(objects) => &objects.note,
            Self::Sight(sight) => sight.note(),
        }
    }

    fn objects(&self) -> Option<&Objects> {
        match self {
            Self::Handle(objects) => Some(objects),
            Self::Sight(sight) => sight.objects(),
        }
    }
}

impl ResourceLock {
    /// Creates nothing, even if the lock no longer exists.
    fn seen(&self) -> Result<Seen> {
        if let Some(mut current) = self.handle.current_unless_stuck()
            && self.handle.stands(&mut current)
        {
            return Ok(Seen::Handle(current.objects.clone()));
        }
        let sight = Sight::open(self.name(), self.handle.terms().trust(), &mut Retry::default())?;
        Ok(Seen::Sight(Box::new(sight)))
    }

    fn without(&self, why: &Error) -> State {
        snapshot::state_without(self.name(), why)
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
        match self.seen() {
            Ok(seen) => seen.value(),
            Err(error) => self.without(&error).value,
        }
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
        self.seen().map_or_else(|_| String::new(), |seen| seen.note().text())
    }

    /// Writes the note (Python: `set_lock_info`). Text that does not fit is cut at a character boundary, with a warning
    /// in the log. Never blocks.
    pub fn set_lock_info(&self, text: &str) {
        let whole = match self.seen() {
            Ok(Seen::Handle(objects)) => objects.note.write(text),
            // That note can only be read.
            Ok(Seen::Sight(sight)) => sight.open_note().map_or(true, |note| note.write(text)),
            Err(_) => true,
        };
        if !whole {
            log::warn!("<{}> the note is too long for its segment and was cut", self.name());
        }
    }

    /// True if the table contains a hold with this token now, and its holder is not proven dead. Never blocks.
    pub fn is_held(&self, token: u64) -> bool {
        self.seen().is_ok_and(|seen| {
            seen.objects().is_some_and(|objects| {
                snapshot::holders(objects)
                    .iter()
                    .any(|(_, _, holder)| holder.token == Some(token) && holder.alive)
            })
        })
    }

    /// Holders, waiters, note, and counters. Takes no latch, disturbs nobody, and never blocks.
    pub fn state(&self) -> State {
        match self.seen() {
            Ok(Seen::Handle(objects)) => {
                let (semaphore, note) = (&objects.semaphore, &objects.note);
                snapshot::state(self.name(), Owned::used(semaphore), semaphore, note, Some(&objects))
            }
            Ok(Seen::Sight(sight)) => sight.state(),
            Err(error) => self.without(&error),
        }
    }

    /// The ended holds, up to the last 256, oldest first. Takes no latch, and never blocks.
    pub fn history(&self) -> Vec<HistoryRecord> {
        let seen = self.seen().ok();
        let objects = seen.as_ref().and_then(Seen::objects);
        objects.map_or_else(Vec::new, |objects| snapshot::history(&objects.table))
    }
}
