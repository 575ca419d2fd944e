//! The variables that change what this program does.

use super::sys::rights;
use std::env;
use std::ffi::OsString;

/// An environment variable. None is set if this program has rights that its caller does not have: he could use them.
pub fn variable(name: &str) -> Option<OsString> {
    if rights::are_raised() { None } else { env::var_os(name) }
}
