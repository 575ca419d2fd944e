//! Everything the command-line tool asks of the kernel or of libc that is not safe. The rest of the tool is safe code.
//!
//! - [`entry`]: the program's first and last instructions (this program does not use std's own `main`)

#![allow(unsafe_code)]

pub mod entry;
