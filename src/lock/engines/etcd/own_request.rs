//! A request of our own: its key in the queue, and the lease that the key hangs on.

use super::faults::{Fault, code};
use super::gateway_messages::{Compare, Number, Operation, Range, Transaction};
use super::key_queue::{self, Request};
use super::own_lease::OwnLease;
use super::timeouts::{PARTING_TIMEOUT, Timeouts};
use crate::lock::engines::stored_request::StoredRequest;
use crate::lock::types::{Error, LockName, Mode, Result};
use std::time::Duration;

/// The queue of a lock as it was at a revision.
pub(super) struct Queue {
    pub(super) requests: Vec<Request>,
    pub(super) revision: Number,
}

/// A request. Dropping it takes it back.
pub(super) struct OwnRequest {
    pub(super) lease: OwnLease,
    pub(super) name: LockName,
    /// What the keys of the lock begin with.
    pub(super) directory: String,
    pub(super) key: String,
    pub(super) stored: StoredRequest,
    /// It was taken back, or nothing more is to be done about it.
    pub(super) given_up: bool,
    /// How long an answer is waited for when it is given up.
    pub(super) parting_timeout: Duration,
}

impl OwnRequest {
    pub(super) fn new(lease: OwnLease, name: &LockName, directory: String, stored: StoredRequest) -> Self {
        Self {
            name: name.clone(),
            key: format!("{directory}{:x}", lease.id.0),
            directory,
            lease,
            stored,
            given_up: false,
            // Until it is granted: the lease ends by itself if nobody hears of it.
            parting_timeout: PARTING_TIMEOUT,
        }
    }

    pub(super) fn error(&self, fault: Fault) -> Error {
        self.lease.gateway.error_about(&self.directory, fault)
    }

    /// Puts the request as it is now, on this lease.
    pub(super) fn put(&self, lease: Number) -> Operation {
        Operation::Put {
            key: self.key.as_str().into(),
            value: serde_json::to_string(&self.stored).unwrap_or_default().as_str().into(),
            lease,
        }
    }

    /// Joins the queue: returns it as it is then, with the revision that created the key. `None`: the request is not in
    /// it.
    pub(super) fn join(&mut self, timeouts: Timeouts<'_>) -> Result<Option<(Queue, u64)>> {
        let read = || Operation::Read(Range::below(&self.directory));
        let transaction = Transaction {
            compare: vec![Compare::Create {
                key: self.key.as_str().into(),
                create_revision: Number(0),
            }],
            success: vec![self.put(self.lease.id), read()],
            failure: vec![read()],
        };
        let answer = match self.lease.gateway.call(&transaction, timeouts) {
            Ok(answer) => answer,
            // This process has slept since it asked for the lease, which has ended.
            Err(Fault::Said(said)) if said.is(code::NOT_FOUND, "lease") => return Ok(None),
            Err(fault) => return Err(self.error(fault)),
        };
        let requests = key_queue::requests(answer.value.keys(), &self.directory);
        let own = requests.iter().find(|request| request.key == self.key);
        Ok(own.map(|own| own.created).map(|created| {
            let revision = answer.header.revision;
            (Queue { requests, revision }, created)
        }))
    }

    /// Starts renewing the lease. `created`: the revision that created the key.
    pub(super) fn keep(&mut self, created: u64) -> Result<()> {
        self.lease.keep(&self.name, &self.key, created)
    }

    /// Has others told that the request was granted now, after a wait.
    pub(super) fn tell_granted(&mut self, created: u64) {
        self.stored = self.stored.granted_now();
        let mut transaction = Transaction::if_still(&self.key, created, self.put(self.lease.id));
        // Not if it was detached meanwhile, and hangs on another lease.
        transaction.compare.push(Compare::Lease {
            key: self.key.as_str().into(),
            lease: self.lease.id,
        });
        self.lease.make_in_between(transaction);
    }
}

impl Drop for OwnRequest {
    fn drop(&mut self) {
        if !self.given_up
            && let Err(fault) = self.lease.end(self.parting_timeout)
        {
            let error = self.error(fault);
            log::warn!(
                "<{}> the request was not taken back, it ends with its lease: {error}",
                self.name
            );
        }
    }
}

/// The refusal of a request for slots that the lock does not have.
pub(super) fn slots_differ(stored: &StoredRequest, in_use: u32) -> Error {
    let asked = match stored.mode() {
        Mode::Slots(asked) => asked,
        _ => 1,
    };
    Error::SlotsDiffer { asked, in_use }
}
