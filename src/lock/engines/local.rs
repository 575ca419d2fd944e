//! This machine, as an engine.

use super::{Capabilities, DetachedHold, Engine, Guard, Listing, Sealed, Watch};
use crate::lock::acquire::handle::Handle;
use crate::lock::acquire::hold::User;
use crate::lock::inspect::sight::{Looking, Sight};
use crate::lock::inspect::{self, Viewer};
use crate::lock::shm::found::Found;
use crate::lock::shm::opening::Terms;
use crate::lock::types::{
    Cancel, Detached, Error, GetOptions, HistoryRecord, LastDone, LockName, Result, State, UngetOptions,
};
use std::sync::{Arc, Mutex, PoisonError};

/// The locks of this machine as an [`Engine`].
#[derive(Debug, Default)]
pub struct Local {
    pub(crate) terms: Terms,
    /// The lock that was opened last, to be used again.
    opened: Mutex<Option<Arc<Handle>>>,
}

impl Local {
    /// Opens nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Permission bits for a lock that is created now: see [`Builder::mode`](crate::Builder::mode).
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.terms.set_mode(mode);
        self
    }

    /// Group (number) for a lock that is created now: see [`Builder::group`](crate::Builder::group).
    #[must_use]
    pub fn group(mut self, gid: u32) -> Self {
        self.terms.set_group(gid);
        self
    }

    /// A user (number) whose locks are used, too: see [`Builder::owner`](crate::Builder::owner).
    #[must_use]
    pub fn owner(mut self, uid: u32) -> Self {
        self.terms.named.owners.push(uid);
        self
    }

    /// A user (number) whose locks are used, too: see [`Builder::accept`](crate::Builder::accept).
    #[must_use]
    pub fn accept(mut self, uid: u32) -> Self {
        self.terms.named.accepted.push(uid);
        self
    }

    /// Checks that nobody but the files' owners and root can delete or replace what is in the directory where locks are.
    ///
    /// # Errors
    /// [`Error::UnsafeDirectory`]; [`Error::Os`] if it cannot be examined.
    pub fn check_directory(&self) -> Result<()> {
        let terms = Terms::default();
        Found::default()
            .check_trust(&LockName::new("any")?, terms.trust())?
            .map_err(|refusal| refusal.error())
    }

    /// What [`list`](Engine::list) says of these locks, in their order; of those that do not exist, nothing. Blocks as
    /// [`state`](Engine::state), at most once for all.
    pub fn list_named(&self, names: &[LockName]) -> Listing {
        let (mut listing, mut looking) = (Listing::default(), Looking::new(self.terms.trust()));
        for name in names {
            match looking.brief_state(name) {
                Ok(state) => listing.states.push(state),
                Err(Error::NotFound { .. }) => {} // removed since the directory was read
                Err(error) => listing.unreadable.push((name.clone(), error)),
            }
        }
        listing
    }

    /// The handle of a lock that was opened to be used.
    fn opened(&self, name: &LockName) -> Option<Arc<Handle>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().filter(|handle| handle.name() == name).cloned()
    }

    /// Opens the lock to use it; creates what is missing.
    fn open(&self, name: &LockName) -> Result<Arc<Handle>> {
        if let Some(handle) = self.opened(name) {
            return Ok(handle);
        }
        let handle = Arc::new(Handle::open(name.clone(), self.terms.clone())?);
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.clone());
        Ok(handle)
    }

    /// What `view` tells of a lock; creates nothing.
    fn view<R>(&self, name: &LockName, view: impl FnOnce(View<'_>) -> Result<R>) -> Result<Option<R>> {
        if let Some(handle) = self.opened(name) {
            return view(View::Handle(&handle)).map(Some);
        }
        match Sight::open(name, self.terms.trust()) {
            Ok(sight) => view(View::Sight(&sight)).map(Some),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What a lock is viewed through.
enum View<'a> {
    /// In use here.
    Handle(&'a Handle),
    /// Opened to be viewed.
    Sight(&'a Sight),
}

impl View<'_> {
    /// A lock in use is one whose owner is trusted.
    fn check_trust(&self) -> Result<()> {
        match self {
            Self::Handle(_) => Ok(()),
            Self::Sight(sight) => sight.check_trust(),
        }
    }

    fn state(&self) -> Result<State> {
        match self {
            Self::Handle(handle) => handle.state(),
            Self::Sight(sight) => Ok(sight.state()),
        }
    }

    fn history(&self) -> Result<Vec<HistoryRecord>> {
        match self {
            Self::Handle(handle) => handle.history(),
            Self::Sight(sight) => Ok(sight.history()),
        }
    }

    fn last_done(&self) -> Result<Option<LastDone>> {
        match self {
            Self::Handle(handle) => handle.last_done(),
            Self::Sight(sight) => Ok(sight.last_done()),
        }
    }

    fn is_held(&self, token: u64) -> Result<bool> {
        match self {
            Self::Handle(handle) => handle.is_held(token),
            Self::Sight(sight) => Ok(sight.is_held(token)),
        }
    }
}

impl Sealed for Local {}

impl Engine for Local {
    fn kind(&self) -> &'static str {
        "local"
    }

    fn place(&self) -> String {
        "this machine".to_owned()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            remote: false,
            lease: false,
            detached: true,
            shared: true,
            slots: true,
            abandoned: true,
            history: true,
            skips: true,
            processes: true,
            files: true,
        }
    }

    fn acquire(&self, name: &LockName, options: &GetOptions<'_>) -> Result<Option<Guard>> {
        let mut options = options.clone();
        (options.detached, options.same_process_ok) = (None, false); // they have no meaning here
        let share = self.open(name)?.get(&options, User::Guard)?;
        Ok(share.map(Guard::from))
    }

    fn acquire_detached(
        &self,
        name: &LockName,
        options: &GetOptions<'_>,
        detached: Detached,
    ) -> Result<Option<DetachedHold>> {
        let mut options = options.clone().detached(detached);
        options.same_process_ok = false; // it has no meaning here
        let share = self.open(name)?.get(&options, User::Guard)?;
        Ok(share.map(|share| DetachedHold {
            token: share.token(),
            abandoned: share.abandoned(),
        }))
    }

    fn state(&self, name: &LockName, _cancel: &Cancel) -> Result<Option<State>> {
        self.view(name, |lock| lock.state())
    }

    fn report_death(&self, name: &LockName) -> bool {
        self.opened(name).is_none_or(|handle| handle.report_death())
    }

    fn is_held(&self, name: &LockName, token: u64) -> Result<bool> {
        let held = self.view(name, |lock| lock.check_trust().and_then(|()| lock.is_held(token)))?;
        Ok(held.unwrap_or(false))
    }

    fn check_trust(&self, name: &LockName) -> Result<()> {
        self.view(name, |lock| lock.check_trust())
            .map(Option::unwrap_or_default)
    }

    fn list(&self) -> Result<Listing> {
        Ok(self.list_named(&inspect::list()?))
    }

    fn history(&self, name: &LockName) -> Result<Option<Vec<HistoryRecord>>> {
        self.view(name, |lock| lock.history())
    }

    fn last_done(&self, name: &LockName, _cancel: &Cancel) -> Result<Option<LastDone>> {
        let last = self.view(name, |lock| lock.check_trust().and_then(|()| lock.last_done()))?;
        Ok(last.flatten())
    }

    fn count_skip(&self, name: &LockName, _cancel: &Cancel) -> Result<u64> {
        Ok(self.open(name)?.count_skip())
    }

    fn watch(&self, name: &LockName, _cancel: &Cancel) -> Result<Watch> {
        let viewer = Viewer::open(name.clone(), self.terms.clone())?;
        Ok(Watch::new(inspect::Watch::new(viewer)))
    }

    fn break_hold(&self, name: &LockName, target: UngetOptions<'_>) -> Result<bool> {
        if self.view(name, |_| Ok(()))?.is_none() {
            return Ok(false); // never used: nothing is created to find that out
        }
        if let Some(handle) = self.opened(name) {
            return handle.unget(target);
        }
        // Whoever releases a lock does not rely on it.
        let mut terms = self.terms.clone();
        terms.named.anybody = true;
        Handle::open(name.clone(), terms)?.unget(target)
    }
}
