//! The library's errors as Python's exceptions, which `_errors.py` defines.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use resourcelock::Error;

/// An exception of `_errors.py`.
pub fn exception(py: Python<'_>, class: &str, message: String) -> PyErr {
    static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let errors = ERRORS.get_or_try_init(py, || py.import("resourcelock._errors").map(Bound::unbind));
    let raised = errors.and_then(|errors| errors.bind(py).getattr(class)?.call1((message,)));
    raised.map_or_else(|error| error, PyErr::from_value)
}

/// What was asked for makes no sense.
pub fn invalid(py: Python<'_>, message: impl Into<String>) -> PyErr {
    exception(py, "InvalidRequest", message.into())
}

/// The exception for an error of the library: what happened, and what a Python program can do about it.
pub fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error {
        Error::Name { .. } | Error::Mode { .. } | Error::NoSlots | Error::Url { .. } | Error::Twice { .. } => {
            "InvalidRequest"
        }
        Error::Permission { .. }
        | Error::Untrusted { .. }
        | Error::ForEverybody { .. }
        | Error::UnsafeDirectory { .. }
        | Error::HalfMade { .. }
        | Error::NotInGroup { .. }
        | Error::NotDeletable { .. }
        | Error::Refused { .. } => "NotPermitted",
        Error::WrongObject { .. } | Error::Damaged { .. } | Error::ForeignFile { .. } => "Damaged",
        Error::SlotsDiffer { .. } => "SlotsDiffer",
        Error::NotHeld => "NotHeld",
        Error::Forked => "Forked",
        Error::TimedOut => "LockTimeout",
        Error::Busy { .. } | Error::BeingRemoved { .. } => "Busy",
        Error::Unreachable { .. } | Error::MayStayTaken { .. } => "Unreachable",
        Error::Unsupported { .. } | Error::NotBuiltIn { .. } => "Unsupported",
        _ => "LockError",
    };
    let mut message = error.with_source();
    let advice = match error {
        Error::Untrusted { owner: Some(owner), .. } => {
            format!("to use this user's locks: owner={owner}; see docs/users-and-groups.md")
        }
        Error::ForEverybody { .. } => "if the lock is for everybody: mode=0o666".to_owned(),
        Error::Forked => "open it again in this process".to_owned(),
        Error::SlotsDiffer { in_use, .. } => format!("say slots={in_use}, or wait until nobody uses it"),
        Error::Damaged { .. } => "if nobody uses it, delete it: resourcelock NAME remove --force".to_owned(),
        Error::Busy { .. } => "continue or end the process that is stopped inside it".to_owned(),
        _ => String::new(),
    };
    if !advice.is_empty() {
        message = format!("{message}; {advice}");
    }
    exception(py, class, message)
}
