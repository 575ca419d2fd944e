//! This machine, as an engine.

use super::{Capabilities, Engine, Follow, Held, Validity};
use crate::lock::inspect::watch::Viewed;
use crate::{
    Cancel, Change, Detached, Error, GetOptions, Guard, LockName, ResourceLock, Result, State, UngetOptions, Watch,
};
use std::sync::Arc;
use std::time::Duration;

/// The locks of this machine as an [`Engine`]: what a [`ResourceLock`] is, in the words that all engines share.
#[derive(Debug, Default)]
pub struct Local(());

impl Local {
    /// Opens nothing yet.
    pub fn new() -> Self {
        Self::default()
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
            order: true,
            token: true,
            lease: false,
            detached: true,
            shared: true,
            slots: true,
            tells_abandoned: true,
            history: true,
            survives_a_server: false,
        }
    }

    fn acquire(&self, name: &LockName, options: GetOptions<'_>) -> Result<Option<Box<dyn Held>>> {
        let lock = Arc::new(ResourceLock::open(name.as_str())?);
        let token = match lock.try_acquire(options)? {
            Some(guard) => {
                let token = guard.token();
                // From here on `LocalHeld` releases.
                std::mem::forget(guard);
                token
            }
            None => return Ok(None),
        };
        Ok(Some(Box::new(LocalHeld { lock, token })))
    }

    fn state(&self, name: &LockName) -> Result<State> {
        match ResourceLock::builder(name.as_str()).open_existing() {
            Ok(viewer) => Ok(viewer.state()),
            // Nobody has used it yet: it looks like one that nobody uses.
            Err(Error::NotFound { .. }) => Ok(ResourceLock::open(name.as_str())?.state()),
            Err(error) => Err(error),
        }
    }

    fn look(&self, name: &LockName, _cancel: &Cancel) -> Result<State> {
        self.state(name)
    }

    fn list(&self) -> Result<Vec<State>> {
        let mut states = Vec::new();
        for name in crate::list()? {
            match ResourceLock::builder(name.as_str()).open_existing() {
                Ok(viewer) => states.push(viewer.state()),
                // Others' locks, and those that were removed just now.
                Err(Error::NotFound { .. } | Error::Permission { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(states)
    }

    fn watch(&self, name: &LockName, _cancel: &Cancel) -> Result<Box<dyn Follow>> {
        // Made now if need be, as only what exists can be watched.
        drop(ResourceLock::open(name.as_str())?);
        let viewer = ResourceLock::builder(name.as_str()).open_existing()?;
        Ok(Box::new(LocalFollow(Watch::new(Viewed::Own(Box::new(viewer))))))
    }

    fn break_hold(&self, name: &LockName, token: Option<u64>) -> Result<bool> {
        let options = match token {
            Some(token) => UngetOptions::new().token(token),
            None => UngetOptions::new().force(true),
        };
        ResourceLock::open(name.as_str())?.unget_lock(options)
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
}

impl LocalHeld {
    /// Releases when it is dropped.
    fn guard(&self) -> Guard<'_> {
        Guard {
            lock: &self.lock,
            token: self.token,
            owned: true,
        }
    }
}

impl Held for LocalHeld {
    fn token(&self) -> u64 {
        self.token
    }

    fn validity(&self) -> Validity {
        std::mem::ManuallyDrop::new(self.guard())
            .lost()
            .map_or(Validity::Unlimited, |_| Validity::Lost)
    }

    fn on_change(&mut self, tell: Box<dyn Fn(Validity) + Send>) {
        // Only a person with force ends such a hold, and its command is not to be ended for that.
        tell(self.validity());
    }

    fn detach(self: Box<Self>, ttl: Option<Duration>, _cancel: &Cancel) -> Result<()> {
        let mut current = self.lock.current();
        let at = current.holds.iter().position(|hold| hold.token == self.token);
        if let Some(at) = at {
            // If the table stays busy it is released as ever.
            current.holds[at].detach(Detached { pid: None, ttl }, 0)?;
            current.holds.remove(at);
        }
        Ok(())
    }

    fn release(self: Box<Self>) -> Result<bool> {
        self.guard().release()
    }
}

impl Drop for LocalHeld {
    fn drop(&mut self) {
        // Does nothing if it was released or detached.
        drop(self.guard());
    }
}
