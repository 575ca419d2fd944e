//! Following a lock: what happens to it, as it happens.
//!
//! The watcher sets a bit in the table and sleeps on that word; the next process that changes the table clears the bit
//! and wakes the watcher. All that a watcher costs others is one load of the word, and all that a watcher leaves behind
//! when it dies is that bit.

use crate::lock::inspect::snapshot;
use crate::lock::inspect::viewer::Viewer;
use crate::lock::protocol::orderings::NEXT_LOAD;
use crate::lock::shm::events::WATCHED;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::sys::{self, UntouchedWord, Watched};
use crate::lock::types::{Cancel, Ended, HistoryRecord, Holder, State, Waiter};
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

/// Longest sleep: what changes without the table (by a user of the Python module, by a death) is seen within this time.
const INSPECT_EVERY: Duration = Duration::from_millis(250);
/// The same for a reader that may not set the bit.
const READER_INSPECTS_EVERY: Duration = Duration::from_millis(10);

/// Something that happened to a lock.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change {
    /// A request has joined the queue.
    Queued(Waiter),
    /// A request was granted.
    Granted(Holder),
    /// A hold ended, or a waiting request gave up ([`Ended::TimedOut`]).
    Ended(HistoryRecord),
    /// A process that does not use the table (the Python module) has taken (true) or released (false) the lock.
    Foreign(bool),
    /// This many ended holds were overwritten before they could be read.
    Missed(u64),
}

impl Change {
    /// When it happened. Where that is not known, and for [`Foreign`](Self::Foreign) and [`Missed`](Self::Missed): now.
    pub fn at(&self) -> SystemTime {
        match self {
            Self::Queued(waiter) => waiter.since.unwrap_or_else(SystemTime::now),
            Self::Granted(holder) => holder.since.unwrap_or_else(SystemTime::now),
            Self::Ended(record) => record.ended,
            Self::Foreign(_) | Self::Missed(_) => SystemTime::now(),
        }
    }
}

/// Follows a lock (see [`Viewer::watch`]).
///
/// ```
/// use resourcelock::{Cancel, Change, GetOptions, ResourceLock};
///
/// # fn main() -> Result<(), resourcelock::Error> {
/// # let name = format!("doc-watch-{}", std::process::id());
/// # let name = name.as_str();
/// let lock = ResourceLock::open(name)?;
/// let viewer = ResourceLock::builder(name).open_existing()?;
/// let mut watch = viewer.watch();
/// drop(lock.acquire(GetOptions::new())?); // or anybody else, in any process
///
/// let never = Cancel::new(); // its `cancel` ends the loop from another thread
/// while let Some(change) = watch.next(&never) {
///     match change {
///         Change::Granted(holder) => println!("{:?} has it", holder.requester.command),
///         Change::Ended(record) => {
///             println!("{:?} had it for {:?}: {}", record.requester.pid, record.held, record.how.as_str());
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
pub struct Watch<'a> {
    viewer: Viewed<'a>,
    /// The table's word for watchers, if this reader may write it.
    events: Option<UntouchedWord>,
    ended: u64,
    gave_up: u64,
    queued: HashSet<u64>,
    granted: HashSet<u64>,
    foreign: bool,
    due: VecDeque<Change>,
}

/// The viewer of a [`Watch`]: lent by the caller, or its own.
pub(crate) enum Viewed<'a> {
    Lent(&'a Viewer),
    Own(Box<Viewer>),
}

impl std::ops::Deref for Viewed<'_> {
    type Target = Viewer;
    fn deref(&self) -> &Viewer {
        match self {
            Self::Lent(viewer) => viewer,
            Self::Own(viewer) => viewer,
        }
    }
}

impl Viewer {
    /// Follows what happens from now on, without polling if the reader may write the lock's files.
    pub fn watch(&self) -> Watch<'_> {
        Watch::new(Viewed::Lent(self))
    }
}

impl<'a> Watch<'a> {
    pub(crate) fn new(viewer: Viewed<'a>) -> Self {
        let state = viewer.state();
        let (ended, gave_up) = viewer.objects().map_or((0, 0), positions);
        Self {
            events: viewer.objects().and_then(|objects| objects.table.events()),
            viewer,
            ended,
            gave_up,
            queued: state
                .waiters
                .iter()
                .map(|w| w.ticket)
                .chain(state.holders.iter().map(|h| h.ticket))
                .collect(),
            granted: state.holders.iter().filter_map(|h| h.token).collect(),
            foreign: state.foreign,
            due: VecDeque::new(),
        }
    }

    /// The next change; blocks until there is one or `cancel` ends it (then `None`).
    pub fn next(&mut self, cancel: &Cancel) -> Option<Change> {
        loop {
            if let Some(change) = self.due.pop_front() {
                return Some(change);
            }
            if cancel.is_cancelled() {
                return None;
            }
            // First the bit, then the inspection: whatever happens after the inspection finds the bit and wakes us.
            let seen = self.arm();
            self.inspect();
            if !self.due.is_empty() {
                continue;
            }
            let every = if seen.is_some() {
                INSPECT_EVERY
            } else {
                READER_INSPECTS_EVERY
            };
            let until = sys::monotonic().saturating_add(every.as_nanos() as u64);
            let stop = Watched::Word(&cancel.0, 0);
            match self.events.as_ref().zip(seen) {
                Some((events, seen)) => sys::futex_wait(&[Watched::Untouched(events, seen), stop], until),
                None => sys::futex_wait(&[stop], until),
            }
        }
    }

    /// Sets the watchers' bit, if this reader may write the table: the word's value to sleep on. As
    /// [`watch`](crate::lock::shm::events::watch), by the kernel.
    fn arm(&self) -> Option<u32> {
        let table = &self.viewer.objects()?.table;
        self.events.as_ref()?.set(WATCHED).ok()?;
        table.look();
        // With the bit: if that has been cleared since, there is no sleep.
        Some(table.header.events.load(Relaxed) | WATCHED)
    }

    /// Compares what there is with what was known.
    fn inspect(&mut self) {
        let state = self.viewer.state();
        let mut found: Vec<(SystemTime, Change)> = Vec::new();
        let mut over: HashSet<u64> = HashSet::new();
        if let Some(objects) = self.viewer.objects() {
            // Read after the requests: a hold whose end is missing here is among the holders there.
            let ended = snapshot::history_from(&objects.table, self.ended);
            let gave_up = snapshot::gave_up_from(&objects.table, self.gave_up);
            if let Some(last) = ended.last() {
                // Overwritten before we read them, or left unfinished by a killed process.
                let missed = (last.sequence + 1 - self.ended).saturating_sub(ended.len() as u64);
                if missed > 0 {
                    self.due.push_back(Change::Missed(missed));
                }
                self.ended = last.sequence + 1;
            }
            self.gave_up = gave_up.last().map_or(self.gave_up, |last| last.sequence + 1);
            // Ends are told in the order in which they happened, even if the wall clock was set back meanwhile.
            let mut floor = SystemTime::UNIX_EPOCH;
            for record in ended {
                over.insert(record.ticket);
                self.tell_of_past(record, &mut found);
                if let Some((at, _)) = found.last_mut() {
                    floor = floor.max(*at);
                    *at = floor;
                }
            }
            for record in gave_up {
                over.insert(record.ticket);
                self.tell_of_past(record, &mut found);
            }
        }
        self.tell_of_present(&state, &over, &mut found);
        found.sort_by_key(|(at, _)| *at); // stable: a request's own steps stay in order
        self.due.extend(found.into_iter().map(|(_, change)| change));
    }

    /// Tells of an ended request, with those of its steps that have not been told yet.
    fn tell_of_past(&mut self, record: HistoryRecord, found: &mut Vec<(SystemTime, Change)>) {
        let queued = self.queued.remove(&record.ticket);
        let queued_at = time(record.queued);
        let granted_at = queued_at + record.waited.unwrap_or_default();
        if !queued && record.waited > Some(Duration::ZERO) {
            let waiter = Waiter {
                ticket: record.ticket,
                mode: record.mode,
                requester: record.requester.clone(),
                since: record.queued,
                waited: Some(Duration::ZERO),
                stalled: false,
                alive: true,
            };
            found.push((queued_at, Change::Queued(waiter)));
        }
        let told = record.token.is_some_and(|token| self.granted.remove(&token));
        if record.how != Ended::TimedOut && !told {
            let holder = Holder {
                token: record.token,
                ticket: record.ticket,
                mode: record.mode,
                requester: record.requester.clone(),
                bound_pid: None,
                bound_start: None,
                detached: false,
                alive: true,
                since: record.granted(),
                held: Some(Duration::ZERO),
                waited: record.waited,
                expires_in: None,
            };
            found.push((granted_at, Change::Granted(holder)));
        }
        // Not before its grant, though the two times may come from clocks that were read differently.
        found.push((record.ended.max(granted_at), Change::Ended(record)));
    }

    /// Tells of what the table contains, except for requests that were `over` when the ends were read.
    fn tell_of_present(&mut self, state: &State, over: &HashSet<u64>, found: &mut Vec<(SystemTime, Change)>) {
        for waiter in state.waiters.iter().filter(|waiter| !over.contains(&waiter.ticket)) {
            if self.queued.insert(waiter.ticket) {
                found.push((time(waiter.since), Change::Queued(waiter.clone())));
            }
        }
        for holder in state.holders.iter().filter(|holder| !over.contains(&holder.ticket)) {
            if holder.token.is_some_and(|token| self.granted.insert(token)) {
                if self.queued.insert(holder.ticket) && holder.waited > Some(Duration::ZERO) {
                    let waiter = Waiter {
                        ticket: holder.ticket,
                        mode: holder.mode,
                        requester: holder.requester.clone(),
                        since: holder.queued(),
                        waited: Some(Duration::ZERO),
                        stalled: false,
                        alive: true,
                    };
                    found.push((time(waiter.since), Change::Queued(waiter)));
                }
                found.push((time(holder.since), Change::Granted(holder.clone())));
            }
        }
        if state.foreign != self.foreign {
            self.foreign = state.foreign;
            found.push((SystemTime::now(), Change::Foreign(state.foreign)));
        }
        // Requests that have vanished without a record (they were killed in the queue) are forgotten.
        if self.queued.len() > 4096 {
            let known: HashSet<u64> = state
                .waiters
                .iter()
                .map(|w| w.ticket)
                .chain(state.holders.iter().map(|h| h.ticket))
                .collect();
            self.queued.retain(|ticket| known.contains(ticket));
        }
        if self.granted.len() > 4096 {
            let known: HashSet<u64> = state.holders.iter().filter_map(|h| h.token).collect();
            self.granted.retain(|token| known.contains(token));
        }
    }
}

/// The time of a change for sorting: one that is not known (in a damaged table) comes first.
fn time(known: Option<SystemTime>) -> SystemTime {
    known.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn positions(objects: &Objects) -> (u64, u64) {
    objects.table.look();
    let header = &objects.table.header;
    (header.history_next.load(NEXT_LOAD), header.gave_up_next.load(NEXT_LOAD))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::types::{Host, Mode, Requester};

    /// Another program's request on an engine: the change is not dated 1970.
    #[test]
    fn a_change_of_unknown_time_happens_when_it_is_noticed() {
        let before = SystemTime::now();
        let change = Change::Queued(Waiter {
            ticket: 1,
            mode: Mode::Exclusive,
            requester: Requester {
                pid: None,
                uid: None,
                user: None,
                host: Host::Unknown,
                command: None,
                same_pid_namespace: false,
            },
            since: None,
            waited: None,
            stalled: false,
            alive: true,
        });
        assert!(change.at() >= before);
    }
}
