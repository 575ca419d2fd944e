//! Inspecting a lock without taking part.

use crate::lock::inspect::sight::Sight;
use crate::lock::inspect::snapshot;
use crate::lock::shm::opening::Terms;
use crate::lock::types::{Error, HistoryRecord, LockName, Result, State};
use std::sync::Arc;

/// A lock that is only inspected.
///
/// What it tells is about the lock that stands at the paths when it is asked, also after somebody has removed the lock and
/// perhaps created it again. A lock that no longer exists is free. If the lock is just being created again, a call blocks
/// for up to 100 ms.
#[derive(Clone)]
pub(crate) struct Viewer {
    name: LockName,
    terms: Terms,
    opened: Arc<Sight>,
}

impl Viewer {
    /// Waits 100 ms for what another process has half made.
    pub(crate) fn open(name: LockName, terms: Terms) -> Result<Self> {
        let opened = Arc::new(Sight::open(&name, terms.trust())?);
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
        Sight::open(&self.name, self.terms.trust()).map(Arc::new)
    }

    /// Checks that the caller trusts the lock's owner. If not, all that is seen of the lock is what its owner claims.
    pub(crate) fn check_trust(&self) -> Result<()> {
        self.see(Sight::check_trust)?.unwrap_or(Ok(()))
    }

    /// The lock's name.
    pub(crate) fn name(&self) -> &LockName {
        &self.name
    }

    /// What `of` tells of the lock; `None` = it no longer exists.
    fn see<R>(&self, of: impl FnOnce(&Sight) -> R) -> Result<Option<R>> {
        match self.look() {
            Ok(sight) => Ok(Some(of(&sight))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Holders, waiters, note, and counters. Takes no latch, and disturbs nobody.
    pub(crate) fn state(&self) -> Result<State> {
        let state = self.see(Sight::state)?;
        Ok(state.unwrap_or_else(|| snapshot::state_of_none(&self.name)))
    }

    /// The ended requests, oldest first: see [`HistoryRecord`].
    pub(crate) fn history(&self) -> Result<Vec<HistoryRecord>> {
        Ok(self.see(Sight::history)?.unwrap_or_default())
    }

    /// True if the table contains a hold with this token now, and its holder is not proven dead.
    pub(crate) fn is_held(&self, token: u64) -> Result<bool> {
        Ok(self.see(|sight| sight.is_held(token))?.unwrap_or(false))
    }
}
