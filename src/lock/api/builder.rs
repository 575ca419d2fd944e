//! How a lock is opened.

use crate::lock::acquire::handle::Handle;
use crate::lock::api::resource_lock::ResourceLock;
use crate::lock::api::viewer::Viewer;
use crate::lock::engines::{self, Engine, Local};
use crate::lock::shm::opening::Terms;
use crate::lock::types::{LockName, Result};

impl ResourceLock {
    /// Opens the lock `name` of this machine; creates it, free, if it does not exist.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(name: impl AsRef<str>) -> Result<Self> {
        Self::builder(name).open()
    }

    /// Opens a lock with options.
    pub fn builder(name: impl AsRef<str>) -> Builder {
        Builder {
            name: name.as_ref().to_owned(),
            backend: None,
            terms: Terms::default(),
        }
    }
}

impl Local {
    /// A lock as this engine opens it.
    pub fn builder(&self, name: &LockName) -> Builder {
        Builder {
            name: name.as_str().to_owned(),
            backend: None,
            terms: self.terms.clone(),
        }
    }
}

/// How to open a lock: whose locks are used, and what a lock is created with if it does not exist.
///
/// Whoever owns a lock's files can release it, keep it taken, and make up what they say. So a user opens only his own
/// locks and root's, and root only its own, unless the caller names others: with [`owner`](Self::owner),
/// [`group`](Self::group), or a [`mode`](Self::mode) that lets the world in.
#[derive(Debug, Clone)]
#[must_use = "nothing is opened before open() or open_existing()"]
pub struct Builder {
    name: String,
    /// `None`: this machine.
    backend: Option<String>,
    terms: Terms,
}

impl Builder {
    /// Where the lock is kept: `local:` (this machine, the default), `etcd://…`, `etcds://…`, `postgres://…`, as
    /// [`engines::open`](crate::engines::open) understands it. Modes, groups and owners are those of this machine's locks.
    pub fn backend(mut self, url: impl Into<String>) -> Self {
        self.backend = Some(url.into());
        self
    }

    /// Permission bits of a lock that is created now (default 0o600; 0o660 with a [`group`](Self::group)). They are not
    /// subject to the umask. Whoever may read the lock's files should be able to write them, too: a reader alone could make
    /// a dead holder look alive.
    ///
    /// With a mode that gives any permission to others than owner and group, an existing lock is used whoever owns it.
    /// Without one, a lock that everybody may write is refused, whoever owns it ([`Error::ForEverybody`](crate::Error::ForEverybody)).
    pub fn mode(mut self, mode: u32) -> Self {
        self.terms.set_mode(mode);
        self
    }

    /// Group (number) of a lock that is created now, which the group may use. An existing lock is used, whoever owns it, if
    /// its files belong to this group and not everybody may write them.
    pub fn group(mut self, gid: u32) -> Self {
        self.terms.set_group(gid);
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

    /// Size in bytes of a note that is created now (default 4096, as in the Python module).
    pub fn note_size(mut self, bytes: usize) -> Self {
        self.terms.note_size = bytes.max(1);
        self
    }

    /// Opens the lock; creates what is missing. Waits only for a process that is just removing it, up to 1 s.
    /// An engine is not contacted before the first request.
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
    /// [`Error::BeingRemoved`](crate::Error::BeingRemoved) if it is just being removed and that takes longer than 1 s;
    /// [`Error::Url`](crate::Error::Url) and [`Error::NotBuiltIn`](crate::Error::NotBuiltIn) for a backend.
    pub fn open(self) -> Result<ResourceLock> {
        let name = LockName::new(&self.name)?;
        match self.engine()? {
            Some(engine) => Ok(ResourceLock::on(engine, name)),
            None => Ok(Handle::open(name, self.terms)?.into()),
        }
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
        match self.engine()? {
            Some(engine) => Ok(Viewer::remote(name, engine)),
            None => Viewer::local(name, self.terms),
        }
    }

    /// The engine on other machines, if it is kept there.
    fn engine(&self) -> Result<Option<Box<dyn Engine>>> {
        let Some(url) = &self.backend else { return Ok(None) };
        let engine = engines::open(url)?;
        Ok(engine.capabilities().remote.then_some(engine))
    }
}
