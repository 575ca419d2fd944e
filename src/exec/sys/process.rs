//! A process known by a descriptor: unlike a PID it cannot come to mean another process.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A pidfd (pidfd_open(2)).
pub struct Process(OwnedFd);

impl Process {
    /// The process that has this PID now. Check after this whether it is the one that was meant.
    ///
    /// # Errors
    /// There is none, or the kernel is older than 5.3.
    pub fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as c_int, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor (close-on-exec, as the kernel makes all pidfds) that belongs to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as c_int) }))
    }

    /// True if it has ended (it may not have been reaped yet).
    pub fn has_ended(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut watched = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::ZERO).is_ok_and(|n| n > 0)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended, or may not be signalled by this user.
    pub fn signal(&self, signal: c_int) -> io::Result<()> {
        // SAFETY: a null siginfo means the same as kill(2) would send.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// Readable when the process has ended.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
