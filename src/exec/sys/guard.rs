//! What the guard process needs of the kernel: memory that both share, a fork, a timer that counts time asleep.

use super::signal::{self, SignalSet};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::ffi::c_int;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

/// An atomic number in shared memory.
pub struct Number(AtomicI32);

impl Number {
    pub fn load(&self) -> i32 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn store(&self, value: i32) {
        self.0.store(value, Ordering::SeqCst);
    }

    /// Its address, for the kernel.
    pub fn as_ptr(&self) -> *mut c_int {
        self.0.as_ptr()
    }
}

/// An atomic time in shared memory, ns.
pub struct Time(AtomicU64);

impl Time {
    pub fn load(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn store(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }
}

/// See [`Shared::born`].
pub const UNSEEN: u64 = u64::MAX;

/// What process and guard share, of one command. All zero at first.
#[repr(C)]
pub struct Shared {
    /// When the last renewal was asked for (CLOCK_BOOTTIME); 0 = the right is lost.
    pub begun: Time,
    /// The command's start time (proc(5), clock ticks); [`UNSEEN`] if it could not be read, 0 = not looked at yet.
    pub born: Time,
    /// The command's PID, written by the kernel at its start; 0 = none runs.
    pub command: Number,
    /// It was reaped: its PID may mean another process by now. `born` is stored before.
    pub reaped: Number,
    /// It leads a process group.
    pub own_group: Number,
    /// What the guard has done about it; 0 = nothing.
    pub acted: Number,
    /// The guard is not needed any more.
    pub done: Number,
}

/// Memory with a [`Shared`] in it, that stays shared over a fork.
pub struct Page(NonNull<Shared>);

// SAFETY: it points to atomics in a mapping that lasts as long as the value.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// # Errors
    /// No memory.
    pub fn new() -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Shared>(),
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self(at))
    }
}

impl Deref for Page {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        // SAFETY: page-aligned, zero-filled by the kernel (valid for atomics), mapped until drop; other processes
        // change it through atomics only (the kernel writes the PID with one aligned store).
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of this length.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Shared>()) };
    }
}

/// Runs `body` in a new process, which ends with it. Returns its PID.
///
/// There may be other threads. The child has only the calling one; what others were in the middle of stays so there.
/// glibc makes its allocator usable in the child (since 2.24 without any deadlock), and `body` may use no other
/// lock: no standard streams, no logging, no environment.
///
/// # Errors
/// There can be no process.
pub fn fork(body: impl FnOnce()) -> io::Result<u32> {
    // SAFETY: the child runs `body` under the rule above and never returns from here.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: ends this process without running what belongs to the parent (exit handlers, buffers).
            unsafe { libc::_exit(0) }
        }
        pid => Ok(pid as u32),
    }
}

/// What `ps` calls the guard: nobody who means the program, or the command in its arguments, is to meet it by name.
const NAME: &std::ffi::CStr = c"lock-guard";

/// In the guard: away from the terminal and the parent's group, deaf to signals, and without any descriptor but `keep`.
/// `not` is one that must be closed in any case.
pub fn settle<'a>(keep: impl Iterator<Item = BorrowedFd<'a>>, not: BorrowedFd<'_>) {
    signal::block(SignalSet::all());
    super::command_line::rename(NAME.to_bytes());
    let mut keep: Vec<c_int> = keep.map(|fd| fd.as_raw_fd()).collect();
    keep.sort_unstable();
    // SAFETY: system calls that touch no memory of ours but the two strings, which are NUL-terminated. The descriptors
    // that are closed belong to values of the parent's that this process does not use.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
        libc::close(not.as_raw_fd());
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for stream in 0..3 {
            if null >= 0 && !keep.contains(&stream) {
                libc::dup2(null, stream);
            }
        }
        let mut first = 3;
        for fd in keep.into_iter().chain([c_int::MAX]) {
            if fd > first {
                libc::syscall(libc::SYS_close_range, first, fd - 1, 0);
            }
            first = first.max(fd.saturating_add(1));
        }
    }
}

/// A pipe whose ends are not inherited by a command; writing does not block.
///
/// # Errors
/// No descriptor is left.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    use nix::fcntl::OFlag;
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?)
}

/// Wakes the reader of a pipe. A full pipe wakes it as well, and one without a reader nobody.
pub fn poke(mouth: &OwnedFd) {
    let _ = nix::unistd::write(mouth, &[0]);
}

/// Ends a connection, in all processes that have it open.
pub fn shut_down(socket: BorrowedFd<'_>) {
    // SAFETY: no memory is passed.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

/// CLOCK_BOOTTIME, ns.
pub fn boottime() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map_or(u64::MAX, |now| {
        (now.tv_sec() as u64)
            .saturating_mul(1_000_000_000)
            .saturating_add(now.tv_nsec() as u64)
    })
}

/// A timer on CLOCK_BOOTTIME: it has run out when the machine wakes from a sleep that was too long.
pub struct Timer(TimerFd);

impl Timer {
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self(TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?))
    }

    /// To run out at `at` (ns), in place of an earlier setting.
    pub fn set(&self, at: u64) {
        let at = nix::sys::time::TimeSpec::from_duration(Duration::from_nanos(at));
        let _ = self
            .0
            .set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME);
    }

    /// It does not run out any more, and has not.
    pub fn unset(&self) {
        let _ = self.0.unset();
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether the other side has ended this connection, or it broke.
pub fn is_cut(socket: BorrowedFd<'_>) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut watched = [PollFd::new(socket, PollFlags::from_bits_retain(libc::POLLRDHUP))];
    poll(&mut watched, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Waits until there is something on the pipe, the timer runs out, `process` ends, `socket` is cut ([`is_cut`]), or
/// `slice` is over. True: nobody has the pipe's other end any more.
pub fn wait(
    ears: Option<BorrowedFd<'_>>,
    timer: &Timer,
    process: Option<BorrowedFd<'_>>,
    socket: Option<BorrowedFd<'_>>,
    slice: Option<Duration>,
) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let watched = [ears, Some(timer.as_fd()), process];
    let mut watched: Vec<PollFd<'_>> = watched
        .into_iter()
        .flatten()
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .chain(socket.map(|fd| PollFd::new(fd, PollFlags::from_bits_retain(libc::POLLRDHUP))))
        .collect();
    let slice = slice.map_or(PollTimeout::NONE, |slice| {
        PollTimeout::try_from(slice).unwrap_or(PollTimeout::MAX)
    });
    let _ = poll(&mut watched, slice);
    let Some(ears) = ears else { return false };
    let mut words = [0; 64];
    loop {
        match nix::unistd::read(ears, &mut words) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}
