//! The library's only unsafe code: memory that is shared with other processes, futexes, and the few system calls that
//! have no safe wrapper.
#![allow(unsafe_code)]

use nix::NixPath;
use nix::errno::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

pub(crate) mod atomic;
mod descriptor;
mod fork;
mod lease;
mod mapping;
mod mask;
mod pidfd;
mod truncation;
mod untouched;

pub(crate) use descriptor::Descriptor;
pub(crate) use fork::{Inherited, KeptOpen, OfThisProcess, fork_generation, not_during_a_fork, watch_forks};
pub(crate) use lease::is_open_for_writing;
pub(crate) use mapping::Mapping;
#[cfg(feature = "etcd")]
pub(crate) use mask::spawn_scoped_without_signals;
pub(crate) use mask::spawn_without_signals;
pub use mask::{change_mask, keep_mask};
pub(crate) use pidfd::{PID_NAMESPACE, TIME_NAMESPACE, namespace_of, pidfd_open, pidfd_send_signal};
pub use truncation::survive_truncation;
pub(crate) use untouched::UntouchedWord;

/// Types that consist of atomics only: every bit pattern is a value, and other processes may change them at any time.
///
/// # Safety
/// The type is an atomic integer, or an array or a struct of types that are `Shared`. Padding is never read.
pub(crate) unsafe trait Shared {}
// SAFETY: an atomic integer.
unsafe impl Shared for AtomicU8 {}
// SAFETY: an atomic integer.
unsafe impl Shared for AtomicU32 {}
// SAFETY: an atomic integer.
unsafe impl Shared for AtomicU64 {}
// SAFETY: an array of such types.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}
// SAFETY: a run of such types.
unsafe impl<T: Shared> Shared for [T] {}

/// Declares a `repr(C)` struct that lies in shared memory. It compiles only if every field is [`Shared`].
macro_rules! shared {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$of_field:meta])* $seen:vis $field:ident: $type:ty,)*
        }
    ) => {
        #[repr(C)]
        $(#[$attribute])*
        $visibility struct $name {
            $($(#[$of_field])* $seen $field: $type,)*
        }
        // SAFETY: a struct whose fields are all Shared, as the bounds say.
        #[allow(unsafe_code)]
        unsafe impl $crate::lock::sys::Shared for $name where $($type: $crate::lock::sys::Shared),* {}
    };
}
pub(crate) use shared;

/// The low half of a 64-bit word: where a futex on the value of glibc's semaphore sleeps (little-endian).
fn low_half(word: &AtomicU64) -> *const u32 {
    word.as_ptr().cast::<u32>().cast_const()
}

/// What to sleep on, as long as it has this value.
pub(crate) enum Watched<'a> {
    /// A futex word.
    Word(&'a AtomicU32, u32),
    /// The low half of a semaphore's word.
    Low(&'a AtomicU64, u32),
    /// A word that this process does not touch.
    Untouched(&'a UntouchedWord, u32),
}

impl Watched<'_> {
    fn address(&self) -> (*const u32, u32) {
        match self {
            Watched::Word(word, value) => (word.as_ptr().cast_const(), *value),
            Watched::Low(word, value) => (low_half(word), *value),
            Watched::Untouched(word, value) => (word.address(), *value),
        }
    }
}

/// Longest sleep on the first word alone, if the kernel cannot wait for several (before Linux 5.16).
const FALLBACK_SLICE_NS: u64 = 10_000_000;

/// Sleeps until one of `on` (at most 4) is woken, until one does not have its value, until the monotonic clock (ns)
/// reaches `until`, or until a signal handler has run. May return early for no reason: callers check again.
pub(crate) fn futex_wait(on: &[Watched<'_>], until: u64) {
    static NO_WAITV: AtomicU32 = AtomicU32::new(0);
    if on.len() > 1 && NO_WAITV.load(Ordering::Relaxed) == 0 {
        /// `struct futex_waitv` of linux/futex.h.
        #[repr(C)]
        #[derive(Clone, Copy, Default)]
        struct FutexWaitv {
            val: u64,
            uaddr: u64,
            flags: u32,
            reserved: u32,
        }
        const FUTEX2_SIZE_U32: u32 = 2; // and shared between processes, which is the default
        let mut list = [FutexWaitv::default(); 4];
        let n = on.len().min(list.len());
        for (slot, watched) in list.iter_mut().zip(on) {
            let (address, value) = watched.address();
            *slot = FutexWaitv {
                val: value.into(),
                uaddr: address as u64,
                flags: FUTEX2_SIZE_U32,
                reserved: 0,
            };
        }
        let until = timespec(until);
        // SAFETY: the list and the time live on this stack; the kernel only reads the words, which outlive the call.
        let r = unsafe {
            libc::syscall(
                libc::SYS_futex_waitv,
                list.as_ptr(),
                n,
                0,
                &raw const until,
                libc::CLOCK_MONOTONIC,
            )
        };
        if r >= 0 {
            return;
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::ENOSYS | libc::EPERM | libc::EINVAL) => NO_WAITV.store(1, Ordering::Relaxed),
            Some(libc::EFAULT) => return lose_truncated(on),
            _ => return,
        }
    }
    let Some(first) = on.first() else { return };
    if on.iter().skip(1).any(|w| {
        if let Watched::Untouched(..) = w {
            return false;
        }
        let (address, value) = w.address();
        // Relaxed: like the kernel's own comparison, it orders nothing.
        // SAFETY: the address of a live atomic, aligned for u32.
        unsafe { AtomicU32::from_ptr(address.cast_mut()) }.load(Ordering::Relaxed) != value
    }) {
        return;
    }
    let until = if on.len() > 1 {
        until.min(monotonic().saturating_add(FALLBACK_SLICE_NS))
    } else {
        until
    };
    if sleep_on(first, until) == Some(libc::EFAULT) {
        lose_truncated(on);
    }
}

/// Sleeps on one word; returns the error that ended it.
fn sleep_on(watched: &Watched<'_>, until: u64) -> Option<i32> {
    let (address, value) = watched.address();
    let until = timespec(until);
    // FUTEX_WAIT_BITSET takes an absolute time on the monotonic clock.
    // SAFETY: the time lives on this stack; the kernel only reads the word, which outlives the call.
    let r = unsafe {
        libc::syscall(
            libc::SYS_futex,
            address,
            libc::FUTEX_WAIT_BITSET,
            value,
            &raw const until,
            std::ptr::null::<u32>(),
            u32::MAX,
        )
    };
    if r == 0 {
        None
    } else {
        io::Error::last_os_error().raw_os_error()
    }
}

/// One of these lies in a file that was truncated.
#[cold]
fn lose_truncated(on: &[Watched<'_>]) {
    for watched in on {
        if sleep_on(watched, 0) == Some(libc::EFAULT) {
            let (address, _) = watched.address();
            truncation::lose(address as usize);
        }
    }
}

/// Wakes up to `n` sleepers: true = there was one. Async-signal-safe.
pub(crate) fn futex_wake(word: &AtomicU32, n: i32) -> bool {
    wake_at(word.as_ptr().cast_const(), n)
}

/// Wakes up to `n` sleepers on a semaphore.
pub(crate) fn futex_wake_low(word: &AtomicU64, n: i32) {
    wake_at(low_half(word), n);
}

fn wake_at(address: *const u32, n: i32) -> bool {
    // SAFETY: FUTEX_WAKE does not access the memory.
    let woken = unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAKE, n) };
    woken > 0
}

fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    }
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec; these clocks exist on every Linux, so it cannot fail.
    unsafe { libc::clock_gettime(id, &raw mut now) };
    (now.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(now.tv_nsec as u64)
}

/// CLOCK_MONOTONIC in nanoseconds: all waiting and all durations.
pub(crate) fn monotonic() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// CLOCK_BOOTTIME in nanoseconds: the machine's time asleep counts.
pub fn boottime() -> u64 {
    clock(libc::CLOCK_BOOTTIME)
}

/// CLOCK_REALTIME in nanoseconds since 1970: only for display.
pub(crate) fn realtime() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

/// A process-shared semaphore with value 1, as glibc's sem_open(3) writes it to a new file: the word, and behind it 128 for
/// "shared". Not asked of sem_init(3): musl's writes 0 there, and glibc's waiters would sleep where no other process
/// wakes them.
pub(crate) const NEW_SEMAPHORE: [u8; 32] = {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    bytes[8] = 128;
    bytes
};

/// Renames a file to a path at which there must be nothing (renameat2(2), RENAME_NOREPLACE).
pub(crate) fn rename_noreplace(from: &Path, to: &Path) -> nix::Result<()> {
    let call = |from: &CStr, to: &CStr| {
        let (here, flags) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
        // SAFETY: two NUL-terminated strings.
        unsafe { libc::syscall(libc::SYS_renameat2, here, from.as_ptr(), here, to.as_ptr(), flags) }
    };
    Errno::result(from.with_nix_path(|from| to.with_nix_path(|to| call(from, to)))??).map(drop)
}

/// Has a program that `command` starts killed when the thread that has started it ends.
#[cfg(feature = "remote")]
pub(crate) fn ends_with_its_maker(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let ask = || {
        // SAFETY: no memory is passed.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        Ok(())
    };
    // SAFETY: between fork and exec `ask` makes one system call and nothing else.
    unsafe { command.pre_exec(ask) };
}

/// True if this program is linked statically: the kernel has loaded no dynamic linker for it.
#[cfg(feature = "remote")]
pub(crate) fn is_static() -> bool {
    // SAFETY: reads what the kernel passed to this process at its start.
    unsafe { libc::getauxval(libc::AT_BASE) == 0 }
}

/// Takes over a descriptor that a call has just returned as new.
pub(crate) fn own(fd: i32) -> OwnedFd {
    // SAFETY: callers pass what F_DUPFD returned: open, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Has the kernel probe a TCP connection on which nothing has arrived for `idle` seconds, every `interval` seconds, and
/// end it after `count` probes without an answer. If that is not possible, the connection works all the same.
#[cfg(feature = "postgres")]
pub(crate) fn keep_alive(socket: std::os::fd::BorrowedFd<'_>, idle: i32, interval: i32, count: i32) {
    use std::os::fd::AsRawFd;
    for (level, option, value) in [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, idle),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, interval),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, count),
    ] {
        // SAFETY: pointer and length are those of one number, which is only read.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        };
    }
}

/// Pauses the processor for some tens of nanoseconds, in loops that wait for another core.
pub(crate) fn pause() {
    std::hint::spin_loop();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_env = "gnu")]
    #[test]
    fn a_new_semaphore_is_what_glibc_writes() {
        assert_eq!(size_of::<libc::sem_t>(), NEW_SEMAPHORE.len());
        let mut words = [0u64; 4];
        // SAFETY: zeroed memory of a semaphore's size and alignment, for which nobody waits.
        assert_eq!(unsafe { libc::sem_init(words.as_mut_ptr().cast(), 1, 1) }, 0);
        assert_eq!(words.map(u64::to_ne_bytes).as_flattened(), NEW_SEMAPHORE);
    }

    #[test]
    fn a_wake_up_tells_whether_anybody_slept() {
        let word = AtomicU32::new(0);
        assert!(!futex_wake(&word, 1));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| futex_wait(&[Watched::Word(&word, 0)], u64::MAX / 2));
            while !futex_wake(&word, 1) {
                std::thread::yield_now();
            }
            sleeper.join().unwrap();
        });
        assert!(!futex_wake(&word, 1));
    }

    #[test]
    fn waiting_for_a_value_that_is_not_there_returns() {
        let (a, b) = (AtomicU32::new(1), AtomicU32::new(2));
        futex_wait(&[Watched::Word(&a, 1), Watched::Word(&b, 3)], u64::MAX / 2);
        futex_wait(&[Watched::Word(&a, 2)], u64::MAX / 2);
        let low = AtomicU64::new(5 | 1 << 40);
        futex_wait(&[Watched::Low(&low, 4)], u64::MAX / 2);
        let before = monotonic();
        futex_wait(&[Watched::Word(&a, 1), Watched::Low(&low, 5)], before + 1_000_000);
        assert!(monotonic() >= before + 1_000_000);
    }
}
