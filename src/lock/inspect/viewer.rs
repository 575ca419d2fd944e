//! Inspecting a lock without taking part: creates nothing, and needs only permission to read. Nothing is mapped that others
//! may truncate: a process that looks at other users' locks does not depend on them.

use crate::lock::inspect::snapshot::{self, Owned};
use crate::lock::shm::files;
use crate::lock::shm::found::{Finding, Found, Refusal, Retry};
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::note::Note;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::shm::table::Table;
use crate::lock::shm::trust::Trust;
use crate::lock::system::ids;
use crate::lock::types::{Error, HistoryRecord, LockName, Result, State};

/// A lock that is only inspected (see [`Builder::open_existing`](crate::Builder::open_existing)).
pub struct Viewer {
    name: LockName,
    seen: Seen,
    owner: u32,
    refusal: Option<Refusal>,
}

/// With a table, or as the Python module alone creates a lock.
enum Seen {
    Whole(Objects),
    SemaphoreOnly(Semaphore, Note),
}

impl Viewer {
    /// Waits 100 ms, at most once for all calls with the same `retry`, for what another process has half made.
    pub(crate) fn open(name: &LockName, trust: Trust<'_>, retry: &mut Retry) -> Result<Self> {
        let found = loop {
            let found = Found::open(name, false)?;
            match found.examine(name, retry)? {
                Finding::Good => break found,
                Finding::Replaced => {}
                Finding::NotYet(error) => {
                    if !retry.again() {
                        return Err(error);
                    }
                }
            }
        };
        let refusal = found.check_trust(name, trust)?.err();
        let Some(semaphore) = found.semaphore else {
            return Err(Error::NotFound {
                path: name.semaphore_path(),
            });
        };
        let owner = semaphore.facts.owner;
        let semaphore = Semaphore::new(&semaphore, false, name)?;
        let note = match found.note {
            Some(note) => Note::new(note, false, name)?,
            None => Note::Absent,
        };
        let seen = match found.table {
            Some(table) => Seen::Whole(Objects {
                semaphore,
                note,
                table: Table::new(table, false, name)?,
                id: 0,
                beacon: None,
            }),
            None => {
                semaphore.look()?;
                Seen::SemaphoreOnly(semaphore, note)
            }
        };
        Ok(Self {
            name: name.clone(),
            seen,
            owner,
            refusal,
        })
    }

    /// Checks that the caller trusts the lock's owner (see [`Builder::owner`](crate::Builder::owner)). If not, all that
    /// is seen of the lock is what its owner claims. Does not block.
    ///
    /// # Errors
    /// [`Error::Untrusted`], [`Error::UnsafeDirectory`].
    pub fn check_trust(&self) -> Result<()> {
        match &self.refusal {
            Some(refusal) => Err(refusal.error()),
            None => Ok(()),
        }
    }

    /// The note once more, to be written: of a lock whose owner is trusted, with a table, so that it is the lock's note.
    pub(crate) fn open_note(&self) -> Result<Note> {
        self.check_trust()?;
        let path = self.name.note_path();
        let note = files::open(&path, true)?;
        if self.objects().is_none() || note.facts.owner != self.owner || note.facts.links != 1 {
            return Err(files::wrong(&path, "it is not the lock's note"));
        }
        Note::new(note, true, &self.name)
    }

    /// What is known about the lock's owner.
    fn owned(&self) -> Owned {
        Owned {
            owner: Some(self.owner).filter(|uid| ids::is_user(*uid)),
            trusted: self.refusal.is_none(),
        }
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
        snapshot::state(&self.name, self.owned(), self.semaphore(), self.note(), self.objects())
    }

    /// The same, with no more holders and waiters than a list of many locks needs.
    pub(crate) fn brief_state(&self) -> State {
        snapshot::brief_state(&self.name, self.owned(), self.semaphore(), self.note(), self.objects())
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
