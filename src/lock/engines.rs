//! Engines: the same lock, kept by this machine, by etcd or by PostgreSQL.
//!
//! [`open`] turns a URL into an [`Engine`]. What an engine promises is written at the trait, and held to by one
//! conformance suite that runs for every engine (`tests/conformance`).
//!
//! # Leases
//! An engine on another machine cannot know whether a holder lives. It grants a lease, which the holder renews. The holder
//! counts a lease from *before* it sends the request, the engine from when that arrives, so the holder's ends first. See
//! [`Lease`] for what has to happen when.
//!
//! | file | what it contains |
//! |---|---|
//! | `url.rs` | what the URLs of all engines have in common; where they have passwords |
//! | `lease.rs`, `validity.rs` | when a hold is certain, and telling those who must know |
//! | `stored_request.rs` | what an engine stores about a request, to be shown to others |
//! | `guard.rs`, `held.rs` | a hold of any engine; what it needs of one on another machine |
//! | `inherited.rs` | an engine, and a lock that is followed, in the child of a fork |
//! | `together.rs` | several locks, or none of them |
//! | `follow.rs` | following a lock: what changes from one view of it to the next |
//! | `resolver.rs`, `certificates.rs` | addresses of hosts; certificates in files |
//! | `background.rs` | threads that leave all signals to the program's own |
//! | `local.rs`, `etcd.rs`, `postgres.rs` | the engines |

#[cfg(feature = "remote")]
mod background;
#[cfg(all(feature = "remote", feature = "tls"))]
mod certificates;
pub(crate) mod follow;
pub(crate) mod guard;
#[cfg(feature = "remote")]
mod held;
mod inherited;
mod lease;
mod local;
#[cfg(feature = "remote")]
mod resolver;
#[cfg(feature = "remote")]
mod stored_request;
mod together;
mod url;
mod validity;

#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "postgres")]
mod postgres;

#[cfg(feature = "remote")]
pub(crate) use follow::Follow;
pub(crate) use follow::Watch;
pub(crate) use guard::Guard;
#[cfg(feature = "tokio")]
pub(crate) use guard::Undelivered;
#[cfg(feature = "remote")]
pub(crate) use held::Held;
pub use lease::{Lease, SHORTEST_TTL, USUAL_TTL};
pub use local::Local;
pub use together::acquire_all;
#[doc(hidden)]
pub use url::passwords_in;
pub use validity::Validity;

use crate::lock::sys::OfThisProcess;
use crate::lock::types::{
    Cancel, Detached, Error, GetOptions, HistoryRecord, LastDone, LockName, Result, State, UngetOptions,
};

/// An engine's answer that is no older counts as of now: whoever acts on it need not ask again.
pub const RECENT: std::time::Duration = std::time::Duration::from_millis(100);
/// How long an answer may take.
#[cfg(feature = "remote")]
const ANSWER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(4);
/// How long an answer may take that is only shown ([`Engine::peek`]).
#[cfg(feature = "remote")]
const PEEK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// The engines on other machines. Besides its own module, this table, the options that only some engines know
/// (`src/cli/options/table.rs`), and the words of a URL (`url.rs`) are all that knows of one.
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
    open: Option<Open>,
}

type Open = fn(&str) -> Result<Box<dyn Engine>>;

impl Remote {
    fn open(&self, url: &str) -> Result<Box<dyn Engine>> {
        let Some(open) = self.open else {
            // All that it needs at once, not one feature after the other.
            let encrypted = self.encrypted.iter().any(|part| url.contains(part));
            let engine = self.features[usize::from(encrypted)];
            return Err(Error::NotBuiltIn { engine });
        };
        Ok(Box::new(OfThisProcess::new(open(url)?)))
    }
}

/// Opens the engine that `url` names: `local:`, `etcd://…`, `etcds://…`, `postgres://…`. Does not connect
/// yet.
///
/// # Errors
/// [`Error::Url`] for a URL that cannot be used; [`Error::NotBuiltIn`] for
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

/// What nothing outside this crate can implement.
mod sealed {
    #[allow(unnameable_types, reason = "that is how it is sealed")]
    pub trait Sealed {}
}
use sealed::Sealed;

/// What an engine can do. Whatever it cannot is refused by the program before it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Its locks are kept on another machine: each view of one costs a request, and holders may run anywhere.
    pub remote: bool,
    /// A hold ends by itself if its holder cannot renew it.
    pub lease: bool,
    /// A hold can outlive its process ([`Engine::acquire_detached`]).
    pub detached: bool,
    /// Shared holds.
    pub shared: bool,
    /// Counting locks.
    pub slots: bool,
    /// It tells whether the previous holder died ([`Guard::abandoned`]).
    pub abandoned: bool,
    /// It keeps a history ([`Engine::history`]).
    pub history: bool,
    /// It counts runs that were skipped ([`Engine::count_skip`]).
    pub skips: bool,
    /// It knows this machine's processes: holds can be bound to one, and outlive the program that acquired them as a
    /// process ([`Guard::bind`], [`Guard::let_lapse`]).
    pub processes: bool,
    /// Its locks are files of this machine: they have a mode and a group, and can be removed.
    pub files: bool,
}

/// All locks that an engine knows.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Listing {
    /// Sorted by name. Those of this machine in brief: see [`State::holders_left_out`], and the note's first 1,024 bytes.
    pub states: Vec<State>,
    /// Those that exist but cannot be viewed, and why.
    pub unreadable: Vec<(LockName, Error)>,
}

/// A hold without a process, as [`Engine::acquire_detached`] leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DetachedHold {
    /// The grant's number.
    pub token: u64,
    /// True if a previous holder died while it held the lock: see [`Guard::abandoned`].
    pub abandoned: bool,
}

/// Keeper of locks. Only this crate's engines implement it.
///
/// Orders requests as they arrive, and gives each grant of a lock a larger token than the one before.
///
/// All calls block, at most for the times given, and may be made from several threads. An engine that cannot be
/// reached answers [`Error::Unreachable`] after 4 seconds or earlier. In the child of a fork, one on other machines
/// answers [`Error::Forked`]: open it again there.
pub trait Engine: Sealed + Send + Sync {
    /// One word: `local`, `etcd`, `postgres`.
    fn kind(&self) -> &'static str;

    /// Where it is, for people; without a password.
    fn place(&self) -> String;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Acquires the lock; `None` = not in time. Waits as long as the options say; [`Cancel`] ends the wait. A request
    /// that is not granted has left the queue when this returns.
    ///
    /// Of the options, `detached` and `same_process_ok` have no meaning here.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Unreachable`], [`Error::Refused`], [`Error::Unsupported`] for a mode that the
    /// engine does not have, [`Error::SlotsDiffer`]; on this machine those of
    /// [`ResourceLock::acquire_with`](crate::ResourceLock::acquire_with) and [`Builder::open`](crate::Builder::open).
    fn acquire(&self, name: &LockName, options: &GetOptions<'_>) -> Result<Option<Guard>>;

    /// Acquires the lock and leaves it taken without a process: until `detached` says, or until somebody ends the hold
    /// ([`break_hold`](Self::break_hold)). The options' [`Cancel`] ends the waits for answers, too: then the hold is
    /// released, as far as that can be done.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`Error::Unsupported`] on an engine that cannot. Nothing is left held then, as
    /// far as the engine could be told.
    fn acquire_detached(
        &self,
        name: &LockName,
        options: &GetOptions<'_>,
        detached: Detached,
    ) -> Result<Option<DetachedHold>>;

    /// Holders by token and waiters in order; `None` = nobody has used it yet. On an engine where a lock exists only
    /// while it is used, it is free instead. `cancel` ends the wait for the answer.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    fn state(&self, name: &LockName, cancel: &Cancel) -> Result<Option<State>>;

    /// The same for a message only: an answer that takes longer than a second is not waited for.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    fn peek(&self, name: &LockName) -> Result<Option<State>> {
        self.state(name, &Cancel::new())
    }

    /// Counts the death that the lock is marked with ([`Guard::abandoned`]) as told to people: false = that was done before.
    /// Always true on an engine that does not tell of deaths.
    fn report_death(&self, _name: &LockName) -> bool {
        true
    }

    /// True if a hold with this token stands now and its holder is not proven dead.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    fn is_held(&self, name: &LockName, token: u64) -> Result<bool> {
        let state = self.state(name, &Cancel::new())?;
        Ok(state.is_some_and(|state| {
            state
                .holders
                .iter()
                .any(|holder| holder.token == Some(token) && holder.alive)
        }))
    }

    /// Checks that the lock, if it exists, may be used: that the caller trusts its owner. Requests check it by themselves;
    /// whoever acts on a [`state`](Self::state) checks it before. On an engine, the server says who may use a lock.
    ///
    /// # Errors
    /// [`Error::Untrusted`], [`Error::UnsafeDirectory`]; else as [`acquire`](Self::acquire).
    fn check_trust(&self, _name: &LockName) -> Result<()> {
        Ok(())
    }

    /// All locks that are known. On an engine where a lock exists only while it is used, those in use.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    fn list(&self) -> Result<Listing>;

    /// The last ended requests of a lock, oldest first; `None` = nobody has used it yet.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on an engine that keeps none; else as [`acquire`](Self::acquire).
    fn history(&self, _name: &LockName) -> Result<Option<Vec<HistoryRecord>>> {
        Err(Error::Unsupported {
            engine: self.kind(),
            what: "a history: it keeps none".to_owned(),
        })
    }

    /// The last run under a lock that was recorded as done ([`Guard::mark_done`]); `None` = none is known. `cancel` ends the
    /// wait for the answer.
    ///
    /// # Errors
    /// [`Error::Untrusted`] if the lock may not be used; [`Error::Refused`] if the engine can already tell that nothing could
    /// be recorded; else as [`acquire`](Self::acquire).
    fn last_done(&self, name: &LockName, cancel: &Cancel) -> Result<Option<LastDone>>;

    /// Counts a run of a job that was skipped because it was not granted the lock in time, and returns how many that makes
    /// in a row: since [`Guard::reset_skips`]. Of several that count at the same time, each gets a number of its own.
    /// `cancel` ends the wait for the answer.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on an engine that does not count; else as [`acquire`](Self::acquire).
    fn count_skip(&self, _name: &LockName, _cancel: &Cancel) -> Result<u64> {
        Err(Error::Unsupported {
            engine: self.kind(),
            what: "skipped runs: it does not count them".to_owned(),
        })
    }

    /// Follows what happens to a lock from now on. `cancel` ends the wait for the first answer.
    ///
    /// # Errors
    /// [`Error::NotFound`] if nobody has used the lock yet, on this machine; else as [`acquire`](Self::acquire).
    fn watch(&self, name: &LockName, cancel: &Cancel) -> Result<Watch>;

    /// Ends the holds that `target` names, whoever has them; false = there were none. A holder finds out by
    /// [`Guard::release`], at the latest.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a target that the engine does not know; else as [`acquire`](Self::acquire).
    fn break_hold(&self, name: &LockName, target: UngetOptions<'_>) -> Result<bool>;
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
