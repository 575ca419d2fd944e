//! This machine, as an engine.

use super::{Capabilities, DetachedHold, Engine, Follow, Held, Left, Listing, Validity};
use crate::lock::inspect::sight::Sight;
use crate::lock::inspect::watch::Viewed;
use crate::lock::shm::found::{Found, Retry};
use crate::lock::shm::opening::Terms;
use crate::{
    Builder, Cancel, Change, Detached, Error, GetOptions, Guard, HistoryRecord, LockName, Lost, ResourceLock, Result,
    State, UngetOptions, Watch,
};
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, PoisonError};

/// The locks of this machine as an [`Engine`]: what a [`ResourceLock`] is, in the words that all engines share.
#[derive(Debug, Default)]
pub struct Local {
    mode: Option<u32>,
    gid: Option<u32>,
    owners: Vec<u32>,
    accepted: Vec<u32>,
    /// The lock that was opened last, to be used again.
    opened: Mutex<Option<Arc<ResourceLock>>>,
}

impl Local {
    /// Opens nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Permission bits for a lock that is created now: see [`Builder::mode`](crate::Builder::mode).
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Group (number) for a lock that is created now: see [`Builder::group`](crate::Builder::group).
    #[must_use]
    pub fn group(mut self, gid: u32) -> Self {
        self.gid = Some(gid);
        self
    }

    /// A user (number) whose locks are used, too: see [`Builder::owner`](crate::Builder::owner).
    #[must_use]
    pub fn owner(mut self, uid: u32) -> Self {
        self.owners.push(uid);
        self
    }

    /// A user (number) whose locks are used, too: see [`Builder::accept`](crate::Builder::accept).
    #[must_use]
    pub fn accept(mut self, uid: u32) -> Self {
        self.accepted.push(uid);
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

    /// A lock as this engine opens it.
    pub fn builder(&self, name: &LockName) -> Builder {
        let mut builder = ResourceLock::builder(name.as_str());
        if let Some(mode) = self.mode {
            builder = builder.mode(mode);
        }
        if let Some(gid) = self.gid {
            builder = builder.group(gid);
        }
        builder = self.owners.iter().fold(builder, |builder, uid| builder.owner(*uid));
        self.accepted.iter().fold(builder, |builder, uid| builder.accept(*uid))
    }

    /// The handle of a lock that was opened to be used.
    fn opened(&self, name: &LockName) -> Option<Arc<ResourceLock>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().filter(|lock| lock.name() == name).cloned()
    }

    /// Opens the lock to use it; creates what is missing.
    fn open(&self, name: &LockName) -> Result<Arc<ResourceLock>> {
        if let Some(lock) = self.opened(name) {
            return Ok(lock);
        }
        let lock = Arc::new(self.builder(name).open()?);
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock.clone());
        Ok(lock)
    }

    /// What `view` tells of a lock; creates nothing.
    fn view<R>(&self, name: &LockName, view: impl FnOnce(View<'_>) -> R) -> Result<Option<R>> {
        if let Some(lock) = self.opened(name) {
            return Ok(Some(view(View::Handle(&lock))));
        }
        match self.builder(name).sight(&mut Retry::default()) {
            Ok(sight) => Ok(Some(view(View::Sight(&sight)))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What a lock is viewed through.
enum View<'a> {
    /// In use here.
    Handle(&'a ResourceLock),
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

    fn state(&self) -> State {
        match self {
            Self::Handle(lock) => lock.state(),
            Self::Sight(sight) => sight.state(),
        }
    }

    fn history(&self) -> Vec<HistoryRecord> {
        match self {
            Self::Handle(lock) => lock.history(),
            Self::Sight(sight) => sight.history(),
        }
    }

    fn is_held(&self, token: u64) -> bool {
        match self {
            Self::Handle(lock) => lock.is_held(token),
            Self::Sight(sight) => sight.is_held(token),
        }
    }
}

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
            processes: true,
            files: true,
        }
    }

    fn acquire(&self, name: &LockName, mut options: GetOptions<'_>) -> Result<Option<Box<dyn Held>>> {
        (options.detached, options.same_process_ok) = (None, false); // they have no meaning here
        let lock = self.open(name)?;
        let Some(guard) = lock.try_acquire(options)? else {
            return Ok(None);
        };
        // From here on `LocalHeld` releases.
        let token = ManuallyDrop::new(guard).token();
        let released = false;
        Ok(Some(Box::new(LocalHeld { lock, token, released })))
    }

    fn acquire_detached(
        &self,
        name: &LockName,
        mut options: GetOptions<'_>,
        detached: Detached,
    ) -> Result<Option<DetachedHold>> {
        options.same_process_ok = false; // it has no meaning here
        let lock = self.open(name)?;
        let guard = lock.try_acquire(options.detached(detached))?;
        Ok(guard.map(|guard| DetachedHold {
            token: guard.token(),
            abandoned: guard.abandoned(),
        }))
    }

    fn state(&self, name: &LockName, _cancel: &Cancel) -> Result<Option<State>> {
        self.view(name, |lock| lock.state())
    }

    fn report_death(&self, name: &LockName) -> bool {
        self.opened(name).is_none_or(|lock| lock.handle.report_death())
    }

    fn is_held(&self, name: &LockName, token: u64) -> Result<bool> {
        let held = self.view(name, |lock| lock.check_trust().map(|()| lock.is_held(token)))?;
        held.unwrap_or(Ok(false))
    }

    fn check_trust(&self, name: &LockName) -> Result<()> {
        self.view(name, |lock| lock.check_trust())?.unwrap_or(Ok(()))
    }

    fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut retry = Retry::default();
        for name in crate::list()? {
            match self.builder(&name).sight(&mut retry) {
                Ok(sight) => listing.states.push(sight.brief_state()),
                Err(Error::NotFound { .. }) => {} // removed since the directory was read
                Err(error) => listing.unreadable.push((name, error)),
            }
        }
        Ok(listing)
    }

    fn history(&self, name: &LockName) -> Result<Option<Vec<HistoryRecord>>> {
        self.view(name, |lock| lock.history())
    }

    fn watch(&self, name: &LockName, _cancel: &Cancel) -> Result<Box<dyn Follow>> {
        let viewer = self.builder(name).open_existing()?;
        Ok(Box::new(LocalFollow(Watch::new(Viewed::Own(Box::new(viewer))))))
    }

    fn break_hold(&self, name: &LockName, target: UngetOptions<'_>) -> Result<bool> {
        if self.view(name, |_| ())?.is_none() {
            return Ok(false); // never used: nothing is created to find that out
        }
        if let Some(lock) = self.opened(name) {
            return lock.unget_lock(target);
        }
        // Whoever releases a lock does not rely on it.
        self.builder(name).accept_anybody().open()?.unget_lock(target)
    }
}

struct LocalFollow(Watch<'static>);

impl Follow for LocalFollow {
    fn next(&mut self, cancel: &Cancel) -> Result<Option<Change>> {
        Ok(self.0.next(cancel))
    }
}

/// A [`Guard`] with its lock.
struct LocalHeld {
    lock: Arc<ResourceLock>,
    token: u64,
    released: bool,
}

impl LocalHeld {
    /// The guard, for one call.
    fn lent(&self) -> ManuallyDrop<Guard<'_>> {
        ManuallyDrop::new(Guard::of(&self.lock, self.token))
    }
}

impl Held for LocalHeld {
    fn token(&self) -> u64 {
        self.token
    }

    fn validity(&self) -> Validity {
        self.lost().map_or(Validity::Unlimited, |_| Validity::Lost)
    }

    fn lost(&self) -> Option<Lost> {
        self.lent().lost()
    }

    fn abandoned(&self) -> bool {
        self.lent().abandoned()
    }

    fn on_change(&mut self, tell: Box<dyn Fn(Validity) + Send>) {
        // Only a person with force ends such a hold, and its command is not to be ended for that.
        tell(self.validity());
    }

    fn share_with_children(&self) -> Result<()> {
        self.lent().keep_alive_descriptor().map(drop)
    }

    fn bind(&self, pid: u32) -> Result<()> {
        self.lent().bind(pid)
    }

    fn let_lapse(&self) -> Result<()> {
        self.lent().let_lapse()
    }

    fn kept_alive_elsewhere(&self) -> bool {
        self.lent().kept_alive_elsewhere()
    }

    fn release(mut self: Box<Self>, left: Left) -> Result<bool> {
        self.released = true;
        let guard = Guard::of(&self.lock, self.token);
        match left {
            Left::InOrder if guard.abandoned() => match guard.mark_recovered() {
                Ok(()) | Err(Error::NotHeld) => {} // the release tells
                Err(error) => log::warn!("<{}> still marked as abandoned: {error}", self.lock.name()),
            },
            Left::InOrder | Left::AsFound => {}
            Left::Crashed => guard.mark_crashed(),
        }
        guard.release()
    }
}

impl Drop for LocalHeld {
    fn drop(&mut self) {
        if !self.released {
            drop(Guard::of(&self.lock, self.token));
        }
    }
}
