//! Following a lock that an engine keeps.

use crate::lock::inspect::{self, Change};
use crate::lock::types::{Cancel, Result};
use std::fmt;

/// Tells what happens to a lock that an engine keeps, in order.
pub(crate) trait Follow: Send + Sync {
    /// See [`Watch::next`].
    fn next(&mut self, cancel: &Cancel) -> Result<Option<Change>>;
}

impl Follow for inspect::Watch {
    fn next(&mut self, cancel: &Cancel) -> Result<Option<Change>> {
        Ok(self.next(cancel))
    }
}

/// Follows a lock: what happens to it from now on, in order (see [`ResourceLock::watch`](crate::ResourceLock::watch)).
///
/// ```
/// use resourcelock::{Cancel, Change, ResourceLock};
///
/// # fn main() -> Result<(), resourcelock::Error> {
/// # let name = format!("doc-watch-{}", std::process::id());
/// # let name = name.as_str();
/// let lock = ResourceLock::open(name)?;
/// let mut watch = lock.watch()?;
/// drop(lock.acquire()?); // or anybody else, in any process
///
/// let never = Cancel::new(); // its `cancel` ends the loop from another thread
/// while let Some(change) = watch.next(&never)? {
///     match change {
///         Change::Granted(holder) => println!("{:?} has it", holder.requester.command),
///         Change::Ended(record) => {
///             println!("{:?} had it for {:?}: {}", record.requester.pid, record.held, record.how);
///             break;
///         }
///         _ => {}
///     }
/// }
/// # drop(watch);
/// # lock.close();
/// # resourcelock::remove(name, false)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "changes are told only to who asks for them"]
pub struct Watch(Box<dyn Follow>);

impl Watch {
    pub(crate) fn new(follow: impl Follow + 'static) -> Self {
        Self(Box::new(follow))
    }

    /// The next change; blocks until there is one, or until `cancel` ends it (then `None`).
    ///
    /// # Errors
    /// On an engine, [`Error::Unreachable`](crate::Error::Unreachable), [`Error::Refused`](crate::Error::Refused) and
    /// [`Error::Forked`](crate::Error::Forked).
    pub fn next(&mut self, cancel: &Cancel) -> Result<Option<Change>> {
        self.0.next(cancel)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

#[cfg(feature = "remote")]
pub(crate) use views::Views;

#[cfg(feature = "remote")]
mod views {
    use super::Change;
    use crate::lock::types::State;
    use crate::lock::types::{Ended, HistoryRecord, Holder, Waiter};
    use std::collections::BTreeMap;
    use std::time::{Duration, SystemTime};

    /// What changes from one view of a lock to the next.
    #[derive(Debug, Default)]
    pub(crate) struct Views {
        waiters: BTreeMap<u64, Waiter>,
        holders: BTreeMap<u64, Holder>,
        ended: u64,
    }

    impl Views {
        /// The first view: nothing in it is a change.
        pub(crate) fn first(state: &State) -> Self {
            let mut views = Self::default();
            views.next(state);
            views
        }

        /// What has changed since the last view: first what has ended, as that made room for grants, then these, then
        /// the requests that have joined the queue. A request is known by its ticket.
        pub(crate) fn next(&mut self, state: &State) -> Vec<Change> {
            let holders: BTreeMap<u64, Holder> = state.holders.iter().map(|h| (h.ticket, h.clone())).collect();
            let waiters: BTreeMap<u64, Waiter> = state.waiters.iter().map(|w| (w.ticket, w.clone())).collect();
            let mut changes = Vec::new();
            for (ticket, holder) in &self.holders {
                if !holders.contains_key(ticket) {
                    changes.push(Change::Ended(released(holder, self.ended)));
                    self.ended += 1;
                }
            }
            for (ticket, waiter) in &self.waiters {
                if !waiters.contains_key(ticket) && !holders.contains_key(ticket) {
                    changes.push(Change::Ended(gave_up(waiter, self.ended)));
                    self.ended += 1;
                }
            }
            let new_holders = holders.values().filter(|h| !self.holders.contains_key(&h.ticket));
            changes.extend(new_holders.cloned().map(Change::Granted));
            let new_waiters = waiters.values().filter(|w| !self.waiters.contains_key(&w.ticket));
            changes.extend(new_waiters.cloned().map(Change::Queued));
            (self.holders, self.waiters) = (holders, waiters);
            changes
        }
    }

    fn age(time: Option<SystemTime>) -> Option<Duration> {
        Some(SystemTime::now().duration_since(time?).unwrap_or_default())
    }

    /// The record of a hold that has gone.
    fn released(holder: &Holder, sequence: u64) -> HistoryRecord {
        HistoryRecord {
            sequence,
            ticket: holder.ticket,
            token: holder.token,
            mode: holder.mode,
            requester: holder.requester.clone(),
            queued: holder.queued(),
            waited: holder.waited,
            held: age(holder.since),
            ended: SystemTime::now(),
            how: Ended::Released,
            command_end: None,
            note: String::new(),
        }
    }

    /// The record of a request that has left the queue without the lock.
    fn gave_up(waiter: &Waiter, sequence: u64) -> HistoryRecord {
        HistoryRecord {
            sequence,
            ticket: waiter.ticket,
            token: None,
            mode: waiter.mode,
            requester: waiter.requester.clone(),
            queued: waiter.since,
            waited: age(waiter.since),
            held: None,
            ended: SystemTime::now(),
            how: Ended::TimedOut,
            command_end: None,
            note: String::new(),
        }
    }
}
