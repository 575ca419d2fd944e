//! Following a lock: every event of its keys, one by one, so that nothing is missed however quickly it goes.

use super::faults::Fault;
use super::gateway::Gateway;
use super::gateway_messages::{Event, Number, Range};
use super::key_queue::{self, Request};
use super::key_watch::{Filter, Watch};
use super::own_request::Queue;
use super::state;
use super::timeouts::{Contact, Timeouts};
use crate::lock::engines::follow::Views;
use crate::lock::engines::{Follow, USUAL_TTL, background};
use crate::lock::inspect::Change;
use crate::lock::types::{Cancel, LockName, Result};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(super) struct Following {
    gateway: Arc<Gateway>,
    name: LockName,
    directory: String,
    /// By key.
    requests: BTreeMap<String, Request>,
    views: Views,
    watch: Watch,
    /// Everything up to here is known.
    revision: Number,
    /// Found, and not told yet.
    changes: VecDeque<Change>,
}

impl Following {
    /// Follows what happens to this queue.
    pub(super) fn new(gateway: &Arc<Gateway>, name: &LockName, directory: String, queue: Queue) -> Result<Self> {
        Ok(Self {
            gateway: gateway.clone(),
            name: name.clone(),
            views: Views::first(&state(name, &queue.requests)),
            requests: by_key(queue.requests),
            watch: watch(gateway, &directory, queue.revision)?,
            directory,
            revision: queue.revision,
            changes: VecDeque::new(),
        })
    }

    fn view(&mut self) {
        let mut requests: Vec<Request> = self.requests.values().cloned().collect();
        requests.sort_by_key(|request| request.created);
        self.changes.extend(self.views.next(&state(&self.name, &requests)));
    }

    fn apply(&mut self, event: &Event) {
        self.revision = self.revision.max(event.kv.mod_revision);
        if event.is_deletion() {
            self.requests.remove(&event.kv.key.text());
        } else {
            let request = Request::read(&event.kv);
            if request.is_in(&self.directory) {
                self.requests.insert(request.key.clone(), request);
            }
        }
    }

    /// Watches again after a watch has ended: from where it was, or, if events are missing, from what is there now.
    fn watch_again(&mut self, cancel: &Cancel) -> Result<()> {
        // It is read in any case: a login may be due, or refused.
        let timeouts = Timeouts::until(Contact::Running, Some(cancel));
        let answer = self.gateway.call(&Range::below(&self.directory), timeouts);
        let answer = answer.map_err(|fault| self.gateway.error(fault))?;
        let now = answer.header.revision;
        // Or etcd was restored from an earlier state.
        if self.watch.misses_events() || now < self.revision {
            self.requests = by_key(key_queue::requests(&answer.value.kvs, &self.directory));
            self.revision = now;
            self.view();
        }
        let watch = watch(&self.gateway, &self.directory, self.revision);
        self.watch = watch.map_err(|e| self.gateway.error(Fault::Unreachable(e.to_string())))?;
        Ok(())
    }
}

impl Follow for Following {
    fn next(&mut self, cancel: &Cancel) -> Result<Option<Change>> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Ok(Some(change));
            }
            if cancel.is_cancelled() {
                return Ok(None);
            }
            self.watch.news.clear();
            let (events, ended) = self.watch.take().map_err(|fault| self.gateway.error(fault))?;
            // What one transaction did is one change: of keys that go together, none was granted the lock in between.
            for together in events.chunk_by(|one, next| one.kv.mod_revision == next.kv.mod_revision) {
                for event in together {
                    self.apply(event);
                }
                self.view();
            }
            if ended {
                match self.watch_again(cancel) {
                    Err(_) if cancel.is_cancelled() => return Ok(None),
                    done => done?,
                }
            } else if self.changes.is_empty() && events.is_empty() {
                background::sleep(&[&self.watch.news], Some(cancel), u64::MAX);
            }
        }
    }
}

fn watch(gateway: &Arc<Gateway>, directory: &str, revision: Number) -> Result<Watch> {
    Watch::start(gateway, Range::below(directory), revision, Filter::All, USUAL_TTL)
}

fn by_key(requests: Vec<Request>) -> BTreeMap<String, Request> {
    let keyed = requests.into_iter().map(|request| (request.key.clone(), request));
    keyed.collect()
}
