//! Whose the signals are: this program's while it waits, the command's while it runs.

use super::sys::signal::{self, Disposition, SignalSet};
use super::sys::spawn::Inherited;
use nix::poll::{PollTimeout, poll};
use std::ffi::c_int;
use std::time::Duration;

/// Signals that ask a program to end, or kill it unless it handles them. They end a wait.
pub(super) const INTERRUPTS: [c_int; 7] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
];

/// True for a signal that asks a program to end, or kills it unless it handles that, such as TERM.
pub fn asks_to_end(signal: c_int) -> bool {
    INTERRUPTS.contains(&signal)
}

/// Blocked from the beginning: real-time signals (one that comes early reaches the command when it starts), and
/// SIGPIPE (a message to a closed pipe must not kill the program while it holds something).
const EARLY: SignalSet = SignalSet::real_time().union(SignalSet::of(&[libc::SIGPIPE]));

/// What [`super::run`] accepts besides the interrupts.
const RUNNING: SignalSet = SignalSet::real_time().union(SignalSet::of(&[libc::SIGCONT, libc::SIGTSTP, libc::SIGCHLD]));

pub use signal::interrupt;

/// From now on INT, TERM, HUP, QUIT, USR1, USR2 and ALRM are remembered (see [`interrupt`]) and call `notify`, which
/// must do nothing but set a flag and wake up whoever waits for it. Signals that this program's caller ignored stay
/// ignored.
pub fn catch_interrupts(notify: fn()) {
    signal::catch_interrupts(&INTERRUPTS, notify);
}

/// Longest sleep of [`pause`].
const SLICE: Duration = Duration::from_millis(200);

/// Sleeps for `time`, or less: unlike std's sleep it ends early when a signal comes. If one came just before, it is not
/// noticed here: so no sleep lasts longer than 200 ms.
pub fn pause(time: Duration) {
    let slice = time.min(SLICE).as_millis().max(1);
    let _ = poll(&mut [], PollTimeout::try_from(slice).unwrap_or(PollTimeout::ZERO));
}

/// From now on writing to a pipe that nobody reads fails instead of killing this process. For a program that starts no
/// command: the command would inherit that.
pub fn ignore_broken_pipes() {
    signal::set_disposition(libc::SIGPIPE, Disposition::Ignored);
}

/// From now on a file that would grow beyond the limit of this process (RLIMIT_FSIZE) is an error, not a signal. A command
/// finds that as it was.
pub fn ignore_file_limit() {
    signal::ignore_file_limit();
}

/// Kills this process with `signal`, without a core file, so that its parent sees what happened. Returns the status to
/// exit with where that is impossible (process 1 of a PID namespace).
pub fn die_of(signal: c_int) -> c_int {
    signal::die_of(signal);
    128 + signal
}

/// The state of signals in a program that runs a command.
#[derive(Debug)]
pub struct Signals {
    mask: SignalSet,
    interrupts: SignalSet,
    child_ignored: bool,
}

impl Signals {
    /// Call this before a wait; `notify` as for [`catch_interrupts`].
    pub fn while_waiting(notify: fn()) -> Self {
        let mask = signal::block(EARLY);
        if mask.contains(libc::SIGBUS) {
            // Blocked by the caller: an access that fails would kill this program, whatever handler there is.
            signal::unblock(SignalSet::of(&[libc::SIGBUS]));
        }
        let interrupts = signal::catch_interrupts(&INTERRUPTS, notify);
        Self {
            mask,
            interrupts,
            child_ignored: false,
        }
    }

    /// Call this when the wait is over: from now on signals are kept for the command.
    ///
    /// # Errors
    /// The signal that came while this program waited: the command must not be started.
    pub fn settle(&mut self) -> Result<(), c_int> {
        signal::block(self.accepted());
        for s in INTERRUPTS.into_iter().filter(|s| self.interrupts.contains(*s)) {
            // A handler must not run in the child before it has executed the command.
            signal::set_disposition(s, Disposition::Default);
        }
        interrupt().map_or(Ok(()), Err)
    }

    /// Between two commands: the signal that asks this program to end, if one has come and was for neither.
    pub fn asked_to_end(&self) -> Option<c_int> {
        let received = signal::accept(self.interrupts, Duration::ZERO).ok().flatten();
        received.map(|received| received.signal())
    }

    /// The signals that [`super::run`] accepts: not those that the caller ignored (nohup).
    pub(super) fn accepted(&self) -> SignalSet {
        RUNNING.union(self.interrupts)
    }

    /// What a command in a child inherits. The child's end must not go unnoticed here.
    pub(super) fn for_child(&mut self) -> Inherited {
        self.child_ignored |= signal::set_disposition(libc::SIGCHLD, Disposition::Default);
        Inherited {
            mask: self.mask,
            child_ignored: self.child_ignored,
        }
    }

    /// What a command in this process inherits.
    pub(super) fn for_exec(&self) -> Inherited {
        let pipe = SignalSet::of(&[libc::SIGPIPE]);
        if !self.mask.contains(libc::SIGPIPE) {
            // Pending because of a message of ours that nobody read: the command must not die of it.
            let _ = signal::accept(pipe, Duration::ZERO);
        }
        Inherited {
            mask: self.mask,
            child_ignored: false,
        }
    }
}
