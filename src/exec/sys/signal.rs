//! Signals: sets, masks, dispositions, synchronous acceptance, sending, and the handlers that end a wait.
//!
//! Sets are the kernel's 64-bit words and go to the kernel directly: libc's functions leave out the signals that it keeps
//! for itself (32 and 33, musl 34 as well), so a mask that came from the caller would not be restored exactly.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

/// The kernel's size of a signal set in bytes.
const SET_BYTES: usize = 8;

/// Some signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalSet(u64);

impl SignalSet {
    /// The set of these signals (1 to 64 each).
    pub const fn of(signals: &[c_int]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < signals.len() {
            bits |= 1 << (signals[i] - 1);
            i += 1;
        }
        Self(bits)
    }

    /// All signals.
    pub const fn all() -> Self {
        Self(!0)
    }

    /// The real-time signals that are free for programs to use: 34 to 64.
    pub const fn real_time() -> Self {
        Self(!0 << 33)
    }

    /// Signals that are in either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Removes a signal: true = it was in it.
    pub const fn remove(&mut self, signal: c_int) -> bool {
        let contained = self.contains(signal);
        self.0 &= !(1 << (signal - 1));
        contained
    }

    /// True if `signal` is in it.
    pub const fn contains(self, signal: c_int) -> bool {
        self.0 & (1 << (signal - 1)) != 0
    }
}

/// Changes this thread's mask; returns the previous one.
fn change_mask(how: c_int, set: SignalSet) -> SignalSet {
    SignalSet(resourcelock::system::change_mask(how, set.0))
}

/// Blocks these as well; returns the mask from before.
pub fn block(set: SignalSet) -> SignalSet {
    change_mask(libc::SIG_BLOCK, set)
}

/// Unblocks these. Those of them that are pending are delivered before this returns.
pub fn unblock(set: SignalSet) {
    change_mask(libc::SIG_UNBLOCK, set);
}

/// Sets the mask.
pub fn set_mask(mask: SignalSet) {
    change_mask(libc::SIG_SETMASK, mask);
}

/// The blocked signals that were sent, and have not been accepted. None, if the system does not tell.
pub fn pending() -> SignalSet {
    let mut set = SignalSet(0);
    // SAFETY: the kernel writes a set of this size.
    unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut set.0, SET_BYTES) };
    set
}

/// A signal that was accepted with [`accept`].
pub struct Received {
    info: libc::siginfo_t,
}

impl Received {
    /// Which one.
    pub fn signal(&self) -> c_int {
        self.info.si_signo
    }

    /// True if the kernel sent it of its own accord: a key or the hang-up of the terminal, a timer.
    pub fn is_from_kernel(&self) -> bool {
        self.info.si_code > 0
    }

    /// The process that sent it, if one did; `None` also if it is outside this PID namespace.
    pub fn sender(&self) -> Option<u32> {
        if self.is_from_kernel() {
            return None;
        }
        // SAFETY: for codes <= 0 (kill, sigqueue, tgkill, timers, queues) the field is initialized: the kernel
        // clears what does not apply.
        let pid = unsafe { self.info.si_pid() };
        u32::try_from(pid).ok().filter(|pid| *pid != 0)
    }

    /// Sends it on to process `pid`, with the value that was queued with it, if any.
    pub fn pass_on(&self, pid: u32) -> io::Result<()> {
        if self.info.si_code != libc::SI_QUEUE {
            return kill(pid, self.signal());
        }
        // SAFETY: a siginfo that the kernel filled in. For SI_QUEUE the kernel lets a process pass it on unchanged,
        // as its value is the sender's own business (rt_sigqueueinfo(2)).
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigqueueinfo,
                pid as c_int,
                self.signal(),
                &raw const self.info,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// Waits until one of `set` (which must be blocked) is pending, and takes it. `Ok(None)`: the time is up, or something
/// else happened (this process was stopped and continued); try again.
///
/// # Errors
/// The system does not allow the call.
pub fn accept(set: SignalSet, timeout: Duration) -> io::Result<Option<Received>> {
    let time = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: an all-zero siginfo is a valid one; set, info and time are of the types that the call expects.
    let (signal, info) = unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        let signal = libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const set.0,
            &raw mut info,
            &raw const time,
            SET_BYTES,
        );
        (signal, info)
    };
    if signal > 0 {
        return Ok(Some(Received { info }));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => Ok(None),
        _ => Err(error),
    }
}

/// Sends `signal` to process `pid`.
pub fn kill(pid: u32, signal: c_int) -> io::Result<()> {
    // SAFETY: no pointers. `pid` is at least 1, so this is one process, never a group.
    let result = unsafe { libc::kill((pid as c_int).max(1), signal) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sends `signal` to every process of the group `group`.
pub fn kill_group(group: u32, signal: c_int) -> io::Result<()> {
    // SAFETY: no pointers.
    let result = unsafe { libc::killpg(group as c_int, signal) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// True if there is no process of this number.
pub fn is_nobodys(pid: u32) -> bool {
    kill(pid, 0).is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
}

/// The process group that process `pid` is in.
pub fn group_of(pid: u32) -> Option<u32> {
    let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid.cast_signed())));
    group.ok().map(|group| group.as_raw().cast_unsigned())
}

/// What happens when a signal arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The system's default action.
    Default,
    /// Nothing.
    Ignored,
}

/// Sets it; returns true if the signal was ignored before.
pub fn set_disposition(signal: c_int, disposition: Disposition) -> bool {
    let handler = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignored => libc::SIG_IGN,
    };
    // SAFETY: all-zero sigactions are valid, and no handler is named.
    unsafe {
        let mut new: libc::sigaction = mem::zeroed();
        let mut old: libc::sigaction = mem::zeroed();
        new.sa_sigaction = handler;
        libc::sigaction(signal, &raw const new, &raw mut old);
        old.sa_sigaction == libc::SIG_IGN
    }
}

/// The caller had SIGXFSZ ignored.
static FILE_LIMIT_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// From now on a file that would grow beyond the limit (RLIMIT_FSIZE) is an error (EFBIG), not a signal.
pub fn ignore_file_limit() {
    let ignored = set_disposition(libc::SIGXFSZ, Disposition::Ignored);
    FILE_LIMIT_WAS_IGNORED.store(ignored, Ordering::Relaxed);
}

/// Undoes that, as far as the caller had not ignored the signal himself. Async-signal-safe.
pub fn restore_file_limit() {
    if !FILE_LIMIT_WAS_IGNORED.load(Ordering::Relaxed) {
        set_disposition(libc::SIGXFSZ, Disposition::Default);
    }
}

/// True if the signal is ignored.
pub fn is_ignored(signal: c_int) -> bool {
    // SAFETY: an all-zero sigaction is valid, and the kernel only writes to it.
    unsafe {
        let mut now: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut now);
        now.sa_sigaction == libc::SIG_IGN
    }
}

/// The signal that came first, 0 = none yet.
static INTERRUPT: AtomicI32 = AtomicI32::new(0);

/// From now on each of `signals` is remembered (see [`interrupt`]) and calls `notify`, which must do nothing but set a
/// flag: it runs in the signal handler. Signals that are ignored stay ignored. Returns those that are caught.
///
/// System calls that a signal interrupts are restarted where the kernel can do that: `notify` has to wake up whoever
/// waits. Sleeps in poll(2) end early in any case.
pub fn catch_interrupts(signals: &[c_int], notify: fn()) -> SignalSet {
    let mut caught = SignalSet::of(&[]);
    for &signal in signals.iter().filter(|signal| !is_ignored(**signal)) {
        let on_arrival = move || {
            // Release: whoever finds the signal, sees what this thread did before; `notify` has ordering of its own.
            let _ = INTERRUPT.compare_exchange(0, signal, Ordering::Release, Ordering::Relaxed);
            notify();
        };
        // SAFETY: it makes one atomic exchange and does what `notify` promises.
        if unsafe { signal_hook::low_level::register(signal, on_arrival) }.is_ok() {
            caught = caught.union(SignalSet::of(&[signal]));
        }
    }
    caught
}

/// The first signal that [`catch_interrupts`] noticed.
pub fn interrupt() -> Option<c_int> {
    Some(INTERRUPT.load(Ordering::Acquire)).filter(|signal| *signal != 0)
}

/// Kills this process with `signal`, without a core file. Returns only if that is impossible (process 1 of a PID
/// namespace is immune to its own signals).
pub fn die_of(signal: c_int) {
    // A core limit of 0 would not stop a core pattern that is a pipe.
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
    set_disposition(signal, Disposition::Default);
    let _ = kill(std::process::id(), signal);
    unblock(SignalSet::of(&[signal]));
}

/// Stops this process with `signal` until it is continued. Does nothing where the system itself does not stop it: in an
/// orphaned process group (nobody could continue it), or if the signal is ignored.
pub fn stop_by(signal: c_int) {
    let set = SignalSet::of(&[signal]);
    let _ = kill(std::process::id(), signal);
    let before = block(SignalSet::of(&[]));
    unblock(set);
    set_mask(before);
}
