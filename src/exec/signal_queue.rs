//! Signals as something to wait for among others in poll(2), instead of handlers.

use super::signals::INTERRUPTS;
use super::sys::signal::{self, SignalSet};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// What happens to a program that uses the whole terminal, besides being asked to end.
const OF_THE_TERMINAL: [c_int; 3] = [libc::SIGTSTP, libc::SIGCONT, libc::SIGWINCH];

/// Signals that are kept until they are asked for. Its descriptor is readable if there are any.
pub struct SignalQueue(SignalFd);

impl SignalQueue {
    /// From now on signals that ask to end, or to stop, and those that tell of CONT and of a new size of the terminal are
    /// kept, unless the caller of this program ignored them. Threads that are started later inherit that.
    ///
    /// # Errors
    /// The system's, for lack of descriptors or memory.
    pub fn open() -> io::Result<Self> {
        let kept = INTERRUPTS.into_iter().chain(OF_THE_TERMINAL);
        let kept: Vec<c_int> = kept.filter(|&signal| !signal::is_ignored(signal)).collect();
        let set: SigSet = kept
            .iter()
            .filter_map(|&signal| Signal::try_from(signal).ok())
            .collect();
        let queue = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        signal::block(SignalSet::of(&kept));
        Ok(Self(queue))
    }

    /// The next one that came.
    pub fn next(&self) -> Option<c_int> {
        let received = self.0.read_signal().ok()??;
        c_int::try_from(received.ssi_signo).ok()
    }

    /// Stops this process by `signal`, as if it had not been kept, until it is continued. Returns at once where the system
    /// does not stop it: in an orphaned process group, which nobody could continue.
    pub fn stop_by(&self, signal: c_int) {
        signal::stop_by(signal);
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
