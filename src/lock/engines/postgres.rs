//! PostgreSQL, 12 and later: session advisory locks.
//!
//! # The lock
//! The server's own `pg_advisory_lock` on the first 64 bits of the SHA-256 of `resourcelock:NAME`, in the database that
//! the URL names. It belongs to the session: when the connection ends, for any reason, the server gives the lock to
//! the next in line at once. Another program that uses the same number by chance is excluded like anybody else, and
//! shown by its `application_name`. Nobody can release it from outside except by ending the session: `DISCARD ALL` and
//! `pg_advisory_unlock_all` affect the session that calls them.
//!
//! A standby keeps locks of its own, and a pooler in transaction mode keeps no sessions: both are refused.
//!
//! # Tokens
//! They are drawn from one sequence for all locks of the database, so that a grant need not wait for the disk. The server
//! writes 32 numbers ahead, but a session that draws the next of them does not wait until that is on the disk: a crash may
//! take back what was drawn. So there is a table `public.resourcelock_session` that is not logged: after a crash (and on a
//! server that has taken over) it is empty, and after a restart or in a copy of the database it tells of something else.
//! The first to find that moves the sequence on by more than can have been lost (`grant.rs`). Where neither exists and this
//! role may not create them, the token is the server's transaction counter, and each grant waits until that is on the
//! disk. Once they exist, a role that may not use them is refused: two counts would not go together.
//!
//! The table also tells others who holds and who waits, one row for each request. Another one, which is logged, keeps when a
//! run was recorded as done (`done.rs`).
//!
//! # Losing it
//! The holder asks the server every third of the TTL. Without an answer the hold counts as certain until the TTL is
//! over, as with a lease; the server is told to drop a silent connection no earlier than after twice that time. The
//! socket's end is noticed at once. Whoever supervises the command keeps the socket open as well, and notices its end
//! ([`Guard::keep_open`]): if this process is killed, the lock stays until the command is gone; if the session ends then,
//! the command is killed.
//!
//! | what happens | who has the lock next | can two commands overlap? |
//! |---|---|---|
//! | holder and command die | the next, at once | no |
//! | the connection breaks, hosts and server live | the next, after twice the TTL | no: the command is killed by then |
//! | the session is ended (`unget`, `pg_terminate_backend`) | the next, after a moment | see below |
//! | the server crashes, restarts, fails over | whoever asks first | see below |
//!
//! In the last two rows the server gives the lock away while the command runs. The holder's host notices the connection's
//! end and kills the command, in about 10 ms. The next holder knows from the row that its predecessor left that it was not
//! a release, and waits for a moment (50 ms). That is no proof: if the news takes longer (a slow network; a host without
//! time for its guard; a connection that is cut at the same moment, when the command runs until its own limit at 90 % of
//! the TTL), two commands overlap, and only the tokens tell them apart.
//!
//! # Files
//! | file | what it contains |
//! |---|---|
//! | `settings.rs`, `libpq_options.rs`, `encryption.rs`, `password.rs` | what the URL and the environment say |
//! | `target.rs`, `connect.rs`, `socket.rs`, `tls.rs`, `channel_binding.rs`, `pooler.rs` | connecting to the right server, and to nothing else |
//! | `sql.rs`, `advisory.rs`, `grant.rs`, `token_objects.rs` | the statements |
//! | `objects.rs` | whose our tables and our sequence are, and whether they are used |
//! | `done.rs` | when a run was recorded as done |
//! | `request_handle.rs`, `request_thread.rs` | a request and its hold: here, and in the thread that keeps the connection |
//! | `views.rs`, `polling.rs` | viewing locks, and following one |

mod advisory;
#[cfg(feature = "tls")]
mod channel_binding;
mod connect;
mod done;
mod encryption;
mod grant;
mod libpq_options;
mod objects;
mod password;
mod polling;
mod pooler;
mod request_handle;
mod request_thread;
mod settings;
mod socket;
mod sql;
mod target;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
mod tls_absent;
#[cfg(not(feature = "tls"))]
use tls_absent as tls;
mod token_objects;
mod views;

use super::stored_request::StoredRequest;
use super::{Capabilities, DetachedHold, Engine, Guard, Listing, SHORTEST_TTL, Sealed, USUAL_TTL, Watch};
use crate::lock::types::{Cancel, Detached, Error, GetOptions, LastDone, LockName, Mode, Result, State, UngetOptions};
use polling::Following;
use request_handle::RequestHandle;
use request_thread::Request;
use std::sync::Arc;
use target::Target;

/// Opens it; does not connect yet.
pub(super) fn open(url: &str) -> Result<Box<dyn Engine>> {
    Ok(Box::new(Postgres {
        target: Arc::new(Target::new(url)?),
    }))
}

struct Postgres {
    target: Arc<Target>,
}

impl Sealed for Postgres {}

impl Engine for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn place(&self) -> String {
        self.target.place().to_owned()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            remote: true,
            lease: true,
            detached: false,
            shared: true,
            slots: false,
            abandoned: false,
            history: false,
            skips: false,
            processes: false,
            files: false,
        }
    }

    fn acquire(&self, name: &LockName, options: &GetOptions<'_>) -> Result<Option<Guard>> {
        let unsupported = |what: String| {
            Err(Error::Unsupported {
                engine: "postgres",
                what,
            })
        };
        if let Mode::Slots(_) = options.mode {
            return unsupported("a counting lock: advisory locks are exclusive or shared; use etcd".to_owned());
        }
        let ttl = options.lease.unwrap_or(USUAL_TTL);
        if ttl < SHORTEST_TTL {
            return unsupported(format!(
                "a time of {} s; the shortest is {} s, as answers need time on a busy machine or network",
                ttl.as_secs_f64(),
                SHORTEST_TTL.as_secs()
            ));
        }
        let request = RequestHandle::start(Request {
            target: self.target.clone(),
            name: name.clone(),
            mode: options.mode,
            wait: options.wait,
            ttl,
            stored: StoredRequest::new(options),
            has_table: false,
        })?;
        let hold = request.wait(options, || self.peek(name).ok().flatten())?;
        Ok(hold.map(|hold| Guard::remote(name, hold)))
    }

    fn acquire_detached(
        &self,
        _name: &LockName,
        _options: &GetOptions<'_>,
        _detached: Detached,
    ) -> Result<Option<DetachedHold>> {
        Err(Error::Unsupported {
            engine: self.kind(),
            what: "a hold without a process: it ends with its connection".to_owned(),
        })
    }

    fn state(&self, name: &LockName, cancel: &Cancel) -> Result<Option<State>> {
        views::block_on(views::or_cancelled(views::state(&self.target, name), cancel)).map(Some)
    }

    fn peek(&self, name: &LockName) -> Result<Option<State>> {
        views::block_on(views::peek(&self.target, name)).map(Some)
    }

    fn list(&self) -> Result<Listing> {
        Ok(Listing {
            states: views::block_on(views::list(&self.target))?,
            unreadable: Vec::new(),
        })
    }

    fn last_done(&self, name: &LockName, cancel: &Cancel) -> Result<Option<LastDone>> {
        views::block_on(views::or_cancelled(done::recorded(&self.target, name), cancel))
    }

    fn watch(&self, name: &LockName, cancel: &Cancel) -> Result<Watch> {
        Ok(Watch::new(Following::start(&self.target, name, cancel)?))
    }

    fn break_hold(&self, name: &LockName, target: UngetOptions<'_>) -> Result<bool> {
        let token = target.on_engine(self.kind())?;
        views::block_on(views::break_hold(&self.target, name, token))
    }
}
