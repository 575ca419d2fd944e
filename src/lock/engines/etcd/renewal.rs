//! The renewal of a lease, in a thread of its own.

use super::faults::Fault;
use super::gateway::{Answer, Gateway};
use super::gateway_messages::{Call, KeepAlive, Number, Range};
use super::key_queue;
use super::own_lease::{Orders, OwnLease};
use super::timeouts::{Contact, Timeouts};
use crate::lock::engines::Validity;
use crate::lock::engines::background::{self, Event};
use crate::lock::engines::validity::TrackedValidity;
use crate::lock::sys;
use crate::lock::types::LockName;
use log::Level;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// After a renewal that failed: before the next one.
const PAUSE: Duration = Duration::from_millis(200);
/// Renewals in a row that a change of leaders may spoil.
const CHANGES: u32 = 3;

/// See the module.
pub(super) struct Renewal {
    gateway: Arc<Gateway>,
    lease: Number,
    ttl: Duration,
    validity: Arc<TrackedValidity>,
    failing: Arc<Event>,
    orders: Arc<Orders>,
    name: LockName,
    /// The request that hangs on the lease, and the revision that created it.
    key: String,
    created: u64,
    /// The last renewal failed, and that was logged.
    outage: Cell<bool>,
    /// The term in which the members had their leader when they were asked last.
    term: Cell<Option<Number>>,
}

/// What a renewal has come to.
enum Renewed {
    Yes,
    No,
    /// There is nothing to renew any more.
    Over,
}

/// Why a renewal has failed.
enum Failure {
    /// Another one may succeed.
    Passing(Fault),
    Final(&'static str),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Passing(fault)
    }
}

impl Renewal {
    pub(super) fn new(lease: &OwnLease, orders: Arc<Orders>, name: &LockName, key: &str, created: u64) -> Self {
        Self {
            gateway: lease.gateway.clone(),
            lease: lease.id,
            ttl: lease.ttl,
            validity: lease.validity.clone(),
            failing: lease.failing.clone(),
            orders,
            name: name.clone(),
            key: key.to_owned(),
            created,
            outage: Cell::new(false),
            term: Cell::new(None),
        }
    }

    /// Renews every third of the lease, until it is stopped or the lease is lost.
    pub(super) fn run(self) {
        let mut compared = false;
        let mut failed_at = None;
        loop {
            let Validity::Until(lease) = self.validity.now() else {
                // Whatever the next answer says: somebody else may have had the lock.
                self.lost();
                return;
            };
            let due = match failed_at {
                None => background::later(lease.begun, self.ttl / 3),
                Some(at) => background::later(at, PAUSE),
            };
            if !self.is_due(due) {
                if self.orders.to_do().stop {
                    return;
                }
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
                Renewed::Over => return,
            };
        }
    }

    /// True if the next renewal is due (boot-time clock, ns). Else sleeps until then, or does what there is to do.
    fn is_due(&self, due: u64) -> bool {
        let now = sys::boottime();
        if now >= due {
            return true;
        }
        self.orders.wake.clear();
        let transaction = {
            let mut to_do = self.orders.to_do();
            if to_do.stop {
                return false;
            }
            to_do.transaction.take()
        };
        match transaction {
            // It is only for others to see: if it fails, they see a little less.
            Some(transaction) => drop(self.gateway.call(&transaction, Contact::Running)),
            None => {
                let until = background::later(sys::monotonic(), Duration::from_nanos(due - now));
                background::sleep(&[&self.orders.wake], None, until);
            }
        }
        false
    }

    fn renew(&self) -> Renewed {
        for _ in 0..CHANGES {
            match self.renew_once() {
                Ok(true) => return Renewed::Yes,
                Ok(false) => log::debug!("{}: another leader: renewing anew", self.gateway.place()),
                // It was given back meanwhile.
                Err(_) if self.orders.to_do().stop => return Renewed::Over,
                Err(Failure::Final(why)) => {
                    self.lost(); // before the program's logger has its turn
                    log::warn!("<{}> {}: {why}", self.name, self.gateway.place());
                    return Renewed::Over;
                }
                Err(Failure::Passing(fault)) => return self.not_renewed(fault),
            }
        }
        self.not_renewed(Fault::Unreachable("its members have no lasting leader".to_owned()))
    }

    /// One renewal; false = it does not count. A member that was the leader and has not noticed yet that there is another
    /// one answers it as ever (<https://github.com/etcd-io/etcd/issues/15247>), while the new leader lets the lease end.
    /// So it counts only if the majority had one and the same leader before and after it, and it was answered in that
    /// leader's term: a read of a key, which needs the majority, tells.
    fn renew_once(&self) -> Result<bool, Failure> {
        let begun = sys::boottime();
        let before = self.leaders_term()?;
        let answer = self.ask(&KeepAlive { id: self.lease })?;
        if answer.value.result.ttl <= Number(0) {
            return Err(Failure::Final("the lease has ended or was revoked"));
        }
        self.term.set(None);
        let counts = answer.header.raft_term == before && self.leaders_term()? == before;
        if counts {
            self.validity.renewed(begun);
            self.outage.set(false);
        }
        Ok(counts)
    }

    /// The term of the members' leader, as of now if it is not known from the last renewal. The key that is read is the
    /// request's own, which was there when the renewals began: if it has gone, or is another creation, then somebody
    /// removed the request, and whoever comes next has the lock although the lease lasts. A detached hold keeps it.
    fn leaders_term(&self) -> Result<Number, Failure> {
        if let Some(term) = self.term.get() {
            return Ok(term);
        }
        let answer = self.ask(&Range::of(&self.key).keys_only())?;
        if !key_queue::contains(&answer.value.kvs, self.created) {
            return Err(Failure::Final("the request was removed, as by 'unget'"));
        }
        let term = answer.header.raft_term;
        self.term.set(Some(term));
        Ok(term)
    }

    /// Asks so that another server can still answer before what runs under the lease is asked to end.
    fn ask<C: Call>(&self, call: &C) -> Result<Answer<C::Answer>, Fault> {
        let left = match self.validity.now() {
            Validity::Until(lease) => lease.left_of(lease.ask_after()),
            Validity::Unlimited | Validity::Lost => Duration::ZERO,
        };
        self.gateway.call(call, Timeouts::useful_for(left))
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

    fn lost(&self) {
        self.validity.lost();
        self.failing.set();
    }

    /// Warns if not all servers of the URL know the request: those that do not are another cluster, by whatever number,
    /// which gives the lock to somebody else. A process that asks one server alone would not notice. It is a read that
    /// needs the majority; in a thread of its own, as it may take a while.
    fn compare_servers(&self) {
        let (gateway, created) = (self.gateway.clone(), self.created);
        let own_key = Range::of(&self.key).keys_only();
        let compared = background::spawn("servers", move || {
            let mut others = gateway.ask_others(&own_key);
            others.retain(|(_, keys)| !key_queue::contains(&keys.kvs, created));
            if others.is_empty() {
                return;
            }
            // It may have been given up meanwhile.
            let now = gateway.call(&own_key, Contact::Running);
            if now.is_ok_and(|now| key_queue::contains(&now.value.kvs, created)) {
                for (host, _) in others {
                    log::warn!(
                        "{}: {host} does not know of a request that stands there: it is another cluster, and two could \
                         have the lock at once",
                        gateway.place()
                    );
                }
            }
        });
        if let Err(error) = compared {
            log::debug!("{error}");
        }
    }
}
