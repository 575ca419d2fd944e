//! Locks in asynchronous programs. Nothing here needs a particular runtime.
//!
//! A request that has to wait gets a thread of its own, which sleeps in the queue as any other thread does. (Not one of a
//! runtime's pool for blocking work: if all of those waited for a lock, whatever its holder has to do there would wait for
//! them.) Dropping the future wakes that thread, and it leaves the queue.

use crate::lock::acquire::hold::User;
use crate::lock::api::resource_lock::{Opened, ResourceLock};
use crate::lock::engines::{Guard, Undelivered};
use crate::lock::inspect::Change;
use crate::lock::types::{Cancel, Error, GetOptions, Result};
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot};

/// Changes that are read ahead of whoever takes them.
const READ_AHEAD: usize = 64;

/// Cancels when it is dropped.
struct CancelOnDrop(Arc<Cancel>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Starts a thread.
fn spawn(what: &'static str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name(what.to_owned()).spawn(work);
    thread.map(drop).map_err(|source| Error::Os {
        doing: "start a thread for",
        path: PathBuf::from(what),
        source,
    })
}

/// What a thread of its own comes to. A panic there (of a callback, of a logger) goes on here.
async fn in_thread<R: Send + 'static>(what: &'static str, work: impl FnOnce() -> R + Send + 'static) -> Result<R> {
    let (tell, told) = oneshot::channel();
    spawn(what, move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // If nobody waits any more, what was acquired is released here.
        let _ = tell.send(result);
    })?;
    match told.await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        // The thread has been killed with the process; nobody sees this.
        Err(_) => Err(Error::Cancelled),
    }
}

/// # Asynchronous programs (feature `tokio`)
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), resourcelock::Error> {
/// # let name = format!("doc-async-{}", std::process::id());
/// # let name = name.as_str();
/// use resourcelock::{GetOptions, ResourceLock, Wait};
///
/// let lock = ResourceLock::open(name)?; // e.g. "nightly"
/// let options = GetOptions::new().wait(Wait::Forever);
/// tokio::select! {
///     guard = lock.acquire_async(options) => println!("mine: {:?}", guard?),
///     _ = tokio::signal::ctrl_c() => println!("given up"), // the request has left the queue
/// }
/// # lock.close();
/// # resourcelock::remove(name, false)?;
/// # Ok(())
/// # }
/// ```
///
/// Without the feature, `std::thread::spawn(move || lock.acquire())` and a channel of the runtime do the same, with a
/// [`Cancel`] to end the wait.
impl ResourceLock {
    /// As [`acquire_with`](Self::acquire_with), without blocking the runtime: a lock that is free is taken at once, for a
    /// request that has to wait (and on an engine, for each) a thread is started. Dropping the future leaves the queue
    /// within milliseconds; what was granted in the same instant is released.
    ///
    /// The options' own [`cancel`](GetOptions::cancel) has no meaning here. Their `on_wait` is called in that thread.
    ///
    /// Dropping a [`Guard`] releases on the spot: on this machine within microseconds, on an engine it waits for an answer:
    /// there, use [`Guard::release_async`].
    ///
    /// # Errors
    /// As [`acquire_with`](Self::acquire_with).
    pub async fn acquire_async(&self, options: GetOptions<'static>) -> Result<Option<Guard>> {
        if let Opened::Local(handle) = self.opened()
            && let Some(share) = handle.try_once(&options, User::Guard)?
        {
            return Ok(Some(share.into()));
        }
        let lock = self.clone();
        let cancel = Arc::new(Cancel::new());
        let _leave = CancelOnDrop(cancel.clone());
        let acquired = in_thread("lock-wait", move || -> Result<_> {
            let options = options.cancel(&cancel);
            Ok(lock.acquire_with(&options)?.map(Undelivered::new))
        });
        Ok(acquired.await??.and_then(Undelivered::deliver))
    }

    /// What happens to the lock from now on, as a stream. A thread follows the lock until the stream is dropped.
    ///
    /// # Errors
    /// As [`watch`](Self::watch), which is called here.
    pub async fn changes(&self) -> Result<Changes> {
        let lock = self.clone();
        let mut watch = in_thread("lock-watch", move || lock.watch()).await??;
        let (tell, changes) = mpsc::channel(READ_AHEAD);
        let cancel = Arc::new(Cancel::new());
        let leave = CancelOnDrop(cancel.clone());
        spawn("lock-watch", move || {
            while let Some(change) = watch.next(&cancel).transpose() {
                let over = change.is_err();
                if tell.blocking_send(change).is_err() || over {
                    return;
                }
            }
        })?;
        Ok(Changes { changes, _leave: leave })
    }
}

impl Guard {
    /// As [`release`](Self::release), in a thread of its own: for holds on an engine, whose answer is waited for. The hold is
    /// released also if the future is dropped (a [detached](GetOptions::detached) one, if the future was polled before).
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub async fn release_async(self) -> Result<bool> {
        in_thread("lock-release", move || self.release()).await?
    }
}

/// What happens to a lock, as a stream (see [`ResourceLock::changes`]). After an error it ends.
#[must_use = "changes are told only to who asks for them"]
pub struct Changes {
    changes: mpsc::Receiver<Result<Change>>,
    _leave: CancelOnDrop,
}

impl Changes {
    /// The next change. May be dropped without losing one.
    pub async fn next(&mut self) -> Option<Result<Change>> {
        self.changes.recv().await
    }
}

impl futures_core::Stream for Changes {
    type Item = Result<Change>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.changes.poll_recv(context)
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}
