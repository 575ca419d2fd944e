//! Following a lock: what happens to it, as it happens.
//!
//! The watcher sets a bit in the table and sleeps on that word; the next process that changes the table clears the bit
//! and wakes the watcher. All that a watcher costs others is one load of the word, and all that a watcher leaves behind
//! when it dies is that bit.
//!
//! A lock may be removed, and created again: then the watcher turns to the new one, whose past it reads from its beginning.

use crate::lock::inspect::sight::Sight;
use crate::lock::inspect::snapshot;
use crate::lock::inspect::viewer::Viewer;
use crate::lock::protocol::orderings::NEXT_LOAD;
use crate::lock::shm::events::WATCHED;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::sys::{self, UntouchedWord, Watched};
use crate::lock::types::{Cancel, HistoryRecord, Holder, State, Waiter};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
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
    /// A hold ended, or a request gave up ([`Ended::gave_up`](crate::Ended::gave_up)).
    Ended(HistoryRecord),
    /// A process that does not use the table (the Python module) has taken (true) or released (false) the lock.
    Foreign(bool),
    /// This many ended holds were overwritten before they could be read.
    Missed(u64),
    /// The lock was removed, or its files were deleted. What is told after this is about a new lock of this name.
    Removed,
}

impl Change {
    /// When it happened. Where that is not known, and for [`Foreign`](Self::Foreign), [`Missed`](Self::Missed) and
    /// [`Removed`](Self::Removed): now.
    pub fn at(&self) -> SystemTime {
        match self {
            Self::Queued(waiter) => waiter.since.unwrap_or_else(SystemTime::now),
            Self::Granted(holder) => holder.since.unwrap_or_else(SystemTime::now),
            Self::Ended(record) => record.ended,
            Self::Foreign(_) | Self::Missed(_) | Self::Removed => SystemTime::now(),
        }
    }
}

/// Follows a lock.
pub(crate) struct Watch {
    viewer: Viewer,
    /// What stood at the lock's paths at the last look; `None`: nothing that could be read.
    sight: Option<Arc<Sight>>,
    /// The last table there, by its inode, and how far its past has been read.
    past: Past,
    /// The table's word for watchers, if this reader may write it.
    events: Option<UntouchedWord>,
    queued: HashSet<u64>,
    granted: HashSet<u64>,
    foreign: bool,
    due: VecDeque<Change>,
}

/// How far the past of the table with this inode has been read.
#[derive(Default)]
struct Past {
    inode: u64,
    ended: u64,
    gave_up: u64,
}

impl Watch {
    pub(crate) fn new(viewer: Viewer) -> Self {
        let mut watch = Self {
            viewer,
            sight: None,
            past: Past::default(),
            events: None,
            queued: HashSet::new(),
            granted: HashSet::new(),
            foreign: false,
            due: VecDeque::new(),
        };
        if let Ok(sight) = watch.viewer.look() {
            // Before the past is found to end here: nothing falls in between.
            let state = sight.state();
            watch.turn_to(Some(sight));
            watch.past = watch.past_now();
            let tickets = state.waiters.iter().map(|w| w.ticket);
            watch.queued = tickets.chain(state.holders.iter().map(|h| h.ticket)).collect();
            watch.granted = state.holders.iter().filter_map(|h| h.token).collect();
            watch.foreign = state.foreign;
        }
        watch
    }

    fn objects(&self) -> Option<&Objects> {
        self.sight.as_ref()?.objects()
    }

    /// From now on it is this that is inspected.
    fn turn_to(&mut self, sight: Option<Arc<Sight>>) {
        self.sight = sight;
        self.events = self.objects().and_then(|objects| objects.table.events());
    }

    /// The end of what is past now.
    fn past_now(&self) -> Past {
        let Some(objects) = self.objects() else {
            return Past::default();
        };
        objects.table.look();
        let header = &objects.table.header;
        Past {
            inode: objects.table.inode,
            ended: header.history_next.load(NEXT_LOAD),
            gave_up: header.gave_up_next.load(NEXT_LOAD),
        }
    }

    /// The next change; blocks until there is one or `cancel` ends it (then `None`).
    pub(crate) fn next(&mut self, cancel: &Cancel) -> Option<Change> {
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
            // Of a lock that is not there, nothing is missed: it begins with an empty past.
            let every = if seen.is_some() || self.sight.is_none() {
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
        let table = &self.objects()?.table;
        self.events.as_ref()?.set(WATCHED).ok()?;
        table.look();
        // With the bit: if that has been cleared since, there is no sleep.
        Some(table.header.events.load(Relaxed) | WATCHED)
    }

    /// Compares what there is with what was known.
    fn inspect(&mut self) {
        if self.sight.as_ref().is_none_or(|sight| !sight.is_current()) {
            // What had happened to the former lock until its end.
            self.inspect_sight();
            self.follow_on();
        }
        self.inspect_sight();
    }

    /// Turns to what stands at the lock's paths now.
    fn follow_on(&mut self) {
        let next = match &self.sight {
            Some(before) => self.viewer.look_from(before),
            None => self.viewer.look(),
        };
        let before = self.sight.take();
        self.turn_to(next.ok());
        let goes_on = |before: &Sight| self.sight.as_ref().is_some_and(|next| next.continues(before));
        if before.is_some_and(|before| !goes_on(&before)) {
            self.due.push_back(Change::Removed);
            self.foreign = false;
        }
        let inode = self.objects().map_or(0, |objects| objects.table.inode);
        if inode != 0 && inode != self.past.inode {
            self.past = Past {
                inode,
                ..Past::default()
            };
            self.queued.clear();
            self.granted.clear();
        }
    }

    fn inspect_sight(&mut self) {
        let Some(sight) = self.sight.clone() else { return };
        let state = sight.state();
        let mut found: Vec<(SystemTime, Change)> = Vec::new();
        let mut over: HashSet<u64> = HashSet::new();
        if let Some(objects) = sight.objects() {
            // Read after the requests: a hold whose end is missing here is among the holders there.
            let ended = snapshot::history_from(&objects.table, self.past.ended);
            let gave_up = snapshot::gave_up_from(&objects.table, self.past.gave_up);
            if let Some(last) = ended.last() {
                // Overwritten before we read them, or left unfinished by a killed process.
                let missed = (last.sequence + 1 - self.past.ended).saturating_sub(ended.len() as u64);
                if missed > 0 {
                    self.due.push_back(Change::Missed(missed));
                }
                self.past.ended = last.sequence + 1;
            }
            self.past.gave_up = gave_up.last().map_or(self.past.gave_up, |last| last.sequence + 1);
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
        if !queued && record.ticket != 0 && record.waited > Some(Duration::ZERO) {
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
        if !record.how.gave_up() && !told {
            let holder = Holder {
                token: record.token,
                ticket: record.ticket,
                mode: record.mode,
                requester: record.requester.clone(),
                bound_pid: None,
                bound_start: None,
                detached: false,
                lingers: false,
                alive: true,
                presumed: false,
                kept_by: None,
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
