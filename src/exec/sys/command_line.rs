//! C's `main`, and the memory of the command line, which `ps` reads.

use std::ffi::{OsString, c_char, c_int};
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize};

/// Defines C's `main`, which calls the function `$program`. The program needs `#![no_main]`, unit tests excepted.
macro_rules! c_main {
    ($program:path) => {
        #[cfg(not(test))]
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "C" fn main(argc: std::ffi::c_int, argv: *mut *mut std::ffi::c_char) -> std::ffi::c_int {
            // SAFETY: libc's start-up code calls this, once, before anything else, and passes what is asked for.
            unsafe { $crate::exec::sys::command_line::adopt(argc, argv) };
            $program()
        }
    };
}
pub(crate) use c_main;

/// `main`'s arguments.
static ARGV: AtomicPtr<*mut c_char> = AtomicPtr::new(ptr::null_mut());
static ARGC: AtomicUsize = AtomicUsize::new(0);

/// Makes the command line known to the functions below, which otherwise find it empty.
///
/// # Safety
/// `argv` points to `argc` pointers to NUL-terminated strings. They stay for good, and only this module uses their
/// memory.
pub unsafe fn adopt(argc: c_int, argv: *mut *mut c_char) {
    ARGV.store(argv, Relaxed);
    ARGC.store(usize::try_from(argc).unwrap_or(0), Relaxed);
}

/// A copy of it as it is now.
pub fn words() -> Vec<OsString> {
    let copy = |word| OsString::from_vec(bytes(word).map(|byte| byte.load(Relaxed)).collect());
    (0..ARGC.load(Relaxed)).map(copy).collect()
}

/// Overwrites a part of a word.
pub fn overwrite(word: usize, part: Range<usize>, with: u8) {
    for byte in bytes(word).skip(part.start).take(part.len()) {
        byte.store(with, Relaxed);
    }
}

/// Changes it into one word, which is cut if the command line was shorter.
pub fn rename(name: &[u8]) {
    let mut name = name.iter();
    for byte in (0..ARGC.load(Relaxed)).flat_map(bytes) {
        byte.store(name.next().copied().unwrap_or(0), Relaxed);
    }
}

/// The bytes of one word, up to its end.
fn bytes(word: usize) -> impl Iterator<Item = &'static AtomicU8> {
    let text = if word < ARGC.load(Relaxed) {
        // SAFETY: by `adopt`'s contract there are as many pointers.
        unsafe { ARGV.load(Relaxed).add(word).read() }
    } else {
        ptr::null_mut()
    };
    (0..).map_while(move |at| {
        if text.is_null() {
            return None;
        }
        // SAFETY: by `adopt`'s contract there is a NUL at the string's end or before, and no byte behind the first NUL
        // is reached. The memory is used through atomics only.
        let byte = unsafe { AtomicU8::from_ptr(text.cast::<u8>().add(at)) };
        (byte.load(Relaxed) != 0).then_some(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    #[test]
    fn what_ps_shows_is_changed_in_place() {
        let words_were = ["program", "", "secret://me:word@there"];
        let strings = words_were.map(|word| CString::new(word).unwrap().into_raw());
        let argv = Box::leak(Box::new(strings));
        // SAFETY: three pointers to strings, which are leaked and not used otherwise.
        unsafe { adopt(3, argv.as_mut_ptr()) };
        assert_eq!(words(), words_were);
        overwrite(2, 12..16, b'x');
        overwrite(2, 100..200, b'x');
        overwrite(3, 0..1, b'x');
        assert_eq!(words(), ["program", "", "secret://me:xxxx@there"]);
        rename(b"another-name");
        assert_eq!(words(), ["another", "", "-name"]);
    }
}
