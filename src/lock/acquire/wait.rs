//! Waiting in the queue: who looks after the lock meanwhile, and how a request leaves.

use crate::GetOptions;
use crate::lock::acquire::acquisition::LATCH_TURN_NS;
use crate::lock::api::handle::ResourceLock;
use crate::lock::protocol::queue::{self, Place, Poll, Sweep};
use crate::lock::protocol::staleness;
use crate::lock::protocol::word::{Stage, Word};
use crate::lock::shm::real::{Describe, Objects, Real, go, kind_of};
use crate::lock::shm::table::pack_what;
use crate::lock::sys::{self, Watched};
use crate::lock::types::Ended;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const MS: u64 = 1_000_000;
/// The head looks at the holders this often, at first and after [`HEAD_EAGER_NS`].
const HEAD_NS: (u64, u64) = (2 * MS, 10 * MS);
const HEAD_EAGER_NS: u64 = 2_000 * MS;
/// The second looks at the head this often; it does the head's work if that has not been done for this long.
const SECOND_NS: u64 = 20 * MS;
pub(crate) const HEAD_LATE_NS: u64 = 100 * MS;
/// The third looks after both.
const THIRD_NS: u64 = 100 * MS;
/// All others; and in a long queue, each the more seldom the further back it stands: so much for every hundred ahead.
const FURTHER_NS: u64 = 1_000 * MS;
/// The head, while a foreign process holds the semaphore and will wake it.
const FOREIGN_NS: u64 = 100 * MS;

/// How a wait in the queue ended.
pub(crate) enum Waited {
    Granted(usize, Word),
    TimedOut,
    /// Through the request's [`Cancel`](crate::Cancel).
    Cancelled,
    /// Start again: the lock's files were replaced, or the request is gone from the table.
    Again,
}

/// Why a request leaves the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    TimeIsUp,
    Cancelled,
    /// The lock's files were deleted or replaced.
    Replaced,
}

impl ResourceLock {
    /// Sleeps in the queue until the request is granted, the deadline passes, or the wait is cancelled.
    pub(crate) fn wait_in_queue(
        &self,
        objects: &Arc<Objects>,
        describe: &Describe,
        i: usize,
        word: Word,
        deadline: u64,
        options: &mut GetOptions<'_>,
    ) -> Waited {
        let tell_at = options.on_wait.as_ref().map_or(u64::MAX, |(after, _)| {
            describe
                .queued
                .saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
        });
        // Time enough now; who is granted the lock at once may say it later (see `get`).
        Real::new(objects, describe.queued, describe.queued).name_namespace(i);
        let mut cursor = 0;
        let mut head_since = None;
        let mut visited = false;
        let mut first_look = true;
        loop {
            let now = sys::monotonic();
            let real = Real::new(objects, now, now);
            match go(queue::poll(&real, i, word)) {
                Poll::Granted => return Waited::Granted(i, word),
                Poll::Dropped => return Waited::Again,
                Poll::Unstalled | Poll::Withdrawn => {
                    let _mine = self.current();
                    self.visit_now(objects, Sweep::Active);
                    continue;
                }
                Poll::Waiting => {}
            }
            let leave = if options.cancel.is_some_and(crate::Cancel::is_cancelled) {
                Some(Leave::Cancelled)
            } else if now >= deadline {
                Some(Leave::TimeIsUp)
            } else if !self.is_current(objects) {
                Some(Leave::Replaced)
            } else {
                None
            };
            if let Some(why) = leave {
                return self.leave_queue(objects, describe, (i, word), now, why);
            }
            if now >= tell_at
                && let Some((_, mut tell)) = options.on_wait.take()
            {
                tell(&self.state());
            }
            let head_looked = &objects.table.header.head_looked;
            // A newcomer may have come behind the dead only.
            let late =
                std::mem::take(&mut first_look) || staleness::is_past(head_looked.load(Relaxed), now, HEAD_LATE_NS);
            let look = go(queue::look(&real, i, word, late, &mut cursor));
            if let Some(what) = look.visit
                && !visited
            {
                visited = true;
                let _mine = self.current();
                self.visit_now(objects, what);
                continue;
            }
            visited = false;
            let every = match look.place {
                Place::Head => {
                    head_looked.store(now, Relaxed);
                    if head_since.is_none()
                        && let Some(second) = look.second
                    {
                        // We have just become the head: it has to know that it is the second now.
                        crate::lock::protocol::queue::World::wake_request(&real, second);
                    }
                    let since = *head_since.get_or_insert(now);
                    watches_every(look.place, 0, now.saturating_sub(since))
                }
                place => {
                    watches_every(place, look.ahead, 0) + (i as u64 % 64) * MS * u64::from(place == Place::Further)
                }
            };
            let until = |every: u64| {
                let told = if options.on_wait.is_some() { tell_at } else { u64::MAX };
                now.saturating_add(every).min(deadline).min(told)
            };
            let own = Watched::Word(
                &objects.table.words[i & (objects.table.words.len() - 1)],
                word.at(Stage::Waiting).0,
            );
            let cancel = options.cancel.map(|cancel| Watched::Word(&cancel.0, 0));
            if look.foreign && look.place == Place::Head && objects.semaphore.join() {
                // As sem_wait(3) does: whoever posts wakes us.
                let semaphore = Watched::Low(objects.semaphore.word(), 0);
                match cancel {
                    Some(cancel) => sys::futex_wait(&[semaphore, own, cancel], until(FOREIGN_NS)),
                    None => sys::futex_wait(&[semaphore, own], until(FOREIGN_NS)),
                }
                objects.semaphore.part();
            } else {
                match cancel {
                    Some(cancel) => sys::futex_wait(&[own, cancel], until(every)),
                    None => sys::futex_wait(&[own], until(every)),
                }
            }
        }
    }

    /// Leaves the queue. If the lock was granted at the last moment, that is accepted by a request whose time is up,
    /// and given back by one that is not wanted any more.
    fn leave_queue(
        &self,
        objects: &Arc<Objects>,
        describe: &Describe,
        (i, word): (usize, Word),
        now: u64,
        why: Leave,
    ) -> Waited {
        let real = Real::new(objects, now, now.saturating_add(LATCH_TURN_NS));
        // Before leaving: afterwards the record may be another's.
        let ticket = objects
            .table
            .requests
            .get(i)
            .map_or(0, |record| record.ticket.load(Relaxed));
        let left = go(queue::withdraw(&real, i, word));
        if left == Poll::Granted && why == Leave::TimeIsUp {
            return Waited::Granted(i, word);
        }
        if left == Poll::Granted {
            go(queue::let_go(&real, i, word));
        }
        let current = self.current();
        // Busy or stale: what is left undone, the next one's look will do.
        let _ = real.in_latch(|real, wakes| {
            if left == Poll::Withdrawn && why != Leave::Replaced {
                let (kind, slots) = kind_of(describe.mode);
                real.gave_up(&crate::lock::shm::real::Ending {
                    ticket,
                    token: 0,
                    queued_wall_us: describe.queued_wall_us,
                    waited_ns: now.saturating_sub(describe.queued),
                    held_ns: 0,
                    ended_wall_us: sys::realtime() / 1000,
                    requester: describe.requester,
                    what: pack_what(kind as u8, Ended::TimedOut, slots),
                });
            }
            // It may have stood in others' way.
            go(queue::visit(real, Sweep::Active, wakes));
        });
        drop(current);
        match why {
            Leave::TimeIsUp => Waited::TimedOut,
            Leave::Cancelled => Waited::Cancelled,
            Leave::Replaced => Waited::Again,
        }
    }
}

/// How often a waiter in this place looks, which has so many ahead of it, or has been the head for so long.
pub(crate) fn watches_every(place: Place, ahead: usize, head_for: u64) -> u64 {
    match place {
        Place::Head if head_for < HEAD_EAGER_NS => HEAD_NS.0,
        Place::Head => HEAD_NS.1,
        Place::Second => SECOND_NS,
        Place::Third => THIRD_NS,
        Place::Further => FURTHER_NS * (ahead as u64).max(100) / 100,
    }
}
