//! `Lock`: one object that several threads and tasks may use, and what each of them holds.

use crate::asking::{Asking, Terms, Timeout, ask_later, doorbell, interruptible, or_raise, wait_for_engine};
use crate::raised::{exception, invalid};
use crate::views::{Record, State};
use pyo3::prelude::*;
use resourcelock::{GetOptions, Guard, Mode, ResourceLock, Wait};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};

/// The guards of this object's holds, each with the thread that acquired it, the latest last.
type Holds = Vec<(ThreadId, Guard)>;

/// See `Lock` in `_native.pyi`.
#[pyclass(frozen, subclass, module = "resourcelock._native")]
pub struct Lock {
    name: String,
    timeout: Wait,
    mode: Mode,
    message: String,
    command: Option<String>,
    remote: bool,
    pid: u32,
    /// `None` = closed.
    opened: Mutex<Option<ResourceLock>>,
    holds: Mutex<Holds>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The latest hold that this thread has acquired; if it has none, the latest of all.
fn latest(holds: &Holds) -> Option<usize> {
    let me = thread::current().id();
    let own = holds.iter().rposition(|(thread, _)| *thread == me);
    own.or_else(|| holds.len().checked_sub(1))
}

impl Lock {
    fn opened(&self, py: Python<'_>) -> PyResult<ResourceLock> {
        let opened = locked(&self.opened).clone();
        opened.ok_or_else(|| {
            let message = format!("the lock '{}' is closed; open it again: Lock(…)", self.name);
            exception(py, "LockClosed", message)
        })
    }

    fn options(&self, wait: Wait) -> GetOptions<'static> {
        let options = GetOptions::new()
            .wait(wait)
            .mode(self.mode)
            .lock_info(self.message.clone());
        match &self.command {
            Some(command) => options.command(command.clone()),
            None => options,
        }
    }

    fn not_held(&self, py: Python<'_>) -> PyErr {
        exception(
            py,
            "NotHeld",
            format!("the lock '{}' is not held through this object", self.name),
        )
    }

    /// What `ask` says about the latest hold.
    fn of_latest<R>(&self, ask: impl FnOnce(&Guard) -> R) -> Option<R> {
        let holds = locked(&self.holds);
        latest(&holds).map(|at| ask(&holds[at].1))
    }

    /// Fails if this thread would wait for itself.
    fn check_deadlock(&self, py: Python<'_>, wait: Wait) -> PyResult<()> {
        let me = thread::current().id();
        let own = locked(&self.holds).iter().any(|(thread, _)| *thread == me);
        if own && wait == Wait::Forever && self.mode == Mode::Exclusive && !self.is_forked() {
            let message = format!(
                "this thread holds the lock '{}' already: waiting without a limit would deadlock",
                self.name
            );
            return Err(exception(py, "WouldDeadlock", message));
        }
        Ok(())
    }

    fn acquire_up_to(&self, py: Python<'_>, wait: Wait) -> PyResult<bool> {
        let lock = self.opened(py)?;
        self.check_deadlock(py, wait)?;
        let guard = if self.remote {
            wait_for_engine(py, ask_later(&lock, self.options(wait)))?
        } else {
            interruptible(py, self.options(wait), |options| lock.acquire_with(options))?
        };
        Ok(self.keep(guard))
    }

    fn keep(&self, guard: Option<Guard>) -> bool {
        let acquired = guard.is_some();
        locked(&self.holds).extend(guard.map(|guard| (thread::current().id(), guard)));
        acquired
    }

    /// True in the child of a fork: what was held there is the parent's.
    fn is_forked(&self) -> bool {
        self.pid != std::process::id()
    }

    fn take_latest(&self) -> Option<Guard> {
        let mut holds = locked(&self.holds);
        latest(&holds).map(|at| holds.remove(at).1)
    }

    /// Releases the latest hold: `None` = there is none, false = it was lost before.
    fn release_latest(&self, py: Python<'_>) -> PyResult<Option<bool>> {
        let Some(guard) = self.take_latest() else {
            return Ok(None);
        };
        or_raise(py, py.detach(|| guard.release())).map(Some)
    }
}

#[pymethods]
impl Lock {
    #[new]
    #[pyo3(signature = (name, *, timeout=Timeout::Own, shared=false, slots=None, message=None, backend=None, mode=None,
        group=None, owner=None, command=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        name: String,
        timeout: Timeout,
        shared: bool,
        slots: Option<u32>,
        message: Option<String>,
        backend: Option<String>,
        mode: Option<u32>,
        group: Option<u32>,
        owner: Option<u32>,
        command: Option<String>,
    ) -> PyResult<Self> {
        let kind = match (shared, slots) {
            (true, Some(_)) => return Err(invalid(py, "a lock is either shared or has slots, not both")),
            (true, None) => Mode::Shared,
            (false, Some(0)) => return Err(invalid(py, "a lock with 0 slots could never be acquired")),
            (false, Some(slots)) => Mode::Slots(slots),
            (false, None) => Mode::Exclusive,
        };
        let remote = backend.as_deref().is_some_and(|url| !url.starts_with("local:"));
        let terms = Terms {
            backend,
            mode,
            group,
            owner,
            note_size: None,
        };
        let opened = terms.open(py, &name)?;
        Ok(Self {
            name: opened.name().as_str().to_owned(),
            timeout: timeout.or(Wait::Forever),
            mode: kind,
            message: message.unwrap_or_default(),
            command,
            remote,
            pid: std::process::id(),
            opened: Mutex::new(Some(opened)),
            holds: Mutex::default(),
        })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn closed(&self) -> bool {
        locked(&self.opened).is_none()
    }

    #[pyo3(signature = (timeout=Timeout::Own))]
    fn acquire(&self, py: Python<'_>, timeout: Timeout) -> PyResult<bool> {
        self.acquire_up_to(py, timeout.or(self.timeout))
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        match self.release_latest(py)? {
            Some(true) => Ok(()),
            Some(false) => {
                let message = format!("the lock '{}' was lost before it was released", self.name);
                Err(exception(py, "NotHeld", message))
            }
            None => Err(self.not_held(py)),
        }
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        let py = slf.py();
        if slf.acquire_up_to(py, slf.timeout)? {
            return Ok(slf);
        }
        Err(slf._timed_out(py))
    }

    /// Releases. A hold that was lost, or released inside, is no error here: the body may be raising one of
    /// its own. Nor is leaving the block in the child of a fork.
    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, py: Python<'_>, _raised: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.is_forked() {
            return Ok(());
        }
        self.release_latest(py).map(drop)
    }

    /// The exception for a request that was not granted in time.
    fn _timed_out(&self, py: Python<'_>) -> PyErr {
        let seen = self
            .opened(py)
            .map(|lock| py.detach(|| lock.state().map(|state| state.note)));
        let note = seen.ok().and_then(Result::ok).filter(|note| !note.is_empty());
        let holder = note
            .map(|note| format!("; its holder says: {note}"))
            .unwrap_or_default();
        let message = format!("the lock '{}' was not acquired in time{holder}", self.name);
        exception(py, "LockTimeout", message)
    }

    /// A request of a task.
    fn _request(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Request> {
        let lock = self.opened(py)?;
        let options = self.options(timeout.or(self.timeout));
        Request::new(py, ask_later(&lock, options))
    }

    /// The release by a task, if that takes an engine's answer; else it is done.
    fn _release_request(&self, py: Python<'_>) -> PyResult<Option<Request>> {
        // In the child of a fork there is no answer to wait for, and no loop that runs.
        if !self.remote || self.is_forked() {
            self.release_latest(py)?;
            return Ok(None);
        }
        let release: Option<Asking> = self
            .take_latest()
            .map(|guard| Box::pin(async move { guard.release_async().await.map(|_| None) }) as _);
        release.map(|release| Request::new(py, release)).transpose()
    }

    /// What a request has come to, kept: true = acquired. `None`: not yet, its descriptor will be
    /// readable.
    fn _polled(&self, py: Python<'_>, request: &Request) -> PyResult<Option<bool>> {
        match request.poll(py)? {
            Poll::Ready(guard) => Ok(Some(self.keep(guard))),
            Poll::Pending => Ok(None),
        }
    }

    #[getter]
    fn locked(&self) -> bool {
        self.of_latest(|guard| guard.lost().is_none()).unwrap_or(false)
    }

    #[getter]
    fn token(&self, py: Python<'_>) -> PyResult<u64> {
        self.of_latest(Guard::token).ok_or_else(|| self.not_held(py))
    }

    #[getter]
    fn abandoned(&self, py: Python<'_>) -> PyResult<bool> {
        self.of_latest(Guard::abandoned).ok_or_else(|| self.not_held(py))
    }

    #[getter]
    fn lost(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let lost = self.of_latest(Guard::lost).ok_or_else(|| self.not_held(py))?;
        Ok(lost.map(|lost| lost.to_string()))
    }

    fn mark_recovered(&self, py: Python<'_>) -> PyResult<()> {
        let marked = self.of_latest(Guard::mark_recovered);
        or_raise(py, marked.ok_or_else(|| self.not_held(py))?)
    }

    fn state(&self, py: Python<'_>) -> PyResult<State> {
        let lock = self.opened(py)?;
        or_raise(py, py.detach(|| lock.state())).map(State::from)
    }

    fn history(&self, py: Python<'_>) -> PyResult<Vec<Record>> {
        let lock = self.opened(py)?;
        let records = or_raise(py, py.detach(|| lock.history()))?;
        Ok(records.into_iter().map(Record::from).collect())
    }

    fn close(&self, py: Python<'_>) {
        let (opened, holds) = (locked(&self.opened).take(), std::mem::take(&mut *locked(&self.holds)));
        py.detach(|| drop((holds, opened)));
    }
}

/// A request of a task. Dropping it leaves the queue.
#[pyclass(frozen, module = "resourcelock._native")]
pub struct Request {
    asking: Mutex<Option<Asking>>,
    /// Can be read when the request is to be polled again.
    door: UnixStream,
    waker: Waker,
}

impl Request {
    fn new(py: Python<'_>, asking: Asking) -> PyResult<Self> {
        let (door, waker) = doorbell(py)?;
        let _ = door.set_nonblocking(true); // what has been woken since is read until nothing is left
        let asking = Mutex::new(Some(asking));
        Ok(Self { asking, door, waker })
    }

    fn poll(&self, py: Python<'_>) -> PyResult<Poll<Option<Guard>>> {
        while (&self.door).read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {}
        let polled = py.detach(|| {
            let mut asking = locked(&self.asking);
            let Some(begun) = asking.as_mut() else {
                return Poll::Ready(Ok(None)); // dropped
            };
            let polled = begun.as_mut().poll(&mut Context::from_waker(&self.waker));
            if polled.is_ready() {
                *asking = None;
            }
            polled
        });
        Ok(match polled {
            Poll::Ready(result) => Poll::Ready(or_raise(py, result)?),
            Poll::Pending => Poll::Pending,
        })
    }
}

#[pymethods]
impl Request {
    /// The descriptor that can be read when the request is to be polled.
    fn fileno(&self) -> i32 {
        self.door.as_raw_fd()
    }

    /// Leaves the queue.
    fn drop(&self, py: Python<'_>) {
        py.detach(|| *locked(&self.asking) = None);
    }
}
