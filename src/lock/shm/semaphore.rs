//! The semaphore: the Python module's named semaphore, `/dev/shm/sem.NAME`.

use crate::lock::shm::files::{self, NewFile, Opened, Ownership};
use crate::lock::shm::semaphore_word::Count;
use crate::lock::sys::{self, Descriptor, Mapping};
use crate::lock::types::{Error, LockName, Result};
use std::os::fd::AsFd;
use std::path::PathBuf;

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
        Self::new(&opened, true, name)
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
        Self::new(&files::open(&name.semaphore_path(), true).unwrap(), true, name).unwrap()
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

    /// Maps the semaphore that was found at `name`'s path, or copies it.
    ///
    /// # Errors
    /// It is damaged.
    pub(crate) fn new(opened: &Opened, writable: bool, name: &LockName) -> Result<Self> {
        Self::check(opened, name)?;
        let path = name.semaphore_path();
        let (map, file) = if writable {
            (Mapping::<Count>::new(opened.file.as_fd()), None)
        } else {
            let own = opened.try_clone(&path)?;
            let file = Descriptor::of(own.file, own.device, own.inode);
            (Mapping::<Count>::copy(), Some(file))
        };
        let map = map.map_err(|source| Error::Os {
            doing: "map",
            path: path.clone(),
            source,
        })?;
        map.touch(&(0..size_of::<Count>() as u64));
        Ok(Self {
            map,
            file,
            path,
            inode: opened.inode,
            ownership: opened.ownership(),
        })
    }
}

impl Semaphore {
    /// Has a copy show what the semaphore is now.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn look(&self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if !file.is_ours()
            && let Ok(opened) = files::open(&self.path, false)
        {
            file.renew(opened.file);
        }
        let renewed = self.map.renew(&*self.map, file);
        if !file.is_ours() {
            return Err(Error::NotFound {
                path: self.path.clone(),
            });
        }
        renewed.map_err(|source| Error::Os {
            doing: "read",
            path: self.path.clone(),
            source,
        })
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
