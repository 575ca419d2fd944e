//! Inspecting a lock without taking part.

use crate::lock::api::resource_lock::remote_state;
use crate::lock::engines::{Engine, Watch};
use crate::lock::inspect;
use crate::lock::shm::opening::Terms;
use crate::lock::types::{Cancel, HistoryRecord, LockName, Result, State};
use std::fmt;

/// A lock that is only inspected: creates nothing, and needs only permission to read.
///
/// What it tells is about the lock that stands at the paths when it is asked, also after somebody has removed the lock and
/// perhaps created it again. A lock that no longer exists is free. If the lock is just being created again, a call blocks
/// for up to 100 ms.
///
/// ```
/// use resourcelock::{Error, ResourceLock, Viewer};
///
/// # fn main() -> Result<(), resourcelock::Error> {
/// # let name = format!("doc-viewer-{}", std::process::id());
/// # let name = name.as_str();
/// assert!(matches!(Viewer::open(name), Err(Error::NotFound { .. })));
/// let lock = ResourceLock::open(name)?;
/// let held = lock.acquire()?;
/// let viewer = Viewer::open(name)?;
/// let state = viewer.state()?;
/// assert_eq!(state.holders[0].token, Some(held.token()));
/// # drop(held);
/// # lock.close();
/// # resourcelock::remove(name, false)?;
/// # Ok(())
/// # }
/// ```
pub struct Viewer {
    seen: Seen,
}

enum Seen {
    Local(inspect::Viewer),
    Remote(LockName, Box<dyn Engine>),
}

impl Viewer {
    /// Opens an existing lock of this machine to inspect it. See [`Builder::open_existing`](crate::Builder::open_existing).
    ///
    /// # Errors
    /// As [`Builder::open_existing`](crate::Builder::open_existing).
    pub fn open(name: impl AsRef<str>) -> Result<Self> {
        Self::local(LockName::new(name)?, Terms::default())
    }

    pub(crate) fn local(name: LockName, terms: Terms) -> Result<Self> {
        Ok(Self {
            seen: Seen::Local(inspect::Viewer::open(name, terms)?),
        })
    }

    pub(crate) fn remote(name: LockName, engine: Box<dyn Engine>) -> Self {
        Self {
            seen: Seen::Remote(name, engine),
        }
    }

    /// The lock's name.
    pub fn name(&self) -> &LockName {
        match &self.seen {
            Seen::Local(viewer) => viewer.name(),
            Seen::Remote(name, _) => name,
        }
    }

    /// Checks that the caller trusts the lock's owner (see [`Builder::owner`](crate::Builder::owner)). If not, all that
    /// is seen of the lock is what its owner claims. On an engine, the server says who may use a lock.
    ///
    /// # Errors
    /// [`Error::Untrusted`](crate::Error::Untrusted), [`Error::UnsafeDirectory`](crate::Error::UnsafeDirectory); else as
    /// [`state`](Self::state).
    pub fn check_trust(&self) -> Result<()> {
        match &self.seen {
            Seen::Local(viewer) => viewer.check_trust(),
            Seen::Remote(..) => Ok(()),
        }
    }

    /// Holders, waiters, note, and counters. Takes no latch, and disturbs nobody.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) if another lock is there by now, but for [`Error::NotFound`](crate::Error::NotFound);
    /// on an engine, [`Error::Unreachable`](crate::Error::Unreachable), [`Error::Refused`](crate::Error::Refused) and
    /// [`Error::Forked`](crate::Error::Forked).
    pub fn state(&self) -> Result<State> {
        match &self.seen {
            Seen::Local(viewer) => viewer.state(),
            Seen::Remote(name, engine) => remote_state(&**engine, name),
        }
    }

    /// The ended requests, oldest first: see [`HistoryRecord`].
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) on an engine, which keeps none; else as [`state`](Self::state).
    pub fn history(&self) -> Result<Vec<HistoryRecord>> {
        match &self.seen {
            Seen::Local(viewer) => viewer.history(),
            Seen::Remote(name, engine) => Ok(engine.history(name)?.unwrap_or_default()),
        }
    }

    /// True if a hold with this token stands now, and its holder is not proven dead.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn is_held(&self, token: u64) -> Result<bool> {
        match &self.seen {
            Seen::Local(viewer) => viewer.is_held(token),
            Seen::Remote(name, engine) => engine.is_held(name, token),
        }
    }

    /// Follows what happens from now on, without polling if the caller may write the lock's files.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn watch(&self) -> Result<Watch> {
        match &self.seen {
            Seen::Local(viewer) => Ok(Watch::new(inspect::Watch::new(viewer.clone()))),
            Seen::Remote(name, engine) => engine.watch(name, &Cancel::new()),
        }
    }
}

impl fmt::Debug for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Viewer")
            .field("name", self.name())
            .finish_non_exhaustive()
    }
}
