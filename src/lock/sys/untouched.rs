//! A futex word in a file that others may truncate.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

/// A futex word in the first page of a file, to sleep on. Only the kernel accesses it: if the file is truncated, that is an
/// error of the call, where an access by this process would be a SIGBUS.
pub(crate) struct UntouchedWord {
    page: NonNull<u8>,
    offset: usize,
}

/// The smallest page there is.
const LEN: usize = 4096;

// SAFETY: an address that is given to the kernel.
unsafe impl Send for UntouchedWord {}
// SAFETY: as above.
unsafe impl Sync for UntouchedWord {}

impl UntouchedWord {
    /// The word `offset` bytes behind the beginning of a file that is open for writing.
    pub(crate) fn new(file: BorrowedFd<'_>, offset: usize) -> io::Result<Self> {
        if !offset.is_multiple_of(4) || offset >= LEN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), LEN, prot, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let page = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { page, offset })
    }

    /// Its address, for futex(2).
    pub(super) fn address(&self) -> *const u32 {
        self.page.as_ptr().wrapping_add(self.offset).cast::<u32>().cast_const()
    }

    /// Sets these of its bits (numbered below 11), in one step that no other access, before or after, is reordered with.
    pub(crate) fn set(&self, bits: u32) -> io::Result<()> {
        // FUTEX_WAKE_OP does that on its second word, and wakes sleepers: here none on the first one, and on the second
        // one if its value was less than -2048, which does no harm.
        let nobody = AtomicU32::new(0);
        let (or, less_than, limit) = (2 << 28, 2 << 24, 0x800);
        let operation = or | less_than | (bits & 0x7ff) << 12 | limit;
        // SAFETY: the kernel reads and changes the two words, of which one is ours and the other one atomic to all who use
        // it.
        let r = unsafe {
            libc::syscall(
                libc::SYS_futex,
                nobody.as_ptr(),
                libc::FUTEX_WAKE_OP,
                0,
                0usize,
                self.address(),
                operation,
            )
        };
        if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for UntouchedWord {
    fn drop(&mut self) {
        // SAFETY: our own mapping, to which there are no references.
        unsafe { libc::munmap(self.page.as_ptr().cast(), LEN) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Watched, futex_wait, monotonic};
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    #[test]
    fn bits_are_set_until_the_file_is_cut() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(LEN as u64).unwrap();
        let value = |file: &File| {
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, 68).unwrap();
            u32::from_ne_bytes(bytes)
        };
        let word = UntouchedWord::new(file.as_fd(), 68).unwrap();
        for before in [0, 6, 0x8000_0000, 0xffff_fffe] {
            file.write_all_at(&u32::to_ne_bytes(before), 68).unwrap();
            word.set(1).unwrap();
            assert_eq!(value(&file), before | 1);
        }
        let until = monotonic() + 60_000_000_000;
        futex_wait(&[Watched::Untouched(&word, 5)], until); // it has another value
        file.set_len(0).unwrap();
        assert_eq!(word.set(1).unwrap_err().raw_os_error(), Some(libc::EFAULT));
        futex_wait(&[Watched::Untouched(&word, 0)], until);
        assert!(monotonic() < until);
    }
}
