//! The semaphore: the Python module's named semaphore, `/dev/shm/sem.NAME`.

use crate::lock::shm::files::{self, NewFile, Opened, Ownership};
use crate::lock::shm::memory::Memory;
use crate::lock::shm::semaphore_word::Count;
use crate::lock::sys::{self, Descriptor, Mapping};
use crate::lock::types::{Error, LockName, Result};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

/// An open semaphore: mapped by those who use the lock, copied by those who only inspect it.
pub(crate) struct Semaphore {
    map: Mapping<Count>,
    /// Of a copy.
    file: Option<Descriptor>,
    pub(crate) path: PathBuf,
    pub(crate) inode: u64,
    /// Its owner, group and mode: table and note follow them.
    pub(crate) ownership: Ownership,
}

/// The size of a 32-bit glibc's semaphore.
const SIZE_32_BIT: u64 = 16;

impl Semaphore {
    /// Creates a free semaphore at `name`'s path, unless there is one.
    ///
    /// It is created as sem_open(3) creates it (complete and without a name, then linked), but with owner and mode set
    /// before it can be seen.
    pub(crate) fn create(name: &LockName, owner: &Ownership) -> Result<()> {
        files::publish(&NewFile {
            path: &name.semaphore_path(),
            size: sys::NEW_SEMAPHORE.len() as u64,
            space: None,
            content: &sys::NEW_SEMAPHORE,
            owner,
        })
    }

    /// A free one that is at no path, and nobody else's.
    pub(crate) fn detached(name: &LockName) -> Result<Self> {
        let path = name.semaphore_path();
        let failed = |errno| files::fail("create a copy of", &path, errno);
        let file =
            nix::sys::memfd::memfd_create(c"semaphore", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).map_err(failed)?;
        nix::unistd::write(&file, &sys::NEW_SEMAPHORE).map_err(failed)?;
        let opened = files::opened(file, &path)?;
        Self::new(&opened, name)
    }

    /// Opens the semaphore at `name`'s path, or creates one, as sem_open(3) does.
    #[cfg(test)]
    pub(crate) fn as_by_others(name: &LockName) -> Self {
        let ownership = Ownership {
            mode: 0o600,
            uid: None,
            gid: None,
        };
        Self::create(name, &ownership).unwrap();
        Self::new(&files::open(&name.semaphore_path(), true).unwrap(), name).unwrap()
    }

    /// Checks that the file can be a semaphore.
    ///
    /// # Errors
    /// It is damaged.
    pub(crate) fn check(opened: &Opened, name: &LockName) -> Result<()> {
        let (size, expected) = (opened.size, sys::NEW_SEMAPHORE.len() as u64);
        if size == expected {
            return Ok(());
        }
        let whose = if size == SIZE_32_BIT {
            ", as those of 32-bit programs"
        } else {
            ""
        };
        Err(Error::Damaged {
            path: name.semaphore_path(),
            what: format!("it has {size} bytes{whose}, where a semaphore has {expected}"),
            owner: Some(opened.facts.owner),
        })
    }

    /// Maps the semaphore that was found at `name`'s path.
    ///
    /// # Errors
    /// It is damaged.
    pub(crate) fn new(opened: &Opened, name: &LockName) -> Result<Self> {
        let new = Self::with(opened, name, || Mapping::new(opened.file.as_fd()))?;
        new.map.touch(&(0..size_of::<Count>() as u64));
        Ok(new)
    }

    /// The same as a copy, in this memory. It is to be [looked at](Self::look) first.
    ///
    /// # Errors
    /// It is damaged.
    pub(crate) fn copy(opened: Opened, name: &LockName, memory: &mut Memory) -> Result<Self> {
        let mut new = Self::with(&opened, name, || memory.for_semaphore())?;
        new.file = Some(Descriptor::of(opened.file, opened.device, opened.inode));
        Ok(new)
    }

    fn with(opened: &Opened, name: &LockName, map: impl FnOnce() -> io::Result<Mapping<Count>>) -> Result<Self> {
        Self::check(opened, name)?;
        let path = name.semaphore_path();
        let map = map().map_err(|source| Error::Os {
            doing: "map",
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            map,
            file: None,
            path,
            inode: opened.inode,
            ownership: opened.ownership(),
        })
    }

    /// Leaves the memory of a copy to the next one.
    pub(crate) fn return_memory(self, memory: &mut Memory) {
        memory.keep_semaphore(self.map);
    }
}

impl Semaphore {
    /// Makes a copy show what the semaphore is now.
    ///
    /// # Errors
    /// It cannot be read. Then the copy shows one that is not free.
    pub(crate) fn look(&self) -> Result<()> {
        // The program may have closed the descriptor, whose number may be another file's.
        if let Some(file) = &self.file
            && !file.is_ours()
            && let Ok(again) = files::open(&self.path, false)
        {
            file.renew(again.file);
        }
        self.look_after_opening()
    }

    /// The same right after it was opened.
    ///
    /// # Errors
    /// As with `look`.
    pub(crate) fn look_after_opening(&self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let path = || self.path.clone();
        let renewed = self.map.renew(&*self.map, file);
        let looked = if file.is_ours() {
            renewed.map_err(|source| Error::Os {
                doing: "read",
                path: path(),
                source,
            })
        } else {
            Err(Error::NotFound { path: path() })
        };
        if looked.is_err() {
            self.word.store(0, Relaxed);
        }
        looked
    }

    /// True if the file was truncated since it was opened.
    pub(crate) fn is_gone(&self) -> bool {
        self.map.is_gone()
    }

    /// True if the file at the semaphore's path is still this one.
    pub(crate) fn is_at_its_path(&self) -> bool {
        files::inode_at(&self.path) == Some(self.inode)
    }
}

impl std::ops::Deref for Semaphore {
    type Target = Count;
    fn deref(&self) -> &Count {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_what_cannot_be_read_is_not_free() {
        let name = LockName::new(format!("test-cut-semaphore-{}", std::process::id())).unwrap();
        drop(Semaphore::as_by_others(&name));
        let opened = files::open(&name.semaphore_path(), false).unwrap();
        let copy = Semaphore::copy(opened, &name, &mut Memory::default()).unwrap();
        copy.look().unwrap();
        assert_eq!(copy.load().value(), 1);
        let file = std::fs::File::options()
            .write(true)
            .open(name.semaphore_path())
            .unwrap();
        file.set_len(4).unwrap();
        assert!(copy.look().is_err());
        assert_eq!(copy.load().value(), 0);
        std::fs::remove_file(name.semaphore_path()).unwrap();
    }
}
