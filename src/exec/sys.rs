//! Everything the command-line tool asks of the kernel or of libc that is not safe. The rest of the tool is safe code.
//!
//! - [`entry`]: the program's first and last instructions (this program does not use std's own `main`)
//! - [`signal`]: masks, dispositions, synchronous acceptance, sending
//! - [`spawn`]: clone, execve, wait
//! - [`guard`]: memory shared with the guard process, its fork, its timer
//! - [`process`]: a process that is known by descriptor, not by number
//! - [`terminal_columns`]: the width of a terminal

#![allow(unsafe_code)]

pub mod entry;
pub mod guard;
pub mod process;
pub mod signal;
pub mod spawn;
mod window;

pub use window::terminal_columns;
