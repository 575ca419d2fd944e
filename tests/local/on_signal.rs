//! What a program may have called when a signal comes: `GetOptions::on_signal`.

#![allow(unsafe_code)] // Signals to one thread.

use crate::common::{TestLock, wait_until};
use resourcelock::{Error, GetOptions, Wait};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

extern "C" fn take_a_note(_: libc::c_int) {}

/// Has SIGUSR2 handled as an interpreter does: without SA_RESTART.
fn handle_usr2() {
    // SAFETY: all-zero sigactions are valid, and the handler does nothing.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = take_a_note as *const () as usize;
        libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut())
    };
    assert_eq!(installed, 0);
}

#[test]
fn the_program_decides_if_a_signal_ends_the_wait() {
    handle_usr2();
    let lock = TestLock::new("on-signal");
    let held = lock.open().acquire().unwrap();
    let (waiter, asked) = (AtomicI32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            // SAFETY: no arguments.
            waiter.store(unsafe { libc::gettid() }, Ordering::Relaxed);
            // Before it sleeps, after a first signal, after a second one.
            let stop = || asked.fetch_add(1, Ordering::Relaxed) == 2;
            lock.open()
                .acquire_with(&GetOptions::new().wait(Wait::Forever).on_signal(stop))
        });
        wait_until("it is asked", || asked.load(Ordering::Relaxed) == 1);
        wait_until("the signals end the wait", || {
            let (process, thread) = (std::process::id(), waiter.load(Ordering::Relaxed));
            // SAFETY: sends a signal to a thread of this process, if it is still there.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR2) };
            waiting.is_finished()
        });
        assert!(matches!(waiting.join().unwrap(), Err(Error::Cancelled)));
    });
    assert_eq!(asked.into_inner(), 3);
    assert!(lock.state().waiters.is_empty());
    drop(held);
    assert!(lock.open().try_acquire().unwrap().is_some());
}
