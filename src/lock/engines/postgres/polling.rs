//! Following a lock: the server tells nobody of its locks, so a thread views it again and again.

use super::connect::Link;
use super::target::Target;
use super::views::{self, APPLICATION};
use crate::lock::engines::Follow;
use crate::lock::engines::background::{self, Event};
use crate::lock::engines::follow::Views;
use crate::lock::inspect::Change;
use crate::lock::sys;
use crate::lock::types::{Cancel, Holder, LockName, Result};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Between views.
const VIEW_EVERY: Duration = Duration::from_millis(50);

/// A holder without a token is left out this many views in a row.
const PUT_OFF: u32 = 10;

/// Dropping it ends the thread.
pub(super) struct Following(Arc<Found>);

/// What the thread has found.
#[derive(Default)]
struct Found {
    changes: Mutex<VecDeque<Result<Change>>>,
    news: Event,
    stop: Event,
}

impl Found {
    fn changes(&self) -> MutexGuard<'_, VecDeque<Result<Change>>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, changes: Vec<Result<Change>>) {
        if !changes.is_empty() {
            self.changes().extend(changes);
            self.news.set();
        }
    }
}

impl Following {
    /// Follows what happens from now on. `cancel` ends the wait for the first answer.
    pub(super) fn start(target: &Arc<Target>, name: &LockName, cancel: &Cancel) -> Result<Self> {
        let runtime = views::runtime()?;
        let first = async {
            let link = target.connect(APPLICATION).await?;
            let first = views::view(target, &link, name).await?;
            Ok((link, first))
        };
        let (link, first) = runtime.block_on(views::or_cancelled(first, cancel))?;
        let found = Arc::new(Found::default());
        let poller = Poller {
            found: found.clone(),
            target: target.clone(),
            name: name.clone(),
            runtime,
            link,
            views: Views::first(&first),
            put_off: 0,
        };
        // Not joined: it ends after its next view.
        background::spawn("follow", move || poller.run())?;
        Ok(Self(found))
    }
}

impl Follow for Following {
    fn next(&mut self, cancel: &Cancel) -> Result<Option<Change>> {
        loop {
            self.0.news.clear();
            let change = self.0.changes().pop_front();
            if let Some(change) = change {
                return change.map(Some);
            }
            if cancel.is_cancelled() {
                return Ok(None);
            }
            background::sleep(&[&self.0.news], Some(cancel), u64::MAX);
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.stop.set();
    }
}

struct Poller {
    found: Arc<Found>,
    target: Arc<Target>,
    name: LockName,
    runtime: Runtime,
    link: Link,
    views: Views,
    /// Views in a row in which somebody was left out.
    put_off: u32,
}

impl Poller {
    fn run(mut self) {
        while !self.found.stop.is_set() {
            match self.view() {
                Ok(changes) => self.found.tell(changes),
                Err(error) => return self.found.tell(vec![Err(error)]),
            }
            let until = background::later(sys::monotonic(), VIEW_EVERY);
            background::sleep(&[&self.found.stop], None, until);
        }
    }

    /// What has changed since the last view.
    fn view(&mut self) -> Result<Vec<Result<Change>>> {
        let state = views::view(&self.target, &self.link, &self.name);
        let state = self.runtime.block_on(state)?;
        if state.holders.iter().all(is_described) {
            self.put_off = 0;
        } else if self.put_off < PUT_OFF {
            // Not yet; but another program never will be.
            self.put_off += 1;
            return Ok(Vec::new());
        }
        Ok(self.views.next(&state).into_iter().map(Ok).collect())
    }
}

/// Tells of a thread that ends without having told anything, by a bug of this program.
impl Drop for Poller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = "this program has failed at following it, which is a bug of its own";
            self.found.tell(vec![Err(self.target.refused(what))]);
        }
    }
}

/// True if the holder has drawn its token, and its row is there, as it is a moment after the connection tells the token.
fn is_described(holder: &Holder) -> bool {
    let user = holder.requester.user.as_deref();
    holder.token.is_some() && user.is_some_and(|user| user != "?")
}
