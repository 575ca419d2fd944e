//! What a program may have called when a signal comes: `GetOptions::on_signal`.
#![allow(unsafe_code)] // Signals to one thread.

use crate::common::{TestLock, wait_until};
use resourcelock::{Error, GetOptions, Wait};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

static NOTED: AtomicBool = AtomicBool::new(false);

extern "C" fn take_a_note(_: libc::c_int) {
    NOTED.store(true, Ordering::Relaxed);
}

/// Has SIGUSR2 handled as an interpreter does: without SA_RESTART.
fn handle_usr2() {
    // SAFETY: all-zero sigactions are valid, and the handler stores a word.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = take_a_note as *const () as usize;
        libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut())
    };
    assert_eq!(installed, 0);
}

#[test]
fn one_signal_ends_the_wait_whenever_it_comes() {
    handle_usr2();
    let lock = TestLock::new("on-signal");
    let held = lock.open().acquire().unwrap();
    let waiter = AtomicI32::new(0);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            // SAFETY: no arguments.
            waiter.store(unsafe { libc::gettid() }, Ordering::Relaxed);
            let stop = || NOTED.load(Ordering::Relaxed);
            lock.open()
                .acquire_with(&GetOptions::new().wait(Wait::Forever).on_signal(stop))
        });
        wait_until("it waits", || lock.state().waiters.len() == 1);
        let (process, thread) = (std::process::id(), waiter.load(Ordering::Relaxed));
        // SAFETY: sends a signal to a thread of this process, which waits.
        unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR2) };
        assert!(matches!(waiting.join().unwrap(), Err(Error::Cancelled)));
    });
    assert!(lock.state().waiters.is_empty());
    drop(held);
    assert!(lock.open().try_acquire().unwrap().is_some());
}
