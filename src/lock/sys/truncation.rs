//! Files that are truncated while they are mapped: the kernel answers an access with SIGBUS, and a futex call with EFAULT.
//!
//! A mapping that was hit is replaced as a whole by anonymous memory, so that nobody sees a part of the file beside
//! zeros, and is *gone* from then on: what stands in it means nothing any more. Its users find that out by the flag, or
//! by the zeros.

use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::io;
use std::mem::{self, MaybeUninit};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What lengths are counted in. Addresses of mappings are multiples of it, so that both fit into one word.
const UNIT: usize = 4096;
/// More mappings are not looked after. (A handle has three.)
const PLACES: usize = 768;

/// A mapping that is looked after.
struct Place {
    /// Its address and its length in units; 0 = vacant.
    range: AtomicUsize,
    gone: AtomicBool,
}

static LIST: [Place; PLACES] = [const {
    Place {
        range: AtomicUsize::new(0),
        gone: AtomicBool::new(false),
    }
}; PLACES];

/// A mapping's place in the list of those that are looked after.
#[derive(Debug)]
pub(super) struct Registered(usize);

impl Registered {
    /// From now on the mapping of `len` bytes at `start` is looked after. `None`: there is no room for it in the list.
    pub(super) fn new(start: usize, len: usize) -> Option<Self> {
        let units = len.div_ceil(UNIT);
        if !start.is_multiple_of(UNIT) || units >= UNIT {
            return None;
        }
        let take = |place: &Place| {
            let vacant = place.range.load(Ordering::Relaxed) == 0;
            // AcqRel: the place's former user is through with it.
            vacant
                && place
                    .range
                    .compare_exchange(0, start | units, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
        };
        LIST.iter().position(take).map(Self)
    }

    pub(super) fn is_gone(&self) -> bool {
        LIST[self.0].gone.load(Ordering::Relaxed)
    }
}

impl Drop for Registered {
    /// Before the mapping is undone: then another one may lie there.
    fn drop(&mut self) {
        let place = &LIST[self.0];
        place.gone.store(false, Ordering::Relaxed);
        place.range.store(0, Ordering::Release);
    }
}

/// The mapping that `address` lies in, if it is looked after, is lost: true = it was replaced by anonymous memory.
/// Async-signal-safe.
pub(super) fn lose(address: usize) -> bool {
    for place in &LIST {
        let range = place.range.load(Ordering::Acquire);
        let (start, len) = (range & !(UNIT - 1), (range & (UNIT - 1)) * UNIT);
        if address.wrapping_sub(start) < len {
            // Before the zeros can be seen.
            place.gone.store(true, Ordering::SeqCst);
            // SAFETY: the whole of a `Mapping`, which cannot be undone meanwhile: the caller uses it. To what refers to
            // it the change is one of its content, which other processes may make at any time.
            let at = unsafe {
                libc::mmap(
                    start as *mut libc::c_void,
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                    -1,
                    0,
                )
            };
            return at != libc::MAP_FAILED;
        }
    }
    false
}

/// What was done about SIGBUS before: written once, before the handler that reads it is installed.
struct Before(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: see `survive_truncation`.
unsafe impl Sync for Before {}

static BEFORE: Before = Before(UnsafeCell::new(MaybeUninit::uninit()));
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Lets this process survive that somebody truncates a lock's files in /dev/shm while it uses the lock. Without this, it
/// would be killed by SIGBUS. The lock is then lost: [`Guard::lost`](crate::Guard::lost) says so, and requests fail with
/// [`Error::WrongObject`](crate::Error::WrongObject).
///
/// Installs a handler of SIGBUS. What is not about a lock's files, it passes on to the handler that was installed before;
/// one that is installed later has to do the same. Looks after about 250 handles; a second call does nothing. SIGBUS must
/// not be blocked. The command `resourcelock` does this; the library does not by itself. Does not block.
///
/// # Errors
/// The system does not allow the handler.
pub fn survive_truncation() -> io::Result<()> {
    if INSTALLED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    // SAFETY: all-zero sigactions are valid. `BEFORE` is written here only, by the one caller that has set `INSTALLED`,
    // and read by the handler only, which is installed afterwards. The handler has the signature that SA_SIGINFO asks for
    // and calls async-signal-safe functions only.
    unsafe {
        let before = (*BEFORE.0.get()).write(mem::zeroed());
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = on_bus_error as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        if libc::sigaction(libc::SIGBUS, std::ptr::null(), before) != 0
            || libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to a handler that was installed with SA_SIGINFO, with an address if it
    // sent the signal itself. This thread's errno is its own.
    unsafe {
        let errno = libc::__errno_location();
        let interrupted = *errno;
        if !((*info).si_code > 0 && lose((*info).si_addr() as usize)) {
            pass_on(signal, info, context);
        }
        *errno = interrupted;
    }
}

/// To what was installed before.
///
/// # Safety
/// The arguments are those of the handler, which was installed after `BEFORE` was written.
unsafe fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: as the caller says. A handler has one of the two signatures, as its flags tell.
    unsafe {
        let before = (*BEFORE.0.get()).assume_init_ref();
        let handler = before.sa_sigaction;
        let is_function = handler != libc::SIG_DFL && handler != libc::SIG_IGN;
        if !is_function || before.sa_flags & libc::SA_RESETHAND != 0 {
            let default: libc::sigaction = mem::zeroed();
            libc::sigaction(signal, &raw const default, std::ptr::null_mut());
        }
        if !is_function {
            // An access that failed is repeated, and ends the process; what somebody sent, has to be sent again.
            if (*info).si_code <= 0 && handler == libc::SIG_DFL {
                libc::kill(libc::getpid(), signal);
            }
        } else if before.sa_flags & libc::SA_SIGINFO != 0 {
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) = mem::transmute(handler);
            handler(signal, info, context);
        } else {
            let handler: extern "C" fn(c_int) = mem::transmute(handler);
            handler(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Mapping, Shared};
    use super::*;
    use std::os::fd::{AsFd, OwnedFd};
    use std::sync::atomic::AtomicU64;

    type Words = [AtomicU64; 3 * UNIT / 8];

    fn file(len: i64) -> OwnedFd {
        let file = nix::sys::memfd::memfd_create("truncated", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&file, len).unwrap();
        file
    }

    fn mapped<T: Shared>(file: &OwnedFd) -> Mapping<T> {
        Mapping::new(file.as_fd()).unwrap()
    }

    /// Four threads write and read while the file is truncated.
    #[test]
    fn all_threads_notice_and_none_dies() {
        survive_truncation().unwrap();
        let rounds: u64 = std::env::var("RESOURCELOCK_TEST_TRUNCATIONS").map_or(200, |n| n.parse().unwrap());
        for round in 0..rounds {
            let file = file(3 * UNIT as i64);
            let map = mapped::<Words>(&file);
            let sum = |map: &Words| map.iter().map(|word| word.load(Ordering::Relaxed)).sum::<u64>();
            map[0].store(1, Ordering::Relaxed);
            std::thread::scope(|scope| {
                let (map, sum) = (&map, &sum);
                let work = move |thread: usize| {
                    let mut n = 0u64;
                    while !map.is_gone() {
                        n += 1;
                        map[thread * 300 + 1].fetch_add(n, Ordering::Relaxed);
                        std::hint::black_box(sum(map));
                    }
                };
                for thread in 0..4 {
                    scope.spawn(move || work(thread));
                }
                for _ in 0..round % 97 * 100 {
                    std::hint::spin_loop();
                }
                nix::unistd::ftruncate(&file, (round % 3) as i64 * UNIT as i64).unwrap();
            });
            assert_eq!(
                map[0].load(Ordering::Relaxed),
                0,
                "round {round}: all of it was replaced"
            );
        }
        println!("{rounds} truncations under four threads: all noticed");
    }

    /// A place is given back with its mapping, and a new one is not gone.
    #[test]
    fn places_are_given_back() {
        let file = file(UNIT as i64);
        for _ in 0..2 * PLACES {
            let map = mapped::<AtomicU64>(&file);
            assert!(!map.is_gone());
            assert!(lose(&raw const *map as usize) && map.is_gone());
            assert_eq!(map.load(Ordering::Relaxed), 0);
        }
        assert!(!lose(&raw const file as usize), "not one of ours");
    }

    /// What a futex call says of it means the same.
    #[test]
    fn sleepers_notice() {
        let file = file(UNIT as i64);
        let map = mapped::<AtomicU64>(&file);
        let kept = std::sync::atomic::AtomicU32::new(5);
        for first in [true, false] {
            let file = self::file(UNIT as i64);
            let lost = mapped::<AtomicU64>(&file);
            nix::unistd::ftruncate(&file, 0).unwrap();
            let [a, b] = [
                super::super::Watched::Low(&map, 0),
                super::super::Watched::Low(&lost, 0),
            ];
            let [c, d] = if first { [b, a] } else { [a, b] };
            let until = super::super::monotonic() + 60_000_000_000;
            super::super::futex_wait(&[c, d, super::super::Watched::Word(&kept, 5)], until);
            assert!(lost.is_gone() && !map.is_gone());
            assert!(super::super::monotonic() < until, "it does not sleep to the end");
        }
    }
}
