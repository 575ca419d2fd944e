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

#[cfg(feature = "remote")]
mod background;
mod follow;
mod lease;
mod local;
#[cfg(feature = "remote")]
mod requester;
#[cfg(feature = "remote")]
mod resolver;
mod url;
#[cfg(feature = "remote")]
mod validity;

#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "postgres")]
mod postgres;

pub use follow::Follow;
pub use lease::{Lease, SHORTEST_TTL, USUAL_TTL, Validity};

/// How long an answer may take that is only for the eyes.
#[cfg(feature = "remote")]
const GLANCE: std::time::Duration = std::time::Duration::from_secs(1);
pub use local::Local;
#[doc(hidden)]
pub use url::passwords_in;

use crate::{Cancel, Error, GetOptions, LockName, Result, State};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// The engines on other machines. Besides its own module, this table is all that knows of one.
const REMOTE: [Remote; 2] = [
    Remote {
        features: ["etcd", "etcd,tls"],
        schemes: &["etcd://", "etcds://"],
        encrypted: &["etcds://"],
        form: "etcd://HOST[:PORT][,HOST…][/PREFIX], etcds://…",
        #[cfg(feature = "etcd")]
        open: Some(etcd::open),
        #[cfg(not(feature = "etcd"))]
        open: None,
    },
    Remote {
        features: ["postgres", "postgres,tls"],
        schemes: &["postgres://", "postgresql://"],
        encrypted: &["sslmode=require", "sslmode=verify", "sslrootcert="],
        form: "postgres://USER@HOST/DATABASE",
        #[cfg(feature = "postgres")]
        open: Some(postgres::open),
        #[cfg(not(feature = "postgres"))]
        open: None,
    },
];

/// An engine on other machines.
struct Remote {
    /// The features that build it in, without and with encryption.
    features: [&'static str; 2],
    /// What its URLs begin with.
    schemes: &'static [&'static str],
    /// What a URL that asks for encryption contains.
    encrypted: &'static [&'static str],
    /// What its URLs look like, for people.
    form: &'static str,
    /// `None`: not in this build. Does not connect yet.
    open: Option<fn(&str) -> Result<Box<dyn Engine>>>,
}

impl Remote {
    fn open(&self, url: &str) -> Result<Box<dyn Engine>> {
        let Some(open) = self.open else {
            // All that it needs at once, not one feature after the other.
            let encrypted = self.encrypted.iter().any(|part| url.contains(part));
            let engine = self.features[usize::from(encrypted)];
            return Err(Error::NotBuiltIn { engine });
        };
        open(url)
    }
}

/// Opens the engine that `url` names: `local:`, `etcd://…`, `etcds://…`, `postgres://…`. Does not connect
/// yet.
///
/// # Errors
/// [`Error::Url`](crate::Error::Url) for a URL that cannot be used; [`Error::NotBuiltIn`](crate::Error::NotBuiltIn) for
/// an engine that this build does not support.
pub fn open(url: &str) -> Result<Box<dyn Engine>> {
    if url == "local:" {
        return Ok(Box::new(Local::new()));
    }
    if url.is_empty() {
        // If a variable that was meant to be set is empty, each machine would use a lock of its own.
        return Err(url::refusal(
            url,
            "it is empty: name an engine, or local: for this machine",
        ));
    }
    let named = |remote: &&Remote| remote.schemes.iter().any(|scheme| url.starts_with(scheme));
    match REMOTE.iter().find(named) {
        Some(remote) => remote.open(url),
        None => {
            let forms = REMOTE.map(|remote| remote.form).join(" or ");
            Err(url::refusal(url, format!("expected local:, {forms}")))
        }
    }
}

/// What the URLs of engines on other machines begin with, such as `etcd://`, whether or not they are built in.
fn schemes() -> impl Iterator<Item = &'static str> {
    REMOTE.iter().flat_map(|remote| remote.schemes).copied()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_engine() {
        for url in ["", "redis://u:secret@h", "postgres", "u:secret@h", "etcd:h"] {
            let error = open(url).err().expect("it names none").to_string();
            assert!(error.contains(" cannot be used: "), "{error}");
            assert!(error.contains("local:") && !error.contains("secret"), "{error}");
        }
        assert_eq!(open("local:").expect("it is always there").kind(), "local");
    }

    #[test]
    fn schemes_lead_to_engines() {
        let known: Vec<&str> = schemes().collect();
        assert_eq!(known, ["etcd://", "etcds://", "postgres://", "postgresql://"]);
        for scheme in known {
            let refused = open(&format!("{scheme}h/%zz?x")).err().map(|error| error.to_string());
            assert!(!refused.unwrap_or_default().contains("local:"), "{scheme}");
        }
    }
}
