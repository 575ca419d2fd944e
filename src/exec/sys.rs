//! Everything the command-line tool asks of the kernel or of libc that is not safe. The rest of the tool is safe code.
//!
//! - [`command_line`]: C's `main`, and what `ps` shows of this process
//! - [`streams`]: standard streams that the caller closed
//! - [`bus_error`]: the end by SIGBUS
//! - [`memory`]: the end where no memory is to be had
//! - [`signal`]: masks, dispositions, synchronous acceptance, sending
//! - [`spawn`]: clone, execve, wait
//! - [`daemon`]: fork, and a process of its own
//! - [`rights`]: whether the caller has the same
//! - [`shared_page`]: memory shared with such a process
//! - [`terminal_size`]: the size of a terminal

#![allow(unsafe_code)]

pub mod bus_error;
pub mod command_line;
pub mod daemon;
pub mod memory;
pub mod rights;
pub mod shared_page;
pub mod signal;
pub mod spawn;
pub mod streams;
mod window;

pub use window::{Size, terminal_size};
