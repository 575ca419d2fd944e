//! Signal masks. They go to the kernel directly: libc's functions leave out the signals that it keeps for itself.

use std::io;
use std::thread::{self, Builder, JoinHandle};
#[cfg(feature = "etcd")]
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

/// The signals that the C library keeps for work among a process's threads: 32 and 33, and musl 34. A thread must accept
/// them, or setuid(2) in another one would wait for it for ever.
const OF_LIBC: u64 = if cfg!(target_env = "musl") {
    0b111 << 31
} else {
    0b11 << 31
};

/// How often, and at most how many times, a thread looks whether another one has taken a signal.
const TAKEN_LOOK: Duration = Duration::from_millis(1);
const TAKEN_LOOKS: usize = 100;

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
        leave_to_others(before);
        change_mask(libc::SIG_SETMASK, before);
        thread
    })
}

/// Before this thread, which blocked all signals, has the mask `next`: waits until a signal that was sent to the process
/// has been taken. While it was blocked here, the kernel chose another thread for it, and woke that; but whichever unblocks
/// it first takes it, without interrupting the other. Python would never hear of a Ctrl-C: it waits for one in a system
/// call of its first thread. (So that one does not wait here: it is the kernel's first choice.) What nobody takes in time
/// is for this thread, as is what was sent to it alone.
fn leave_to_others(next: u64) {
    if is_first_thread() || pending() & !next == 0 {
        return;
    }
    for _ in 0..TAKEN_LOOKS {
        if pending_for_the_process().is_none_or(|set| set & !next == 0) {
            return;
        }
        thread::sleep(TAKEN_LOOK);
    }
}

fn is_first_thread() -> bool {
    // SAFETY: no pointers.
    unsafe { libc::gettid() == libc::getpid() }
}

/// The signals that are pending for this thread or its process, of those that it blocks.
fn pending() -> u64 {
    let mut set = 0;
    // SAFETY: a pointer to a word of the size that is passed.
    unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut set, SET_BYTES) };
    set
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

/// Those that are pending for the process. `None`: /proc does not tell.
fn pending_for_the_process() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    let set = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
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
    use std::sync::atomic::{AtomicI32, Ordering};

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
    fn a_signal_that_comes_while_a_thread_starts_is_for_the_thread_that_was_chosen_for_it() {
        static TAKEN_BY: AtomicI32 = AtomicI32::new(0);
        extern "C" fn note(_: libc::c_int) {
            // SAFETY: no pointers.
            TAKEN_BY.store(unsafe { libc::gettid() }, Ordering::SeqCst);
        }
        let handler: extern "C" fn(libc::c_int) = note;
        // SAFETY: an all-zero sigaction is a valid one; the handler does only what a handler may. No other test uses this
        // signal, which is ignored unless there is a handler.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            assert_eq!(
                libc::sigaction(libc::SIGWINCH, &raw const action, std::ptr::null_mut()),
                0
            );
        }
        // The first thread waits for this one, or for all tests, and takes what comes.
        let starts_threads = || {
            for _ in 0..50 {
                let sent = start_without_signals(|_| {
                    // SAFETY: no pointers.
                    io::Result::Ok(unsafe { libc::kill(libc::getpid(), libc::SIGWINCH) })
                });
                assert_eq!(sent.unwrap(), 0);
                let taken_by = loop {
                    match TAKEN_BY.swap(0, Ordering::SeqCst) {
                        0 => thread::yield_now(),
                        thread => break thread,
                    }
                };
                // SAFETY: no pointers.
                assert_ne!(taken_by, unsafe { libc::gettid() });
            }
            // What was sent to it alone is not waited for: it has this one at once.
            let sent = start_without_signals(|_| {
                // SAFETY: no pointers.
                let sent = unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGWINCH) };
                let set = 1 << (libc::SIGWINCH - 1);
                assert_eq!(pending() & set, set);
                assert_eq!(pending_for_the_process().unwrap() & set, 0);
                io::Result::Ok(sent)
            });
            assert_eq!(sent.unwrap(), 0);
            // SAFETY: no pointers.
            assert_eq!(TAKEN_BY.load(Ordering::SeqCst), unsafe { libc::gettid() });
        };
        thread::spawn(starts_threads).join().unwrap();
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
