//! Who uses a lock: a task of asyncio or, outside of any, a thread.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyWeakrefReference};
use std::sync::Arc;
use std::thread::{self, ThreadId};

pub struct Caller {
    thread: ThreadId,
    /// Weak, so that a hold that is never released does not keep its task; and unlike an address, never another's.
    task: Option<Py<PyWeakrefReference>>,
}

/// How near the caller is that has acquired a hold; the nearest is the greatest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub enum Relation {
    Other,
    SameThread,
    Same,
}

impl Caller {
    /// May run Python's own code, and so handlers of signals and other threads: no mutex may be locked meanwhile.
    pub fn current(py: Python<'_>) -> PyResult<Arc<Self>> {
        let task = current_task(py)?.map(|task| PyWeakrefReference::new(&task));
        Ok(Arc::new(Self {
            thread: thread::current().id(),
            task: task.transpose()?.map(Bound::unbind),
        }))
    }

    pub fn is_in_this_thread(&self) -> bool {
        self.thread == thread::current().id()
    }

    pub fn relation(&self, py: Python<'_>, other: &Self) -> Relation {
        let same_thread = self.thread == other.thread;
        let same = match (&self.task, &other.task) {
            (Some(mine), Some(its)) => {
                let tasks = mine.bind(py).upgrade().zip(its.bind(py).upgrade());
                tasks.is_some_and(|(mine, its)| mine.is(&its))
            }
            (None, None) => same_thread,
            _ => false,
        };
        match (same, same_thread) {
            (true, _) => Relation::Same,
            (false, true) => Relation::SameThread,
            (false, false) => Relation::Other,
        }
    }
}

/// The task that runs in this thread.
fn current_task(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let modules = || -> PyResult<_> { Ok(py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.unbind()) };
    let modules = MODULES.get_or_try_init(py, modules)?.bind(py);
    // Not where asyncio has not even been imported.
    let Some(asyncio) = modules.get_item(intern!(py, "asyncio"))? else {
        return Ok(None);
    };
    // Other than `get_running_loop`, it raises nothing, which would take longer than the rest. It may not be there yet, or
    // the interpreter may be ending.
    let Ok(running) = asyncio.call_method0(intern!(py, "_get_running_loop")) else {
        return Ok(None);
    };
    if running.is_none() {
        return Ok(None);
    }
    let task = asyncio.call_method1(intern!(py, "current_task"), (running,))?;
    Ok((!task.is_none()).then_some(task))
}
