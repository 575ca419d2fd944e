//! The program's memory: the allocator, and what happens if it has none left.

use super::streams;
#[cfg(target_env = "musl")]
use dlmalloc::GlobalDlmalloc as System;
#[cfg(not(target_env = "musl"))]
use std::alloc::System;
use std::alloc::{GlobalAlloc, Layout};

/// Lets the child of a fork use the allocator, whatever the parent's other threads were doing with it. To be called first,
/// before any memory is asked for. (The allocators of C libraries see to that themselves.)
pub fn outlive_forks() {
    #[cfg(target_env = "musl")]
    // SAFETY: nothing has been allocated, and there is one thread.
    unsafe {
        dlmalloc::enable_alloc_after_fork();
    }
}

/// What was asked of the allocator, or one line and the end of the process with `STATUS`. (Rust's own way would
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

// SAFETY: it is an allocator that keeps the contract, but for never returning null.
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
