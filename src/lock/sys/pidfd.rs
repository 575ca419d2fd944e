//! Processes by descriptor.

use std::ffi::{c_int, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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

/// The kinds of namespaces that are asked for, by the number of their request (pidfd.h of Linux 6.11).
pub(crate) const PID_NAMESPACE: c_ulong = 0xff05;
pub(crate) const TIME_NAMESPACE: c_ulong = 0xff07;

/// A namespace of the process that a descriptor refers to.
///
/// # Errors
/// ENOTTY and others: the kernel is older than 6.11, has no such namespaces, or does not allow it.
pub(crate) fn namespace_of(process: BorrowedFd<'_>, kind: c_ulong) -> io::Result<OwnedFd> {
    let none: c_int = 0;
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::ioctl(process.as_raw_fd(), kind as _, none) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor (close-on-exec) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
