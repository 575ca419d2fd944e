//! A process known by a descriptor, which unlike a PID cannot come to mean another process.

use crate::lock::sys;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::{c_int, c_ulong};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A pidfd (pidfd_open(2)).
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// The process that has this PID now. Check after this whether it is the one that was meant. Does not block.
    ///
    /// # Errors
    /// ESRCH: there is no such process. Others: the kernel is older than 5.3 or does not allow it, the number is a
    /// thread's, no descriptor is left.
    pub fn open(pid: u32) -> io::Result<Self> {
        sys::pidfd_open(pid).map(Self)
    }

    /// True if it has ended, with all its threads. (It may not have been reaped yet.)
    pub fn has_ended(&self) -> bool {
        let mut watched = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// One of its namespaces, of a kind that `sys` names.
    ///
    /// # Errors
    /// The kernel is older than 6.11, has no such namespaces, or does not allow it.
    pub(crate) fn namespace(&self, kind: c_ulong) -> io::Result<OwnedFd> {
        sys::namespace_of(self.as_fd(), kind)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// ESRCH: it has ended. EPERM: this user may not signal it.
    pub fn signal(&self, signal: c_int) -> io::Result<()> {
        sys::pidfd_send_signal(self.as_fd(), signal)
    }
}

/// Readable when the process has ended.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
