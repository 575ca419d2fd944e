//! etcd, 3.4 and later.
//!
//! # The layout
//! A request is a key, `PREFIX/NAME/LEASE` (without a prefix: `NAME/LEASE`; LEASE in hexadecimal), that hangs on a
//! lease of its own. Requests are ordered by the revision that created the key, which is also the token. The first one
//! has the lock. This is the layout of etcd's own Go mutex: `etcdctl lock PREFIX/NAME` waits in the same queue. The
//! value says who made the request ([`StoredRequest`]); the values of other programs are not interpreted. Other keys
//! below the name are none of ours (`key_queue.rs`).
//!
//! # Steps of a request
//! 1. Grant a lease, whose number we choose: asked for twice, there is one.
//! 2. In one transaction, put the key if it is not there, and read the queue. This is asked for at the same time as the
//!    lease, over another connection, and once more if it came before the lease (`own_request.rs`); but only of a single
//!    server, without TLS and users, and with a short lease.
//! 3. If it is not the first, watch the predecessor until it goes, and read the queue again; renew the lease meanwhile.
//!    If our own key has gone (a forced release, or a lease that ended while this process was stopped), begin anew.
//! 4. To release, check that the key is still the same creation, and give the lease back, with which the key goes. That
//!    is one write. The check comes after the command's end: a key that is still there then has been there all the time.
//!    Before that, every renewal checks as well, so that a command does not run on without the lock.
//!
//! # Invariants
//! 1. A key of ours is deleted by comparing its create revision, or by its lease; so nobody else's is. A lease that we
//!    give back has no key but ours on it.
//! 2. A lease is counted from before it was asked for, and from before each request to renew it: it ends here first.
//! 3. A renewal counts only if the majority had the same leader before and after it, and that leader's term is in the
//!    answer: a former leader that has not noticed renews leases that the new one lets end.
//! 4. What was lost stays lost: a renewal whose answer comes after the lease's end by this clock counts for nothing.
//! 5. A key hangs on a lease: if a request is given up and its key is left behind, the key ends with the lease.
//!
//! # Files
//! | file | what it contains |
//! |---|---|
//! | `etcd_url.rs` | the URL |
//! | `client.rs`, `gateway.rs`, `attempt.rs`, `login.rs` | HTTP; several servers, asked in turn; the user |
//! | `gateway_messages.rs`, `faults.rs`, `timeouts.rs` | requests and answers; what errors mean; how long an answer may take |
//! | `key_queue.rs` | whose turn it is: decisions, without I/O |
//! | `own_lease.rs`, `renewal.rs` | a lease, and the thread that renews it |
//! | `own_request.rs`, `wait.rs`, `etcd_hold.rs` | a request: in the queue, waiting, granted |
//! | `reserved.rs`, `done.rs`, `skips.rs` | keys beside the locks: when a run was recorded as done; how many were skipped |
//! | `key_watch.rs`, `following.rs` | the events of keys; following a lock |

mod attempt;
mod client;
mod done;
mod etcd_hold;
mod etcd_url;
mod faults;
mod following;
mod gateway;
mod gateway_messages;
mod key_queue;
mod key_watch;
mod login;
mod own_lease;
mod own_request;
mod renewal;
mod reserved;
mod skips;
mod timeouts;
mod wait;

use super::background;
use super::stored_request::{self, StoredRequest};
use super::{
    ANSWER_TIMEOUT, Capabilities, DetachedHold, Engine, Guard, Held, Listing, PEEK_TIMEOUT, SHORTEST_TTL, Sealed,
    USUAL_TTL, Watch,
};
use crate::lock::sys::{self, OfThisProcess};
use crate::lock::types::get_options::OnWait;
use crate::lock::types::{Cancel, Detached, Error, GetOptions, LastDone, LockName, Result, State, UngetOptions, Wait};
use etcd_hold::EtcdHold;
use etcd_url::EtcdUrl;
use following::Following;
use gateway::Gateway;
use gateway_messages::{KeyValue, Number, Operation, Range, Transaction};
use key_queue::{Request, Verdict};
use own_lease::OwnLease;
use own_request::{OwnRequest, Queue, slots_differ};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use timeouts::{Contact, Timeouts};
use wait::{Waited, Waiting};

/// Before a request that was removed is made anew.
const PAUSE: Duration = Duration::from_millis(100);

/// As many keys are read at once to find the locks among them.
const PAGE: i64 = 2000;

/// Opens it; does not connect yet.
pub(super) fn open(url: &str) -> Result<Box<dyn Engine>> {
    Ok(Box::new(Etcd {
        gateway: Arc::new(Gateway::new(&EtcdUrl::parse(url)?)?),
    }))
}

struct Etcd {
    gateway: Arc<Gateway>,
}

impl Etcd {
    /// What the keys of a lock begin with.
    fn directory(&self, name: &LockName) -> String {
        format!("{}{name}/", self.gateway.root())
    }

    /// The queue as it is now.
    fn queue<'a>(&self, name: &LockName, timeouts: impl Into<Timeouts<'a>>) -> Result<Queue> {
        reserved::check(name)?;
        let directory = self.directory(name);
        let answer = self.gateway.call(&Range::below(&directory), timeouts);
        let answer = answer.map_err(|fault| self.gateway.error_about(&directory, fault))?;
        Ok(Queue {
            requests: key_queue::requests(&answer.value.kvs, &directory),
            revision: answer.header.revision,
        })
    }

    /// The same, unless `cancel` comes first.
    fn queue_until(&self, name: &LockName, cancel: &Cancel) -> Result<Queue> {
        match self.queue(name, Timeouts::until(Contact::First, Some(cancel))) {
            Err(_) if cancel.is_cancelled() => Err(Error::Cancelled),
            queue => queue,
        }
    }

    /// Acquires the lock; `None` = not in time.
    fn hold(&self, name: &LockName, options: &GetOptions<'_>) -> Result<Option<EtcdHold>> {
        match self.ask(name, options) {
            Ok(hold) => {
                if let Some(hold) = &hold {
                    let (token, place) = (hold.token(), self.gateway.place());
                    log::debug!("<{name}> granted with token {token} by {place}");
                }
                Ok(hold)
            }
            // A signal may have ended a request; what counts is why.
            Err(_) if options.cancel.is_some_and(Cancel::is_cancelled) => Err(Error::Cancelled),
            Err(error) => Err(error),
        }
    }

    fn ask(&self, name: &LockName, options: &GetOptions<'_>) -> Result<Option<EtcdHold>> {
        options.check()?;
        reserved::check(name)?;
        let ttl = lease_length(options.lease)?;
        let deadline = wait::deadline(options.wait);
        let stored = StoredRequest::new(options);
        if options.wait == Wait::No && !self.would_grant(name, &stored, options.cancel)? {
            return Ok(None);
        }
        let mut on_wait = options.on_wait.as_slice();
        loop {
            let lease = OwnLease::new(&self.gateway, ttl);
            let request = OwnRequest::new(lease, name, self.directory(name), stored.clone());
            match self.wait_for_turn(request, options.cancel, &mut on_wait, deadline)? {
                Turn::Come(hold) => return Ok(Some(*hold)),
                Turn::TimedOut => return Ok(None),
                Turn::Gone(why) => log::warn!("<{name}> {why}: asking again"),
            }
            if sys::monotonic() >= deadline {
                return Ok(None);
            }
            // Somebody may remove every request at once, or the answers may be no etcd's: this must not be a busy loop.
            background::sleep(&[], options.cancel, background::later(sys::monotonic(), PAUSE));
        }
    }

    /// True if a request would be granted now. One that is refused anyway should not cost etcd two writes.
    fn would_grant(&self, name: &LockName, stored: &StoredRequest, cancel: Option<&Cancel>) -> Result<bool> {
        let mut queue = self.queue(name, Timeouts::until(Contact::First, cancel))?;
        queue.requests.push(Request {
            key: String::new(),
            created: u64::MAX,
            lease: 0,
            stored: stored.clone(),
        });
        match key_queue::verdict(&queue.requests, u64::MAX) {
            Verdict::Granted => Ok(true),
            Verdict::SlotsDiffer(in_use) => Err(slots_differ(stored, in_use)),
            Verdict::Behind(_) | Verdict::BehindAny | Verdict::Gone => Ok(false),
        }
    }

    /// Puts the request into the queue, and waits until its turn has come.
    fn wait_for_turn<'o>(
        &self,
        mut request: OwnRequest,
        cancel: Option<&Cancel>,
        on_wait: &mut &'o [OnWait<'o>],
        deadline: u64,
    ) -> Result<Turn> {
        const REMOVED: &str = "the request was removed from the queue";
        let Some((queue, created)) = request.enter(cancel)? else {
            return Ok(Turn::Gone(REMOVED));
        };
        // Whoever is told of the wait may fork.
        let mut request = OfThisProcess::new(request);
        let waiting = Waiting::new(self, request.get_mut()?, created, (cancel, on_wait), deadline);
        match waiting.until_over(&queue)? {
            Waited::Granted { at_once } => {
                let hold = EtcdHold::new(request.into_inner()?, created, at_once)?.freshened(cancel)?;
                Ok(match hold {
                    Some(hold) => Turn::Come(Box::new(hold)),
                    None => Turn::Gone("the lease was over as soon as it was granted"),
                })
            }
            Waited::TimedOut => Ok(Turn::TimedOut),
            Waited::Gone => Ok(Turn::Gone(REMOVED)),
        }
    }

    /// The names of all locks in use.
    fn names(&self) -> Result<BTreeSet<LockName>> {
        let root = self.gateway.root();
        // Other programs' values may be large: only those of what looks like a lock are read.
        let mut range = Range::below(root).keys_only().by_pages_of(PAGE);
        let mut contact = Contact::First;
        let mut names = BTreeSet::new();
        loop {
            let answer = self.gateway.call(&range, contact);
            let keys = answer.map_err(|fault| self.gateway.error(fault))?.value;
            names.extend(keys.kvs.iter().filter_map(|kv| name_of(kv, root)));
            let Some(last) = keys.kvs.last().filter(|_| keys.more) else {
                return Ok(names);
            };
            range = range.after(&last.key);
            contact = Contact::Running;
        }
    }

    /// Deletes the key of this hold, if it is still the same: true if it was.
    fn break_one(&self, holder: &Request) -> Result<bool> {
        let delete = Operation::Delete {
            key: holder.key.as_str().into(),
        };
        let delete = Transaction::if_still(&holder.key, holder.created, delete);
        let answer = self.gateway.call(&delete, Contact::Running);
        let answer = answer.map_err(|fault| self.gateway.error(fault))?;
        if holder.stored.detached && holder.lease != 0 {
            // Nobody else gives it back, and nothing else hangs on it. If it fails, it ends by itself.
            let _ = own_lease::revoke(&self.gateway, Number(holder.lease), Timeouts::within(ANSWER_TIMEOUT));
        }
        Ok(answer.value.succeeded || answer.repeated)
    }
}

/// How a request has come out.
enum Turn {
    Come(Box<EtcdHold>),
    TimedOut,
    /// Another request is needed, and why.
    Gone(&'static str),
}

impl Sealed for Etcd {}

impl Engine for Etcd {
    fn kind(&self) -> &'static str {
        "etcd"
    }

    fn place(&self) -> String {
        self.gateway.place().to_owned()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            remote: true,
            lease: true,
            detached: true,
            shared: true,
            slots: true,
            abandoned: false,
            history: false,
            skips: true,
            processes: false,
            files: false,
        }
    }

    fn acquire(&self, name: &LockName, options: &GetOptions<'_>) -> Result<Option<Guard>> {
        let hold = self.hold(name, options)?;
        Ok(hold.map(|hold| Guard::remote(name, hold)))
    }

    fn acquire_detached(
        &self,
        name: &LockName,
        options: &GetOptions<'_>,
        detached: Detached,
    ) -> Result<Option<DetachedHold>> {
        if detached.pid.is_some() {
            return Err(Error::Unsupported {
                engine: self.kind(),
                what: "a hold that ends with a process: it knows none of this machine's".to_owned(),
            });
        }
        let never = Cancel::new();
        let cancel = options.cancel.unwrap_or(&never);
        let Some(hold) = self.hold(name, options)? else {
            return Ok(None);
        };
        let token = hold.token();
        hold.detach(detached.ttl, cancel)?;
        Ok(Some(DetachedHold {
            token,
            abandoned: false,
        }))
    }

    fn state(&self, name: &LockName, cancel: &Cancel) -> Result<Option<State>> {
        let queue = self.queue_until(name, cancel)?;
        Ok(Some(state(name, &queue.requests)))
    }

    fn peek(&self, name: &LockName) -> Result<Option<State>> {
        let queue = self.queue(name, Timeouts::within(PEEK_TIMEOUT))?;
        Ok(Some(state(name, &queue.requests)))
    }

    fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for name in self.names()? {
            let queue = self.queue(&name, Contact::Running)?;
            if !queue.requests.is_empty() {
                listing.states.push(state(&name, &queue.requests));
            }
        }
        Ok(listing)
    }

    fn last_done(&self, name: &LockName, cancel: &Cancel) -> Result<Option<LastDone>> {
        match done::recorded(&self.gateway, name, Timeouts::until(Contact::First, Some(cancel))) {
            Err(_) if cancel.is_cancelled() => Err(Error::Cancelled),
            last => last,
        }
    }

    fn count_skip(&self, name: &LockName, cancel: &Cancel) -> Result<u64> {
        match skips::count(&self.gateway, name, Timeouts::until(Contact::Running, Some(cancel))) {
            Err(_) if cancel.is_cancelled() => Err(Error::Cancelled),
            count => count,
        }
    }

    fn watch(&self, name: &LockName, cancel: &Cancel) -> Result<Watch> {
        let queue = self.queue_until(name, cancel)?;
        Ok(Watch::new(Following::new(
            &self.gateway,
            name,
            self.directory(name),
            queue,
        )?))
    }

    fn break_hold(&self, name: &LockName, target: UngetOptions<'_>) -> Result<bool> {
        let token = target.on_engine(self.kind())?;
        let queue = self.queue(name, Contact::First)?;
        let (holders, _) = key_queue::split(&queue.requests);
        let mut broken = false;
        for holder in holders {
            if token.is_none_or(|token| token == holder.created) {
                broken |= self.break_one(holder)?;
            }
        }
        Ok(broken)
    }
}

fn lease_length(asked: Option<Duration>) -> Result<Duration> {
    match asked.unwrap_or(USUAL_TTL) {
        ttl if ttl < SHORTEST_TTL => Err(Error::Unsupported {
            engine: "etcd",
            what: format!(
                "a lease of {} s; the shortest is {} s, as renewals need time on a busy machine or network",
                ttl.as_secs_f64(),
                SHORTEST_TTL.as_secs()
            ),
        }),
        ttl => Ok(ttl),
    }
}

fn state(name: &LockName, requests: &[Request]) -> State {
    let (holders, waiters) = key_queue::split(requests);
    let first = holders.first().map(|request| &request.stored);
    stored_request::state(
        name,
        holders
            .iter()
            .map(|request| request.stored.holder(request.created))
            .collect(),
        waiters
            .iter()
            .map(|request| request.stored.waiter(request.created))
            .collect(),
        first,
    )
}

/// The lock that a key may belong to: `ROOT NAME / hexadecimal number`.
fn name_of(kv: &KeyValue, root: &str) -> Option<LockName> {
    let key = kv.key.text();
    let (name, lease) = key.strip_prefix(root)?.split_once('/')?;
    let name = key_queue::lease_named(lease).and_then(|_| LockName::new(name).ok())?;
    reserved::check(&name).is_ok().then_some(name)
}
