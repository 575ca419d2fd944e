//! Files in memory.

use crate::lock::sys::{Descriptor, Shared, truncation};
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// A file's beginning, mapped shared and writable into this process, or a copy of it.
pub(crate) struct Mapping<T: ?Sized> {
    at: NonNull<T>,
    len: usize,
    /// True if it is a copy: of what was [renewed](Self::renew) so far, the rest is zero.
    is_copy: bool,
    /// Which pages that were: bit 0 for the first one, bit 63 for the 64th and all behind it.
    renewed: AtomicU64,
    /// Where it is looked after, in case that the file is truncated.
    place: Option<truncation::Registered>,
}

// SAFETY: the mapping belongs to this value until it is dropped, and its content is atomics, which are Sync.
unsafe impl<T: ?Sized + Shared> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Shared> Sync for Mapping<T> {}

/// What the pages of a copy are counted in.
const PAGE: usize = 4096;

/// The bit in [`Mapping::renewed`] of a page.
fn bit_of(page: usize) -> u64 {
    1 << page.min(63)
}

/// Without a file: memory of this process's own, all zero.
fn map(file: Option<BorrowedFd<'_>>, len: usize) -> io::Result<NonNull<libc::c_void>> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let (flags, file) = match file {
        Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
        None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
    };
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, file, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at).ok_or_else(|| io::Error::other("mapped at address 0"))
}

impl<T: Shared> Mapping<T> {
    /// Maps one `T` at the file's beginning. The file must be at least that long, or using it is a SIGBUS, after which
    /// (see [`survive_truncation`]) the mapping is gone.
    pub(crate) fn new(file: BorrowedFd<'_>) -> io::Result<Self> {
        let len = size_of::<T>();
        let at = map(Some(file), len)?.cast::<T>();
        let place = truncation::Registered::new(at.as_ptr() as usize, len);
        Ok(Self {
            at,
            len,
            is_copy: false,
            renewed: AtomicU64::new(0),
            place,
        })
    }

    /// Memory for a copy of one `T`.
    pub(crate) fn copy() -> io::Result<Self> {
        let len = size_of::<T>();
        Ok(Self {
            at: map(None, len)?.cast::<T>(),
            len,
            is_copy: true,
            renewed: AtomicU64::new(0),
            place: None,
        })
    }

    /// The memory of a copy that is no longer used, for another one.
    pub(crate) fn cleared(mut self) -> Self {
        debug_assert!(self.is_copy);
        let renewed = std::mem::take(self.renewed.get_mut());
        for (page, start) in (0..self.len).step_by(PAGE).enumerate() {
            if renewed & bit_of(page) != 0 {
                let len = PAGE.min(self.len - start);
                // SAFETY: a part of a copy, for only these are renewed: memory that is this value's own, to which there are
                // no references, since it has been moved here. `T` consists of atomics, so that zero is a value.
                unsafe { self.at.as_ptr().cast::<u8>().add(start).write_bytes(0, len) };
            }
        }
        self
    }

    /// Makes a part of a copy show what stands in the file now. Counts only if the descriptor is found to be
    /// [ours](Descriptor::is_ours) afterwards. In a mapping, which shows it anyway: does nothing.
    ///
    /// # Errors
    /// The file cannot be read, or has become too short ([`io::ErrorKind::UnexpectedEof`]).
    pub(crate) fn renew<P: Shared + ?Sized>(&self, part: &P, file: &Descriptor) -> io::Result<()> {
        if !self.is_copy {
            return Ok(());
        }
        let (start, len) = ((&raw const *part).cast::<u8>(), size_of_val(part));
        let from = (start as usize).wrapping_sub(self.at.as_ptr() as usize);
        self.renew_bytes(from..from.saturating_add(len), file)
    }

    /// The same of these bytes.
    pub(crate) fn renew_bytes(&self, bytes: Range<usize>, file: &Descriptor) -> io::Result<()> {
        if !self.is_copy {
            return Ok(());
        }
        if bytes.end > self.len {
            return Err(io::ErrorKind::InvalidInput.into()); // a part of something else
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let pages = bytes.start / PAGE..=(bytes.end - 1) / PAGE;
        self.renewed
            .fetch_or(pages.map(bit_of).fold(0, std::ops::BitOr::bitor), Ordering::Relaxed);
        let (from, len) = (bytes.start, bytes.len());
        // SAFETY: the bytes lie in this memory, which is this value's own until it is dropped; `T` consists of atomics, so
        // that any content is valid and changes are defined, although there are references to it.
        let read = unsafe {
            let into = self.at.as_ptr().cast::<libc::c_void>().add(from);
            libc::pread(file.raw(), into, len, from as libc::off_t)
        };
        match usize::try_from(read) {
            Ok(read) if read == len => Ok(()),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

impl Mapping<[AtomicU64]> {
    /// Maps `words` (more than 0) words.
    pub(crate) fn words(file: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let len = words.saturating_mul(size_of::<AtomicU64>());
        let at = map(Some(file), len)?.cast::<AtomicU64>();
        Ok(Self {
            at: NonNull::slice_from_raw_parts(at, words),
            len,
            is_copy: false,
            renewed: AtomicU64::new(0),
            place: truncation::Registered::new(at.as_ptr() as usize, len),
        })
    }
}

impl<T: ?Sized> Deref for Mapping<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: mapped page-aligned for `len` bytes until drop; `T: Shared`, which the constructors require, makes
        // any content valid and concurrent changes by other processes defined.
        unsafe { self.at.as_ref() }
    }
}

impl<T: ?Sized> Mapping<T> {
    /// True if the file was truncated, and this is anonymous memory now.
    pub(crate) fn is_gone(&self) -> bool {
        self.place.as_ref().is_some_and(truncation::Registered::is_gone)
    }
}

/// madvise(2) of Linux 5.14; the same number on all architectures.
const MADV_POPULATE_WRITE: i32 = 23;
/// No kernel knows this one, so all refuse it. QEMU's emulation of Linux takes any advice and does nothing.
const MADV_UNKNOWN: i32 = i32::MAX;

/// Gives advice about the pages of a mapping.
///
/// # Safety
/// It is the caller's own mapping, and the advice changes nothing that it contains.
unsafe fn advise(at: *mut u8, len: usize, advice: i32) -> io::Result<()> {
    // SAFETY: as above.
    if unsafe { libc::madvise(at.cast::<libc::c_void>(), len, advice) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

impl<T: Shared> Mapping<T> {
    /// Where these bytes of the file lie in the mapping, as far as they do.
    fn within(&self, bytes: &Range<u64>) -> Range<usize> {
        let [start, end] = [bytes.start, bytes.end].map(|at| usize::try_from(at).unwrap_or(self.len).min(self.len));
        start..end
    }

    /// Makes the pages with these bytes ready: a later access, whose value this is not about, does not have to wait for the
    /// kernel.
    pub(crate) fn touch(&self, bytes: &Range<u64>) {
        for at in self.within(bytes).step_by(PAGE) {
            // SAFETY: within the mapping; `T` consists of atomics, so that a byte of it can be read at any time.
            unsafe { self.at.as_ptr().cast::<u8>().add(at).read_volatile() };
        }
    }

    /// The same for pages that may lack their space: the kernel allocates it as if they were written to, but where that would
    /// be a SIGBUS, this fails.
    ///
    /// # Errors
    /// There is no space for all of them, the file has become too short, or the kernel does not know this request, or refuses
    /// it.
    pub(crate) fn populate(&self, bytes: &Range<u64>) -> io::Result<()> {
        /// 0 = not known yet, 1 = advice is followed or refused, 2 = it is taken for nothing.
        static TAKEN: AtomicU8 = AtomicU8::new(0);
        let bytes = self.within(bytes);
        // SAFETY: a part of this very mapping, the content of which stays as it is.
        let advise = |advice| unsafe { advise(self.at.as_ptr().cast::<u8>().add(bytes.start), bytes.len(), advice) };
        if TAKEN.load(Ordering::Relaxed) == 0 && !bytes.is_empty() {
            let taken = 1 + u8::from(advise(MADV_UNKNOWN).is_ok());
            TAKEN.store(taken, Ordering::Relaxed);
        }
        if TAKEN.load(Ordering::Relaxed) == 2 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        advise(MADV_POPULATE_WRITE)
    }
}

impl<T: ?Sized> Drop for Mapping<T> {
    fn drop(&mut self) {
        self.place = None;
        // SAFETY: our own mapping; no reference to it outlives this value.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn what_is_populated_has_its_space_and_what_cannot_be_is_no_signal() {
        let file = nix::sys::memfd::memfd_create("populated", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&file, 3 * PAGE as i64).unwrap();
        let mapping = Mapping::<[AtomicU8; 3 * PAGE]>::new(file.as_fd()).unwrap();
        let pages = || nix::sys::stat::fstat(&file).unwrap().st_blocks * 512 / PAGE as i64;
        assert_eq!(pages(), 0);
        match mapping.populate(&(PAGE as u64..3 * PAGE as u64)) {
            // Before Linux 5.14, or under an emulator.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => return,
            populated => populated.unwrap(),
        }
        assert_eq!(pages(), 2);
        nix::unistd::ftruncate(&file, 0).unwrap();
        let error = mapping.populate(&(0..1 << 40)).unwrap_err();
        assert_eq!((error.raw_os_error(), pages()), (Some(libc::EFAULT), 0));
    }

    /// What a copy showed is not seen in the next one.
    #[test]
    fn the_memory_of_a_copy_is_cleared() {
        type Content = [AtomicU8; 70 * PAGE + 8];
        let file = nix::sys::memfd::memfd_create("copied", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        assert_eq!(nix::unistd::write(&file, &[1; 70 * PAGE]), Ok(70 * PAGE));
        let file = Descriptor::new(file).unwrap();
        let mut copy = Mapping::<Content>::copy().unwrap();
        let shown = |copy: &Mapping<Content>| copy.iter().map(|byte| usize::from(byte.load(Ordering::Relaxed))).sum();
        for (bytes, read) in [
            (0..1, 1),
            (PAGE - 1..PAGE + 1, 2),
            (62 * PAGE + 5..66 * PAGE, 4 * PAGE - 5),
            (0..70 * PAGE, 70 * PAGE),
            (5..5, 0),
        ] {
            copy.renew_bytes(bytes, &file).unwrap();
            assert_eq!(read, shown(&copy));
            copy = copy.cleared();
            assert_eq!(0, shown(&copy));
        }
        let short = copy.renew_bytes(69 * PAGE..70 * PAGE + 8, &file).unwrap_err();
        assert_eq!((short.kind(), shown(&copy)), (io::ErrorKind::UnexpectedEof, PAGE));
        assert_eq!(shown(&copy.cleared()), 0);
        let copy = Mapping::<Content>::copy().unwrap();
        for bytes in [0..70 * PAGE + 9, usize::MAX - 1..usize::MAX] {
            let error = copy.renew_bytes(bytes, &file).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
