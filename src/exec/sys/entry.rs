//! The program's entry: C's `main` instead of std's.
//!
//! std's runtime ignores SIGPIPE, opens closed standard streams so that a command would inherit them, and catches
//! SEGV and BUS for its stack-overflow message. A command that is run through this program would find a world that
//! its caller did not make; besides, it costs about 140 µs a start. What is wanted of it is done here:
//! - descriptors 0–2 that the caller closed are opened on /dev/null, but close-on-exec: nothing that this program
//!   opens can take their numbers, and the command finds them closed again;
//! - a panic becomes one line on standard error and status 125, after unwinding (which gives locks back);
//! - SIGBUS becomes one line and status 125: somebody truncated a file in /dev/shm that is mapped here.

// In unit tests the test harness brings its own `main`.
#![cfg_attr(test, allow(dead_code))]

use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

/// Exit status when this program itself failed (see `exit.rs`, which is not used here: this must work whatever the
/// rest does).
const FAILED: c_int = 125;

/// What an error message begins with, once the lock's name is known: `resourcelock: NAME: `.
static PREFIX: OnceLock<String> = OnceLock::new();

/// Names the lock in the message of a SIGBUS. Later calls change nothing.
pub fn set_subject(name: &str) {
    let _ = PREFIX.set(format!("resourcelock: {name}: "));
}

/// The C entry point. libc's start-up code calls it.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: these are the arguments that libc's start-up code passes to `main`.
    let args = unsafe { arguments(argc, argv) };
    COMMAND_LINE.store(argv.cast_mut(), Ordering::Relaxed);
    WORDS.store(argc, Ordering::Relaxed);
    open_closed_streams();
    catch_bus_errors();
    let status = guarded(|| crate::start(args));
    // Flushes standard output, which returning from here would not.
    std::process::exit(status)
}

/// Runs `body`; a panic in it unwinds, is reported in one line, and becomes status 125.
pub fn guarded(body: impl FnOnce() -> c_int) -> c_int {
    panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map(|l| format!(" at {}:{}", l.file(), l.line()))
            .unwrap_or_default();
        let payload = info.payload();
        let what = payload.downcast_ref::<&str>().copied();
        let what = what
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let prefix = PREFIX.get().map_or("resourcelock: ", String::as_str);
        let line = format!(
            "{prefix}this program failed{place}: {}; please report it\n",
            what.escape_debug()
        );
        write_error(line.as_bytes());
    }));
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or(FAILED)
}

/// The command line as the kernel passed it. Passwords are overwritten where `ps` reads them.
///
/// # Safety
/// `argv` points to `argc` pointers to NUL-terminated strings.
unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    let count = usize::try_from(argc).unwrap_or(0);
    (0..count)
        .map(|i| {
            // SAFETY: `i` < argc, so by the caller's promise this is a pointer to a NUL-terminated string.
            let text = unsafe { CStr::from_ptr(*argv.add(i)) };
            let own = OsString::from_vec(text.to_bytes().to_vec());
            for (from, to) in passwords(text.to_bytes()) {
                // SAFETY: the bytes of this string, which the kernel put on this process's stack for it to use. Nobody
                // else reads them in this process: it goes on with its own copy.
                unsafe { ptr::write_bytes(argv.add(i).read().cast_mut().add(from), b'x', to - from) };
            }
            own
        })
        .collect()
}

/// `argv` and its length, for [`rename`].
static COMMAND_LINE: AtomicPtr<*const c_char> = AtomicPtr::new(ptr::null_mut());
static WORDS: AtomicI32 = AtomicI32::new(0);

/// Changes the command line that `ps` shows of this process into one word.
pub fn rename(word: &[u8]) {
    let argv = COMMAND_LINE.load(Ordering::Relaxed);
    let count = usize::try_from(WORDS.load(Ordering::Relaxed)).unwrap_or(0);
    let mut word = word.iter().copied();
    for i in 0..if argv.is_null() { 0 } else { count } {
        // SAFETY: `argv` points to `count` pointers to NUL-terminated strings on this process's own stack, which nobody
        // reads any more: the program goes on with a copy. As many bytes are written as the string has.
        unsafe {
            let text = argv.add(i).read().cast_mut();
            for at in 0..CStr::from_ptr(text).count_bytes() {
                text.cast::<u8>().add(at).write(word.next().unwrap_or(0));
            }
        }
    }
}

/// Where a URL of an engine has passwords, if `argument` is or contains one: `ps` is not to show them.
fn passwords(argument: &[u8]) -> Vec<(usize, usize)> {
    let find = |what: &[u8], from: usize| {
        let rest = argument.get(from..)?;
        Some(from + rest.windows(what.len()).position(|part| part == what)?)
    };
    let url = ["etcd://", "etcds://", "postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| Some(find(scheme.as_bytes(), 0)? + scheme.len()));
    let Some(url) = url else { return Vec::new() };
    let user = || {
        let end = url + argument[url..].iter().rposition(|b| *b == b'@')?;
        let start = url + argument[url..end].iter().position(|b| *b == b':')? + 1;
        Some((start, end))
    };
    let mut found = Vec::from_iter(user());
    // An option of PostgreSQL's, up to the next one.
    let mut from = url;
    while let Some(at) = find(b"password=", from) {
        let start = at + b"password=".len();
        let length = argument[start..].iter().position(|b| *b == b'&');
        from = length.map_or(argument.len(), |length| start + length);
        found.push((start, from));
    }
    found
}

/// Occupies the standard descriptors that the caller closed.
fn open_closed_streams() {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    });
    // SAFETY: the pointer and the length are those of the array. One call instead of three fcntl.
    unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    for stream in &streams {
        if stream.revents & libc::POLLNVAL != 0 {
            // SAFETY: a NUL-terminated path. The lowest free number is this stream's, as they are gone through in
            // order. If it fails, there is nothing better to do than to go on.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        }
    }
}

/// SIGBUS was ignored by the caller.
static BUS_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Whether the caller of this program had SIGBUS ignored, which a command must find again.
pub fn bus_was_ignored() -> bool {
    BUS_WAS_IGNORED.load(Ordering::Relaxed)
}

/// Makes SIGBUS end the program with a message and status 125.
fn catch_bus_errors() {
    // SAFETY: all-zero sigactions are valid; the handler has the signature that SA_SIGINFO asks for and calls
    // async-signal-safe functions only.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_bus_error as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGBUS, &raw const action, &raw mut old);
        BUS_WAS_IGNORED.store(old.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
    }
}

extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to a handler that was installed with SA_SIGINFO.
    let code = unsafe { (*info).si_code };
    if code <= 0 {
        // Somebody sent it: die of it, as if it had not been caught (SA_RESETHAND has restored the default). It is
        // delivered when the handler returns.
        // SAFETY: raise and getpid are async-signal-safe.
        unsafe { libc::kill(libc::getpid(), signal) };
        return;
    }
    // OnceLock::get is a load: async-signal-safe once set.
    write_error(PREFIX.get().map_or("resourcelock: ", String::as_str).as_bytes());
    write_error(b"a file of the lock in /dev/shm was truncated while in use; remove the lock and try again\n");
    // SAFETY: async-signal-safe, does not return.
    unsafe { libc::_exit(FAILED) }
}

/// Writes to standard error without std's lock, which may be held where this is called from.
fn write_error(text: &[u8]) {
    // SAFETY: pointer and length are those of the slice. There is nowhere to report a failure to.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found() {
        let hidden = |text: &str| -> Vec<String> {
            let places = passwords(text.as_bytes()).into_iter();
            places.map(|(from, to)| text[from..to].to_owned()).collect()
        };
        assert_eq!(hidden("etcd://u:p@ss@h/x"), ["p@ss"]);
        assert_eq!(hidden("--backend=postgres://u:pw@h/d"), ["pw"]);
        assert_eq!(hidden("postgres://h/d?user=u&password=pw&sslmode=allow"), ["pw"]);
        assert_eq!(hidden("postgres://h/d?password="), [""]);
        for plain in ["etcd://h:2379", "etcd://u@h", "etcd://", "a:b@c", "", "password=x"] {
            assert!(hidden(plain).is_empty(), "{plain}");
        }
    }

    #[test]
    fn a_panic_unwinds_and_becomes_125() {
        struct GivesBack<'a>(&'a mut bool);
        impl Drop for GivesBack<'_> {
            fn drop(&mut self) {
                *self.0 = true;
            }
        }
        let mut given_back = false;
        let status = guarded(|| {
            let _guard = GivesBack(&mut given_back);
            panic!("tried on purpose")
        });
        let _ = panic::take_hook();
        assert_eq!(status, FAILED);
        assert!(given_back);
    }
}
