//! A lock's objects, opened to be inspected: creates nothing, and needs only permission to read. Nothing is mapped that
//! others may truncate: a process that looks at other users' locks does not depend on them.

use crate::lock::inspect::snapshot::{self, Owned};
use crate::lock::shm::done;
use crate::lock::shm::files;
use crate::lock::shm::found::{Finding, Found, Refusal, Retry};
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::memory::Memory;
use crate::lock::shm::note::Note;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::shm::table::Table;
use crate::lock::shm::trust::{Facts, Trust};
use crate::lock::system::ids;
use crate::lock::types::{Error, HistoryRecord, Holder, LastDone, LockName, Result, State};

/// What stood at a lock's paths when it was opened.
pub(crate) struct Sight {
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

/// Opens locks, one after the other, sharing what that needs.
pub(crate) struct Looking<'a> {
    trust: Trust<'a>,
    retry: Retry,
    /// The directory where locks are, once it has been examined.
    directory: Option<Facts>,
    memory: Memory,
}

impl<'a> Looking<'a> {
    /// For a caller who trusts these owners.
    pub(crate) fn new(trust: Trust<'a>) -> Self {
        Self {
            trust,
            retry: Retry::default(),
            directory: None,
            memory: Memory::default(),
        }
    }

    /// The state of the lock with this name now, as [`Sight::open`] and a list of many locks need it.
    pub(crate) fn brief_state(&mut self, name: &LockName) -> Result<State> {
        let sight = self.open(name)?;
        let (semaphore, note) = (sight.semaphore(), sight.note());
        let state = snapshot::brief_state(name, sight.owned(), semaphore, note, sight.objects());
        match sight.seen {
            Seen::Whole(objects) => {
                objects.semaphore.return_memory(&mut self.memory);
                objects.table.return_memory(&mut self.memory);
            }
            Seen::SemaphoreOnly(semaphore, _) => semaphore.return_memory(&mut self.memory),
        }
        Ok(state)
    }

    fn open(&mut self, name: &LockName) -> Result<Sight> {
        let found = loop {
            let found = Found::open(name, false)?;
            match found.examine(name, &mut self.retry)? {
                Finding::Good => break found,
                Finding::Replaced => {}
                Finding::NotYet(error) => {
                    if !self.retry.again() {
                        return Err(error);
                    }
                }
            }
        };
        let directory = match self.directory {
            Some(examined) => examined,
            None => *self.directory.insert(Found::examine_directory()?),
        };
        let refusal = found.check_trust_in(&directory, name, self.trust).err();
        let Some(semaphore) = found.semaphore else {
            return Err(Error::NotFound {
                path: name.semaphore_path(),
            });
        };
        let owner = semaphore.facts.owner;
        let semaphore = Semaphore::copy(semaphore, name, &mut self.memory)?;
        // Before the table.
        let looked = semaphore.look_after_opening();
        let note = match found.note {
            Some(note) => Note::new(note, false, name)?,
            None => Note::Absent,
        };
        let seen = match found.table {
            Some(table) => Seen::Whole(Objects {
                semaphore,
                note,
                table: Table::copy(table, name, &mut self.memory)?,
                id: 0,
                beacon: None,
            }),
            None => {
                looked?;
                Seen::SemaphoreOnly(semaphore, note)
            }
        };
        Ok(Sight {
            name: name.clone(),
            seen,
            owner,
            refusal,
        })
    }
}

impl Sight {
    /// Waits 100 ms for what another process has half made.
    pub(crate) fn open(name: &LockName, trust: Trust<'_>) -> Result<Self> {
        Looking::new(trust).open(name)
    }

    /// True if this still stands at the lock's paths.
    pub(crate) fn is_current(&self) -> bool {
        match &self.seen {
            Seen::Whole(objects) => objects.are_at_their_paths(),
            Seen::SemaphoreOnly(semaphore, _) => {
                semaphore.is_at_its_path() && files::inode_at(&self.name.table_path()).is_none()
            }
        }
    }

    /// True if this is the lock that was `before`: the same table goes on with another semaphore, or the same semaphore
    /// with another table.
    pub(crate) fn continues(&self, before: &Self) -> bool {
        let tables = self.objects().zip(before.objects());
        self.semaphore().inode == before.semaphore().inode
            || tables.is_some_and(|(this, before)| this.table.inode == before.table.inode)
    }

    /// Checks that the caller trusts the lock's owner.
    pub(crate) fn check_trust(&self) -> Result<()> {
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

    /// The lock's owner.
    pub(crate) fn owner(&self) -> u32 {
        self.owner
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

    /// The semaphore's value.
    pub(crate) fn value(&self) -> u32 {
        // One that cannot be read is not free.
        self.semaphore().look().map_or(0, |()| self.semaphore().load().value())
    }

    /// See [`Viewer::state`](crate::Viewer::state).
    pub(crate) fn state(&self) -> State {
        snapshot::state(&self.name, self.owned(), self.semaphore(), self.note(), self.objects())
    }

    /// See [`Viewer::history`](crate::Viewer::history).
    pub(crate) fn history(&self) -> Vec<HistoryRecord> {
        match &self.seen {
            Seen::Whole(objects) => snapshot::history(objects),
            Seen::SemaphoreOnly(..) => Vec::new(),
        }
    }

    /// The last run that was recorded as done.
    pub(crate) fn last_done(&self) -> Option<LastDone> {
        self.objects().and_then(|objects| done::recorded(&objects.table.header))
    }

    /// True if the table contains a hold with this token now, and its holder is not proven dead.
    pub(crate) fn is_held(&self, token: u64) -> bool {
        let standing = |holder: &Holder| holder.token == Some(token) && holder.alive;
        self.state().holders.iter().any(standing)
    }
}
