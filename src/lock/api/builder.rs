//! How a lock is opened.

use crate::lock::acquire::handle::Handle;
use crate::lock::api::resource_lock::ResourceLock;
use crate::lock::inspect::Viewer;
use crate::lock::inspect::sight::Sight;
use crate::lock::shm::found::Retry;
use crate::lock::shm::opening::Terms;
use crate::lock::shm::trust::Named;
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

/// How to open a lock: whose locks are used, and what a lock is created with if it does not exist.
///
/// Whoever owns a lock's files can release it, keep it taken, and make up what they say. So a user opens only his own
/// locks and root's, and root only its own, unless the caller names others: with [`owner`](Self::owner),
/// [`group`](Self::group), or a [`mode`](Self::mode) that lets the world in.
#[derive(Debug, Clone)]
pub struct Builder {
    name: String,
    terms: Terms,
}

impl Builder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            terms: Terms::default(),
        }
    }

    /// Permission bits of a lock that is created now (default 0o600; 0o660 with a [`group`](Self::group)). They are not subject to the umask. Whoever may
    /// read the lock's files should be able to write them, too: a reader alone could make a dead holder look alive.
    ///
    /// With a mode that gives any permission to others than owner and group, an existing lock is used whoever owns it.
    pub fn mode(mut self, mode: u32) -> Self {
        self.terms.mode = Some(mode & 0o777);
        self.terms.named.anybody = Named::is_for_world(mode);
        self
    }

    /// Group (number) of a lock that is created now, which the group may use. An existing lock is used, whoever owns it, if its files belong to
    /// this group and not everybody may write them.
    pub fn group(mut self, gid: u32) -> Self {
        self.terms.group = Some(gid);
        self.terms.named.group = Some(gid);
        self
    }

    /// The locks of this user (number) are used, too. A lock that root creates becomes his. May be called several times:
    /// then a new lock becomes the first one's.
    pub fn owner(mut self, uid: u32) -> Self {
        self.terms.named.owners.push(uid);
        self
    }

    /// The locks of this user (number) are used, too, but no new lock becomes his.
    pub fn accept(mut self, uid: u32) -> Self {
        self.terms.named.accepted.push(uid);
        self
    }

    /// Opens locks of any owner, for who does not rely on what is found: to release or remove.
    pub(crate) fn accept_anybody(mut self) -> Self {
        self.terms.named.anybody = true;
        self
    }

    /// Opens only what exists, of any owner, and leaves the note alone.
    pub(crate) fn for_removal(mut self) -> Self {
        self.terms.to_remove = true;
        self.accept_anybody()
    }

    /// Size in bytes of a note that is created now (default 4096, as in the Python module).
    pub fn note_size(mut self, bytes: usize) -> Self {
        self.terms.note_size = bytes.max(1);
        self
    }

    /// Opens the lock; creates what is missing. Waits only for a process that is just removing it, up to 1 s.
    ///
    /// # Errors
    /// [`Error::Name`](crate::Error::Name) for a name that cannot be used;
    /// [`Error::Permission`](crate::Error::Permission) if the lock's files may not be opened;
    /// [`Error::Untrusted`](crate::Error::Untrusted) if they belong to somebody whom the caller does not trust, and
    /// [`Error::UnsafeDirectory`](crate::Error::UnsafeDirectory) if others can replace them;
    /// [`Error::WrongObject`](crate::Error::WrongObject), [`Error::Damaged`](crate::Error::Damaged) or
    /// [`Error::ForeignFile`](crate::Error::ForeignFile) if something else is at one of its paths;
    /// [`Error::HalfMade`](crate::Error::HalfMade) if a part is missing that only the lock's owner can create;
    /// [`Error::Os`](crate::Error::Os) if the system refuses (/dev/shm is missing or full);
    /// [`Error::BeingRemoved`](crate::Error::BeingRemoved) if it is just being removed and that takes longer than 1 s.
    pub fn open(self) -> Result<ResourceLock> {
        let name = LockName::new(&self.name)?;
        let handle = Handle::open(name, self.terms)?;
        Ok(ResourceLock { handle })
    }

    /// Opens an existing lock to inspect it; creates nothing, and needs only permission to read. A lock that only the
    /// Python module has used so far has no table: only its semaphore and note are seen. The lock may be anybody's:
    /// whether the caller trusts him is known from [`Viewer::check_trust`] and [`State::trusted`](crate::State::trusted).
    /// Blocks for up to 100 ms if the lock is just being created.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such lock; else as [`open`](Self::open), but for
    /// [`Error::Untrusted`](crate::Error::Untrusted) and [`Error::HalfMade`](crate::Error::HalfMade).
    pub fn open_existing(self) -> Result<Viewer> {
        let name = LockName::new(&self.name)?;
        Viewer::open(name, self.terms)
    }

    /// What stands at the lock's paths now, to be inspected once. Waits for what is half made as `retry` says.
    pub(crate) fn sight(self, retry: &mut Retry) -> Result<Sight> {
        let name = LockName::new(&self.name)?;
        Sight::open(&name, self.terms.trust(), retry)
    }
}
