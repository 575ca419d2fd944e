//! etcd, 3.4 and later.
//!
//! # The layout
//! A request is a key, `PREFIX/NAME/LEASE` (without a prefix: `NAME/LEASE`; LEASE in hexadecimal), that hangs on a
//! lease of its own. Requests are ordered by the revision that created the key, which is also the token. The first one
//! has the lock. This is the layout of etcd's own Go mutex: `etcdctl lock PREFIX/NAME` stands in the same queue. The
//! value says who asks ([`Who`]); other programs' values are not looked into. Other keys below the name are none of ours
//! (`queue.rs`).
//!
//! # Steps of a request
//! 1. a lease, whose number we choose: asked twice, there is one;
//! 2. one transaction: put the key if it is not there, and read the queue;
//! 3. not first: watch the predecessor until it goes, and read the queue again; renew the lease meanwhile. If the own
//!    key has gone (a forced release, or a lease that ended while this process was stopped), begin anew;
//! 4. released: look whether the key is still the same creation, and give the lease back, with which the key goes. That
//!    is one write. The look comes after the command's end: a key that still stands then has stood all the time. Before
//!    that, every renewal looks as well, so that a command does not run on without the lock.
//!
//! # Invariants
//! 1. A key of ours is deleted by comparing its create revision, or by its lease; so nobody else's is. A lease that we
//!    give back has no key but ours on it.
//! 2. The lease is counted from before it was asked for, and from before each renewal's request: here it ends first.
//! 3. A renewal counts only if the majority had the same leader before and after it, and that leader's term is in the
//!    answer: a former leader that has not noticed renews leases that the new one lets end.
//! 4. What was lost stays lost: a renewal whose answer comes after the lease's end by this clock counts for nothing.

mod answer;
mod client;
mod etcd_url;
mod follow;
mod gateway;
mod patience;
mod queue;
mod session;
mod wait;

use super::background;
use super::stored_request::{self, StoredRequest};
use super::{
    ANSWER_TIMEOUT, Capabilities, DetachedHold, Engine, Follow, Held, Listing, PEEK_TIMEOUT, SHORTEST_TTL, USUAL_TTL,
    Validity, needs_renewal,
};
use crate::lock::sys;
use crate::{Cancel, Detached, Error, GetOptions, LockName, Result, State, UngetOptions, Wait};
use answer::{Fault, decoded, encoded};
use etcd_url::EtcdUrl;
use gateway::Gateway;
use patience::{BRIEF, Contact, Patience};
use queue::{Request, Verdict};
use serde_json::{Value, json};
use session::{Session, if_still};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Before a request that was removed is made anew.
const PAUSE_NS: u64 = 100_000_000;

/// As many keys are read at once to find the locks among them.
const PAGE: u32 = 2000;

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
    fn folder(&self, name: &LockName) -> String {
        format!("{}{name}/", self.gateway.root())
    }

    fn fail(&self, fault: Fault) -> Error {
        self.gateway.error(fault)
    }

    /// The queue, and the revision at which it was so.
    fn queue<'a>(&self, name: &LockName, patience: impl Into<Patience<'a>>) -> Result<(Vec<Request>, i64)> {
        let folder = self.folder(name);
        let answer = self.gateway.call("kv/range", &below(&folder), patience);
        let answer = answer.map_err(|f| self.gateway.error_about(&folder, f))?;
        Ok((queue::requests(&answer.value, &folder), revision(&answer.value)))
    }

    fn ask(&self, name: &LockName, options: &mut GetOptions<'_>) -> Result<Option<Place>> {
        let ttl = lease_length(options.lease)?;
        let deadline = wait::deadline(options.wait);
        let who = StoredRequest::new(options);
        if options.wait == Wait::No {
            // Only a look, if that is enough: a refused request should not cost etcd two writes.
            let (mut requests, _) = self.queue(name, Patience::until(Contact::First, options.cancel))?;
            requests.push(Request {
                key: String::new(),
                created: u64::MAX,
                lease: 0,
                who: who.clone(),
            });
            match queue::verdict(&requests, u64::MAX) {
                Verdict::Granted => {}
                Verdict::SlotsDiffer(in_use) => return Err(slots_differ(&who, in_use)),
                _ => return Ok(None),
            }
        }
        loop {
            let patience = Patience::until(Contact::First, options.cancel);
            let session = Session::begin(&self.gateway, ttl, patience).map_err(|f| self.fail(f))?;
            let mut place = Place::new(session, name, &self.folder(name), who.clone());
            match self.stand_and_wait(&mut place, name, options, deadline)? {
                wait::Waited::Granted { at_once } => {
                    place.granted(at_once)?;
                    if place.session.freshen(options.cancel)? {
                        place.leave_within = ANSWER_TIMEOUT;
                        return Ok(Some(place));
                    }
                    log::warn!("<{name}> the lease was over as soon as it was granted: asking again");
                }
                wait::Waited::TimedOut => return Ok(None),
                wait::Waited::Gone => log::warn!("<{name}> the request was removed from the queue: asking again"),
            }
            drop(place);
            if sys::monotonic() >= deadline {
                return Ok(None);
            }
            // Somebody may remove every request at once, and answers may be no etcd's: not as fast as can be.
            background::sleep(&[], options.cancel, sys::monotonic().saturating_add(PAUSE_NS));
        }
    }
}

impl Etcd {
    fn stand_and_wait(
        &self,
        place: &mut Place,
        name: &LockName,
        options: &mut GetOptions<'_>,
        deadline: u64,
    ) -> Result<wait::Waited> {
        let (requests, revision) = place.stand(Patience::until(Contact::Running, options.cancel))?;
        self.wait(place, name, &requests, revision, options, deadline)
    }
}

impl Etcd {
    /// A place in the queue that was granted the lock; `None` = not in time.
    fn granted_place(&self, name: &LockName, options: &mut GetOptions<'_>) -> Result<Option<Place>> {
        match self.ask(name, options) {
            Ok(None) => Ok(None),
            Ok(Some(place)) => {
                log::debug!(
                    "<{name}> granted with token {} by {}",
                    place.created,
                    self.gateway.place()
                );
                Ok(Some(place))
            }
            // A signal may have ended a request; what counts is why.
            Err(_) if options.cancel.is_some_and(Cancel::is_cancelled) => Err(Error::Cancelled),
            Err(error) => Err(error),
        }
    }
}

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
            processes: false,
            files: false,
        }
    }

    fn acquire(&self, name: &LockName, mut options: GetOptions<'_>) -> Result<Option<Box<dyn Held>>> {
        let place = self.granted_place(name, &mut options)?;
        Ok(place.map(|place| Box::new(place) as Box<dyn Held>))
    }

    fn acquire_detached(
        &self,
        name: &LockName,
        mut options: GetOptions<'_>,
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
        let Some(place) = self.granted_place(name, &mut options)? else {
            return Ok(None);
        };
        let token = place.created;
        place.detach(detached.ttl, cancel)?;
        Ok(Some(DetachedHold {
            token,
            abandoned: false,
        }))
    }

    fn state(&self, name: &LockName, cancel: &Cancel) -> Result<Option<State>> {
        match self.queue(name, Patience::until(Contact::First, Some(cancel))) {
            Ok((requests, _)) => Ok(Some(state(name, &requests))),
            Err(_) if cancel.is_cancelled() => Err(Error::Cancelled),
            Err(error) => Err(error),
        }
    }

    fn peek(&self, name: &LockName) -> Result<Option<State>> {
        let (requests, _) = self.queue(name, Patience::within(PEEK_TIMEOUT))?;
        Ok(Some(state(name, &requests)))
    }

    fn list(&self) -> Result<Listing> {
        let root = self.gateway.root();
        let mut range = if root.is_empty() {
            // From the first key to the last.
            json!({"key": encoded("\0"), "range_end": encoded("\0")})
        } else {
            below(root)
        };
        // Other programs' values may be large: only those of what looks like a lock are read.
        range["keys_only"] = true.into();
        range["limit"] = PAGE.to_string().into();
        let mut names: BTreeSet<LockName> = BTreeSet::new();
        let mut contact = Contact::First;
        loop {
            let answer = self.gateway.call("kv/range", &range, contact);
            let answer = answer.map_err(|f| self.fail(f))?.value;
            let keys = queue::kvs(&answer).iter().map(|kv| decoded(&kv["key"]));
            names.extend(keys.filter_map(|key| name_of(&key, root)));
            let last = queue::kvs(&answer).last().filter(|_| answer["more"] == true);
            let Some(last) = last.and_then(|last| answer::after(&last["key"])) else {
                break;
            };
            range["key"] = last.into();
            contact = Contact::Running;
        }
        let mut states = Vec::new();
        for name in names {
            let (requests, _) = self.queue(&name, Contact::Running)?;
            if !requests.is_empty() {
                states.push(state(&name, &requests));
            }
        }
        Ok(Listing {
            states,
            unreadable: Vec::new(),
        })
    }

    fn watch(&self, name: &LockName, cancel: &Cancel) -> Result<Box<dyn Follow>> {
        let (requests, revision) = match self.queue(name, Patience::until(Contact::First, Some(cancel))) {
            Err(_) if cancel.is_cancelled() => return Err(Error::Cancelled),
            queue => queue?,
        };
        Ok(Box::new(follow::Following::new(
            &self.gateway,
            name,
            &self.folder(name),
            requests,
            revision,
        )?))
    }

    fn break_hold(&self, name: &LockName, target: UngetOptions<'_>) -> Result<bool> {
        let token = target.on_engine(self.kind())?;
        let (requests, _) = self.queue(name, Contact::First)?;
        let (holders, _) = queue::split(&requests);
        let mut broken = false;
        for holder in holders {
            if token.is_none_or(|token| token == holder.created) {
                let delete = if_still(
                    &holder.key,
                    holder.created,
                    &json!({"request_delete_range": {"key": encoded(&holder.key)}}),
                );
                let answer = self.gateway.call("kv/txn", &delete, Contact::Running);
                let answer = answer.map_err(|f| self.fail(f))?;
                broken |= succeeded(&answer.value) || answer.repeated;
                if holder.who.detached && holder.lease != 0 {
                    // Nobody else gives it back, and nothing else hangs on it. If it fails, it ends by itself.
                    let _ = session::revoke(&self.gateway, holder.lease, ANSWER_TIMEOUT);
                }
            }
        }
        Ok(broken)
    }
}

/// A request's place in the queue, and later the hold. Dropping it gives it up.
struct Place {
    session: Session,
    name: LockName,
    /// What the keys of the lock begin with.
    folder: String,
    key: String,
    /// The revision that created the key; 0 = not known yet.
    created: u64,
    who: StoredRequest,
    /// It was granted: when it is given up, somebody wants to know whether it was lost before.
    held: bool,
    given_up: bool,
    /// How long an answer is waited for when it is given up.
    leave_within: Duration,
}

impl Place {
    fn new(session: Session, name: &LockName, folder: &str, who: StoredRequest) -> Self {
        Self {
            name: name.clone(),
            folder: folder.to_owned(),
            key: format!("{folder}{:x}", session.lease),
            session,
            created: 0,
            who,
            held: false,
            given_up: false,
            // Until it is had: the lease ends by itself if it is not heard.
            leave_within: BRIEF,
        }
    }

    fn fail(&self, fault: Fault) -> Error {
        self.session.gateway.error_about(&self.folder, fault)
    }

    /// The put of this request's value as it is now.
    fn put(&self, lease: i64) -> Value {
        let value = serde_json::to_string(&self.who).unwrap_or_default();
        json!({"request_put": {"key": encoded(&self.key), "value": encoded(&value), "lease": lease.to_string()}})
    }

    /// Joins the queue, and returns it as it is then, with its revision.
    fn stand(&mut self, patience: Patience<'_>) -> Result<(Vec<Request>, i64)> {
        let range = json!({"request_range": below(&self.folder)});
        let transaction = json!({
            "compare": [{"target": "CREATE", "key": encoded(&self.key), "create_revision": "0"}],
            "success": [self.put(self.session.lease), range],
            "failure": [range],
        });
        let answer = match self.session.gateway.call("kv/txn", &transaction, patience) {
            Ok(answer) => answer.value,
            // This process has slept since it asked for the lease: it stands nowhere.
            Err(Fault::Said { code, message }) if code == answer::code::NOT_FOUND && message.contains("lease") => {
                return Ok((Vec::new(), 0));
            }
            Err(fault) => return Err(self.fail(fault)),
        };
        let responses = answer["responses"].as_array().map_or(&[][..], Vec::as_slice);
        let range = responses
            .iter()
            .map(|response| &response["response_range"])
            .find(|range| range.is_object());
        let requests = queue::requests(range.unwrap_or(&Value::Null), &self.folder);
        self.created = requests
            .iter()
            .find(|request| request.key == self.key)
            .map_or(0, |request| request.created);
        Ok((requests, revision(&answer)))
    }

    /// It is the holder's now.
    fn granted(&mut self, at_once: bool) -> Result<()> {
        self.held = true;
        self.session.keep(&self.name, &self.key, self.created)?;
        if !at_once {
            self.who = self.who.granted_now();
            let mut errand = if_still(&self.key, self.created, &self.put(self.session.lease));
            if let Some(compare) = errand["compare"].as_array_mut() {
                // Not if it was left to itself meanwhile (`detach`), on another lease.
                let lease = self.session.lease.to_string();
                compare.push(json!({"target": "LEASE", "key": encoded(&self.key), "lease": lease}));
            }
            self.session.errand(errand);
        }
        Ok(())
    }

    /// Leaves the queue, or releases: false = it was not there any more.
    fn give_up(&mut self) -> Result<bool, Fault> {
        if std::mem::replace(&mut self.given_up, true) {
            return Ok(false);
        }
        self.session.validity.silence();
        if !self.held {
            return self.session.end(self.leave_within).map(|()| false);
        }
        let key = json!({"key": encoded(&self.key), "keys_only": true});
        let answer = self
            .session
            .gateway
            .call("kv/range", &key, Patience::within(self.leave_within));
        let certain = self.session.validity.now().is_certain();
        match answer {
            Ok(answer) => {
                let mut stands = queue::kvs(&answer.value).iter().map(Request::read);
                let stands = stands.any(|request| request.created == self.created);
                self.session.end(self.leave_within)?;
                log::debug!("<{}> released, token {}", self.name, self.created);
                Ok(certain && stands)
            }
            Err(fault) => {
                self.session.stop();
                Err(fault)
            }
        }
    }
}

impl Held for Place {
    fn token(&self) -> u64 {
        self.created
    }

    fn validity(&self) -> Validity {
        self.session.validity.now()
    }

    fn on_change(&mut self, tell: Box<dyn Fn(Validity) + Send>) {
        self.session.validity.on_change(tell);
    }

    fn shorten_release(&mut self) {
        self.leave_within = PEEK_TIMEOUT;
    }

    fn let_lapse(&self) -> Result<()> {
        Err(needs_renewal("etcd"))
    }

    fn release(mut self: Box<Self>, _repaired: bool) -> Result<bool> {
        self.give_up().map_err(|f| self.fail(f))
    }
}

impl Place {
    /// Leaves the lock taken without a process: for `ttl`, or until somebody ends the hold.
    fn detach(mut self, ttl: Option<Duration>, cancel: &Cancel) -> Result<()> {
        let patience = Patience::until(Contact::Running, Some(cancel));
        // Whoever does not wait for that does not wait for the rest.
        self.leave_within = BRIEF;
        // The key stays, with its name and its creation; only what it hangs on changes.
        let fail = |fault| {
            if cancel.is_cancelled() {
                Error::Cancelled
            } else {
                self.fail(fault)
            }
        };
        let mut own = match ttl {
            Some(ttl) => {
                let ttl = lease_length(Some(ttl))?;
                Some(Session::begin(&self.session.gateway, ttl, patience).map_err(fail)?)
            }
            None => None,
        };
        self.who = self.who.detached_now(ttl);
        let put = if_still(
            &self.key,
            self.created,
            &self.put(own.as_ref().map_or(0, |own| own.lease)),
        );
        let answer = self.session.gateway.call("kv/txn", &put, patience);
        let kept = answer.map(|answer| succeeded(&answer.value));
        match kept.map_err(|f| self.fail(f)) {
            Ok(true) => {
                self.given_up = true;
                let _ = self.session.end(self.leave_within);
                Ok(())
            }
            other => {
                // The put may have been made, and only its answer be lost.
                let delete = json!({"request_delete_range": {"key": encoded(&self.key)}});
                let delete = if_still(&self.key, self.created, &delete);
                let time = if cancel.is_cancelled() { BRIEF } else { ANSWER_TIMEOUT };
                let deleted = self.session.gateway.call("kv/txn", &delete, Patience::within(time));
                if let (Err(Fault::Unreachable(_)), Err(Error::Unreachable { engine, what })) = (deleted, &other) {
                    // Nor is it known whether that was done. Nothing else is worth asking.
                    self.given_up = true;
                    return Err(Error::MayStayTaken {
                        engine: engine.clone(),
                        what: what.clone(),
                        token: self.created,
                    });
                }
                if let Some(own) = &mut own {
                    let _ = own.end(time);
                }
                if cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                other.and(Err(Error::Refused {
                    engine: self.session.gateway.place().to_owned(),
                    what: "the lock was released by force in the same instant".to_owned(),
                }))
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.given_up
            && let Err(fault) = self.give_up()
        {
            let what = if self.held {
                "the lock was not released"
            } else {
                "the request was not taken back"
            };
            log::warn!("<{}> {what}, it ends with its lease: {}", self.name, self.fail(fault));
        }
    }
}

/// A range of all keys that begin with `folder`, which ends with a slash.
fn below(folder: &str) -> Value {
    let end = format!("{}0", folder.strip_suffix('/').unwrap_or(folder)); // '0' comes after '/'
    json!({"key": encoded(folder), "range_end": encoded(&end)})
}

fn revision(answer: &Value) -> i64 {
    answer::number(&answer["header"]["revision"])
}

fn succeeded(answer: &Value) -> bool {
    answer["succeeded"].as_bool().unwrap_or(false)
}

fn slots_differ(who: &StoredRequest, in_use: u32) -> Error {
    let asked = match who.mode() {
        crate::Mode::Slots(asked) => asked,
        _ => 1,
    };
    Error::SlotsDiffer { asked, in_use }
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
    let (holders, waiters) = queue::split(requests);
    stored_request::state(
        name,
        holders
            .iter()
            .map(|request| request.who.holder(request.created))
            .collect(),
        waiters
            .iter()
            .map(|request| request.who.waiter(request.created))
            .collect(),
        holders.first().map(|request| &request.who),
    )
}

/// The lock that a key may belong to: `ROOT NAME / hexadecimal number`.
fn name_of(key: &str, root: &str) -> Option<LockName> {
    let (name, lease) = key.strip_prefix(root)?.split_once('/')?;
    queue::lease_named(lease).and_then(|_| LockName::new(name).ok())
}
