//! A process of its own that goes on with this program, away from its caller.

use super::command_line;
use super::signal::{self, SignalSet};
use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Runs `body` in a new process, which ends with it. Returns its PID.
///
/// There may be other threads. The child has only the calling one, and whatever the others were doing stays half done
/// there. The allocator is usable in the child (glibc's since 2.24 without any deadlock; with musl see
/// [`outlive_forks`](super::memory::outlive_forks)); `body` must use nothing else that could be locked: no standard streams,
/// no logging, no environment.
///
/// # Errors
/// No process can be made.
pub fn fork(body: impl FnOnce()) -> io::Result<u32> {
    // SAFETY: the child runs `body` under the rule above and never returns from here.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: ends this process without running what belongs to the parent (exit handlers, buffers).
            unsafe { libc::_exit(0) }
        }
        pid => Ok(pid as u32),
    }
}

/// In the new process: leaves the terminal and the parent's group, blocks all signals, changes what `ps` shows to
/// `name`, and closes all descriptors but `keep`; `close` it closes in any case.
pub fn detach<'a>(name: &CStr, keep: impl Iterator<Item = BorrowedFd<'a>>, close: BorrowedFd<'_>) {
    signal::block(SignalSet::all());
    command_line::rename(name.to_bytes());
    let mut keep: Vec<c_int> = keep.map(|fd| fd.as_raw_fd()).collect();
    keep.sort_unstable();
    // SAFETY: system calls that touch no memory of ours but the two strings, which are NUL-terminated. The descriptors
    // that are closed belong to values of the parent's that this process does not use.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        libc::close(close.as_raw_fd());
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for stream in 0..3 {
            if null >= 0 && !keep.contains(&stream) {
                libc::dup2(null, stream);
            }
        }
        let mut first = 3;
        for fd in keep.into_iter().chain([c_int::MAX]) {
            if fd > first {
                libc::syscall(libc::SYS_close_range, first, fd - 1, 0);
            }
            first = first.max(fd.saturating_add(1));
        }
    }
}

/// Ends a connection, in all processes that have it open.
pub fn shut_down(socket: BorrowedFd<'_>) {
    // SAFETY: no memory is passed.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}
