//! Memory that is not to be had.

use super::streams;
use std::alloc::{GlobalAlloc, Layout, System};

/// What was asked of the system's allocator, or one line and the end of the process with `STATUS`. (Rust's own way would
/// be SIGABRT.)
pub struct OrEnd<const STATUS: i32>;

impl<const STATUS: i32> OrEnd<STATUS> {
    fn checked(memory: *mut u8) -> *mut u8 {
        if memory.is_null() {
            crate::exec::give_back();
            streams::write_error(b"resourcelock: out of memory (see ulimit -v)\n");
            // SAFETY: does not return. No destructor runs: a lock is released by the end of the process.
            unsafe { libc::_exit(STATUS) };
        }
        memory
    }
}

// SAFETY: it is the system's allocator, which keeps the contract, but for never returning null.
unsafe impl<const STATUS: i32> GlobalAlloc for OrEnd<STATUS> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        Self::checked(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        Self::checked(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: passed on.
        Self::checked(unsafe { System.realloc(memory, layout, size) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}
