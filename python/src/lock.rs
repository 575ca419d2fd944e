//! `Lock`: one object that several threads and tasks may use, and what each of them holds.

use crate::asking::{Asking, Terms, Timeout, ask_later, doorbell, interruptible, or_raise, wait_for_engine};
use crate::caller::{Caller, Relation};
use crate::raised::{exception, invalid};
use crate::views::{Record, State};
use pyo3::prelude::*;
use resourcelock::{Error, GetOptions, Guard, Mode, ResourceLock, Wait};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A hold of this object.
struct Hold {
    caller: Arc<Caller>,
    /// Acquired by a `with` or `async with`, whose end releases it.
    block: bool,
    /// `None` = released inside its block.
    guard: Option<Guard>,
}

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
    /// The latest last.
    holds: Mutex<Vec<Hold>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hold of the highest rank, of several the latest. Those without a rank are passed over.
fn highest<R: Ord>(holds: &[Hold], rank: impl Fn(&Hold) -> Option<R>) -> Option<usize> {
    let ranked = holds
        .iter()
        .enumerate()
        .filter_map(|(at, hold)| Some((rank(hold)?, at)));
    ranked.max().map(|(_, at)| at)
}

/// The latest hold that this caller has acquired; if it has none, the latest of its thread, or else of all. Inside a
/// block whose hold it has released, it has that one, and not another's.
fn latest(py: Python<'_>, holds: &[Hold], caller: &Caller) -> Option<usize> {
    highest(holds, |hold| {
        let (relation, held) = (caller.relation(py, &hold.caller), hold.guard.is_some());
        (held || relation == Relation::Same).then_some((relation, held))
    })
}

/// The hold of the block that this caller has entered last; if it has entered none, it leaves another's.
fn latest_block(py: Python<'_>, holds: &[Hold], caller: &Caller) -> Option<usize> {
    highest(holds, |hold| hold.block.then(|| caller.relation(py, &hold.caller)))
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

    /// What `ask` says about the caller's latest hold.
    fn of_latest<R>(&self, py: Python<'_>, ask: impl FnOnce(&Guard) -> R) -> PyResult<Option<R>> {
        let caller = Caller::current(py)?;
        let holds = locked(&self.holds);
        let guard = latest(py, &holds, &caller).and_then(|at| holds[at].guard.as_ref());
        Ok(guard.map(ask))
    }

    /// What `ask` says about the caller's latest hold, which there has to be.
    fn of_held<R>(&self, py: Python<'_>, ask: impl FnOnce(&Guard) -> R) -> PyResult<R> {
        self.of_latest(py, ask)?.ok_or_else(|| self.not_held(py))
    }

    /// Fails if this thread, with all its tasks, would wait for itself.
    fn check_deadlock(&self, py: Python<'_>, wait: Wait) -> PyResult<()> {
        let holds = |hold: &Hold| {
            let guard = hold.guard.as_ref().filter(|_| hold.caller.is_in_this_thread());
            guard.is_some_and(|guard| guard.lost().is_none())
        };
        let own = locked(&self.holds).iter().any(holds);
        if own && wait == Wait::Forever && self.mode == Mode::Exclusive && !self.is_forked() {
            let message = format!(
                "this thread holds the lock '{}' already: waiting without a limit would deadlock",
                self.name
            );
            return Err(exception(py, "WouldDeadlock", message));
        }
        Ok(())
    }

    fn acquire_up_to(&self, py: Python<'_>, wait: Wait, block: bool) -> PyResult<bool> {
        let lock = self.opened(py)?;
        let caller = Caller::current(py)?;
        self.check_deadlock(py, wait)?;
        let guard = if self.remote {
            wait_for_engine(py, ask_later(&lock, self.options(wait)))?
        } else {
            interruptible(py, self.options(wait), |options| lock.acquire_with(options))?
        };
        Ok(self.keep(py, &caller, block, guard))
    }

    fn keep(&self, py: Python<'_>, caller: &Arc<Caller>, block: bool, guard: Option<Guard>) -> bool {
        if guard.is_none() {
            return false;
        }
        let mut holds = locked(&self.holds);
        let released = holds
            .iter()
            .rposition(|hold| hold.guard.is_none() && caller.relation(py, &hold.caller) == Relation::Same);
        match released {
            // Acquired again inside its block, whose end releases it.
            Some(at) if !block => holds[at].guard = guard,
            _ => holds.push(Hold {
                caller: Arc::clone(caller),
                block,
                guard,
            }),
        }
        true
    }

    /// True in the child of a fork: what was held there is the parent's.
    fn is_forked(&self) -> bool {
        self.pid != std::process::id()
    }

    /// The guard of the caller's latest hold or, at a block's end, that of the block.
    fn take(&self, py: Python<'_>, block: bool) -> PyResult<Option<Guard>> {
        let caller = Caller::current(py)?;
        let mut holds = locked(&self.holds);
        let find = if block { latest_block } else { latest };
        let Some(at) = find(py, &holds, &caller) else {
            return Ok(None);
        };
        let guard = holds[at].guard.take();
        if block || !holds[at].block {
            holds.remove(at);
        }
        Ok(guard)
    }

    /// Releases what `take` takes. At a block's end it does not matter whether there still is something to release.
    fn release_now(&self, py: Python<'_>, block: bool) -> PyResult<()> {
        let held = match self.take(py, block)? {
            Some(guard) => Some(or_raise(py, py.detach(|| guard.release()))?),
            None => None,
        };
        match held {
            None if !block => Err(self.not_held(py)),
            Some(false) if !block => {
                let message = format!("the lock '{}' was lost before it was released", self.name);
                Err(exception(py, "NotHeld", message))
            }
            _ => Ok(()),
        }
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
        self.acquire_up_to(py, timeout.or(self.timeout), false)
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.release_now(py, false)
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        let py = slf.py();
        if slf.acquire_up_to(py, slf.timeout, true)? {
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
        self.release_now(py, true)
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

    /// A request of a task, or of the block that it enters.
    fn _request(&self, py: Python<'_>, timeout: Timeout, block: bool) -> PyResult<Request> {
        let lock = self.opened(py)?;
        let options = self.options(timeout.or(self.timeout));
        Request::new(py, ask_later(&lock, options), block)
    }

    /// The release by a task, or at the end of a block, if that takes an engine's answer; else it is done.
    fn _release_request(&self, py: Python<'_>, block: bool) -> PyResult<Option<Request>> {
        // In the child of a fork there is no answer to wait for, and no loop that runs.
        if !self.remote || self.is_forked() {
            self.release_now(py, block)?;
            return Ok(None);
        }
        let Some(guard) = self.take(py, block)? else {
            return if block { Ok(None) } else { Err(self.not_held(py)) };
        };
        let release: Asking = Box::pin(async move {
            let held = guard.release_async().await?;
            if held || block { Ok(None) } else { Err(Error::NotHeld) }
        });
        Request::new(py, release, block).map(Some)
    }

    /// What a request has come to, kept: true = acquired. `None`: not yet, its descriptor will be
    /// readable.
    fn _polled(&self, py: Python<'_>, request: &Request) -> PyResult<Option<bool>> {
        match request.poll(py)? {
            Poll::Ready(guard) => Ok(Some(self.keep(py, &request.caller, request.block, guard))),
            Poll::Pending => Ok(None),
        }
    }

    #[getter]
    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.of_latest(py, |guard| guard.lost().is_none())?.unwrap_or(false))
    }

    #[getter]
    fn token(&self, py: Python<'_>) -> PyResult<u64> {
        self.of_held(py, Guard::token)
    }

    #[getter]
    fn abandoned(&self, py: Python<'_>) -> PyResult<bool> {
        self.of_held(py, Guard::abandoned)
    }

    #[getter]
    fn lost(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self.of_held(py, Guard::lost)?.map(|lost| lost.to_string()))
    }

    fn mark_recovered(&self, py: Python<'_>) -> PyResult<()> {
        or_raise(py, self.of_held(py, Guard::mark_recovered)?)
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
    caller: Arc<Caller>,
    block: bool,
    asking: Mutex<Option<Asking>>,
    /// Can be read when the request is to be polled again.
    door: UnixStream,
    waker: Waker,
}

impl Request {
    fn new(py: Python<'_>, asking: Asking, block: bool) -> PyResult<Self> {
        let caller = Caller::current(py)?;
        let (door, waker) = doorbell(py)?;
        let _ = door.set_nonblocking(true); // what has been woken since is read until nothing is left
        let asking = Mutex::new(Some(asking));
        Ok(Self {
            caller,
            block,
            asking,
            door,
            waker,
        })
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
