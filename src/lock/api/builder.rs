//! How a lock is opened.

use crate::lock::acquire::handle::Handle;
use crate::lock::api::resource_lock::ResourceLock;
use crate::lock::inspect::Viewer;
use crate::lock::shm::files::Ownership;
use crate::lock::shm::note;
use crate::lock::types::{LockName, Result};

impl ResourceLock {
    /// Opens the lock `name`; creates it, free, if it does not exist.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(name: &str) -> Result<Self> {
        Self::builder(name).open()
    }

    /// Opens a lock with options.
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }
}

/// How to open a lock: what it is created with, if it does not exist.
#[derive(Debug, Clone)]
pub struct Builder {
    name: String,
    owner: Ownership,
    note_size: usize,
}

impl Builder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            owner: Ownership {
                mode: 0o600,
                uid: None,
                gid: None,
            },
            note_size: note::DEFAULT_SIZE,
        }
    }

    /// Permission bits of a lock that is created now (default 0o600). They are not subject to the umask. Whoever may
    /// read the lock's files should be able to write them, too: a reader alone could make a dead holder look alive.
    pub fn mode(mut self, mode: u32) -> Self {
        self.owner.mode = mode & 0o777;
        self
    }

    /// Group (number) of a lock that is created now.
    pub fn group(mut self, gid: u32) -> Self {
        self.owner.gid = Some(gid);
        self
    }

    /// Size in bytes of a note that is created now (default 4096, as in the Python module).
    pub fn note_size(mut self, bytes: usize) -> Self {
        self.note_size = bytes.max(1);
        self
    }

    /// Opens the lock; creates what is missing. Waits only for a process that is just removing it, up to 1 s.
    ///
    /// # Errors
    /// [`Error::Name`](crate::Error::Name) for a name that cannot be used;
    /// [`Error::Permission`](crate::Error::Permission) if the lock belongs to others;
    /// [`Error::WrongObject`](crate::Error::WrongObject) if something else is at one of its paths;
    /// [`Error::Os`](crate::Error::Os) if the system refuses (/dev/shm is missing or full);
    /// [`Error::BeingRemoved`](crate::Error::BeingRemoved) if it is just being removed and that takes longer than 1 s.
    pub fn open(self) -> Result<ResourceLock> {
        let name = LockName::new(&self.name)?;
        let handle = Handle::open(name, self.owner, self.note_size)?;
        Ok(ResourceLock { handle })
    }

    /// Opens an existing lock to inspect it; creates nothing, and needs only permission to read. A lock that only the
    /// Python module has used so far has no table: only its semaphore and note are seen. Does not block.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such lock; else as [`open`](Self::open).
    pub fn open_existing(self) -> Result<Viewer> {
        Viewer::open(LockName::new(&self.name)?)
    }
}
