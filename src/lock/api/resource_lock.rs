//! The handle that a process opens to use a lock.

use crate::lock::acquire::handle::Handle;
use crate::lock::acquire::hold::User;
use crate::lock::engines::{Engine, Guard, Watch};
use crate::lock::inspect;
use crate::lock::sys::OfThisProcess;
use crate::lock::types::{Cancel, Error, GetOptions, HistoryRecord, LockName, Mode, Result, State, Wait};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A handle to a named lock, of this machine or kept by an engine (see [`Builder::backend`](crate::Builder::backend)).
/// The [crate's front page](crate) says what is guaranteed.
///
/// Cloning it is cheap, and clones are the same handle: keep one in each thread or task. Two handles that are opened
/// separately compete like two processes. Guards do not need the handle: it may be dropped before them.
///
/// | | waits | not in time |
/// |---|---|---|
/// | [`acquire`](Self::acquire) | without limit | |
/// | [`try_acquire`](Self::try_acquire) | not at all | `None` |
/// | [`acquire_for`](Self::acquire_for) | up to a time | `None` |
/// | [`acquire_with`](Self::acquire_with) | as the options say | `None` |
/// | [`acquire_all`](Self::acquire_all) | as the options say, for several locks | `None` |
///
/// All of them block the calling thread. Whoever asks through a handle that holds the lock already waits for that hold,
/// as for anybody's (unless with [`GetOptions::same_process_ok`]): [`try_acquire`](Self::try_acquire) answers `None`, and
/// [`acquire`](Self::acquire) waits until another thread has dropped the guard.
#[derive(Clone)]
pub struct ResourceLock {
    opened: Arc<Opened>,
}

/// What the clones share.
pub(crate) enum Opened {
    Local(Arc<Handle>),
    Remote {
        name: LockName,
        engine: Box<dyn Engine>,
        own: OfThisProcess<Mutex<Own>>,
    },
}

impl Drop for Opened {
    fn drop(&mut self) {
        // What the handle was told to acquire is released with it. Guards look after themselves.
        if let Self::Local(handle) = self {
            handle.release_everything();
        }
    }
}

impl From<Handle> for ResourceLock {
    fn from(handle: Handle) -> Self {
        Self {
            opened: Arc::new(Opened::Local(Arc::new(handle))),
        }
    }
}

impl ResourceLock {
    pub(crate) fn on(engine: Box<dyn Engine>, name: LockName) -> Self {
        let own = OfThisProcess::new(Mutex::default());
        Self {
            opened: Arc::new(Opened::Remote { name, engine, own }),
        }
    }

    pub(crate) fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The handle of a lock of this machine.
    #[cfg(test)]
    pub(crate) fn handle(&self) -> &Arc<Handle> {
        match &*self.opened {
            Opened::Local(handle) => handle,
            Opened::Remote { .. } => panic!("not of this machine"),
        }
    }

    /// The lock's name (Python: `lockname`).
    pub fn name(&self) -> &LockName {
        match &*self.opened {
            Opened::Local(handle) => handle.name(),
            Opened::Remote { name, .. } => name,
        }
    }

    /// Acquires the lock, exclusively; waits without limit, in turn.
    ///
    /// # Errors
    /// As [`acquire_with`](Self::acquire_with).
    pub fn acquire(&self) -> Result<Guard> {
        // Without a limit there is always an answer.
        self.acquire_with(&GetOptions::new().wait(Wait::Forever))?
            .ok_or(Error::TimedOut)
    }

    /// Acquires the lock, exclusively, if it is free now; `None` = it is not.
    ///
    /// # Errors
    /// As [`acquire_with`](Self::acquire_with).
    #[must_use = "the lock is released as soon as the guard is dropped"]
    pub fn try_acquire(&self) -> Result<Option<Guard>> {
        self.acquire_with(&GetOptions::new().wait(Wait::No))
    }

    /// Acquires the lock, exclusively; waits up to `time`, in turn. `None` = not acquired in time.
    ///
    /// # Errors
    /// As [`acquire_with`](Self::acquire_with).
    #[must_use = "the lock is released as soon as the guard is dropped"]
    pub fn acquire_for(&self, time: Duration) -> Result<Option<Guard>> {
        self.acquire_with(&GetOptions::new().wait(Wait::For(time)))
    }

    /// Acquires the lock as `options` say: shared or counting, with a text for others to read, to be cancelled, ...
    /// `None` = not acquired in time. Blocks up to [`GetOptions::wait`].
    ///
    /// # Errors
    /// - [`Error::Cancelled`] through the options' [`Cancel`].
    /// - [`Error::SlotsDiffer`], [`Error::NoSlots`]: the number of slots is not that of the other holders, or 0.
    /// - [`Error::NoProcess`]: the process that a detached hold is bound to does not exist.
    /// - [`Error::Forked`]: the handle was opened before a fork; open the lock again in the child.
    /// - [`Error::Busy`]: a process that is stopped in the middle of an operation blocks the table until the time is up (even
    ///   a request that does not wait gives it 0.25 s); [`Error::BeingRemoved`]: one is stopped in the middle of the lock's
    ///   removal.
    /// - Those of [`Builder::open`](crate::Builder::open) if the lock's files were deleted and have to be created again.
    /// - On an engine: [`Error::Unreachable`], [`Error::Refused`], and [`Error::Unsupported`] for what it does not have.
    #[must_use = "the lock is released as soon as the guard is dropped"]
    pub fn acquire_with(&self, options: &GetOptions<'_>) -> Result<Option<Guard>> {
        match &*self.opened {
            Opened::Local(handle) => Ok(handle.get(options, User::Guard)?.map(Guard::from)),
            Opened::Remote { engine, .. } if options.detached.is_some() => Err(Error::Unsupported {
                engine: engine.kind(),
                what: "a guard of a hold that outlives its process: get_lock leaves one taken".to_owned(),
            }),
            Opened::Remote { name, engine, .. } => engine.acquire(name, options),
        }
    }

    /// Holders, waiters, note, and counters. On this machine: takes no latch, disturbs nobody, and never blocks, also in the
    /// child of a fork. On an engine: waits for its answer.
    ///
    /// # Errors
    /// On an engine, [`Error::Unreachable`], [`Error::Refused`] and [`Error::Forked`]; on this machine, in the child of
    /// a fork, those of [`Viewer::open`](crate::Viewer::open).
    pub fn state(&self) -> Result<State> {
        match &*self.opened {
            Opened::Local(handle) => handle.state(),
            Opened::Remote { name, engine, .. } => remote_state(&**engine, name),
        }
    }

    /// The ended requests, oldest first: those of the last 24 hours, up to 256 holds and 64 requests that gave up, and at
    /// least the last 23 of each, if there was space in /dev/shm. Blocks as [`state`](Self::state).
    ///
    /// # Errors
    /// [`Error::Unsupported`] on an engine, which keeps none; else as [`state`](Self::state).
    pub fn history(&self) -> Result<Vec<HistoryRecord>> {
        match &*self.opened {
            Opened::Local(handle) => handle.history(),
            Opened::Remote { name, engine, .. } => Ok(engine.history(name)?.unwrap_or_default()),
        }
    }

    /// True if a hold with this token stands now, whoever has it, and its holder is not proven dead. Blocks as
    /// [`state`](Self::state).
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn is_held(&self, token: u64) -> Result<bool> {
        match &*self.opened {
            Opened::Local(handle) => handle.is_held(token),
            Opened::Remote { name, engine, .. } => engine.is_held(name, token),
        }
    }

    /// Follows what happens to the lock from now on.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the lock's files were deleted; else as [`state`](Self::state).
    pub fn watch(&self) -> Result<Watch> {
        match &*self.opened {
            Opened::Local(handle) => {
                let viewer = inspect::Viewer::open(handle.name().clone(), handle.terms().clone())?;
                Ok(Watch::new(inspect::Watch::new(viewer)))
            }
            Opened::Remote { name, engine, .. } => engine.watch(name, &Cancel::new()),
        }
    }

    /// Repairs what crashed processes left behind, so that a lone user of the Python module need not wait for that: the
    /// dead are dropped, and the next in line is woken. Every request does this by itself. On an engine there is nothing to
    /// repair. Waits up to 1 s for the table.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Forked`].
    pub fn repair(&self) -> Result<()> {
        match &*self.opened {
            Opened::Local(handle) => {
                handle.check_fork()?;
                handle.repair()
            }
            Opened::Remote { own, .. } => Ok(own.get().map(drop)?),
        }
    }
}

/// The state of a lock that an engine keeps.
pub(crate) fn remote_state(engine: &dyn Engine, name: &LockName) -> Result<State> {
    let state = engine.state(name, &Cancel::new())?;
    state.ok_or_else(|| Error::NotFound {
        path: name.semaphore_path(),
    })
}

/// What was acquired in the Python module's words, on an engine, the latest last.
pub(crate) type Own = Vec<(Mode, Guard)>;

/// Fails in the child of a fork.
pub(crate) fn locked(own: &OfThisProcess<Mutex<Own>>) -> Result<MutexGuard<'_, Own>> {
    Ok(own.get()?.lock().unwrap_or_else(PoisonError::into_inner))
}

impl fmt::Debug for ResourceLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceLock")
            .field("name", self.name())
            .finish_non_exhaustive()
    }
}
