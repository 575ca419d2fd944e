//! What `resource_lock` is made of: the library's handle, with the Python module's words.

use crate::asking::{Terms, Timeout, interruptible, or_raise};
use crate::raised::exception;
use pyo3::prelude::*;
use resourcelock::{GetOptions, ResourceLock, UngetOptions, Wait};
use std::sync::{Mutex, PoisonError};

/// See `Handle` in `_native.pyi`.
#[pyclass(frozen, module = "resourcelock._native")]
pub struct Handle {
    name: String,
    command: Option<String>,
    /// `None` = closed.
    opened: Mutex<Option<ResourceLock>>,
}

impl Handle {
    fn opened(&self, py: Python<'_>) -> PyResult<ResourceLock> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        opened.ok_or_else(|| {
            let message = format!("the lock '{}' is closed; open it again: resource_lock(…)", self.name);
            exception(py, "LockClosed", message)
        })
    }

    /// What the opened lock answers, without the GIL.
    fn ask<R: Send>(
        &self,
        py: Python<'_>,
        ask: impl FnOnce(&ResourceLock) -> resourcelock::Result<R> + Send,
    ) -> PyResult<R> {
        let lock = self.opened(py)?;
        or_raise(py, py.detach(|| ask(&lock)))
    }
}

#[pymethods]
impl Handle {
    #[new]
    #[pyo3(signature = (name, note_size, *, mode=None, group=None, owner=None, command=None))]
    fn new(
        py: Python<'_>,
        name: &str,
        note_size: usize,
        mode: Option<u32>,
        group: Option<u32>,
        owner: Option<u32>,
        command: Option<String>,
    ) -> PyResult<Self> {
        let terms = Terms {
            backend: None,
            mode,
            group,
            owner,
            note_size: Some(note_size),
        };
        let opened = terms.open(py, name)?;
        Ok(Self {
            name: opened.name().as_str().to_owned(),
            command,
            opened: Mutex::new(Some(opened)),
        })
    }

    fn get(&self, py: Python<'_>, timeout: Timeout, info: &str) -> PyResult<bool> {
        let lock = self.opened(py)?;
        let wait = timeout.or(Wait::Forever);
        let mut options = GetOptions::new().wait(wait).lock_info(info);
        if let Some(command) = &self.command {
            options = options.command(command.as_str());
        }
        interruptible(py, options, |options| lock.get_lock(options))
    }

    fn unget(&self, py: Python<'_>, force: bool) -> PyResult<bool> {
        self.ask(py, |lock| lock.unget_lock(UngetOptions::new().force(force)))
    }

    fn leave(&self, py: Python<'_>) -> PyResult<bool> {
        self.ask(py, ResourceLock::leave_taken)
    }

    fn holds(&self) -> bool {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().is_some_and(ResourceLock::have_the_lock)
    }

    fn abandoned(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.opened(py)?.abandoned())
    }

    fn mark_recovered(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, ResourceLock::mark_recovered)
    }

    fn value(&self, py: Python<'_>) -> PyResult<u32> {
        self.ask(py, ResourceLock::lock_value)
    }

    fn note(&self, py: Python<'_>) -> PyResult<String> {
        self.ask(py, ResourceLock::get_lock_info)
    }

    fn set_note(&self, py: Python<'_>, text: &str) -> PyResult<()> {
        self.ask(py, |lock| lock.set_lock_info(text))
    }

    fn close(&self, py: Python<'_>) {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(opened));
    }
}
