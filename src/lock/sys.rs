//! The library's only unsafe code: memory that is shared with other processes, futexes, and the few system calls that
//! have no safe wrapper.
#![allow(unsafe_code)]

use nix::NixPath;
use nix::errno::Errno;
use std::ffi::CStr;
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

pub(crate) mod atomic;
mod descriptor;
mod fork;
mod lease;
mod truncation;
mod untouched;

pub(crate) use descriptor::Descriptor;
pub(crate) use fork::{KeptOpen, fork_generation, not_during_a_fork, watch_forks};
pub(crate) use lease::is_open_for_writing;
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

/// A file's beginning, mapped shared and writable into this process, or a copy of it.
pub(crate) struct Mapping<T: ?Sized> {
    at: NonNull<T>,
    len: usize,
    /// True if it is a copy: of what was [renewed](Self::renew) so far, the rest is zero.
    is_copy: bool,
    /// Which pages that were: bit 0 for the first one, bit 63 for the 64th and all behind it.
    renewed: AtomicU64,
    /// Where it is looked after, in case that the file is truncated.
    place: Option<truncation::Registered>,
}

// SAFETY: the mapping belongs to this value until it is dropped, and its content is atomics, which are Sync.
unsafe impl<T: ?Sized + Shared> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Shared> Sync for Mapping<T> {}

/// What the pages of a copy are counted in.
const PAGE: usize = 4096;

/// The bit in [`Mapping::renewed`] of a page.
fn bit_of(page: usize) -> u64 {
    1 << page.min(63)
}

/// Without a file: memory of this process's own, all zero.
fn map(file: Option<BorrowedFd<'_>>, len: usize) -> io::Result<NonNull<libc::c_void>> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let (flags, file) = match file {
        Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
        None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
    };
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, file, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at).ok_or_else(|| io::Error::other("mapped at address 0"))
}

impl<T: Shared> Mapping<T> {
    /// Maps one `T` at the file's beginning. The file must be at least that long, or using it is a SIGBUS, after which
    /// (see [`survive_truncation`]) the mapping is gone.
    pub(crate) fn new(file: BorrowedFd<'_>) -> io::Result<Self> {
        let len = size_of::<T>();
        let at = map(Some(file), len)?.cast::<T>();
        let place = truncation::Registered::new(at.as_ptr() as usize, len);
        Ok(Self {
            at,
            len,
            is_copy: false,
            renewed: AtomicU64::new(0),
            place,
        })
    }

    /// Memory for a copy of one `T`.
    pub(crate) fn copy() -> io::Result<Self> {
        let len = size_of::<T>();
        Ok(Self {
            at: map(None, len)?.cast::<T>(),
            len,
            is_copy: true,
            renewed: AtomicU64::new(0),
            place: None,
        })
    }

    /// The memory of a copy that is no longer used, for another one.
    pub(crate) fn cleared(mut self) -> Self {
        debug_assert!(self.is_copy);
        let renewed = std::mem::take(self.renewed.get_mut());
        for (page, start) in (0..self.len).step_by(PAGE).enumerate() {
            if renewed & bit_of(page) != 0 {
                let len = PAGE.min(self.len - start);
                // SAFETY: a part of a copy, for only these are renewed: memory that is this value's own, to which there are
                // no references, since it has been moved here. `T` consists of atomics, so that zero is a value.
                unsafe { self.at.as_ptr().cast::<u8>().add(start).write_bytes(0, len) };
            }
        }
        self
    }

    /// Has a part of a copy show what stands in the file now. Counts only if the descriptor is found to be
    /// [ours](Descriptor::is_ours) afterwards. In a mapping, which shows it anyway: does nothing.
    ///
    /// # Errors
    /// The file cannot be read, or has become too short ([`io::ErrorKind::UnexpectedEof`]).
    pub(crate) fn renew<P: Shared + ?Sized>(&self, part: &P, file: &Descriptor) -> io::Result<()> {
        if !self.is_copy {
            return Ok(());
        }
        let (start, len) = ((&raw const *part).cast::<u8>(), size_of_val(part));
        let from = (start as usize).wrapping_sub(self.at.as_ptr() as usize);
        self.renew_bytes(from..from.saturating_add(len), file)
    }

    /// The same of these bytes.
    pub(crate) fn renew_bytes(&self, bytes: Range<usize>, file: &Descriptor) -> io::Result<()> {
        if !self.is_copy {
            return Ok(());
        }
        if bytes.end > self.len {
            return Err(io::ErrorKind::InvalidInput.into()); // a part of something else
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let pages = bytes.start / PAGE..=(bytes.end - 1) / PAGE;
        self.renewed
            .fetch_or(pages.map(bit_of).fold(0, std::ops::BitOr::bitor), Ordering::Relaxed);
        let (from, len) = (bytes.start, bytes.len());
        // SAFETY: the bytes lie in this memory, which is this value's own until it is dropped; `T` consists of atomics, so
        // that any content is valid and changes are defined, although there are references to it.
        let read = unsafe {
            let into = self.at.as_ptr().cast::<libc::c_void>().add(from);
            libc::pread(file.raw(), into, len, from as libc::off_t)
        };
        match usize::try_from(read) {
            Ok(read) if read == len => Ok(()),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

impl Mapping<[AtomicU8]> {
    /// Maps `len` (more than 0) bytes.
    pub(crate) fn bytes(file: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let at = map(Some(file), len)?.cast::<AtomicU8>();
        Ok(Self {
            at: NonNull::slice_from_raw_parts(at, len),
            len,
            is_copy: false,
            renewed: AtomicU64::new(0),
            place: truncation::Registered::new(at.as_ptr() as usize, len),
        })
    }
}

impl<T: ?Sized> Deref for Mapping<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: mapped page-aligned for `len` bytes until drop; `T: Shared`, which the constructors require, makes
        // any content valid and concurrent changes by other processes defined.
        unsafe { self.at.as_ref() }
    }
}

impl<T: ?Sized> Mapping<T> {
    /// True if the file was truncated, and this is anonymous memory now.
    pub(crate) fn is_gone(&self) -> bool {
        self.place.as_ref().is_some_and(truncation::Registered::is_gone)
    }
}

impl<T: Shared> Mapping<T> {
    /// Has the pages with these bytes ready: a later access, whose value this is not about, does not have to wait for the
    /// kernel.
    pub(crate) fn touch(&self, bytes: &Range<u64>) {
        let [start, end] = [bytes.start, bytes.end].map(|at| usize::try_from(at).unwrap_or(self.len).min(self.len));
        for at in (start..end).step_by(PAGE) {
            // SAFETY: within the mapping; `T` consists of atomics, so that a byte of it can be read at any time.
            unsafe { self.at.as_ptr().cast::<u8>().add(at).read_volatile() };
        }
    }
}

impl<T: ?Sized> Drop for Mapping<T> {
    fn drop(&mut self) {
        self.place = None;
        // SAFETY: our own mapping; no reference to it outlives this value.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

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

/// Wakes up to `n` sleepers. Async-signal-safe.
pub(crate) fn futex_wake(word: &AtomicU32, n: i32) {
    wake_at(word.as_ptr().cast_const(), n);
}

/// Wakes up to `n` sleepers on a semaphore.
pub(crate) fn futex_wake_low(word: &AtomicU64, n: i32) {
    wake_at(low_half(word), n);
}

fn wake_at(address: *const u32, n: i32) {
    // SAFETY: FUTEX_WAKE does not access the memory.
    unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAKE, n) };
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

/// A descriptor that refers to process `pid` itself, not to whatever bears its number later (pidfd_open(2)).
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor (close-on-exec, as the kernel makes all pidfds) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal to the process that a descriptor refers to (pidfd_send_signal(2)).
pub(crate) fn pidfd_send_signal(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: no memory is passed; without a siginfo it does the same as kill(2).
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, none, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
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
pub(crate) fn keep_alive(socket: BorrowedFd<'_>, idle: i32, interval: i32, count: i32) {
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

    /// What a copy showed is not seen in the next one.
    #[test]
    fn the_memory_of_a_copy_is_cleared() {
        type Content = [AtomicU8; 70 * PAGE + 8];
        let file = nix::sys::memfd::memfd_create("copied", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        assert_eq!(nix::unistd::write(&file, &[1; 70 * PAGE]), Ok(70 * PAGE));
        let file = Descriptor::new(file).unwrap();
        let mut copy = Mapping::<Content>::copy().unwrap();
        let shown = |copy: &Mapping<Content>| copy.iter().map(|byte| usize::from(byte.load(Ordering::Relaxed))).sum();
        for (bytes, read) in [
            (0..1, 1),
            (PAGE - 1..PAGE + 1, 2),
            (62 * PAGE + 5..66 * PAGE, 4 * PAGE - 5),
            (0..70 * PAGE, 70 * PAGE),
            (5..5, 0),
        ] {
            copy.renew_bytes(bytes, &file).unwrap();
            assert_eq!(read, shown(&copy));
            copy = copy.cleared();
            assert_eq!(0, shown(&copy));
        }
        let short = copy.renew_bytes(69 * PAGE..70 * PAGE + 8, &file).unwrap_err();
        assert_eq!((short.kind(), shown(&copy)), (io::ErrorKind::UnexpectedEof, PAGE));
        assert_eq!(shown(&copy.cleared()), 0);
        let copy = Mapping::<Content>::copy().unwrap();
        for bytes in [0..70 * PAGE + 9, usize::MAX - 1..usize::MAX] {
            let error = copy.renew_bytes(bytes, &file).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
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
