//! The semaphore: the Python module's named semaphore, `/dev/shm/sem.NAME`.

use crate::lock::shm::count::Count;
use crate::lock::shm::files::{self, NewFile, Opened, Ownership};
use crate::lock::sys::{self, Mapping};
use crate::lock::types::{Error, LockName, Result};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// An open semaphore.
pub(crate) struct Semaphore {
    map: Mapping<Count>,
    pub(crate) path: PathBuf,
    pub(crate) inode: u64,
    /// Its owner, group and mode: table and note follow them.
    pub(crate) owner: Ownership,
}

impl Semaphore {
    /// Opens the semaphore at `name`'s path, or creates a free one.
    ///
    /// It is created as sem_open(3) creates it (complete and without a name, then linked), but with owner and mode set
    /// before it can be seen.
    pub(crate) fn open_or_create(
        name: &LockName,
        owner: &Ownership,
        before_creating: impl Fn() -> Result<()>,
    ) -> Result<Self> {
        let path = name.semaphore_path();
        loop {
            match Self::open(name, true) {
                Err(Error::NotFound { .. }) => {}
                other => return other,
            }
            before_creating()?;
            let content = sys::new_semaphore();
            files::publish(&NewFile {
                path: &path,
                size: content.len() as u64,
                content: &content,
                owner,
            })?;
        }
    }

    /// Opens an existing semaphore.
    pub(crate) fn open(name: &LockName, writable: bool) -> Result<Self> {
        let path = name.semaphore_path();
        let Opened { file, inode, size } = files::open(&path, writable)?;
        let expected = sys::new_semaphore().len() as u64;
        if size != expected {
            let what = format!("it has {size} bytes where a semaphore has {expected}");
            return Err(Error::WrongObject { path, what });
        }
        Self::from_file(&file, path.clone(), inode, writable).map_err(|source| Error::Os {
            doing: "map",
            path,
            source,
        })
    }

    /// Maps an open semaphore.
    pub(crate) fn from_file(file: &OwnedFd, path: PathBuf, inode: u64, writable: bool) -> io::Result<Self> {
        let owner = files::ownership(file)?;
        Ok(Self {
            map: Mapping::<Count>::new(file.as_fd(), writable)?,
            path,
            inode,
            owner,
        })
    }
}

impl Semaphore {
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
