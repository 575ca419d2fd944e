//! Waiting in the queue.

use super::answer::{Fault, encoded, number};
use super::gateway::Gateway;
use super::patience::{Contact, Patience};
use super::queue::{self, Request, Verdict};
use super::{Etcd, Place, below, slots_differ};
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::engines::background::{self, Event};
use crate::lock::engines::{PEEK_TIMEOUT, USUAL_TTL, Validity};
use crate::lock::sys;
use crate::{Cancel, Error, GetOptions, LockName, Result, Wait};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::Agent;

/// Between tries to watch.
const PAUSE: Duration = Duration::from_millis(100);

/// How a wait ended.
pub(super) enum Waited {
    /// The lock is had; `at_once`: without a wait.
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

impl Etcd {
    /// Waits for the turn of `place`. `requests`: the queue at `revision`.
    pub(super) fn wait(
        &self,
        place: &mut Place,
        name: &LockName,
        requests: &[Request],
        mut revision: i64,
        options: &mut GetOptions<'_>,
        deadline: u64,
    ) -> Result<Waited> {
        let begun = sys::monotonic();
        let mut at_once = true;
        let mut verdict = queue::verdict(requests, place.created);
        loop {
            let watched = match verdict {
                Verdict::Granted if place.session.validity.now().is_certain() => {
                    return Ok(Waited::Granted { at_once });
                }
                Verdict::Granted | Verdict::Gone => return Ok(Waited::Gone),
                Verdict::SlotsDiffer(in_use) => return Err(slots_differ(&place.who, in_use)),
                Verdict::Behind(key) => json!({"key": encoded(&key)}),
                Verdict::BehindAny => below(&self.folder(name)),
            };
            at_once = false;
            if sys::monotonic() >= deadline {
                return Ok(Waited::TimedOut);
            }
            place.session.keep(name, &place.key, place.created)?;
            let watch = Watch::start(
                &self.gateway,
                watched,
                revision + 1,
                Filter::Deletes,
                (place.session.ttl / 2).min(USUAL_TTL),
            )?;
            loop {
                let now = sys::monotonic();
                if watch.news.is_set() {
                    match watch.look() {
                        Err(Fault::Unreachable(_)) if now >= deadline => return Ok(Waited::TimedOut),
                        looked => looked.map_err(|f| self.fail(f))?,
                    };
                    break;
                }
                if options.cancel.is_some_and(Cancel::is_cancelled) {
                    return Err(Error::Cancelled);
                }
                if place.session.validity.now() == Validity::Lost {
                    // With the lease the request has gone, or without it.
                    return Ok(Waited::Gone);
                }
                if now >= deadline {
                    return Ok(Waited::TimedOut);
                }
                if place.session.failing.is_set() {
                    // Whether we are still in the queue cannot be known: not worth waiting for.
                    let what = "the lease could not be renewed while waiting".to_owned();
                    return Err(self.fail(Fault::Unreachable(what)));
                }
                let tell_at = options
                    .on_wait
                    .as_ref()
                    .map_or(u64::MAX, |(after, _)| background::later(begun, *after));
                if now >= tell_at {
                    if let Some((_, mut tell)) = options.on_wait.take() {
                        // For the eyes only: if it cannot be read now, nothing is said.
                        if let Ok(Some(state)) = crate::lock::engines::Engine::peek(self, name) {
                            tell(&state);
                        }
                    }
                    continue;
                }
                background::sleep(
                    &[&watch.news, &place.session.failing],
                    options.cancel,
                    deadline.min(tell_at),
                );
            }
            drop(watch);
            // Where the time is up meanwhile, it is that which counts: not much longer.
            let left = Duration::from_nanos(deadline.saturating_sub(sys::monotonic()));
            let patience = Patience::until(Contact::Running, options.cancel).at_most(left + PEEK_TIMEOUT);
            let requests;
            (requests, revision) = match self.queue(name, patience) {
                Err(Error::Unreachable { .. }) if sys::monotonic() >= deadline => return Ok(Waited::TimedOut),
                queue => queue?,
            };
            verdict = queue::turn(&requests, place.created);
        }
    }
}

/// Which events are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    Deletes,
    All,
}

/// A thread that watches keys: `news` is set when something has happened, nothing has happened for a while, or etcd
/// could not be reached for the time that a request may take. Dropping it ends the thread.
pub(super) struct Watch {
    pub(super) news: Arc<Event>,
    found: Arc<Mutex<Found>>,
    stop: Arc<AtomicBool>,
    agent: Agent,
}

/// What the thread has found.
#[derive(Default)]
struct Found {
    events: Vec<Value>,
    fault: Option<Fault>,
    /// The thread has ended: look at the keys, and watch again.
    ended: bool,
    /// Because etcd does not know the events any more that were asked for.
    compacted: bool,
}

impl Watch {
    /// Watches `keys` (a key or a range) from revision `from` on. With [`Filter::Deletes`] it ends at the first event.
    /// After `silence` it ends, too: whoever is watched through may have been cut off.
    pub(super) fn start(
        gateway: &Arc<Gateway>,
        keys: Value,
        from: i64,
        filter: Filter,
        silence: Duration,
    ) -> Result<Self> {
        let watch = Self {
            news: Arc::new(Event::default()),
            found: Arc::new(Mutex::new(Found::default())),
            stop: Arc::new(AtomicBool::new(false)),
            agent: gateway.stream_agent(),
        };
        let mut create = keys;
        create["start_revision"] = from.to_string().into();
        if filter == Filter::Deletes {
            create["filters"] = json!(["NOPUT"]);
        }
        let watcher = Watcher {
            gateway: gateway.clone(),
            body: json!({"create_request": create}),
            once: filter == Filter::Deletes,
            silence,
            news: watch.news.clone(),
            found: watch.found.clone(),
            stop: watch.stop.clone(),
            agent: watch.agent.clone(),
        };
        // Not joined: it ends as soon as its connection is shut down.
        background::spawn("watch", move || watcher.run())?;
        Ok(watch)
    }

    /// The events since the last look, and whether the thread has ended. To be called after `news.clear()`, or when
    /// one look is enough.
    pub(super) fn look(&self) -> Result<(Vec<Value>, bool), Fault> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let events = std::mem::take(&mut found.events);
        match found.fault.take() {
            Some(fault) if events.is_empty() => Err(fault),
            fault => {
                found.fault = fault;
                Ok((events, found.ended))
            }
        }
    }
}

impl Watch {
    /// Whether etcd does not know the events any more from which on it was to watch.
    pub(super) fn is_compacted(&self) -> bool {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).compacted
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed); // says only itself
        self.agent.clone().shutdown();
    }
}

struct Watcher {
    gateway: Arc<Gateway>,
    body: Value,
    once: bool,
    silence: Duration,
    news: Arc<Event>,
    found: Arc<Mutex<Found>>,
    stop: Arc<AtomicBool>,
    agent: Agent,
}

impl Watcher {
    fn run(self) {
        let fault = self.watch();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.fault = fault;
        found.ended = true;
        drop(found);
        self.news.set();
    }

    /// Until there is a reason to look at the keys, or to give up.
    fn watch(&self) -> Option<Fault> {
        let mut failing_since = None;
        let mut reason = None;
        while !self.stop.load(Ordering::Relaxed) {
            if reason.is_some() {
                if failing_since.get_or_insert_with(Instant::now).elapsed() >= ANSWER_TIMEOUT {
                    return reason;
                }
                std::thread::sleep(PAUSE);
            }
            let mut stream = match self.gateway.stream(&self.agent, "watch", &self.body, self.silence) {
                Ok(stream) => stream,
                Err(Fault::Unreachable(what)) => {
                    reason = Some(Fault::Unreachable(what));
                    continue;
                }
                Err(said) if self.gateway.asks_for_login(&said) => return self.later(),
                Err(said) => return Some(said),
            };
            loop {
                match stream.next() {
                    // Silence: the watch may have been forgotten. Look.
                    Ok(None) => return None,
                    Ok(Some(result)) => {
                        failing_since = None;
                        if result["canceled"].as_bool().unwrap_or(false) {
                            return match number(&result["compact_revision"]) {
                                0 => self.later(),
                                // The revision was compacted away: look.
                                _ => {
                                    self.found.lock().unwrap_or_else(PoisonError::into_inner).compacted = true;
                                    None
                                }
                            };
                        }
                        let events = result["events"].as_array().map_or(&[][..], Vec::as_slice);
                        if events.is_empty() {
                            continue;
                        }
                        if self.once {
                            return None;
                        }
                        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                        found.events.extend(events.iter().cloned());
                        drop(found);
                        self.news.set();
                    }
                    Err(Fault::Unreachable(what)) => {
                        if !self.once {
                            // Events may have been missed: look, and watch from there.
                            return self.later();
                        }
                        reason = Some(Fault::Unreachable(what));
                        break;
                    }
                    Err(said) if self.gateway.asks_for_login(&said) => return self.later(),
                    Err(said) => return Some(said),
                }
            }
        }
        None
    }

    /// The watch was closed or refused, this most often because a login has ended. The look that follows logs in again,
    /// or says why that is refused, too; if neither, it is not to be repeated without a pause.
    fn later(&self) -> Option<Fault> {
        std::thread::sleep(PAUSE);
        None
    }
}
