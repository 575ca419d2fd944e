//! The standard streams as the caller of this program left them.

/// Opens the standard descriptors that the caller closed on /dev/null, so that nothing that this program opens takes
/// their numbers. They are close-on-exec: a command finds them closed again.
pub fn occupy_closed() {
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

/// Writes to standard error without std's lock, which may be held where this is called from. Async-signal-safe.
pub fn write_error(text: &[u8]) {
    // SAFETY: pointer and length are those of the slice. There is nowhere to report a failure to.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}
