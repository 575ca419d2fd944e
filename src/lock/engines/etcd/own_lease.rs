//! A lease of our own, and the thread that renews it.

use super::faults::{Fault, Said, code};
use super::gateway::Gateway;
use super::gateway_messages::{Grant, Number, Revoke, Transaction};
use super::renewal::Renewal;
use super::timeouts::Timeouts;
use crate::lock::engines::background::{self, Event};
use crate::lock::engines::validity::TrackedValidity;
use crate::lock::engines::{ANSWER_TIMEOUT, Lease, Validity};
use crate::lock::shm::random;
use crate::lock::sys;
use crate::lock::types::{Cancel, Error, LockName, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between checks whether a renewal that is due has come.
const CHECK_EVERY: Duration = Duration::from_millis(5);

/// See the module. Dropping it stops the renewals; [`OwnLease::end`] gives the lease back.
pub(super) struct OwnLease {
    pub(super) gateway: Arc<Gateway>,
    pub(super) id: Number,
    pub(super) ttl: Duration,
    pub(super) validity: Arc<TrackedValidity>,
    /// etcd could not be reached for as long as a request may take, or the lease has ended.
    pub(super) failing: Arc<Event>,
    orders: Option<Arc<Orders>>,
}

/// What the thread that renews is told.
#[derive(Default)]
pub(super) struct Orders {
    /// There is something to do before the next renewal.
    pub(super) wake: Event,
    to_do: Mutex<ToDo>,
}

#[derive(Default)]
pub(super) struct ToDo {
    pub(super) stop: bool,
    /// A transaction to make in between.
    pub(super) transaction: Option<Transaction>,
}

impl Orders {
    pub(super) fn to_do(&self) -> MutexGuard<'_, ToDo> {
        self.to_do.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnLease {
    /// A lease that is still to be asked for. Its number is our own choice, so that asking twice gives one lease; and its
    /// time counts from now on.
    pub(super) fn new(gateway: &Arc<Gateway>, ttl: Duration) -> Self {
        Self {
            gateway: gateway.clone(),
            id: Number::from(random::random() >> 1),
            ttl,
            validity: Arc::new(TrackedValidity::new(Lease {
                begun: sys::boottime(),
                ttl,
            })),
            failing: Arc::new(Event::default()),
            orders: None,
        }
    }

    /// Asks for it. False = there is a lease with its number already: ours, from an earlier try; or, once in 2^63 times,
    /// somebody else's.
    pub(super) fn ask(&self, timeouts: Timeouts<'_>) -> Result<bool, Fault> {
        // etcd counts in whole seconds: ours is never longer than its own.
        let ttl = Number::from(self.ttl.as_secs() + u64::from(self.ttl.subsec_nanos() > 0));
        match self.gateway.call(&Grant { ttl, id: self.id }, timeouts) {
            Ok(answer) if answer.value.id == self.id && answer.value.ttl > Number(0) => Ok(true),
            Ok(_) => Err(Said::of_it("it is no etcd: its answer names no lease").into()),
            Err(Fault::Said(said)) if said.is(code::FAILED_PRECONDITION, "already exists") => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Asks for a lease.
    pub(super) fn begin(gateway: &Arc<Gateway>, ttl: Duration, timeouts: Timeouts<'_>) -> Result<Self, Fault> {
        loop {
            let mut lease = Self::new(gateway, ttl);
            if lease.ask(timeouts)? {
                return Ok(lease);
            }
            // Nothing is attached to it yet, and if it cannot be given back it ends by itself.
            let _ = lease.end(ANSWER_TIMEOUT);
        }
    }

    /// Starts renewing it, for this lock. `key`, created at that revision, is the request that hangs on it: if it goes,
    /// all is lost.
    pub(super) fn keep(&mut self, name: &LockName, key: &str, created: u64) -> Result<()> {
        if self.orders.is_none() {
            let orders = Arc::new(Orders::default());
            let renewal = Renewal::new(self, orders.clone(), name, key, created);
            // Not joined: it may be in the middle of a request, and holds nothing.
            background::spawn("lease", move || renewal.run())?;
            self.orders = Some(orders);
        }
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
            let until = background::later(sys::monotonic(), CHECK_EVERY);
            background::sleep(&[&self.failing], cancel, until);
        }
    }

    /// Makes a transaction in the background, once. If it fails, nothing happens.
    pub(super) fn make_in_between(&self, transaction: Transaction) {
        if let Some(orders) = &self.orders {
            orders.to_do().transaction = Some(transaction);
            orders.wake.set();
        }
    }

    /// Stops renewing; the lease ends by itself.
    pub(super) fn stop(&mut self) {
        self.validity.silence();
        if let Some(orders) = self.orders.take() {
            orders.to_do().stop = true;
            orders.wake.set();
        }
    }

    /// Stops, and gives the lease back, with every key that hangs on it. Waits for the answer at most for `time`.
    pub(super) fn end(&mut self, time: Duration) -> Result<(), Fault> {
        self.stop();
        revoke(&self.gateway, self.id, Timeouts::within(time))
    }
}

impl Drop for OwnLease {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Gives a lease back, with every key that hangs on it. One that has ended already is as good.
pub(super) fn revoke<'a>(gateway: &Gateway, id: Number, timeouts: impl Into<Timeouts<'a>>) -> Result<(), Fault> {
    match gateway.call(&Revoke { id }, timeouts) {
        Ok(_) => Ok(()),
        Err(Fault::Said(said)) if said.is(code::NOT_FOUND, "") => Ok(()),
        Err(fault) => Err(fault),
    }
}
