//! The native part of the Python package: what `python/python/resourcelock/` is made of, and describes in `_native.pyi`.

mod asking;
mod handle;
mod lock;
mod raised;
mod views;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::handle::Handle;
    #[pymodule_export]
    use crate::lock::Lock;
    #[pymodule_export]
    use crate::lock::Request;
    #[pymodule_export]
    use crate::views::{Holder, Process, Record, State, Waiter};
}
