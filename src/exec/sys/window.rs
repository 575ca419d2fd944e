//! The size of a terminal's window.

use std::os::fd::{AsFd, AsRawFd};

/// How many characters a terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// In a line.
    pub columns: usize,
    /// One below the other.
    pub lines: usize,
}

/// The size of the terminal at `descriptor` (TIOCGWINSZ, ioctl_tty(2)); `None` if it is unknown.
pub fn terminal_size(descriptor: &impl AsFd) -> Option<Size> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the descriptor is open as long as it is borrowed, and the kernel writes one winsize, which lives here.
    let result = unsafe { libc::ioctl(descriptor.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then_some(Size {
        columns: size.ws_col.into(),
        lines: size.ws_row.into(),
    })
}
