//! Engines: the same lock, kept by this machine, by etcd or by PostgreSQL.
//!
//! [`open`] turns a URL into an [`Engine`]. What an engine promises is written at the trait, and held to by one
//! conformance suite that runs for every engine (`tests/conformance`).
//!
//! # Leases
//! An engine on another machine cannot know whether a holder lives. It gives a lease, which the holder renews. The
//! holder's clock of a lease starts *before* the request is sent, the engine's when it arrives, so the holder's ends
//! first. See [`Lease`] for what has to happen when.
//!
//! | file | what |
//! |---|---|
//! | `url.rs` | what a URL means, and what is refused |
//! | `lease.rs`, `standing.rs` | when a hold is certain, and telling those who must know |
//! | `who.rs` | who asks: what others are shown |
//! | `follow.rs` | changes, from one look to the next |
//! | `names.rs` | addresses of hosts |
//! | `thread.rs` | threads that leave signals to the program's own |
//! | `local.rs`, `etcd.rs`, `postgres.rs` | the engines |

#[cfg(any(feature = "etcd", feature = "postgres"))]
mod background;
mod follow;
mod lease;
mod local;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod requester;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod resolver;
mod url;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod validity;

#[cfg(feature = "etcd")]
mod etcd;
#[cfg(not(feature = "etcd"))]
mod etcd_absent;
#[cfg(not(feature = "etcd"))]
use etcd_absent as etcd;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(not(feature = "postgres"))]
mod postgres_absent;
#[cfg(not(feature = "postgres"))]
use postgres_absent as postgres;

pub use follow::Follow;
pub use lease::{Lease, SHORTEST_TTL, USUAL_TTL, Validity};

/// How long an answer may take that is only for the eyes.
#[cfg(any(feature = "etcd", feature = "postgres"))]
const GLANCE: std::time::Duration = std::time::Duration::from_secs(1);
pub use local::Local;
pub use url::EngineUrl;
#[doc(hidden)]
pub use url::passwords_in;

use crate::{Cancel, GetOptions, LockName, Result, State};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Opens the engine that `url` names: `local:`, `etcd://…`, `etcds://…`, `postgres://…`. Does not connect
/// yet.
///
/// # Errors
/// [`Error::Url`](crate::Error::Url) for a URL that cannot be; [`Error::NotBuiltIn`](crate::Error::NotBuiltIn) for an
/// engine that this build has no support for.
pub fn open(url: &str) -> Result<Box<dyn Engine>> {
    Ok(match EngineUrl::parse(url)? {
        EngineUrl::Local => Box::new(Local::new()),
        EngineUrl::Etcd(url) => etcd::open(url)?,
        EngineUrl::Postgres(url) => postgres::open(url)?,
    })
}

/// What an engine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Requests are granted in the order in which they arrived.
    pub order: bool,
    /// Tokens grow strictly with every grant.
    pub token: bool,
    /// A hold ends by itself if its holder cannot renew it.
    pub lease: bool,
    /// A hold can outlive its process ([`Held::detach`]).
    pub detached: bool,
    /// Shared holds.
    pub shared: bool,
    /// Counting locks.
    pub slots: bool,
    /// It tells whether the previous holder died.
    pub tells_abandoned: bool,
    /// It keeps a history.
    pub history: bool,
    /// Locks survive the loss of one of its servers, if it has several.
    pub survives_a_server: bool,
}

/// Keeper of locks.
///
/// All calls block, at most for the times given, and may be made from several threads. An engine that cannot be
/// reached answers [`Error::Unreachable`](crate::Error::Unreachable) after 4 seconds or earlier.
pub trait Engine: Send + Sync {
    /// One word: `local`, `etcd`, `postgres`.
    fn kind(&self) -> &'static str;

    /// Where it is, for people; without a password.
    fn place(&self) -> String;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Takes the lock: `None` = it was not had in time. Waits as long as the options say; [`Cancel`] ends the
    /// wait. A request that is not granted has left the queue when this returns.
    ///
    /// Of the options, `detached` and `same_process_ok` have no meaning here.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled), [`Error::Unreachable`](crate::Error::Unreachable),
    /// [`Error::Refused`](crate::Error::Refused), [`Error::Unsupported`](crate::Error::Unsupported) for a mode that
    /// the engine does not have, [`Error::SlotsDiffer`](crate::Error::SlotsDiffer).
    fn acquire(&self, name: &LockName, options: GetOptions<'_>) -> Result<Option<Box<dyn Held>>>;

    /// Holders by token and waiters in order. A lock that nobody uses is free; it need not exist.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    fn state(&self, name: &LockName) -> Result<State>;

    /// The same; [`Cancel`] ends the wait for the answer.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    fn look(&self, name: &LockName, cancel: &Cancel) -> Result<State>;

    /// The same for people's eyes only, when their time is up: what cannot be read within a second is not waited for.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    fn glance(&self, name: &LockName) -> Result<State> {
        self.state(name)
    }

    /// All locks that are known, sorted by name. On an engine where a lock exists only while it is used, those in use.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    fn list(&self) -> Result<Vec<State>>;

    /// Follows what happens to a lock from now on. `cancel` ends the wait for the first answer.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    fn watch(&self, name: &LockName, cancel: &Cancel) -> Result<Box<dyn Follow>>;

    /// Ends the hold with this token, or all holds of the lock, whoever has them: whether there was any. The holder
    /// finds out by [`Held::release`], at the latest.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    fn break_hold(&self, name: &LockName, token: Option<u64>) -> Result<bool>;
}

/// A hold. Dropping it releases it, as well as that can be done without an answer.
pub trait Held: Send {
    /// The grant's number: grows strictly with every grant of this lock.
    fn token(&self) -> u64;

    /// Until when it is certain that nobody else has the lock. Does not block.
    fn validity(&self) -> Validity;

    /// Has every change of [`validity`](Self::validity) told to `tell`, and the present one at once. `tell` is called
    /// from another thread and must not block.
    fn on_change(&mut self, tell: Box<dyn Fn(Validity) + Send>);

    /// A descriptor that keeps the hold while it is open in any process, should this one die, if the engine is one of
    /// that kind: whoever sees to the holder's end keeps it open until then.
    fn keep_open(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// No answer to what follows is waited for longer than a second: this program was asked to end. Where that is too
    /// short, the hold ends with its lease.
    fn hurry(&mut self) {}

    /// Leaves the lock taken without a process: for `ttl`, or until somebody ends it ([`Engine::break_hold`]). `cancel`
    /// ends the wait for the answer: then the hold is released, as well as that can be done.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) on an engine that cannot; else as [`Engine::acquire`]. The
    /// hold is then released.
    fn detach(self: Box<Self>, ttl: Option<Duration>, cancel: &Cancel) -> Result<()>;

    /// Releases: false = it was lost before (broken, or its lease ran out).
    ///
    /// # Errors
    /// As [`Engine::acquire`], if it is not known whether the engine has heard of it. It ends with its lease then.
    fn release(self: Box<Self>) -> Result<bool>;
}
