//! The command-line tool.
#![cfg_attr(not(test), no_main)]

mod exec;

use std::ffi::OsString;

/// Called by the C entry point (`exec::sys::entry`) with the command line; returns the exit status.
#[cfg_attr(test, allow(dead_code))]
fn start(args: Vec<OsString>) -> i32 {
    let _ = args;
    0
}
