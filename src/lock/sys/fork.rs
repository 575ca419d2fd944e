//! What a fork must not take along, and noticing forks.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

static GENERATION: AtomicU32 = AtomicU32::new(0);
static BEGUN: AtomicU32 = AtomicU32::new(0);
static OVER: AtomicU32 = AtomicU32::new(0);
static WATCHED: AtomicBool = AtomicBool::new(false);

/// How often [`not_during_a_fork`] looks whether a fork is over, and how long it then sleeps: a fork takes less than a
/// millisecond, or some if the process is large.
const LOOKS: u32 = 20_000;
const PAUSE: Duration = Duration::from_micros(50);

// The handlers touch atomics only, which is allowed between fork and exec.
extern "C" fn before_fork() {
    BEGUN.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn after_fork_in_parent() {
    OVER.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::SeqCst);
    OVER.store(BEGUN.load(Ordering::SeqCst), Ordering::SeqCst);
}

/// From now on forks are counted.
pub(crate) fn watch_forks() {
    // No lock: a fork in another thread would leave it taken in the child. Registered twice does no harm.
    if !WATCHED.load(Ordering::Acquire) {
        // SAFETY: the handlers only do what is allowed between fork and exec. Waits for a fork that is under way in
        // another thread (glibc has one lock for both).
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) };
        WATCHED.store(true, Ordering::Release);
    }
}

/// How many forks lie between this process and the first one that used the library: a handle that was opened under
/// another number belongs to an ancestor.
pub(crate) fn fork_generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Makes something that a child must not get hold of while it is made. If another thread forked meanwhile, what was
/// made is dropped (the child has a copy, which then means nothing) and made again.
pub(crate) fn not_during_a_fork<T, E>(mut make: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    watch_forks();
    for _ in 0..LOOKS {
        let over = OVER.load(Ordering::SeqCst);
        if BEGUN.load(Ordering::SeqCst) != over {
            std::thread::sleep(PAUSE);
            continue;
        }
        let made = make()?;
        if BEGUN.load(Ordering::SeqCst) == over {
            return Ok(made);
        }
    }
    // A fork that does not come to its end, more than a second long: another of its handlers waits for something,
    // perhaps for this very thread.
    make()
}

/// Keeps an open file open, with the locks on it, without a descriptor: until it is dropped, or the process ends or
/// executes another program, however that comes. By a mapping that is never touched and that no child inherits, so
/// neither closing descriptors nor forking, by whatever system call, has anything to do with it.
#[derive(Debug)]
pub(crate) struct KeptOpen {
    at: usize,
    generation: u32,
    pid: u32,
}

impl KeptOpen {
    pub(crate) fn new(file: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory; without any access.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                1,
                libc::PROT_NONE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let kept = Self {
            at: at as usize,
            generation: fork_generation(),
            pid: std::process::id(),
        };
        // SAFETY: our own mapping.
        if unsafe { libc::madvise(at, 1, libc::MADV_DONTFORK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(kept)
    }

    /// Whether this process is a forked child of the one that made it: nothing is mapped here.
    pub(crate) fn is_inherited(&self) -> bool {
        self.generation != fork_generation()
    }
}

impl Drop for KeptOpen {
    fn drop(&mut self) {
        // In a child something else may be mapped there by now. (A fork by the bare system call is not counted.)
        if !self.is_inherited() && self.pid == std::process::id() {
            // SAFETY: our own mapping, to which there are no references.
            unsafe { libc::munmap(self.at as *mut libc::c_void, 1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fork_may_have_seen_is_made_again() {
        let mut made = 0;
        let result: Result<i32, ()> = not_during_a_fork(|| {
            made += 1;
            if made < 3 {
                before_fork();
                after_fork_in_parent();
            }
            Ok(made)
        });
        assert_eq!(result, Ok(3));
    }
}
