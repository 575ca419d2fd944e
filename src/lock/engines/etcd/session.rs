//! A lease and the thread that renews it.

use super::answer::{Fault, code, encoded, number};
use super::gateway::{Answer, Gateway};
use super::patience::{Contact, Patience};
use super::queue::{self, Request};
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::engines::background::{self, Event};
use crate::lock::engines::validity::TrackedValidity;
use crate::lock::engines::{Lease, Validity};
use crate::lock::shm::random::random;
use crate::lock::sys;
use crate::{Cancel, Error, LockName, Result};
use log::Level;
use serde_json::{Value, json};
use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// After a renewal that failed: before the next one.
const PAUSE_NS: u64 = 200_000_000;
/// Between looks whether a renewal that is due has come.
const LOOK_NS: u64 = 5_000_000;
/// Renewals in a row that a change of leaders may spoil.
const CHANGES: u32 = 3;

/// See the module. Dropping it stops the renewals; [`Session::end`] gives the lease back.
pub(super) struct Session {
    pub(super) gateway: Arc<Gateway>,
    pub(super) lease: i64,
    pub(super) validity: Arc<TrackedValidity>,
    /// etcd could not be reached for as long as a request may take, or the lease has ended.
    pub(super) failing: Arc<Event>,
    pub(super) ttl: Duration,
    renewals: Option<Arc<Renewals>>,
}

/// What the renewing thread is told.
#[derive(Default)]
struct Renewals {
    /// Something to do before the next renewal, or the end.
    wake: Event,
    orders: Mutex<Orders>,
}

#[derive(Default)]
struct Orders {
    stop: bool,
    /// A transaction to be made by the way.
    errand: Option<Value>,
}

impl Session {
    /// Asks for a lease.
    pub(super) fn begin(gateway: &Arc<Gateway>, ttl: Duration, patience: Patience<'_>) -> Result<Self, Fault> {
        // etcd counts in whole seconds: ours is never longer than its own.
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        loop {
            // A number of our own choice, so that asking twice gives one lease.
            let lease = (random() >> 1) as i64;
            let begun = sys::boottime();
            let body = json!({"TTL": seconds.to_string(), "ID": lease.to_string()});
            match gateway.call("lease/grant", &body, patience) {
                Ok(Answer { value, .. }) if number(&value["ID"]) == lease && number(&value["TTL"]) > 0 => {}
                Ok(_) => {
                    let message = "it is no etcd: its answer names no lease".to_owned();
                    return Err(Fault::Said { code: 0, message });
                }
                Err(Fault::Said { code, message })
                    if code == code::FAILED_PRECONDITION && message.contains("already exists") =>
                {
                    // Ours, from an earlier try; or, once in 2^63 times, somebody else's: nothing is attached to
                    // ours yet, and if it cannot be given back it ends by itself.
                    let _ = revoke(gateway, lease, ANSWER_TIMEOUT);
                    continue;
                }
                Err(fault) => return Err(fault),
            }
            return Ok(Self {
                gateway: gateway.clone(),
                lease,
                validity: Arc::new(TrackedValidity::new(Lease { begun, ttl })),
                failing: Arc::new(Event::default()),
                ttl,
                renewals: None,
            });
        }
    }

    /// Starts renewing it, for this lock. `key`, created at that revision, is the request that hangs on it: if it goes, all
    /// is lost.
    pub(super) fn keep(&mut self, name: &LockName, key: &str, created: u64) -> Result<()> {
        if self.renewals.is_some() {
            return Ok(());
        }
        let renewals = Arc::new(Renewals::default());
        let renewer = Renewer {
            gateway: self.gateway.clone(),
            name: name.clone(),
            lease: self.lease,
            key: key.to_owned(),
            created,
            term: Cell::new(None),
            outage: Cell::new(false),
            ttl: self.ttl,
            validity: self.validity.clone(),
            failing: self.failing.clone(),
            renewals: renewals.clone(),
        };
        // Not joined: it may be in the middle of a request, and holds nothing.
        background::spawn("lease", move || renewer.run())?;
        self.renewals = Some(renewals);
        Ok(())
    }

    /// If so much of the lease is gone that a renewal is due, waits for that: what begins under it would be asked to end
    /// soon. False = the lease is lost.
    pub(super) fn freshen(&self, cancel: Option<&Cancel>) -> Result<bool> {
        loop {
            match self.validity.now() {
                Validity::Until(lease) if lease.left() > self.ttl - self.ttl / 3 => return Ok(true),
                Validity::Until(_) => {}
                _ => return Ok(false),
            }
            if cancel.is_some_and(Cancel::is_cancelled) {
                return Err(Error::Cancelled);
            }
            if self.failing.is_set() {
                let what = "the lease could not be renewed".to_owned();
                return Err(self.gateway.error(Fault::Unreachable(what)));
            }
            background::sleep(&[&self.failing], cancel, sys::monotonic().saturating_add(LOOK_NS));
        }
    }

    /// Has a transaction made in the background, once.
    pub(super) fn errand(&self, transaction: Value) {
        if let Some(renewals) = &self.renewals {
            renewals.order(|orders| orders.errand = Some(transaction));
        }
    }

    /// Stops renewing; the lease ends by itself.
    pub(super) fn stop(&mut self) {
        self.validity.silence();
        if let Some(renewals) = self.renewals.take() {
            renewals.order(|orders| orders.stop = true);
        }
    }

    /// Stops, and gives the lease back, with every key that hangs on it. Waits so long for the answer.
    pub(super) fn end(&mut self, time: Duration) -> Result<(), Fault> {
        self.stop();
        revoke(&self.gateway, self.lease, time)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Renewals {
    fn order(&self, what: impl FnOnce(&mut Orders)) {
        what(&mut self.orders.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.set();
    }
}

struct Renewer {
    gateway: Arc<Gateway>,
    name: LockName,
    lease: i64,
    key: String,
    created: u64,
    /// The last renewal failed, and that was told.
    outage: Cell<bool>,
    /// The term in which the members had their leader at the last look.
    term: Cell<Option<i64>>,
    ttl: Duration,
    validity: Arc<TrackedValidity>,
    failing: Arc<Event>,
    renewals: Arc<Renewals>,
}

impl Renewer {
    fn run(self) {
        let mut compared = false;
        let third = u64::try_from(self.ttl.as_nanos() / 3).unwrap_or(u64::MAX);
        let mut failed_at = None;
        loop {
            let Validity::Until(lease) = self.validity.now() else {
                // Whatever the next answer says: somebody else may have had the lock.
                self.lost();
                return;
            };
            let now = sys::boottime();
            let next = match failed_at {
                None => lease.begun.saturating_add(third),
                Some(at) => PAUSE_NS.saturating_add(at),
            };
            if now < next {
                self.renewals.wake.clear();
                let errand = {
                    let mut orders = self.renewals.orders.lock().unwrap_or_else(PoisonError::into_inner);
                    if orders.stop {
                        return;
                    }
                    orders.errand.take()
                };
                if let Some(transaction) = errand {
                    // For the eyes of others only: if it fails, they see a little less.
                    let _ = self.gateway.call("kv/txn", &transaction, Contact::Running);
                    continue;
                }
                background::sleep(
                    &[&self.renewals.wake],
                    None,
                    sys::monotonic().saturating_add(next - now),
                );
                continue;
            }
            failed_at = match self.renew() {
                Renewed::Yes => {
                    if !std::mem::replace(&mut compared, true) {
                        self.compare_servers();
                    }
                    None
                }
                Renewed::No => Some(sys::boottime()),
                Renewed::NeverAgain => return,
            };
        }
    }

    fn renew(&self) -> Renewed {
        for _ in 0..CHANGES {
            match self.renew_once() {
                Ok(true) => return Renewed::Yes,
                Ok(false) => log::debug!("{}: another leader: renewing anew", self.gateway.place()),
                // It was given back meanwhile.
                Err(_) if self.is_over() => return Renewed::NeverAgain,
                Err(Spoilt::ForEver(why)) => {
                    self.lost(); // before the program's logger has its turn
                    log::warn!("<{}> {}: {why}", self.name, self.gateway.place());
                    return Renewed::NeverAgain;
                }
                Err(Spoilt::Now(fault)) => return self.not_renewed(fault),
            }
        }
        self.not_renewed(Fault::Unreachable("its members have no lasting leader".to_owned()))
    }

    /// One renewal: false = it does not count. A member that was the leader and has not noticed yet that there is
    /// another one answers it as ever (<https://github.com/etcd-io/etcd/issues/15247>), while the new leader lets the
    /// lease end. So it counts only if the majority had one and the same leader before and after it, and it was answered
    /// in that leader's term: a read of a key, which needs the majority, tells.
    fn renew_once(&self) -> Result<bool, Spoilt> {
        let begun = sys::boottime();
        let before = self.leaders_term()?;
        let lease = json!({"ID": self.lease.to_string()});
        let answer = self.ask("lease/keepalive", &lease)?.value;
        let answer = &answer["result"];
        if number(&answer["TTL"]) <= 0 {
            return Err(Spoilt::ForEver("the lease has ended or was revoked"));
        }
        self.term.set(None);
        let counts = term_of(answer) == before && self.leaders_term()? == before;
        if counts {
            self.validity.renewed(begun);
            self.outage.set(false);
        }
        Ok(counts)
    }

    /// Whether all servers of the URL know the request, by a read that needs the majority: those that do not are another
    /// cluster, by whatever number, which gives the lock to somebody else. A process that asks one server alone would not
    /// see it. In a thread of its own, as it may take a while.
    fn compare_servers(&self) {
        let (gateway, created, key) = (self.gateway.clone(), self.created, own_key(&self.key));
        let compared = background::spawn("servers", move || {
            let stands = |answer: &Value| {
                let mut requests = queue::kvs(answer).iter().map(Request::read);
                requests.any(|request| request.created == created)
            };
            let mut others = gateway.ask_others("kv/range", &key);
            others.retain(|(_, answer)| answer["header"].is_object() && !stands(answer));
            if others.is_empty() {
                return;
            }
            // It may have been given up meanwhile.
            let now = gateway.call("kv/range", &key, Contact::Running);
            if now.is_ok_and(|now| stands(&now.value)) {
                for (host, _) in others {
                    log::warn!(
                        "{}: {host} does not know of a request that stands there: it is another cluster, and two could have \
                         the lock at once",
                        gateway.place()
                    );
                }
            }
        });
        if let Err(error) = compared {
            log::debug!("{error}");
        }
    }

    /// The term of the members' leader, as of now if it is not known from the last renewal. The key that is read is the
    /// request's own, which stood when the renewals began: if it has gone, or is another creation, then somebody removed
    /// the request, and whoever comes next has the lock although the lease lasts. A hold that is left to itself keeps it.
    fn leaders_term(&self) -> Result<i64, Spoilt> {
        if let Some(term) = self.term.get() {
            return Ok(term);
        }
        let answer = self.ask("kv/range", &own_key(&self.key))?.value;
        let mut stands = queue::kvs(&answer).iter().map(Request::read);
        if !stands.any(|request| request.created == self.created) {
            return Err(Spoilt::ForEver("the request was removed, as by 'unget'"));
        }
        let term = term_of(&answer);
        self.term.set(Some(term));
        Ok(term)
    }

    /// Asks so that another server can still answer before what runs under the lease is asked to end.
    fn ask(&self, path: &str, body: &Value) -> Result<Answer, Fault> {
        let left = match self.validity.now() {
            Validity::Until(lease) => lease.left_of(lease.ask_after()),
            Validity::Unlimited | Validity::Lost => Duration::ZERO,
        };
        self.gateway.call(path, body, Patience::soon(left))
    }

    fn not_renewed(&self, fault: Fault) -> Renewed {
        self.term.set(None);
        let error = self.gateway.error(fault);
        let level = if self.outage.replace(true) {
            Level::Debug
        } else {
            Level::Warn
        };
        log::log!(level, "<{}> the lease could not be renewed: {error}", self.name);
        self.failing.set();
        Renewed::No
    }
}

impl Renewer {
    fn lost(&self) {
        self.validity.lost();
        self.failing.set();
    }

    fn is_over(&self) -> bool {
        self.renewals.orders.lock().unwrap_or_else(PoisonError::into_inner).stop
    }
}

enum Renewed {
    Yes,
    No,
    NeverAgain,
}

/// Why a renewal has failed.
enum Spoilt {
    Now(Fault),
    ForEver(&'static str),
}

impl From<Fault> for Spoilt {
    fn from(fault: Fault) -> Self {
        Self::Now(fault)
    }
}

/// A read of one key without its value.
fn own_key(key: &str) -> Value {
    json!({"key": encoded(key), "keys_only": true})
}

/// The term in which a member has answered.
fn term_of(answer: &Value) -> i64 {
    number(&answer["header"]["raft_term"])
}

/// Gives a lease back, with every key that hangs on it. One that has ended already is as good.
pub(super) fn revoke(gateway: &Gateway, lease: i64, time: Duration) -> Result<(), Fault> {
    let lease = json!({"ID": lease.to_string()});
    match gateway.call("lease/revoke", &lease, Patience::within(time)) {
        Ok(_) => Ok(()),
        Err(Fault::Said { code, .. }) if code == code::NOT_FOUND => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// A transaction that does `then` if `key` is still what revision `created` made, and nothing else.
pub(super) fn if_still(key: &str, created: u64, then: &Value) -> Value {
    json!({
        "compare": [{"target": "CREATE", "key": encoded(key), "create_revision": created.to_string()}],
        "success": [then],
    })
}
