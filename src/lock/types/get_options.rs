//! What a caller can ask for: the request, the release, how to open.

use crate::lock::types::{Cancel, Error, Result, State};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// How long a request may wait. Durations are counted on the monotonic clock: a step of the wall clock neither shortens
/// nor lengthens them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Acquire the lock if it is free now; don't wait.
    No,
    /// Wait up to this long.
    For(Duration),
    /// Wait without limit.
    Forever,
}

/// Which holds may coexist.
///
/// ```
/// use resourcelock::{GetOptions, Mode, ResourceLock, Wait};
///
/// # fn main() -> Result<(), resourcelock::Error> {
/// # let name = format!("doc-modes-{}", std::process::id());
/// # let name = name.as_str();
/// let handles = [ResourceLock::open(name)?, ResourceLock::open(name)?, ResourceLock::open(name)?];
/// let shared = GetOptions::new().mode(Mode::Shared).wait(Wait::No);
/// let readers = (handles[0].acquire_with(&shared)?, handles[1].acquire_with(&shared)?);
/// assert!(readers.0.is_some() && readers.1.is_some());
/// assert!(handles[2].try_acquire()?.is_none());
/// drop(readers);
///
/// let slot = GetOptions::new().mode(Mode::Slots(2)).wait(Wait::No);
/// let two = (handles[0].acquire_with(&slot)?, handles[1].acquire_with(&slot)?);
/// assert!(two.0.is_some() && two.1.is_some());
/// assert!(handles[2].acquire_with(&slot)?.is_none());
/// drop(two);
/// # drop(handles);
/// # resourcelock::remove(name, false)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Mode {
    /// This hold alone (the default).
    #[default]
    Exclusive,
    /// Together with other shared holds.
    Shared,
    /// Together with other slot holds, up to this number at once. 0 is refused with
    /// [`Error::NoSlots`](crate::Error::NoSlots).
    Slots(u32),
}

impl Mode {
    /// True if whoever holds the lock in this mode may do all that `other` allows: each mode includes itself, and
    /// [`Exclusive`](Self::Exclusive) includes all of them.
    pub fn includes(self, other: Self) -> bool {
        self == Self::Exclusive || self == other
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exclusive => f.pad("exclusive"),
            Self::Shared => f.pad("shared"),
            Self::Slots(slots) => f.pad(&format!("slots:{slots}")),
        }
    }
}

impl FromStr for Mode {
    type Err = Error;

    /// As it is displayed: `exclusive`, `shared`, `slots:N`.
    fn from_str(text: &str) -> Result<Self> {
        let slots = || text.strip_prefix("slots:")?.parse().ok();
        match text {
            "exclusive" => Ok(Self::Exclusive),
            "shared" => Ok(Self::Shared),
            _ => match slots() {
                Some(0) => Err(Error::NoSlots),
                Some(slots) => Ok(Self::Slots(slots)),
                None => Err(Error::Mode { text: text.to_owned() }),
            },
        }
    }
}

/// A hold that no process keeps alive, like those of the Python module's command-line tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Detached {
    /// The hold ends when this process ends.
    pub pid: Option<u32>,
    /// The process has to release the hold before it ends. If it does not, that counts as its death, of which the next
    /// holder is told. Otherwise the end of the process is the hold's ordinary end. Without [`pid`](Self::pid) it means
    /// nothing.
    pub must_unget: bool,
    /// The hold ends after this time, on the boot-time clock: time asleep counts. Refused with
    /// [`Error::Os`](crate::Error::Os) if nobody could be sure of the clock: without /proc, before Linux 6.11.
    pub ttl: Option<Duration>,
}

/// The callback for a long wait: see [`GetOptions::on_wait`].
pub(crate) type OnWait<'a> = (Duration, Arc<dyn Fn(&State) + Send + Sync + 'a>);

/// The callback after a signal: see [`GetOptions::on_signal`].
pub(crate) type OnSignal<'a> = Arc<dyn Fn() -> bool + Send + Sync + 'a>;

/// A request for the lock. `GetOptions::new()` is the Python module's `get_lock()`: exclusive, one second, no text.
///
/// ```
/// use resourcelock::{Cancel, Error, GetOptions, ResourceLock, Wait};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), resourcelock::Error> {
/// # let name = format!("doc-times-{}", std::process::id());
/// # let name = name.as_str();
/// let (one, other) = (ResourceLock::open(name)?, ResourceLock::open(name)?);
/// let held = one.acquire()?;
/// assert!(other.try_acquire()?.is_none());
///
/// // Say why it takes so long, and give up eventually.
/// let patient = GetOptions::new()
///     .wait(Wait::For(Duration::from_millis(50)))
///     .on_wait(Duration::from_millis(10), |state| println!("held by {:?}", state.holders));
/// assert!(other.acquire_with(&patient)?.is_none());
///
/// // End a wait from another thread (or a signal handler).
/// let cancel = Cancel::new();
/// std::thread::scope(|scope| {
///     scope.spawn(|| cancel.cancel());
///     let asked = other.acquire_with(&GetOptions::new().wait(Wait::Forever).cancel(&cancel));
///     assert!(matches!(asked, Err(Error::Cancelled)));
/// });
/// # drop(held);
/// # one.close();
/// # other.close();
/// # resourcelock::remove(name, false)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a request is made by what it is passed to"]
pub struct GetOptions<'a> {
    pub(crate) wait: Wait,
    pub(crate) same_process_ok: bool,
    pub(crate) lock_info: Cow<'a, str>,
    pub(crate) mode: Mode,
    pub(crate) detached: Option<Detached>,
    pub(crate) command: Option<Cow<'a, str>>,
    pub(crate) cancel: Option<&'a Cancel>,
    /// In the order of their times.
    pub(crate) on_wait: Vec<OnWait<'a>>,
    pub(crate) on_wait_every: Option<OnWait<'a>>,
    pub(crate) on_signal: Option<OnSignal<'a>>,
    pub(crate) queue_at_once: bool,
    pub(crate) replaces: bool,
    pub(crate) lease: Option<Duration>,
}

impl fmt::Debug for GetOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetOptions")
            .field("wait", &self.wait)
            .field("mode", &self.mode)
            .field("lock_info", &self.lock_info)
            .field("same_process_ok", &self.same_process_ok)
            .field("detached", &self.detached)
            .finish_non_exhaustive()
    }
}

impl Default for GetOptions<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> GetOptions<'a> {
    /// The Python module's defaults: exclusive, wait up to 1 s, empty text.
    pub fn new() -> Self {
        Self {
            wait: Wait::For(Duration::from_secs(1)),
            same_process_ok: false,
            lock_info: Cow::Borrowed(""),
            mode: Mode::Exclusive,
            detached: None,
            command: None,
            cancel: None,
            on_wait: Vec::new(),
            on_wait_every: None,
            on_signal: None,
            queue_at_once: false,
            replaces: false,
            lease: None,
        }
    }

    /// What can be said without looking at the lock.
    pub(crate) fn check(&self) -> Result<()> {
        match self.mode {
            Mode::Slots(0) => Err(Error::NoSlots),
            _ => Ok(()),
        }
    }

    /// How long to wait (default: 1 s, as in the Python module).
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Succeed immediately if this handle holds the lock already, in a mode that [includes](Mode::includes) the one that is
    /// asked for (the Python module's `same_process_ok`). The hold is then shared: it ends when nobody uses it any more,
    /// the guards that share it and the handle itself ([`get_lock`](crate::ResourceLock::get_lock)). A hold in another mode
    /// is waited for, as if it were another process's. A hold that is shared so does not become a
    /// [detached](Self::detached) one. On an engine it has no meaning but for
    /// [`get_lock`](crate::ResourceLock::get_lock), after `get_lock`.
    pub fn same_process_ok(mut self, ok: bool) -> Self {
        self.same_process_ok = ok;
        self
    }

    /// The text of the note: who takes the lock, and what for (`&str` or `String`). The local date and time are put before it.
    pub fn lock_info(mut self, text: impl Into<Cow<'a, str>>) -> Self {
        self.lock_info = text.into();
        self
    }

    /// Exclusive (default), shared, or counting.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Leave the lock taken without a process. Such a hold is ended only by
    /// [`unget_lock`](crate::ResourceLock::unget_lock) by force or by token, by the end of the bound process, or by its
    /// expiry.
    pub fn detached(mut self, detached: Detached) -> Self {
        self.detached = Some(detached);
        self
    }

    /// The command name that others are shown (default: this process's name). It is cut to 15 bytes, like comm in
    /// proc(5).
    pub fn command(mut self, name: impl Into<Cow<'a, str>>) -> Self {
        self.command = Some(name.into());
        self
    }

    /// Lets another thread or a signal handler end the wait. Then the call fails with
    /// [`Error::Cancelled`](crate::Error::Cancelled), and has left the queue.
    pub fn cancel(mut self, cancel: &'a Cancel) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Calls `tell` once if the wait lasts longer than `after`, with what is known about holders and waiters. By then the
    /// request is in the queue. There can be several of them.
    pub fn on_wait(mut self, after: Duration, tell: impl Fn(&State) + Send + Sync + 'a) -> Self {
        self.on_wait.push((after, Arc::new(tell)));
        self.on_wait.sort_by_key(|(after, _)| *after);
        self
    }

    /// Calls `tell` again and again during the wait, each time after so long, with what is known about holders and waiters. On
    /// an engine it is not called.
    pub fn on_wait_every(mut self, interval: Duration, tell: impl Fn(&State) + Send + Sync + 'a) -> Self {
        self.on_wait_every = Some((interval, Arc::new(tell)));
        self
    }

    /// For programs whose signal handlers only take a note, as those of interpreters do: calls `stop` in the waiting thread
    /// each time before it sleeps in the queue, so also when a signal handler has run in it; at least every 5 s, since a
    /// signal may come just before the sleep. True ends the wait as [`cancel`](Self::cancel) does. On an engine it is not
    /// called.
    pub fn on_signal(mut self, stop: impl Fn() -> bool + Send + Sync + 'a) -> Self {
        self.on_signal = Some(Arc::new(stop));
        self
    }

    /// The length of the lease, on an engine that gives leases (default:
    /// [`USUAL_TTL`](crate::lock::engines::USUAL_TTL)). Not less than
    /// [`SHORTEST_TTL`](crate::lock::engines::SHORTEST_TTL).
    pub fn lease(mut self, ttl: Duration) -> Self {
        self.lease = Some(ttl);
        self
    }

    /// Join the queue at once if the lock is taken, where others see the request, instead of trying for some 100 µs
    /// first, which is faster if holds are very short. For requests that a person makes.
    pub fn queue_at_once(mut self, yes: bool) -> Self {
        self.queue_at_once = yes;
        self
    }

    /// Of several requests that wait and say this, only the newest is wanted: the others leave the queue by themselves, and
    /// fail with [`Error::Superseded`](crate::Error::Superseded). The holder goes on; whoever wants it to end asks it. For
    /// locks of this machine.
    pub fn replaces(mut self, yes: bool) -> Self {
        self.replaces = yes;
        self
    }
}

/// Which hold to release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Target {
    #[default]
    Own,
    Force,
    Token(u64),
    BoundTo(u32),
}

/// A release. `UngetOptions::new()` is the Python module's `unget_lock()`: only what this handle holds.
#[derive(Debug, Clone, Copy, Default)]
#[must_use = "a release is made by what it is passed to"]
pub struct UngetOptions<'a> {
    pub(crate) target: Target,
    pub(crate) where_called: &'a str,
}

impl<'a> UngetOptions<'a> {
    /// Release only what this handle holds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Release the lock, whoever holds it (the Python module's `force`).
    pub fn force(mut self, force: bool) -> Self {
        self.target = if force { Target::Force } else { Target::Own };
        self
    }

    /// Release only the hold with this token, whoever has it.
    pub fn token(mut self, token: u64) -> Self {
        self.target = Target::Token(token);
        self
    }

    /// Release only what is held on behalf of this process (see [`Detached::pid`]).
    pub fn bound_to(mut self, pid: u32) -> Self {
        self.target = Target::BoundTo(pid);
        self
    }

    /// True if only what the handle holds is meant.
    pub(crate) fn is_own(&self) -> bool {
        self.target == Target::Own
    }

    /// The token to release on an engine that serves several machines; `None` = every hold.
    #[cfg(feature = "remote")]
    pub(crate) fn on_engine(&self, engine: &'static str) -> crate::Result<Option<u64>> {
        let unsupported = |what: &str| {
            Err(crate::Error::Unsupported {
                engine,
                what: what.to_owned(),
            })
        };
        match self.target {
            Target::Force => Ok(None),
            Target::Token(token) => Ok(Some(token)),
            Target::Own => unsupported("the release of a hold that was acquired elsewhere, without its token or force"),
            Target::BoundTo(_) => unsupported("a hold that ends with a process: it knows none of this machine's"),
        }
    }

    /// Where in the caller's code this happens, for the log.
    pub fn where_called(mut self, text: &'a str) -> Self {
        self.where_called = text;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_as_text() {
        for mode in [Mode::Exclusive, Mode::Shared, Mode::Slots(3)] {
            assert_eq!(mode.to_string().parse::<Mode>().unwrap(), mode);
        }
        for wrong in ["", "Shared", "slots:", "slots:-1", "slots:4294967296"] {
            assert!(matches!(wrong.parse::<Mode>(), Err(Error::Mode { .. })), "{wrong}");
        }
        assert!(matches!("slots:0".parse::<Mode>(), Err(Error::NoSlots)));
    }
}
