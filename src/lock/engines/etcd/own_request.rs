//! A request of our own: its key in the queue, and the lease that the key hangs on.

use super::faults::{Fault, code};
use super::gateway_messages::{Compare, Number, Operation, Range, Transaction};
use super::key_queue::{self, Request};
use super::own_lease::{self, OwnLease};
use super::timeouts::{Budget, Contact, FIRST_SHARE, PARTING_TIMEOUT, Timeouts};
use crate::lock::engines::stored_request::StoredRequest;
use crate::lock::engines::{ANSWER_TIMEOUT, USUAL_TTL};
use crate::lock::sys;
use crate::lock::types::{Cancel, Error, LockName, Mode, Result};
use std::time::Duration;

/// The queue that was joined, and the revision that created the key; `None`: the request is not in it.
type Joined = Result<Option<(Queue, u64)>, Fault>;

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
            key: key(&directory, &lease),
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

    /// Asks for the lease and joins the queue: returns it as it is then, with the revision that created the key. `None`: the
    /// request is not in it.
    pub(super) fn enter(&mut self, cancel: Option<&Cancel>) -> Result<Option<(Queue, u64)>> {
        let first = Timeouts::until(Contact::First, cancel);
        loop {
            let mut budget = Budget::new(ANSWER_TIMEOUT);
            let (lease, joined) = self.ask_at_once(first);
            match lease {
                Ok(true) => return self.joined(joined, budget.left(ANSWER_TIMEOUT), cancel),
                Ok(false) => self.change_lease()?,
                Err(fault) => {
                    self.take_back(joined.is_some());
                    return Err(self.lease.gateway.error(fault));
                }
            }
        }
    }

    /// Asks for the lease, and joins the queue at the same time over a second connection, if the server allows that and the
    /// lease is short: a server that hangs may carry out both when nobody waits for them any more, and then the key
    /// stands in the way of others until the lease ends. The key needs the lease: mostly that is granted first, as it was
    /// asked for first; if not, the queue is not joined. `None`: it was not tried.
    fn ask_at_once(&self, timeouts: Timeouts<'_>) -> (Result<bool, Fault>, Option<Joined>) {
        if self.lease.ttl > USUAL_TTL || !self.lease.gateway.may_overlap() {
            return (self.lease.ask(timeouts), None);
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("queue".to_owned());
            let joining = sys::spawn_scoped_without_signals(thread, scope, || {
                // Once: if there is no answer, the lease may have none either.
                self.join(timeouts.at_most(FIRST_SHARE))
            });
            let lease = self.lease.ask(timeouts);
            // Without a thread the queue is joined afterwards.
            (lease, joining.ok().and_then(|joining| joining.join().ok()))
        })
    }

    /// The lease was granted: joins the queue, unless that was done at the same time (`joined`). `left`: of the time that an
    /// answer may take.
    fn joined(&self, joined: Option<Joined>, left: Duration, cancel: Option<&Cancel>) -> Result<Option<(Queue, u64)>> {
        let timeouts = Timeouts::until(Contact::Running, cancel);
        let joined = match joined {
            Some(Ok(Some(joined))) => Ok(Some(joined)),
            None | Some(Ok(None)) => self.join(timeouts),
            // Now there is something at stake: a restart is waited for.
            Some(Err(Fault::Unreachable(_))) => self.join(timeouts.at_most(left.max(FIRST_SHARE))),
            Some(Err(fault)) => Err(fault),
        };
        joined.map_err(|fault| self.error(fault))
    }

    /// The lease was not granted, as far as is known. What was heard all the same ends with it. `overlapped`: the queue was
    /// joined at the same time. Whatever that came to, an earlier try of it may have been heard.
    fn take_back(&mut self, overlapped: bool) {
        self.given_up = true;
        if !overlapped {
            return;
        }
        // If nobody listens, nobody has heard anything.
        let timeouts = Timeouts::from(Contact::First).at_most(self.parting_timeout);
        if let Err(fault) = own_lease::revoke(&self.lease.gateway, self.lease.id, timeouts) {
            log::debug!("<{}> {}", self.name, self.error(fault));
        }
    }

    /// Takes another lease: the number of this one is in use.
    fn change_lease(&mut self) -> Result<()> {
        // The key may hang on it: it would stand in the way of the next one.
        let revoked = self.lease.end(ANSWER_TIMEOUT);
        revoked.map_err(|fault| self.lease.gateway.error(fault))?;
        self.lease = OwnLease::new(&self.lease.gateway, self.lease.ttl);
        self.key = key(&self.directory, &self.lease);
        Ok(())
    }

    /// Joins the queue. `None`: the lease is not there (yet), and so the request is not in it.
    fn join(&self, timeouts: Timeouts<'_>) -> Joined {
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
            // Or this process has slept since it asked for the lease, which has ended.
            Err(Fault::Said(said)) if said.is(code::NOT_FOUND, "lease") => return Ok(None),
            Err(fault) => return Err(fault),
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

    /// Tells others that the request was granted now, after a wait.
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

/// The key of a request for the lock whose keys begin with `directory`.
fn key(directory: &str, lease: &OwnLease) -> String {
    format!("{directory}{:x}", lease.id.0)
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
