//! Memory that a process and its guard share.

use std::ffi::c_int;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Of the numbers below. SeqCst: the parent, the guard and (for the PID) the kernel each look at several of them, seldom;
/// one order of all accesses is simpler than a proof for each pair.
const SHARED: Ordering = Ordering::SeqCst;

/// An atomic number in shared memory.
pub struct Number(AtomicI32);

impl Number {
    pub fn load(&self) -> i32 {
        self.0.load(SHARED)
    }

    pub fn store(&self, value: i32) {
        self.0.store(value, SHARED);
    }

    /// Its address, for the kernel.
    pub fn as_ptr(&self) -> *mut c_int {
        self.0.as_ptr()
    }
}

/// An atomic time in shared memory.
pub struct Time(AtomicU64);

impl Time {
    pub fn load(&self) -> u64 {
        self.0.load(SHARED)
    }

    pub fn store(&self, value: u64) {
        self.0.store(value, SHARED);
    }
}

/// See [`Shared::start_time`].
pub const UNSEEN: u64 = u64::MAX;

/// What the two share about one command. All zero at first.
#[repr(C)]
pub struct Shared {
    /// When the last renewal was asked for (CLOCK_BOOTTIME, ns); 0 = the right is lost.
    pub begun: Time,
    /// The command's start time (proc(5), clock ticks); [`UNSEEN`]: it could not be read; 0: not read yet.
    pub start_time: Time,
    /// The command's PID, written by the kernel at its start; 0 = none runs.
    pub command: Number,
    /// It was reaped: its PID may mean another process by now. `start_time` is stored before.
    pub reaped: Number,
    /// It leads a process group.
    pub own_group: Number,
    /// What the guard has done about it; 0: nothing.
    pub acted: Number,
    /// The guard is not needed any more.
    pub done: Number,
}

/// Memory with a [`Shared`] in it, which stays shared over a fork.
pub struct Page(NonNull<Shared>);

// SAFETY: it points to atomics in a mapping that lasts as long as the value.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// # Errors
    /// No memory.
    pub fn new() -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Shared>(),
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self(at))
    }
}

impl Deref for Page {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        // SAFETY: page-aligned, zero-filled by the kernel (valid for atomics), mapped until drop; other processes
        // change it through atomics only (the kernel writes the PID with one aligned store).
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of this length.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Shared>()) };
    }
}
