//! Rights that this program has and its caller does not.

/// True if it is executed with them: set-uid, set-gid, or with capabilities (AT_SECURE, getauxval(3)).
pub fn are_raised() -> bool {
    // SAFETY: reads what the kernel has told this process at its start.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
