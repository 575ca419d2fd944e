//! Inspecting a lock without taking part.

use crate::lock::inspect::sight::Sight;
use crate::lock::inspect::snapshot;
use crate::lock::shm::found::Retry;
use crate::lock::shm::opening::Terms;
use crate::lock::types::{Error, HistoryRecord, LockName, Result, State};
use std::sync::Arc;

/// A lock that is only inspected (see [`Builder::open_existing`](crate::Builder::open_existing)).
///
/// What it tells is about the lock that stands at the paths when it is asked, also after somebody has removed the lock and
/// perhaps created it again. A lock that no longer exists is free; one that cannot be read counts as taken. If the lock is
/// just being created again, a call blocks for up to 100 ms.
pub struct Viewer {
    name: LockName,
    terms: Terms,
    opened: Arc<Sight>,
}

impl Viewer {
    /// Waits 100 ms for what another process has half made.
    pub(crate) fn open(name: LockName, terms: Terms) -> Result<Self> {
        let opened = Arc::new(Sight::open(&name, terms.trust(), &mut Retry::default())?);
        Ok(Self { name, terms, opened })
    }

    /// What stands at the lock's paths now.
    pub(crate) fn look(&self) -> Result<Arc<Sight>> {
        self.look_from(&self.opened)
    }

    /// The same, which may be what was seen `before`.
    pub(crate) fn look_from(&self, before: &Arc<Sight>) -> Result<Arc<Sight>> {
        if before.is_current() {
            return Ok(before.clone());
        }
        Sight::open(&self.name, self.terms.trust(), &mut Retry::default()).map(Arc::new)
    }

    /// Checks that the caller trusts the lock's owner (see [`Builder::owner`](crate::Builder::owner)). If not, all that
    /// is seen of the lock is what its owner claims.
    ///
    /// # Errors
    /// [`Error::Untrusted`], [`Error::UnsafeDirectory`]; those of
    /// [`Builder::open_existing`](crate::Builder::open_existing) if another lock is there by now, but for
    /// [`Error::NotFound`].
    pub fn check_trust(&self) -> Result<()> {
        match self.look() {
            Ok(sight) => sight.check_trust(),
            Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The lock's name.
    pub fn name(&self) -> &LockName {
        &self.name
    }

    /// Holders, waiters, note, and counters. Takes no latch, and disturbs nobody.
    pub fn state(&self) -> State {
        match self.look() {
            Ok(sight) => sight.state(),
            Err(error) => snapshot::state_without(&self.name, &error),
        }
    }

    /// The ended requests, oldest first: up to the last 256 holds, and the last 64 requests that gave up.
    pub fn history(&self) -> Vec<HistoryRecord> {
        self.look().map_or_else(|_| Vec::new(), |sight| sight.history())
    }

    /// True if the table contains a hold with this token now, and its holder is not proven dead.
    pub fn is_held(&self, token: u64) -> bool {
        self.look().is_ok_and(|sight| sight.is_held(token))
    }
}

impl std::fmt::Debug for Viewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Viewer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
