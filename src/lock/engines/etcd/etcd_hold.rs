//! A hold: a request that was granted, until it is released or detached.

use super::done;
use super::faults::Fault;
use super::gateway_messages::{Number, Operation, Range, Transaction};
use super::key_queue;
use super::lease_length;
use super::own_lease::OwnLease;
use super::own_request::OwnRequest;
use super::skips;
use super::timeouts::{Contact, PARTING_TIMEOUT, Timeouts};
use crate::lock::engines::{ANSWER_TIMEOUT, Held, PEEK_TIMEOUT, RECENT, Validity};
use crate::lock::types::{Cancel, Error, Lost, Result};
use std::time::Duration;

/// See the module. Dropping it releases.
pub(super) struct EtcdHold {
    request: OwnRequest,
    /// The revision that created its key.
    token: u64,
}

impl EtcdHold {
    /// The hold of a request that was granted; `at_once`: without a wait.
    pub(super) fn new(mut request: OwnRequest, token: u64, at_once: bool) -> Result<Self> {
        request.keep(token)?;
        if !at_once {
            request.tell_granted(token);
        }
        Ok(Self { request, token })
    }

    /// Makes sure that the lease is fresh; `None` = it is over.
    pub(super) fn freshened(mut self, cancel: Option<&Cancel>) -> Result<Option<Self>> {
        if !self.request.lease.freshen(cancel)? {
            return Ok(None);
        }
        self.request.parting_timeout = ANSWER_TIMEOUT;
        Ok(Some(self))
    }

    /// Releases; false = it was lost before.
    fn give_up(&mut self) -> Result<bool, Fault> {
        let request = &mut self.request;
        if std::mem::replace(&mut request.given_up, true) {
            return Ok(false);
        }
        request.lease.validity.silence();
        let own_key = Range::of(&request.key).keys_only();
        let timeouts = Timeouts::within(request.parting_timeout);
        let answer = request.lease.gateway.call(&own_key, timeouts);
        let certain = request.lease.validity.now().is_certain();
        match answer {
            Ok(answer) => {
                request.lease.end(request.parting_timeout)?;
                log::debug!("<{}> released, token {}", request.name, self.token);
                Ok(certain && key_queue::contains(&answer.value.kvs, self.token))
            }
            Err(fault) => {
                request.lease.stop();
                Err(fault)
            }
        }
    }

    /// Changes what is kept beside the lock, if it is held. That may be done twice.
    fn change(&self, change: Operation) -> Result<()> {
        let request = &self.request;
        let change = Transaction::if_still(&request.key, self.token, change);
        let timeouts = Timeouts::within(request.parting_timeout);
        let answer = request.lease.gateway.call(&change, timeouts);
        let answer = answer.map_err(|fault| request.error(fault))?;
        if answer.value.succeeded {
            Ok(())
        } else {
            Err(Error::NotHeld)
        }
    }

    /// Leaves the lock taken without a process: for `ttl`, or until somebody ends the hold.
    pub(super) fn detach(mut self, ttl: Option<Duration>, cancel: &Cancel) -> Result<()> {
        let timeouts = Timeouts::until(Contact::Running, Some(cancel));
        // Whoever does not wait for this does not wait for the rest.
        self.request.parting_timeout = PARTING_TIMEOUT;
        let lasting = match ttl {
            Some(ttl) => {
                let lease = OwnLease::begin(&self.request.lease.gateway, lease_length(Some(ttl))?, timeouts);
                Some(lease.map_err(|fault| self.detach_error(fault, cancel))?)
            }
            None => None,
        };
        self.request.stored = self.request.stored.detached_now(ttl);
        // The key stays, with its name and its creation; only what it hangs on changes.
        let put = self.request.put(lasting.as_ref().map_or(Number(0), |lease| lease.id));
        let put = Transaction::if_still(&self.request.key, self.token, put);
        match self.request.lease.gateway.call(&put, timeouts) {
            Ok(answer) if answer.value.succeeded => {
                self.request.given_up = true;
                let _ = self.request.lease.end(self.request.parting_timeout);
                Ok(())
            }
            Ok(_) => Err(self.take_back(lasting, None, cancel)),
            Err(fault) => Err(self.take_back(lasting, Some(fault), cancel)),
        }
    }

    fn detach_error(&self, fault: Fault, cancel: &Cancel) -> Error {
        if cancel.is_cancelled() {
            Error::Cancelled
        } else {
            self.request.error(fault)
        }
    }

    /// Ends what a detaching that failed may have left. `fault`: why it failed; `None`: the key has gone.
    fn take_back(mut self, lasting: Option<OwnLease>, fault: Option<Fault>, cancel: &Cancel) -> Error {
        let gateway = self.request.lease.gateway.clone();
        let time = if cancel.is_cancelled() {
            PARTING_TIMEOUT
        } else {
            ANSWER_TIMEOUT
        };
        // The put may have been made, and only its answer be lost.
        let key = self.request.key.as_str();
        let delete = Transaction::if_still(key, self.token, Operation::Delete { key: key.into() });
        let deleted = gateway.call(&delete, Timeouts::within(time));
        if let (Err(_), Some(fault)) = (deleted, &fault) {
            // Nor is it known whether that was done, whoever has answered: words may be those of a proxy, or of the
            // second try, after a first one that was heard. Nothing else is worth asking.
            self.request.given_up = true;
            return Error::MayStayTaken {
                engine: gateway.place().to_owned(),
                what: fault.words(),
                token: self.token,
            };
        }
        if let Some(mut lease) = lasting {
            let _ = lease.end(time);
        }
        match fault {
            Some(fault) => self.detach_error(fault, cancel),
            None if cancel.is_cancelled() => Error::Cancelled,
            None => Error::Refused {
                engine: gateway.place().to_owned(),
                what: "the lock was released by force in the same instant".to_owned(),
            },
        }
    }
}

impl Held for EtcdHold {
    fn token(&self) -> u64 {
        self.token
    }

    fn validity(&self) -> Validity {
        self.request.lease.validity.now()
    }

    /// A key that somebody removes is noticed at the next renewal only.
    fn confirm(&self) -> Result<Option<Lost>> {
        let request = &self.request;
        if let Validity::Until(lease) = self.validity()
            && lease.left_of(RECENT).is_zero()
        {
            let own_key = Range::of(&request.key).keys_only();
            let timeouts = Timeouts::useful_for(lease.left_of(lease.ask_after()));
            let answer = request.lease.gateway.call(&own_key, timeouts);
            let answer = answer.map_err(|fault| request.error(fault))?;
            if !key_queue::contains(&answer.value.kvs, self.token) {
                request.lease.validity.lost();
            }
        }
        Ok(self.lost())
    }

    fn mark_done(&self, began_ago: Duration) -> Result<()> {
        let request = &self.request;
        self.change(done::record(&request.lease.gateway, &request.name, began_ago))
    }

    fn reset_skips(&self) -> Result<()> {
        let request = &self.request;
        self.change(skips::reset(&request.lease.gateway, &request.name))
    }

    fn linger(&mut self, time: Duration) -> Result<()> {
        let timeouts = Timeouts::within(self.request.parting_timeout);
        let lasting = OwnLease::begin(&self.request.lease.gateway, time, timeouts);
        let mut lasting = lasting.map_err(|fault| self.request.error(fault))?;
        self.request.stored = self.request.stored.lingering_now(time);
        let put = Transaction::if_still(&self.request.key, self.token, self.request.put(lasting.id));
        // If the answer is lost, it may have been made: then the key stays for that time, as it should.
        let answer = self.request.lease.gateway.call(&put, timeouts);
        let answer = answer.map_err(|fault| self.request.error(fault))?;
        let certain = self.validity().is_certain();
        if !answer.value.succeeded {
            let _ = lasting.end(self.request.parting_timeout);
            return Err(Error::NotHeld);
        }
        self.request.given_up = true;
        let _ = self.request.lease.end(self.request.parting_timeout);
        if certain { Ok(()) } else { Err(Error::NotHeld) }
    }

    fn on_change(&mut self, tell: Box<dyn Fn(Validity) + Send>) {
        self.request.lease.validity.on_change(tell);
    }

    fn shorten_release(&mut self) {
        self.request.parting_timeout = PEEK_TIMEOUT;
    }

    fn engine(&self) -> &'static str {
        "etcd"
    }

    fn release(mut self: Box<Self>) -> Result<bool> {
        self.give_up().map_err(|fault| self.request.error(fault))
    }
}

impl Drop for EtcdHold {
    fn drop(&mut self) {
        if let Err(fault) = self.give_up() {
            let error = self.request.error(fault);
            let name = &self.request.name;
            log::warn!("<{name}> the lock was not released, it ends with its lease: {error}");
        }
    }
}
