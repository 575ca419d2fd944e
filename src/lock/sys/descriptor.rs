//! Descriptors that the program around this library may close, all of them at once, as daemons do. Their numbers then
//! mean other files.

use nix::sys::stat::fstat;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// A descriptor that is closed when it is dropped, if its number still means the same file.
#[derive(Debug)]
pub(crate) struct Descriptor {
    fd: AtomicI32,
    device: u64,
    inode: u64,
}

impl Descriptor {
    /// Takes the descriptor over.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let stat = fstat(&fd)?;
        Ok(Self {
            fd: AtomicI32::new(fd.into_raw_fd()),
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }

    /// The same for a descriptor whose file has been examined.
    pub(crate) fn of(fd: OwnedFd, device: u64, inode: u64) -> Self {
        Self {
            fd: AtomicI32::new(fd.into_raw_fd()),
            device,
            inode,
        }
    }

    /// Its number.
    pub(crate) fn raw(&self) -> RawFd {
        // Acquire: from the thread that has renewed it, which has opened the file before.
        self.fd.load(Ordering::Acquire)
    }

    /// For a call whose answer counts only if [`is_ours`](Self::is_ours) afterwards.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: a number that was a descriptor once, so not -1. What it means now is checked afterwards; the calls
        // that are made with it change no file: F_OFD_GETLK, F_DUPFD_CLOEXEC, fstat(2) and pread(2).
        unsafe { BorrowedFd::borrow_raw(self.raw()) }
    }

    /// Another one, which nobody else closes, of the same file.
    ///
    /// # Errors
    /// The number means another file by now, or none.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        let copy = nix::fcntl::fcntl(self.as_fd(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(0))?;
        // SAFETY: a new descriptor that nobody else owns.
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        self.is_same(&copy)
            .then_some(copy)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn is_same(&self, file: impl AsFd) -> bool {
        fstat(file).is_ok_and(|stat| stat.st_dev == self.device && stat.st_ino == self.inode)
    }

    /// Reads the file's beginning. It counts only if [`is_ours`](Self::is_ours) afterwards.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the kernel writes at most as many bytes as there are, into memory that is ours.
        let n = unsafe { libc::pread(self.raw(), into.as_mut_ptr().cast(), into.len(), 0) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// True if the number still means the file that it was opened for.
    pub(crate) fn is_ours(&self) -> bool {
        self.is_same(self.as_fd())
    }

    /// Replaces a descriptor that is no longer ours by a new one, if that is of the same file: true = there is a valid
    /// one.
    pub(crate) fn renew(&self, fresh: OwnedFd) -> bool {
        let lost = self.raw();
        if !self.is_same(&fresh) {
            return false;
        }
        let new = fresh.as_raw_fd();
        // Release: see `raw`; Acquire: what another thread has put there instead, likewise.
        if self
            .fd
            .compare_exchange(lost, new, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            let _ = fresh.into_raw_fd();
        }
        true // if not, another thread was faster, with one that is as good
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: open, and of our file. (If the program closed ours and another handle of the same lock got the
            // number: that one finds out and renews it.)
            drop(unsafe { OwnedFd::from_raw_fd(self.raw()) });
        }
    }
}
