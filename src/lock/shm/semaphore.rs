//! The semaphore: the Python module's named semaphore, `/dev/shm/sem.NAME`.

use crate::lock::protocol::word::SemaphoreWord;
use crate::lock::shm::files::{self, NewFile, Opened, Ownership};
use crate::lock::sys::{self, Mapping};
use crate::lock::types::{Error, LockName, Result};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// An open semaphore.
pub(crate) struct Semaphore {
    map: Mapping<AtomicU64>,
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
            map: Mapping::<AtomicU64>::new(file.as_fd(), writable)?,
            path,
            inode,
            owner,
        })
    }

    /// True if the file at the semaphore's path is still this one.
    pub(crate) fn is_at_its_path(&self) -> bool {
        files::inode_at(&self.path) == Some(self.inode)
    }

    pub(crate) fn word(&self) -> &AtomicU64 {
        &self.map
    }

    pub(crate) fn load(&self) -> SemaphoreWord {
        SemaphoreWord(self.map.load(Ordering::Acquire))
    }

    pub(crate) fn swap(&self, from: SemaphoreWord, to: SemaphoreWord) -> Result<(), SemaphoreWord> {
        self.map
            .compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(SemaphoreWord)
    }

    /// Counts the caller among the waiters, as sem_wait(3) does, if the semaphore is taken. False = it is not.
    pub(crate) fn join(&self) -> bool {
        self.change_waiters(|semaphore| {
            (semaphore.value() == 0).then(|| semaphore.with_waiters(semaphore.waiters().wrapping_add(1)))
        })
    }

    /// The reverse of [`join`](Self::join).
    pub(crate) fn leave(&self) {
        self.change_waiters(|semaphore| {
            semaphore
                .waiters()
                .checked_sub(1)
                .map(|rest| semaphore.with_waiters(rest))
        });
    }

    fn change_waiters(&self, change: impl Fn(SemaphoreWord) -> Option<SemaphoreWord>) -> bool {
        let mut semaphore = self.load();
        while let Some(next) = change(semaphore) {
            match self.swap(semaphore, next) {
                Ok(()) => return true,
                Err(now) => semaphore = now,
            }
        }
        false
    }
}
