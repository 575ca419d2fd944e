//! The flag: the Python module's named semaphore, `/dev/shm/sem.NAME`.

use crate::lock::api::name::LockName;
use crate::lock::protocol::word::FlagWord;
use crate::lock::shm::files::{self, NewFile, Opened, Ownership};
use crate::lock::shm::sys::{self, Mapping};
use crate::{Error, Result};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// An open flag.
pub(crate) struct Flag {
    map: Mapping<AtomicU64>,
    pub(crate) inode: u64,
    /// Whom it belongs to: table and note follow.
    pub(crate) owner: Ownership,
}

impl Flag {
    /// Opens the flag at `name`'s path, or makes a free one.
    ///
    /// Made as sem_open(3) makes it (complete under no name, then linked), but with owner and mode set before it can
    /// be seen.
    pub(crate) fn open_or_create(
        name: &LockName,
        owner: &Ownership,
        before_creating: impl Fn() -> Result<()>,
    ) -> Result<Self> {
        let path = name.flag_path();
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

    /// Opens an existing flag.
    pub(crate) fn open(name: &LockName, writable: bool) -> Result<Self> {
        let path = name.flag_path();
        let Opened { file, inode, size } = files::open(&path, writable)?;
        let expected = sys::new_semaphore().len() as u64;
        if size != expected {
            let what = format!("it has {size} bytes where a semaphore has {expected}");
            return Err(Error::WrongObject { path, what });
        }
        Self::from_file(&file, inode, writable).map_err(|source| Error::Os {
            doing: "map",
            path,
            source,
        })
    }

    /// Maps an open flag.
    pub(crate) fn from_file(file: &OwnedFd, inode: u64, writable: bool) -> io::Result<Self> {
        let owner = files::ownership(file)?;
        Ok(Self {
            map: Mapping::<AtomicU64>::new(file.as_fd(), writable)?,
            inode,
            owner,
        })
    }

    pub(crate) fn word(&self) -> &AtomicU64 {
        &self.map
    }

    pub(crate) fn load(&self) -> FlagWord {
        FlagWord(self.map.load(Ordering::Acquire))
    }

    pub(crate) fn swap(&self, from: FlagWord, to: FlagWord) -> Result<(), FlagWord> {
        self.map
            .compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(FlagWord)
    }

    /// Counts the caller among the waiters, as sem_wait(3) does, while the flag is taken. False = it is not.
    pub(crate) fn join(&self) -> bool {
        self.change_waiters(|flag| (flag.value() == 0).then(|| flag.with_waiters(flag.waiters().wrapping_add(1))))
    }

    /// The reverse of [`join`](Self::join).
    pub(crate) fn part(&self) {
        self.change_waiters(|flag| flag.waiters().checked_sub(1).map(|rest| flag.with_waiters(rest)));
    }

    fn change_waiters(&self, change: impl Fn(FlagWord) -> Option<FlagWord>) -> bool {
        let mut flag = self.load();
        while let Some(next) = change(flag) {
            match self.swap(flag, next) {
                Ok(()) => return true,
                Err(now) => flag = now,
            }
        }
        false
    }
}
