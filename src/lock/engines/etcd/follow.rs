//! Following a lock: every event of its keys, one by one, so that nothing is missed however quickly it goes.

use super::answer::{Fault, decoded, number};
use super::gateway::Gateway;
use super::patience::{Contact, Patience};
use super::queue::{self, Request};
use super::wait::{Filter, Watch};
use super::{below, revision, state};
use crate::lock::engines::Follow;
use crate::lock::engines::follow::Views;
use crate::lock::engines::{USUAL_TTL, background};
use crate::{Cancel, Change, LockName, Result};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(super) struct Following {
    gateway: Arc<Gateway>,
    name: LockName,
    folder: String,
    requests: BTreeMap<String, Request>,
    views: Views,
    watch: Watch,
    /// Up to here all is known.
    revision: i64,
    due: VecDeque<Change>,
}

impl Following {
    /// From the queue as it was at `revision`.
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        name: &LockName,
        folder: &str,
        requests: Vec<Request>,
        revision: i64,
    ) -> Result<Self> {
        Ok(Self {
            gateway: gateway.clone(),
            name: name.clone(),
            views: Views::first(&state(name, &requests)),
            requests: by_key(requests),
            watch: Watch::start(gateway, below(folder), revision + 1, Filter::All, USUAL_TTL)?,
            folder: folder.to_owned(),
            revision,
            due: VecDeque::new(),
        })
    }

    fn look(&mut self) {
        let requests: Vec<Request> = {
            let mut requests: Vec<Request> = self.requests.values().cloned().collect();
            requests.sort_by_key(|request| request.created);
            requests
        };
        self.due.extend(self.views.next(&state(&self.name, &requests)));
    }

    fn apply(&mut self, event: &Value) {
        let kv = &event["kv"];
        self.revision = self.revision.max(number(&kv["mod_revision"]));
        if event["type"] == "DELETE" {
            self.requests.remove(&decoded(&kv["key"]));
        } else {
            let request = Request::read(kv);
            if request.is_in(&self.folder) {
                self.requests.insert(request.key.clone(), request);
            }
        }
        self.look();
    }

    /// The watch has ended: go on where it was; or, if etcd has forgotten that, from what is there now.
    fn again(&mut self, cancel: &Cancel) -> Result<(), Fault> {
        // In any case it is asked: a login may be due, or refused.
        let patience = Patience::until(Contact::Running, Some(cancel));
        let answer = self.gateway.call("kv/range", &below(&self.folder), patience)?;
        let now = revision(&answer.value);
        // Or etcd was restored as it was before that.
        if self.watch.is_compacted() || now < self.revision {
            self.requests = by_key(queue::requests(&answer.value, &self.folder));
            self.revision = now;
            self.look();
        }
        let from = self.revision + 1;
        let watch = Watch::start(&self.gateway, below(&self.folder), from, Filter::All, USUAL_TTL);
        self.watch = watch.map_err(|e| Fault::Unreachable(e.to_string()))?;
        Ok(())
    }
}

impl Follow for Following {
    fn next(&mut self, cancel: &Cancel) -> Result<Option<Change>> {
        loop {
            if let Some(change) = self.due.pop_front() {
                return Ok(Some(change));
            }
            if cancel.is_cancelled() {
                return Ok(None);
            }
            self.watch.news.clear();
            let (events, ended) = self.watch.look().map_err(|f| self.gateway.error(f))?;
            for event in &events {
                self.apply(event);
            }
            if ended {
                match self.again(cancel) {
                    Err(_) if cancel.is_cancelled() => return Ok(None),
                    done => done.map_err(|f| self.gateway.error(f))?,
                }
            }
            if self.due.is_empty() && events.is_empty() && !ended {
                background::sleep(&[&self.watch.news], Some(cancel), u64::MAX);
            }
        }
    }
}

fn by_key(requests: Vec<Request>) -> BTreeMap<String, Request> {
    requests
        .into_iter()
        .map(|request| (request.key.clone(), request))
        .collect()
}
