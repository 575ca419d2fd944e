//! SIGBUS: a file was truncated while it was mapped.

use std::ffi::c_int;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is done about it.
struct End {
    report: fn(),
    status: u8,
}

static END: OnceLock<End> = OnceLock::new();

/// SIGBUS was ignored by the caller.
static WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// From now on a bus error calls `report` and ends the process with `status`. `report` runs in the signal handler: it
/// may call nothing but what is async-signal-safe. Later calls change nothing.
pub fn exit_after(report: fn(), status: u8) {
    if END.set(End { report, status }).is_err() {
        return;
    }
    // SAFETY: all-zero sigactions are valid; the handler has the signature that SA_SIGINFO asks for and calls
    // async-signal-safe functions only.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_bus_error as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGBUS, &raw const action, &raw mut old);
        WAS_IGNORED.store(old.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
    }
}

/// True if the caller of this program ignored SIGBUS, which a command must find again.
pub fn was_ignored() -> bool {
    WAS_IGNORED.load(Ordering::Relaxed)
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
    // A load: it was set before this handler was installed.
    let end = END.get();
    if let Some(end) = end {
        (end.report)();
    }
    // SAFETY: async-signal-safe, does not return.
    unsafe { libc::_exit(end.map_or(1, |end| end.status.into())) }
}
