//! What a child must not inherit, and noticing forks.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

static GENERATION: AtomicU32 = AtomicU32::new(0);
static BEGUN: AtomicU32 = AtomicU32::new(0);
static OVER: AtomicU32 = AtomicU32::new(0);
/// Of these two. SeqCst: the thread that makes something looks at both before and after, and a fork may begin in another
/// thread at any point; with one order of all these accesses there are no cases to distinguish.
const COUNTED: Ordering = Ordering::SeqCst;
static WATCHED: AtomicBool = AtomicBool::new(false);

/// How often [`not_during_a_fork`] checks whether a fork is over, and how long it sleeps in between: a fork takes less
/// than a millisecond, or a few if the process is large.
const CHECKS: u32 = 20_000;
const PAUSE: Duration = Duration::from_micros(50);

// The handlers only touch atomics, which is allowed between fork and exec.
extern "C" fn before_fork() {
    BEGUN.fetch_add(1, COUNTED);
}

extern "C" fn after_fork_in_parent() {
    OVER.fetch_add(1, COUNTED);
}

extern "C" fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed); // the child has only this thread
    OVER.store(BEGUN.load(COUNTED), COUNTED);
}

/// Has forks counted from now on.
pub(crate) fn watch_forks() {
    // No lock: a fork in another thread would leave it taken in the child. Registering twice does no harm.
    // Acquire and Release: a thread that finds this done also finds the handlers registered.
    if !WATCHED.load(Ordering::Acquire) {
        // SAFETY: the handlers only do what is allowed between fork and exec. This waits for a fork that is under way
        // in another thread (glibc has one lock for both).
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) };
        WATCHED.store(true, Ordering::Release);
    }
}

/// The number of forks between the first process that used the library and this one: a handle that was opened under
/// another number is an ancestor's.
pub(crate) fn fork_generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Makes something that a child must not get a copy of while it is being made. If another thread forked meanwhile, it
/// is dropped (the child's copy then means nothing) and made again.
pub(crate) fn not_during_a_fork<T, E>(mut make: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    watch_forks();
    for _ in 0..CHECKS {
        let over = OVER.load(COUNTED);
        if BEGUN.load(COUNTED) != over {
            std::thread::sleep(PAUSE);
            continue;
        }
        let made = make()?;
        if BEGUN.load(COUNTED) == over {
            return Ok(made);
        }
    }
    // A fork that has not finished after more than a second: another of its handlers waits for something, perhaps for
    // this very thread.
    make()
}

/// Keeps an open file open, with the locks on it, without a descriptor, until it is dropped, or until the process ends
/// or executes another program, by any system call. It is a mapping that is never touched and that no child inherits, so
/// neither closing descriptors nor forking, by whatever system call, affects it.
///
/// (Under an emulator, or in a sandbox, that refuses MADV_DONTFORK, a forked child inherits it after all, and keeps the
/// file open until it ends or executes another program.)
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
        // SAFETY: our own mapping.
        if unsafe { libc::madvise(at, 1, libc::MADV_DONTFORK) } != 0 {
            let error = io::Error::last_os_error();
            log::debug!("forked children keep locks held: madvise(2) with MADV_DONTFORK is refused: {error}");
        }
        Ok(Self {
            at: at as usize,
            generation: fork_generation(),
            pid: std::process::id(),
        })
    }

    /// True if this process is a forked child of the one that made it: then nothing is mapped here.
    pub(crate) fn is_inherited(&self) -> bool {
        self.generation != fork_generation()
    }
}

impl Drop for KeptOpen {
    fn drop(&mut self) {
        // In a child, something else may be mapped there by now. (A fork by the bare system call is not counted.)
        if !self.is_inherited() && self.pid == std::process::id() {
            // SAFETY: our own mapping, to which there are no references.
            unsafe { libc::munmap(self.at as *mut libc::c_void, 1) };
        }
    }
}

/// It belongs to the process that this one was forked from.
#[derive(Debug, PartialEq)]
pub(crate) struct Inherited;

/// What only the process that has made it may use and drop, because connections, threads and mutexes belong to it. The
/// child of a fork has a copy: the connections are its parent's as well, the threads do not exist, and a mutex may stay
/// locked for ever. So nobody gets at the copy, and dropping it does nothing.
pub(crate) struct OfThisProcess<T> {
    made: ManuallyDrop<T>,
    generation: u32,
}

impl<T> OfThisProcess<T> {
    pub(crate) fn new(made: T) -> Self {
        watch_forks();
        Self {
            made: ManuallyDrop::new(made),
            generation: fork_generation(),
        }
    }

    fn check(&self) -> Result<(), Inherited> {
        if self.generation == fork_generation() {
            Ok(())
        } else {
            Err(Inherited)
        }
    }

    pub(crate) fn get(&self) -> Result<&T, Inherited> {
        self.check().map(|()| &*self.made)
    }

    pub(crate) fn get_mut(&mut self) -> Result<&mut T, Inherited> {
        self.check().map(|()| &mut *self.made)
    }

    /// In the child of a fork as well: only for what neither asks anybody nor locks anything.
    pub(crate) fn as_it_is(&self) -> &T {
        &self.made
    }

    #[cfg(feature = "remote")]
    pub(crate) fn into_inner(self) -> Result<T, Inherited> {
        self.check()?;
        let mut whole = ManuallyDrop::new(self);
        // SAFETY: once: `whole` is neither dropped nor used again.
        Ok(unsafe { ManuallyDrop::take(&mut whole.made) })
    }
}

impl<T> Drop for OfThisProcess<T> {
    fn drop(&mut self) {
        if self.check().is_ok() {
            // SAFETY: once: this is the end of it, and it was not taken out.
            unsafe { ManuallyDrop::drop(&mut self.made) };
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

    /// As if it had been made before a fork.
    fn inherited<T>(made: T) -> OfThisProcess<T> {
        let mut inherited = OfThisProcess::new(made);
        inherited.generation = fork_generation().wrapping_sub(1);
        inherited
    }

    #[test]
    fn what_is_inherited_is_neither_used_nor_dropped() {
        let counted = std::rc::Rc::new(());
        let mut own = OfThisProcess::new(counted.clone());
        assert!(own.get().is_ok() && own.get_mut().is_ok());
        drop(own);
        assert_eq!(std::rc::Rc::strong_count(&counted), 1);
        let mut copy = inherited(counted.clone());
        assert!(copy.get().is_err() && copy.get_mut().is_err());
        assert!(std::rc::Rc::ptr_eq(copy.as_it_is(), &counted));
        drop(copy);
        assert_eq!(std::rc::Rc::strong_count(&counted), 2);
    }

    #[cfg(feature = "remote")]
    #[test]
    fn what_is_taken_out_is_dropped_once() {
        let counted = std::rc::Rc::new(());
        drop(OfThisProcess::new(counted.clone()).into_inner());
        assert_eq!(std::rc::Rc::strong_count(&counted), 1);
        assert_eq!(inherited(counted.clone()).into_inner(), Err(Inherited));
        assert_eq!(std::rc::Rc::strong_count(&counted), 2);
    }
}
