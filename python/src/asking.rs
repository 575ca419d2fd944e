//! What a request asks for, and waiting for the answer: without the GIL, and until a signal's handler raises something.

use crate::raised::{exception, invalid, raised};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use resourcelock::{Error, GetOptions, Guard, ResourceLock, Result, Wait};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A request that is being made, as the library's asynchronous interface makes it.
pub type Asking = Pin<Box<dyn Future<Output = Result<Option<Guard>>> + Send>>;

/// How long to wait, as a Python program says it.
#[derive(Clone, Copy)]
pub enum Timeout {
    /// What the lock was opened with.
    Own,
    Given(Wait),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Timeout {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let py = given.py();
        if given.is(py.Ellipsis()) {
            return Ok(Self::Own);
        }
        if given.is_none() {
            return Ok(Self::Given(Wait::Forever));
        }
        let seconds = match given.extract::<f64>() {
            Ok(seconds) => seconds,
            // An integer that no float can hold.
            Err(error) if error.is_instance_of::<PyOverflowError>(py) => {
                if given.lt(0)? {
                    f64::NEG_INFINITY
                } else {
                    f64::MAX
                }
            }
            Err(_) => {
                let class = given.get_type();
                return Err(PyTypeError::new_err(format!(
                    "timeout must be a number of seconds, or None for no limit, not {class}"
                )));
            }
        };
        if !(seconds >= 0.0 && seconds.is_finite()) {
            return Err(invalid(
                py,
                format!(
                    "timeout must not be negative, infinite or nan, but is {}; None is no limit",
                    &*given
                ),
            ));
        }
        Ok(Self::Given(match Duration::try_from_secs_f64(seconds) {
            Ok(Duration::ZERO) => Wait::No,
            Ok(time) => Wait::For(time),
            Err(_) => Wait::Forever, // more than the universe has
        }))
    }
}

impl Timeout {
    pub fn or(self, own: Wait) -> Wait {
        match self {
            Self::Own => own,
            Self::Given(wait) => wait,
        }
    }
}

/// How to open a lock: where it is kept, whose locks are used, and what a new one is created with.
pub struct Terms {
    pub backend: Option<String>,
    pub mode: Option<u32>,
    pub group: Option<u32>,
    pub owner: Option<u32>,
    pub note_size: Option<usize>,
}

impl Terms {
    /// Opens the lock `name`.
    pub fn open(self, py: Python<'_>, name: &str) -> PyResult<ResourceLock> {
        // Somebody may cut a lock's files short: that must not end the interpreter. A handler that is there already stays.
        let _ = resourcelock::survive_truncation();
        let mut builder = ResourceLock::builder(name);
        if let Some(url) = self.backend {
            builder = builder.backend(url);
        }
        if let Some(mode) = self.mode {
            builder = builder.mode(mode);
        }
        if let Some(gid) = self.group {
            builder = builder.group(gid);
        }
        if let Some(uid) = self.owner {
            builder = builder.owner(uid);
        }
        if let Some(bytes) = self.note_size {
            builder = builder.note_size(bytes);
        }
        or_raise(py, py.detach(|| builder.open()))
    }
}

/// Waits as `ask` does, without the GIL. A handler of a signal runs at once, and what it raises ends the wait.
pub fn interruptible<R: Send>(
    py: Python<'_>,
    options: GetOptions<'_>,
    ask: impl FnOnce(&GetOptions<'_>) -> Result<R> + Send,
) -> PyResult<R> {
    let raised_by_handler = Mutex::new(None);
    let result = py.detach(|| {
        let options = options.on_signal(|| {
            // Not while the interpreter ends: this may be a daemon thread.
            let Some(Err(error)) = Python::try_attach(|py| py.check_signals()) else {
                return false;
            };
            *raised_by_handler.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            true
        });
        ask(&options)
    });
    match raised_by_handler.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => or_raise(py, result),
    }
}

/// Wakes whoever waits for a request by a byte in a socket: a thread that is not Python's never enters the interpreter, which
/// may be ending.
struct Doorbell(UnixStream);

impl Wake for Doorbell {
    fn wake(self: Arc<Self>) {
        let _ = (&self.0).write(&[1]); // nobody waits any more, or there are enough bytes in it
    }
}

/// A socket that can be read when the waker has been used, and the waker.
pub fn doorbell(py: Python<'_>) -> PyResult<(UnixStream, Waker)> {
    let system = |error: std::io::Error| exception(py, "LockError", format!("cannot make a pair of sockets: {error}"));
    let (door, bell) = UnixStream::pair().map_err(system)?;
    bell.set_nonblocking(true).map_err(system)?;
    Ok((door, Waker::from(Arc::new(Doorbell(bell)))))
}

/// A signal may come between the question and the sleep. (The library looks as often: `GetOptions::on_signal`.)
const SIGNAL: Duration = Duration::from_secs(5);

/// Waits for an engine's answer as [`interruptible`] does. Dropping the request leaves the queue.
pub fn wait_for_engine(py: Python<'_>, mut asking: Asking) -> PyResult<Option<Guard>> {
    let (mut door, waker) = doorbell(py)?;
    let _ = door.set_read_timeout(Some(SIGNAL));
    let pid = std::process::id();
    loop {
        let polled = py.detach(|| asking.as_mut().poll(&mut Context::from_waker(&waker)));
        if let Poll::Ready(result) = polled {
            return or_raise(py, result);
        }
        let woken = py.detach(|| door.read(&mut [0]));
        if woken.is_err_and(|error| [ErrorKind::Interrupted, ErrorKind::WouldBlock].contains(&error.kind())) {
            py.check_signals()?;
            if std::process::id() != pid {
                // A handler has forked: the request is its parent's.
                return or_raise(py, Err(Error::Forked));
            }
        }
    }
}

/// The request with these options, not yet begun.
pub fn ask_later(lock: &ResourceLock, options: GetOptions<'static>) -> Asking {
    let lock = lock.clone();
    Box::pin(async move { lock.acquire_async(options).await })
}

/// The library's error as an exception.
pub fn or_raise<T>(py: Python<'_>, result: Result<T>) -> PyResult<T> {
    result.map_err(|error| raised(py, &error))
}
