//! Waiting in the queue.

use super::Etcd;
use super::faults::Fault;
use super::gateway_messages::{Number, Range};
use super::key_queue::{self, Verdict};
use super::key_watch::{Filter, Watch};
use super::own_request::{OwnRequest, Queue, slots_differ};
use super::timeouts::{Contact, Timeouts};
use crate::lock::engines::{Engine, PEEK_TIMEOUT, USUAL_TTL, Validity, background};
use crate::lock::sys::{self, OfThisProcess};
use crate::lock::types::get_options::OnWait;
use crate::lock::types::{Cancel, Error, Result, Wait};
use std::time::Duration;

/// How a wait has ended.
pub(super) enum Waited {
    /// The lock is acquired; `at_once`: without a wait.
    Granted { at_once: bool },
    /// The time is up.
    TimedOut,
    /// The request is not in the queue any more.
    Gone,
}

/// The end of the wait on the monotonic clock, ns.
pub(super) fn deadline(wait: Wait) -> u64 {
    let now = sys::monotonic();
    match wait {
        Wait::No => now,
        Wait::For(time) => background::later(now, time),
        Wait::Forever => u64::MAX,
    }
}

/// A request that waits for its turn.
pub(super) struct Waiting<'a, 'o> {
    etcd: &'a Etcd,
    request: &'a mut OwnRequest,
    /// The revision that created it.
    created: u64,
    cancel: Option<&'a Cancel>,
    /// Told of the wait, once.
    on_wait: &'a mut &'o [OnWait<'o>],
    /// Both on the monotonic clock, ns.
    begun: u64,
    deadline: u64,
}

impl<'a, 'o> Waiting<'a, 'o> {
    pub(super) fn new(
        etcd: &'a Etcd,
        request: &'a mut OwnRequest,
        created: u64,
        (cancel, on_wait): (Option<&'a Cancel>, &'a mut &'o [OnWait<'o>]),
        deadline: u64,
    ) -> Self {
        Self {
            etcd,
            request,
            created,
            cancel,
            on_wait,
            begun: sys::monotonic(),
            deadline,
        }
    }

    /// Waits until the wait ends, however it does.
    pub(super) fn until_over(mut self, joined: &Queue) -> Result<Waited> {
        let mut verdict = key_queue::verdict(&joined.requests, self.created);
        let mut revision = joined.revision;
        let mut at_once = true;
        loop {
            let watched = match verdict {
                Verdict::Granted if self.request.lease.validity.now().is_certain() => {
                    return Ok(Waited::Granted { at_once });
                }
                Verdict::Granted | Verdict::Gone => return Ok(Waited::Gone),
                Verdict::SlotsDiffer(in_use) => return Err(slots_differ(&self.request.stored, in_use)),
                Verdict::Behind(key) => Range::of(&key),
                Verdict::BehindAny => Range::below(&self.request.directory),
            };
            at_once = false;
            if self.is_time_up() {
                return Ok(Waited::TimedOut);
            }
            if let Some(ended) = self.until_news(watched, revision)? {
                return Ok(ended);
            }
            let Some(queue) = self.view()? else {
                return Ok(Waited::TimedOut);
            };
            verdict = key_queue::turn(&queue.requests, self.created);
            revision = queue.revision;
        }
    }

    fn is_time_up(&self) -> bool {
        sys::monotonic() >= self.deadline
    }

    /// Sleeps until one of the keys is deleted after `revision`, or it is time to view the queue for another reason;
    /// `Some`: the wait is over.
    fn until_news(&mut self, keys: Range, revision: Number) -> Result<Option<Waited>> {
        self.request.keep(self.created)?;
        let watch = OfThisProcess::new(Watch::start(
            &self.etcd.gateway,
            keys,
            revision,
            Filter::Deletions,
            (self.request.lease.ttl / 2).min(USUAL_TTL),
        )?);
        loop {
            // Whoever was told of the wait may have forked, and this be the child.
            let watch = watch.get()?;
            if watch.news.is_set() {
                return match watch.take() {
                    Ok(_) => Ok(None),
                    Err(Fault::Unreachable(_)) if self.is_time_up() => Ok(Some(Waited::TimedOut)),
                    Err(fault) => Err(self.etcd.gateway.error(fault)),
                };
            }
            if self.cancel.is_some_and(Cancel::is_cancelled) {
                return Err(Error::Cancelled);
            }
            if self.request.lease.validity.now() == Validity::Lost {
                // With the lease the request has gone, or without it.
                return Ok(Some(Waited::Gone));
            }
            if self.is_time_up() {
                return Ok(Some(Waited::TimedOut));
            }
            if self.request.lease.failing.is_set() {
                // Whether we are still in the queue cannot be known: not worth waiting for.
                let what = "the lease could not be renewed while waiting".to_owned();
                return Err(self.etcd.gateway.error(Fault::Unreachable(what)));
            }
            let tell_at = self.tell_at();
            if sys::monotonic() >= tell_at {
                self.tell();
                continue;
            }
            background::sleep(
                &[&watch.news, &self.request.lease.failing],
                self.cancel,
                self.deadline.min(tell_at),
            );
        }
    }

    /// When to tell that it waits.
    fn tell_at(&self) -> u64 {
        let next = self.on_wait.first();
        next.map_or(u64::MAX, |(after, _)| background::later(self.begun, *after))
    }

    fn tell(&mut self) {
        if let Some(((_, tell), later)) = self.on_wait.split_first() {
            *self.on_wait = later;
            // It is only shown: if it cannot be read now, nothing is said.
            if let Ok(Some(state)) = self.etcd.peek(&self.request.name) {
                tell(&state);
            }
        }
    }

    /// The queue; `None` = the time is up.
    fn view(&self) -> Result<Option<Queue>> {
        // If the time is up meanwhile, that is what counts: not much longer.
        let left = Duration::from_nanos(self.deadline.saturating_sub(sys::monotonic()));
        let timeouts = Timeouts::until(Contact::Running, self.cancel).at_most(left + PEEK_TIMEOUT);
        match self.etcd.queue(&self.request.name, timeouts) {
            Err(Error::Unreachable { .. }) if self.is_time_up() => Ok(None),
            queue => queue.map(Some),
        }
    }
}
