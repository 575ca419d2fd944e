//! Watching keys, in a thread of its own.

use super::faults::{Fault, Said};
use super::gateway::Gateway;
use super::gateway_messages::{Event as KeyEvent, Number, Range, WatchCall, Watched};
use super::timeouts::PAUSE;
use crate::lock::engines::ANSWER_TIMEOUT;
use crate::lock::engines::background::{self, Event};
use crate::lock::types::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use ureq::Agent;

/// Which events are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// The first deletion.
    Deletions,
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

/// How many bytes of events wait at most for somebody who does not take them, as while nobody reads what is printed.
const MOST_WAITING: usize = 10 * 1024 * 1024;

/// What the thread has found.
#[derive(Default)]
struct Found {
    events: Vec<KeyEvent>,
    /// Their size.
    bytes: usize,
    fault: Option<Fault>,
    /// The thread has ended: read the keys, and watch again.
    ended: bool,
    /// It has ended because events are missing: etcd has forgotten those that were asked for, or there were too many.
    missing: bool,
}

impl Found {
    /// Adds events for somebody who will take them; false = too many wait already.
    fn add(&mut self, events: Vec<KeyEvent>) -> bool {
        if self.bytes > MOST_WAITING {
            self.missing = true;
            return false;
        }
        self.bytes += events.iter().map(KeyEvent::size).sum::<usize>();
        self.events.extend(events);
        true
    }
}

impl Watch {
    /// Watches `keys` for what happens after `revision`. With [`Filter::Deletions`] it ends at the first event. After
    /// `silence` it ends, too: the server that tells of the events may have been cut off from the others.
    pub(super) fn start(
        gateway: &Arc<Gateway>,
        keys: Range,
        revision: Number,
        filter: Filter,
        silence: Duration,
    ) -> Result<Self> {
        let watch = Self {
            news: Arc::new(Event::default()),
            found: Arc::new(Mutex::new(Found::default())),
            stop: Arc::new(AtomicBool::new(false)),
            agent: gateway.stream_agent(),
        };
        let watcher = Watcher {
            gateway: gateway.clone(),
            call: WatchCall::new(keys, revision.0 + 1, filter == Filter::Deletions),
            filter,
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

    /// The events since the last call, and whether the thread has ended. Call this after `news.clear()`, or once only.
    pub(super) fn take(&self) -> Result<(Vec<KeyEvent>, bool), Fault> {
        let mut found = locked(&self.found);
        let events = std::mem::take(&mut found.events);
        found.bytes = 0;
        match found.fault.take() {
            Some(fault) if events.is_empty() => Err(fault),
            fault => {
                found.fault = fault;
                Ok((events, found.ended))
            }
        }
    }

    /// True if events are missing: etcd has forgotten those that were asked for, or too many waited to be taken.
    pub(super) fn misses_events(&self) -> bool {
        locked(&self.found).missing
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed); // says only itself
        self.agent.clone().shutdown();
    }
}

fn locked(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Watcher {
    gateway: Arc<Gateway>,
    call: WatchCall,
    filter: Filter,
    silence: Duration,
    news: Arc<Event>,
    found: Arc<Mutex<Found>>,
    stop: Arc<AtomicBool>,
    agent: Agent,
}

/// Why a stream of events has ended.
enum Ended {
    /// It is time to read the keys.
    ReadKeys,
    /// The connection broke.
    Broken(Fault),
    Refused(Said),
}

impl Watcher {
    fn run(self) {
        let fault = self.watch();
        let mut found = locked(&self.found);
        found.fault = fault;
        found.ended = true;
        drop(found);
        self.news.set();
    }

    /// Watches until there is a reason to read the keys (`None`), or to give up.
    fn watch(&self) -> Option<Fault> {
        let mut failing_since = None;
        while !self.stop.load(Ordering::Relaxed) {
            match self.stream(&mut failing_since) {
                Ended::ReadKeys => return None,
                Ended::Refused(said) => return Some(said.into()),
                Ended::Broken(fault) => {
                    if failing_since.get_or_insert_with(Instant::now).elapsed() >= ANSWER_TIMEOUT {
                        return Some(fault);
                    }
                }
            }
            std::thread::sleep(PAUSE);
        }
        None
    }

    /// Reads one stream of events to its end. An answer resets `failing_since`.
    fn stream(&self, failing_since: &mut Option<Instant>) -> Ended {
        let mut stream = match self.gateway.stream(&self.agent, &self.call, self.silence) {
            Ok(stream) => stream,
            Err(fault) => return self.ended(fault),
        };
        loop {
            match stream.next() {
                // Silence: the watch may have been forgotten.
                Ok(None) => return Ended::ReadKeys,
                Ok(Some(answer)) => {
                    *failing_since = None;
                    if let Some(ended) = self.answered(answer.result) {
                        return ended;
                    }
                }
                // Events may have been missed: they are found by reading the keys.
                Err(Fault::Unreachable(_)) if self.filter == Filter::All => return later(),
                Err(fault) => return self.ended(fault),
            }
        }
    }

    fn answered(&self, answer: Watched) -> Option<Ended> {
        if answer.canceled && answer.compact_revision == Number(0) {
            return Some(later());
        }
        if answer.canceled {
            locked(&self.found).missing = true;
            return Some(Ended::ReadKeys);
        }
        if answer.events.is_empty() {
            return None;
        }
        if self.filter == Filter::Deletions {
            return Some(Ended::ReadKeys);
        }
        if !locked(&self.found).add(answer.events) {
            return Some(Ended::ReadKeys);
        }
        self.news.set();
        None
    }

    fn ended(&self, fault: Fault) -> Ended {
        match fault {
            Fault::Said(said) if self.gateway.asks_for_login(&said) => later(),
            Fault::Said(said) => Ended::Refused(said),
            broken => Ended::Broken(broken),
        }
    }
}

/// The watch was closed or refused, most often because a login has ended. Reading the keys logs in again, or says why that
/// is refused; if neither, it must not be repeated without a pause.
fn later() -> Ended {
    std::thread::sleep(PAUSE);
    Ended::ReadKeys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_nobody_takes_come_to_an_end() {
        let mut found = Found::default();
        let events = || (0..1000).map(|_| KeyEvent::default()).collect();
        let added = std::iter::repeat_with(|| found.add(events())).take_while(|added| *added);
        let added = added.count();
        assert!(added > 1);
        assert_eq!((found.events.len(), found.missing), (added * 1000, true));
        assert!(found.bytes < 2 * MOST_WAITING);
    }
}
