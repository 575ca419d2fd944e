//! Signal masks. They go to the kernel directly: libc's functions leave out the signals that it keeps for itself.

use std::io;
use std::thread::{Builder, JoinHandle};
#[cfg(feature = "etcd")]
use std::thread::{Scope, ScopedJoinHandle};

/// The signals that the C library keeps for work among a process's threads: 32 and 33, and musl 34. A thread must accept
/// them, or setuid(2) in another one would wait for it for ever.
const OF_LIBC: u64 = if cfg!(target_env = "musl") {
    0b111 << 31
} else {
    0b11 << 31
};

/// The kernel's size of a set of signals.
const SET_BYTES: usize = size_of::<u64>();

/// Starts a thread that blocks every signal, so that each one reaches a thread that the program has chosen for it. The
/// caller's own mask is the same afterwards.
///
/// # Errors
/// The system has no room for one more thread.
pub(crate) fn spawn_without_signals(
    thread: Builder,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    start_without_signals(|callers| {
        thread.spawn(move || {
            settle(callers);
            body();
        })
    })
}

/// The same for a thread that ends before `scope` does.
///
/// # Errors
/// The system has no room for one more thread.
#[cfg(feature = "etcd")]
pub(crate) fn spawn_scoped_without_signals<'scope, T: Send + 'scope>(
    thread: Builder,
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    start_without_signals(|callers| {
        thread.spawn_scoped(scope, move || {
            settle(callers);
            body()
        })
    })
}

/// Runs `start`, which starts a thread that calls [`settle`] with the mask it is given.
fn start_without_signals<H>(start: impl FnOnce(u64) -> io::Result<H>) -> io::Result<H> {
    keep_mask(|| {
        // A new thread inherits the mask of the one that starts it.
        let before = change_mask(libc::SIG_BLOCK, !OF_LIBC);
        let thread = start(before);
        change_mask(libc::SIG_SETMASK, before);
        thread
    })
}

/// In a new thread: blocks what musl has unblocked. `callers`: the mask of the thread that started it.
fn settle(callers: u64) {
    if cfg!(target_env = "musl") {
        change_mask(libc::SIG_BLOCK, callers); // see `keep_mask`
    }
}

/// Runs `body`, which sets the process's first handler of a signal, or starts its first thread: with each, musl unblocks
/// the signals that it keeps for itself. Here they stay blocked, if they were, and pending.
pub fn keep_mask<R>(body: impl FnOnce() -> R) -> R {
    if !cfg!(target_env = "musl") {
        return body();
    }
    let before = change_mask(libc::SIG_BLOCK, 0);
    let pending = take_pending(before & OF_LIBC);
    let result = body();
    change_mask(libc::SIG_SETMASK, before);
    for signal in &pending {
        send_again(signal);
    }
    result
}

/// Changes this thread's mask (the kernel's 64-bit word; `how` as in sigprocmask(2)); returns the previous one.
pub fn change_mask(how: libc::c_int, set: u64) -> u64 {
    let mut old = 0;
    // SAFETY: both pointers are to words of the size that is passed. It fails only for a bad `how`.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut old, SET_BYTES) };
    old
}

/// Takes those of these signals, which are blocked, that are pending.
fn take_pending(set: u64) -> Vec<libc::siginfo_t> {
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let next = || {
        // SAFETY: an all-zero siginfo is a valid one; set, info and time are of the types that the call expects.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let (set, info_at, time) = (&raw const set, &raw mut info, &raw const at_once);
            let signal = libc::syscall(libc::SYS_rt_sigtimedwait, set, info_at, time, SET_BYTES);
            (signal > 0).then_some(info)
        }
    };
    if set == 0 {
        return Vec::new();
    }
    std::iter::from_fn(next).collect()
}

/// Sends this process a signal that it has taken.
fn send_again(signal: &libc::siginfo_t) {
    // SAFETY: a siginfo that the kernel filled in. A process may send itself any.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigqueueinfo,
            libc::getpid(),
            signal.si_signo,
            &raw const *signal,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_all_signals_blocked_and_its_starter_what_it_had() {
        // 34 is the first one that glibc leaves to programs.
        let mine = change_mask(libc::SIG_BLOCK, 1 << (libc::SIGUSR2 - 1) | 1 << 33);
        let before = change_mask(libc::SIG_BLOCK, 0);
        let (tell, told) = std::sync::mpsc::channel();
        let thread = spawn_without_signals(Builder::new(), move || {
            tell.send(change_mask(libc::SIG_BLOCK, 0)).unwrap();
        });
        thread.unwrap().join().unwrap();
        assert_eq!(change_mask(libc::SIG_SETMASK, mine), before);
        // KILL and STOP cannot be blocked.
        let never = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
        assert_eq!(told.recv().unwrap(), !(0b11 << 31 | never) | before & OF_LIBC);
    }

    #[test]
    fn what_is_taken_is_sent_again() {
        let set = 1 << (libc::SIGUSR2 - 1);
        let mine = change_mask(libc::SIG_BLOCK, set);
        // To this thread alone, since other tests have theirs.
        // SAFETY: no pointers.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) };
        let taken = take_pending(set);
        assert_eq!(
            taken.iter().map(|info| info.si_signo).collect::<Vec<_>>(),
            [libc::SIGUSR2]
        );
        assert!(take_pending(set).is_empty());
        change_mask(libc::SIG_SETMASK, mine);
    }
}
