//! What wakes the guard up: its parent through a pipe, a timer, the end of a process or of a connection.

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A pipe, reader and writer, that a command does not inherit. Writing does not block.
///
/// # Errors
/// No descriptor is left.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?)
}

/// Wakes up whoever reads from the pipe. If the pipe is full, the reader wakes up anyway; if there is none, nobody
/// does.
pub fn notify(writer: &OwnedFd) {
    let _ = nix::unistd::write(writer, &[0]);
}

/// A timer on CLOCK_BOOTTIME: when the machine wakes from a sleep that was too long, it has expired.
pub struct Timer(TimerFd);

impl Timer {
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self(TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?))
    }

    /// Lets it expire at `at` (ns), instead of an earlier setting.
    pub fn set(&self, at: u64) {
        let at = TimeSpec::from_duration(Duration::from_nanos(at));
        let _ = self
            .0
            .set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME);
    }

    /// Stops it: it has not expired, and does not.
    pub fn unset(&self) {
        let _ = self.0.unset();
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What is polled for to learn that the other side of a connection is gone.
fn cut() -> PollFlags {
    PollFlags::from_bits_retain(libc::POLLRDHUP)
}

/// True if the other side has ended this connection, or it broke.
pub fn is_cut(socket: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::new(socket, cut())];
    poll(&mut watched, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Waits until there is something to read, the timer expires, `process` ends, one of the `sockets` is cut ([`is_cut`]), or `slice`
/// is over. True: nobody has the pipe's other end any more.
pub fn wait(
    reader: Option<BorrowedFd<'_>>,
    timer: &Timer,
    process: Option<BorrowedFd<'_>>,
    sockets: &[BorrowedFd<'_>],
    slice: Option<Duration>,
) -> bool {
    let readable = [reader, Some(timer.as_fd()), process];
    let mut watched: Vec<PollFd<'_>> = readable
        .into_iter()
        .flatten()
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .chain(sockets.iter().map(|fd| PollFd::new(*fd, cut())))
        .collect();
    let slice = slice.map_or(PollTimeout::NONE, |slice| {
        PollTimeout::try_from(slice).unwrap_or(PollTimeout::MAX)
    });
    let _ = poll(&mut watched, slice);
    let Some(reader) = reader else { return false };
    let mut bytes = [0; 64];
    loop {
        match nix::unistd::read(reader, &mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}
