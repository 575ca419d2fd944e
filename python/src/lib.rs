//! The native part of the Python package: what `python/python/resourcelock/` is made of, and describes in `_native.pyi`.

mod asking;
mod caller;
mod handle;
mod lock;
mod raised;
mod views;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use std::sync::OnceLock;

/// Fails in a second interpreter of this process: what is cached here, like the exceptions' classes, is the first one's.
fn refuse_second_interpreter(py: Python<'_>) -> PyResult<()> {
    // Each has its own.
    static FIRST: OnceLock<usize> = OnceLock::new();
    let this = py.import("sys")?.as_ptr() as usize;
    if *FIRST.get_or_init(|| this) == this {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "resourcelock can be used in one interpreter of a process, and another one has imported it: in a subinterpreter, \
         start a process for what needs the lock",
    ))
}

#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::refuse_second_interpreter(module.py())
    }

    #[pymodule_export]
    use crate::handle::Handle;
    #[pymodule_export]
    use crate::lock::Lock;
    #[pymodule_export]
    use crate::lock::Request;
    #[pymodule_export]
    use crate::views::{Holder, Process, Record, State, Waiter};
}
