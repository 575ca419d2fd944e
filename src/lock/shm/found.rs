//! What is found at a lock's three paths: opened and examined before anything of it is used.

use crate::lock::shm::files::{self, Opened};
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::shm::table::Table;
use crate::lock::shm::temporary::temporary_names;
use crate::lock::shm::trust::{self, Distrust, Facts, Outside, Trust};
use crate::lock::sys;
use crate::lock::system;
use crate::lock::system::ids;
use crate::lock::types::name::SHM;
use crate::lock::types::{Error, LockName, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The objects that exist, open.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) semaphore: Option<Opened>,
    pub(crate) table: Option<Opened>,
    pub(crate) note: Option<Opened>,
}

/// One of a lock's paths.
type PathOf = fn(&LockName) -> PathBuf;

/// What is to be done with what was found.
#[derive(Debug)]
pub(crate) enum Finding {
    /// It can be used, as far as this was examined.
    Good,
    /// It is no longer at its path: open what is there now.
    Replaced,
    /// It cannot be used, but that may change in a moment.
    NotYet(Error),
}

impl Found {
    /// Opens what exists.
    pub(crate) fn open(name: &LockName, writable: bool) -> Result<Self> {
        Ok(Self {
            semaphore: files::open_if_there(&name.semaphore_path(), writable)?,
            table: files::open_if_there(&name.table_path(), writable)?,
            note: files::open_if_there(&name.note_path(), writable)?,
        })
    }

    /// The objects, and which of the lock's paths is theirs, the semaphore first.
    fn all(&self) -> impl Iterator<Item = (PathOf, &Opened)> {
        let all: [(PathOf, _); 3] = [
            (LockName::semaphore_path, &self.semaphore),
            (LockName::table_path, &self.table),
            (LockName::note_path, &self.note),
        ];
        all.into_iter().filter_map(|(path, one)| Some((path, one.as_ref()?)))
    }

    /// The first object that exists, and its owner.
    pub(crate) fn first(&self, name: &LockName) -> Option<(PathBuf, u32)> {
        self.all().next().map(|(path, one)| (path(name), one.facts.owner))
    }

    /// The inode of the object that was at `path`, one of the lock's.
    pub(crate) fn inode_of(&self, name: &LockName, path: &Path) -> Option<u64> {
        let mut all = self.all();
        all.find(|(of, _)| of(name) == path).map(|(_, one)| one.inode)
    }

    /// Checks that these can be the objects of a lock: of one owner, with one name each, and the note a note.
    ///
    /// # Errors
    /// They cannot, and waiting does not change that.
    pub(crate) fn examine(&self, name: &LockName, retry: &mut Retry) -> Result<Finding> {
        let mut finding = Finding::Good;
        let owner = self.all().next().map(|(_, one)| one.facts.owner).unwrap_or_default();
        for (path, one) in self.all() {
            match one.facts.links {
                0 => return Ok(Finding::Replaced),
                1 => {}
                2 if retry.is_temporary_name(one.inode) => {}
                links => {
                    let what = format!("it has {links} names (hard links)");
                    finding = Finding::NotYet(files::wrong(&path(name), &what));
                }
            }
            if one.facts.owner != owner {
                let what = format!("the lock's other files belong to user {owner}");
                return Err(files::wrong(&path(name), &what));
            }
        }
        self.examine_note(name)?;
        Ok(finding)
    }

    fn examine_note(&self, name: &LockName) -> Result<()> {
        // Beside a table it is known to be the lock's.
        let (Some(note), None) = (&self.note, &self.table) else {
            return Ok(());
        };
        let path = name.note_path();
        let beginning = beginning_of(note, &path)?;
        let is_note = if self.semaphore.is_some() {
            trust::may_be_note(&beginning)
        } else {
            trust::may_become_note(&beginning)
        };
        if is_note {
            return Ok(());
        }
        let owner = Some(note.facts.owner);
        Err(Error::ForeignFile { path, owner })
    }

    /// The semaphore and the table, if they are damaged: their paths, and what is wrong.
    ///
    /// # Errors
    /// It cannot be found out whether they are.
    pub(crate) fn damaged(&self, name: &LockName) -> Result<Vec<(PathBuf, Error)>> {
        let semaphore = self.semaphore.as_ref().map(|one| Semaphore::check(one, name));
        let table = self.table.as_ref().map(|one| Table::check(one, name));
        let mut damaged = Vec::new();
        for (path, checked) in [(name.semaphore_path(), semaphore), (name.table_path(), table)] {
            match checked {
                None | Some(Ok(())) => {}
                Some(Err(error @ Error::Damaged { .. })) => damaged.push((path, error)),
                Some(Err(error)) => return Err(error),
            }
        }
        Ok(damaged)
    }

    /// Checks that the caller may use the lock.
    ///
    /// # Errors
    /// The directory cannot be examined.
    pub(crate) fn check_trust(&self, name: &LockName, trust: Trust<'_>) -> Result<Result<(), Refusal>> {
        let directory = Self::examine_directory()?;
        Ok(self.check_trust_in(&directory, name, trust))
    }

    /// What there is to be known of the directory where locks are.
    ///
    /// # Errors
    /// It cannot be examined.
    pub(crate) fn examine_directory() -> Result<Facts> {
        files::directory(Path::new(SHM))
    }

    /// Checks that the caller may use the lock, in this directory.
    pub(crate) fn check_trust_in(&self, directory: &Facts, name: &LockName, trust: Trust<'_>) -> Result<(), Refusal> {
        if let Err(why) = trust.judge_directory(directory, &System) {
            return Err(Refusal::new(PathBuf::from(SHM), why, *directory));
        }
        self.all().try_for_each(|(path, one)| {
            let judged = trust.judge_file(&one.facts, directory, &System);
            judged.map_err(|why| Refusal::new(path(name), why, one.facts))
        })
    }
}

/// What a segment begins with, as far as it is looked at.
pub(crate) fn beginning_of(note: &Opened, path: &Path) -> Result<Vec<u8>> {
    files::beginning(note, path, trust::LOOKED_AT)
}

/// That a lock is not to be used by this caller, and why not.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    path: PathBuf,
    why: Distrust,
    facts: Facts,
}

impl Refusal {
    fn new(path: PathBuf, why: Distrust, facts: Facts) -> Self {
        Self { path, why, facts }
    }

    /// As an error.
    pub(crate) fn error(&self) -> Error {
        let path = self.path.clone();
        match self.why {
            Distrust::World => Error::ForEverybody {
                path,
                owner: self.facts.owner,
            },
            Distrust::Owner { owner } => Error::Untrusted {
                path,
                owner,
                group: self.facts.group,
                mode: self.facts.mode & 0o777,
            },
            Distrust::Directory => Error::UnsafeDirectory {
                path,
                owner: self.facts.owner,
                mode: self.facts.mode,
            },
        }
    }
}

/// What the running system says.
pub(crate) struct System;

impl Outside for System {
    fn knows_user(&self, uid: u32) -> bool {
        ids::is_user(uid)
    }

    fn knows_group(&self, gid: u32) -> bool {
        ids::is_group(gid)
    }

    fn is_member(&self, uid: u32, gid: u32) -> bool {
        system::is_member(uid, gid)
    }
}

/// How long something may be half made before that is an error: it takes microseconds.
const HALF_MADE: Duration = Duration::from_millis(100);
const HALF_MADE_CHECK: Duration = Duration::from_millis(1);

/// For what is half made for a moment: how long to look again, for any number of locks together; and which semaphores
/// have the second name that sem_open(3) leaves behind if it is killed.
#[derive(Default)]
pub(crate) struct Retry {
    until: Option<u64>,
    /// The time is up. Kept, and not read from the clock again: whoever is told to look a last time, looks with this.
    is_over: bool,
    /// Temporary names by inode, read once.
    names: Option<HashMap<u64, PathBuf>>,
}

impl Retry {
    /// Waits a moment: true = look again. Once the time is up, that is true one last time.
    pub(crate) fn again(&mut self) -> bool {
        if self.is_over {
            return false;
        }
        let now = sys::monotonic();
        let until = *self
            .until
            .get_or_insert(now.saturating_add(HALF_MADE.as_nanos() as u64));
        if now >= until {
            self.is_over = true;
        } else {
            std::thread::sleep(HALF_MADE_CHECK);
        }
        true
    }

    /// True if the time is up, and the inode's second name is a temporary one that was left behind.
    fn is_temporary_name(&mut self, inode: u64) -> bool {
        self.is_over && self.names.get_or_insert_with(temporary_names).contains_key(&inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_again_for_a_while() {
        let mut retry = Retry::default();
        assert!(!retry.is_temporary_name(1));
        let before = sys::monotonic();
        while retry.again() {}
        assert!(sys::monotonic() - before >= HALF_MADE.as_nanos() as u64);
        assert!(!retry.again());
    }

    /// Between the look and the question whether to look again, any time may pass.
    #[test]
    fn the_last_look_is_one_after_the_time() {
        let mut retry = Retry {
            until: Some(sys::monotonic() + 1_000_000),
            ..Retry::default()
        };
        assert!(!retry.is_temporary_name(1) && !retry.is_over);
        while sys::monotonic() < retry.until.unwrap() {}
        assert!(retry.again() && retry.is_over);
        assert!(!retry.again());
    }
}
