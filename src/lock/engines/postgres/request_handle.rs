//! One request, from its connection to its end: the handle to the thread that keeps the connection.

use super::request_thread::{Done, PARTING_TIMEOUT, Request};
use super::target::Target;
use crate::lock::engines::background::{self, Event};
use crate::lock::engines::validity::TrackedValidity;
use crate::lock::engines::{ANSWER_TIMEOUT, Held, PEEK_TIMEOUT, Validity};
use crate::lock::sys::{self, OfThisProcess};
use crate::lock::types::{Cancel, Error, GetOptions, Result, State};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// How far the request has come.
pub(super) enum Phase {
    Asking,
    Granted {
        token: u64,
        validity: Arc<TrackedValidity>,
        socket: OwnedFd,
    },
    NotGranted,
    Failed(Error),
    /// The hold has ended: true if it lasted until its release.
    Ended(Result<bool>),
}

/// What the handle and the thread share.
pub(super) struct Shared {
    phase: Mutex<Phase>,
    news: Event,
    /// The server answers, and the request is in its queue.
    queued: Event,
}

impl Shared {
    fn new() -> Self {
        Self {
            phase: Mutex::new(Phase::Asking),
            news: Event::default(),
            queued: Event::default(),
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The news since the last call.
    fn take(&self) -> Phase {
        self.news.clear();
        std::mem::replace(&mut *self.phase(), Phase::Asking)
    }

    pub(super) fn tell(&self, phase: Phase) {
        *self.phase() = phase;
        self.news.set();
    }

    pub(super) fn set_queued(&self) {
        self.queued.set();
        self.news.set();
    }
}

/// Tells of a thread that ends without having told anything, by a bug of this program.
struct LastWord {
    shared: Arc<Shared>,
    target: Arc<Target>,
}

impl Drop for LastWord {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = "this program has failed at it, which is a bug of its own";
            self.shared.tell(Phase::Failed(self.target.refused(what)));
        }
    }
}

/// The handle. Dropping it releases, or gives up.
pub(super) struct RequestHandle {
    /// What is to be recorded. Dropped: the thread comes to its end. `None`: it has been told.
    orders: Option<UnboundedSender<Done>>,
    shared: Arc<Shared>,
    target: Arc<Target>,
}

impl RequestHandle {
    /// Starts asking.
    pub(super) fn start(request: Request) -> Result<Self> {
        let shared = Arc::new(Shared::new());
        let target = request.target.clone();
        let (orders, inbox) = unbounded_channel();
        let word = LastWord {
            shared: shared.clone(),
            target: target.clone(),
        };
        background::spawn("postgres", move || {
            let word = word;
            let shared = &word.shared;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(request.run(shared, inbox)),
                Err(error) => shared.tell(Phase::Failed(request.target.unreachable(error.to_string()))),
            }
        })?;
        Ok(Self {
            orders: Some(orders),
            shared,
            target,
        })
    }

    /// Waits for the answer; `None` = not granted. `peek` views the lock for those who are told of the wait.
    pub(super) fn wait(
        self,
        options: &GetOptions<'_>,
        peek: impl Fn() -> Option<State>,
    ) -> Result<Option<PostgresHold>> {
        let mut own = OfThisProcess::new(self);
        let begun = sys::monotonic();
        let mut on_wait = options.on_wait.as_slice();
        loop {
            // Whoever was told of the wait may have forked, and this be the child.
            let request = own.get_mut()?;
            match request.shared.take() {
                Phase::Asking => {}
                Phase::Granted {
                    token,
                    validity,
                    socket,
                } => {
                    return Ok(Some(PostgresHold {
                        request: own.into_inner()?,
                        token,
                        validity,
                        socket,
                        release_timeout: ANSWER_TIMEOUT + ANSWER_TIMEOUT,
                    }));
                }
                other => {
                    request.orders = None; // the thread has come to its end
                    return match other {
                        Phase::Failed(error) => Err(error),
                        // It was granted and lost again before this thread could see it.
                        Phase::Ended(_) => Err(request.target.unreachable("the connection has ended")),
                        _ => Ok(None),
                    };
                }
            }
            if options.cancel.is_some_and(Cancel::is_cancelled) {
                // Granted in the same instant or not: it is given up.
                let _ = request.end(2 * PARTING_TIMEOUT);
                return Err(Error::Cancelled);
            }
            // Before it is queued, a view would only wait for the same answer.
            let to_tell = on_wait.first().filter(|_| request.shared.queued.is_set());
            let tell_at = to_tell.map_or(u64::MAX, |(after, _)| background::later(begun, *after));
            if sys::monotonic() < tell_at {
                background::sleep(&[&request.shared.news], options.cancel, tell_at);
            } else if let Some(((_, tell), later)) = on_wait.split_first() {
                on_wait = later;
                if let Some(state) = peek() {
                    tell(&state);
                }
            }
        }
    }

    /// Has the thread record a run as done, and waits for that at most for `time`.
    fn record_done(&self, began_ago: Duration, time: Duration) -> Result<()> {
        let (answer, answered) = channel();
        let done = Done { began_ago, answer };
        // If the thread has come to its end, the hold has been lost.
        match self.orders.as_ref().map(|orders| orders.send(done)) {
            Some(Ok(())) => match answered.recv_timeout(time) {
                Ok(recorded) => recorded,
                Err(RecvTimeoutError::Disconnected) => Err(Error::NotHeld),
                Err(RecvTimeoutError::Timeout) => Err(self.target.no_answer()),
            },
            Some(Err(_)) | None => Err(Error::NotHeld),
        }
    }

    /// Has the thread come to its end, and waits for that at most for `time`. Returns true if the lock was held until
    /// then.
    fn end(&mut self, time: Duration) -> Result<bool> {
        if self.orders.take().is_none() {
            return Ok(false);
        }
        let until = background::later(sys::monotonic(), time);
        loop {
            match self.shared.take() {
                Phase::Ended(result) => return result,
                Phase::NotGranted => return Ok(false),
                Phase::Failed(error) => return Err(error),
                Phase::Asking | Phase::Granted { .. } => {}
            }
            if sys::monotonic() >= until {
                return Err(self.target.no_answer());
            }
            background::sleep(&[&self.shared.news], None, until);
        }
    }
}

impl Drop for RequestHandle {
    fn drop(&mut self) {
        // The thread goes on if it takes longer, or the connection's end tells the server.
        if let Err(error) = self.end(2 * PARTING_TIMEOUT) {
            log::debug!("{error}");
        }
    }
}

/// A hold. Dropping it releases.
pub(super) struct PostgresHold {
    request: RequestHandle,
    token: u64,
    validity: Arc<TrackedValidity>,
    socket: OwnedFd,
    release_timeout: Duration,
}

impl Held for PostgresHold {
    fn token(&self) -> u64 {
        self.token
    }

    fn validity(&self) -> Validity {
        // The thread that follows the connection may not have had its turn: this program may have been stopped.
        if has_ended(self.socket.as_fd()) {
            self.validity.lost();
        }
        self.validity.now()
    }

    fn on_change(&mut self, tell: Box<dyn Fn(Validity) + Send>) {
        self.validity.on_change(tell);
    }

    fn keep_open(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn shorten_release(&mut self) {
        self.release_timeout = PEEK_TIMEOUT;
    }

    fn engine(&self) -> &'static str {
        "postgres"
    }

    fn mark_done(&self, began_ago: Duration) -> Result<()> {
        self.request.record_done(began_ago, self.release_timeout)
    }

    fn release(mut self: Box<Self>) -> Result<bool> {
        let certain = self.validity().is_certain();
        self.validity.silence();
        Ok(self.request.end(self.release_timeout)? && certain)
    }
}

impl Drop for PostgresHold {
    fn drop(&mut self) {
        self.validity.silence(); // and then the request ends
    }
}

/// True if the server has closed the connection, or the system has given it up.
fn has_ended(socket: BorrowedFd<'_>) -> bool {
    let mut connection = [PollFd::new(socket, PollFlags::from_bits_retain(libc::POLLRDHUP))];
    poll(&mut connection, PollTimeout::ZERO).is_ok_and(|ended| ended > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_fails_is_not_waited_for() {
        let target = Arc::new(Target::new("postgres://u@127.0.0.1/d").unwrap());
        let shared = Arc::new(Shared::new());
        let word = LastWord {
            shared: shared.clone(),
            target: target.clone(),
        };
        let thread = background::spawn("postgres", move || {
            let _word = word;
            panic!("on purpose");
        });
        let request = RequestHandle {
            orders: None,
            shared,
            target,
        };
        let told = request.wait(&GetOptions::new(), || None);
        assert!(matches!(told, Err(Error::Refused { .. })));
        assert!(thread.unwrap().join().is_err());
    }
}
