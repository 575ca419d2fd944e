//! The size of a terminal's window.

use std::os::fd::{AsFd, AsRawFd};

/// The number of columns of the terminal at `descriptor` (TIOCGWINSZ, ioctl_tty(2)); `None` if it is unknown.
pub fn terminal_columns(descriptor: &impl AsFd) -> Option<usize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the descriptor is open as long as it is borrowed, and the kernel writes one winsize, which lives here.
    let result = unsafe { libc::ioctl(descriptor.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}
