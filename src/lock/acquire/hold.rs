//! One hold of a handle, and how it ends.

use crate::lock::api::handle::{REMOVAL_TAKES, ResourceLock, UNGET_LATCH_NS, busy};
use crate::lock::protocol::queue;
use crate::lock::protocol::word::{Stage, Word};
use crate::lock::shm::beacon::Keeper;
use crate::lock::shm::real::{Describe, Ending, NotDone, Objects, Real, go, kind_of};
use crate::lock::shm::table::{Record, pack_what};
use crate::lock::sys;
use crate::lock::types::Ended;
use crate::{Detached, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

/// How long binding a hold to a process may wait for the table. Who asks for it has a process to look after meanwhile,
/// and can ask again.
const BIND_LATCH_NS: u64 = 250_000_000;

/// A hold: its record in the table, and what its end needs to know.
pub(crate) struct Hold {
    pub(crate) objects: Arc<Objects>,
    pub(crate) i: usize,
    /// The request's word, stage Held.
    pub(crate) word: Word,
    pub(crate) token: u64,
    pub(crate) describe: Describe,
    pub(crate) granted: u64,
    /// Token of the dead holder's grant that was marked when this one was granted, 0 = none.
    pub(crate) abandoned: u64,
    pub(crate) keeper: Option<Keeper>,
    /// Its id, after this process's own copy was closed; else 0.
    pub(crate) kept: u32,
    /// Left to its own devices: not released with the handle.
    pub(crate) left: bool,
}

impl Hold {
    /// Whether the table still says so.
    pub(crate) fn is_held(&self) -> bool {
        self.objects
            .table
            .words
            .get(self.i)
            .is_some_and(|word| word.load(Acquire) == self.word.0)
    }

    /// Changes what stands in its record, in the latch and only while it is held: a record that was released by force
    /// may be another's by now. False = it was not held any more. [`Error::Busy`](crate::Error::Busy): the table stayed
    /// busy for `patience` ns, nothing was changed. The caller has passed the handle's mutex, or has the only thread
    /// that uses these objects.
    pub(crate) fn change(&self, patience: u64, work: impl FnOnce(&Real<'_>, &Record)) -> Result<bool> {
        let now = sys::monotonic();
        let real = Real::new(&self.objects, now, now.saturating_add(patience));
        let done = real.in_latch_of_any(|real, _, _| match self.objects.table.requests.get(self.i) {
            Some(record) if self.is_held() => {
                work(real, record);
                true
            }
            _ => false,
        });
        done.map_err(|not_done| busy(&self.objects, not_done))
    }

    /// Makes it a detached one: from here on nobody's life keeps it but the bound process's.
    pub(crate) fn detach(&self, detached: Detached, bound_start: u64) -> Result<bool> {
        self.change(UNGET_LATCH_NS, |real, _| real.detach(self.i, detached, bound_start))
    }

    /// Binds it to a process as well.
    pub(crate) fn bind(&self, pid: u32, start: u64) -> Result<bool> {
        self.change(BIND_LATCH_NS, |real, _| real.bind(self.i, pid, start))
    }

    fn ending(&self, now: u64, ended_wall_us: u64) -> Ending {
        let (kind, slots) = kind_of(self.describe.mode);
        Ending {
            ticket: 0,
            token: self.token,
            queued_wall_us: self.describe.queued_wall_us,
            waited_ns: self.granted.saturating_sub(self.describe.queued),
            held_ns: now.saturating_sub(self.granted),
            ended_wall_us,
            requester: self.describe.requester,
            what: pack_what(kind as u8, Ended::Released, slots),
        }
    }
}

impl ResourceLock {
    /// Releases a hold of this handle: false = it was no longer held. `mended`: a mark that an earlier holder died is
    /// cleared, as this one has finished well.
    ///
    /// The release is one compare-exchange, which works even while a process is stopped in the latch; what follows
    /// (history, the next in line) is skipped if the table stays busy, and made up for by the next one who looks.
    pub(crate) fn end_hold(&self, hold: Hold, mended: bool) -> Result<bool> {
        let mut current = self.current();
        let now = sys::monotonic();
        let wall_us = current.clock.wall_us(now);
        let real = Real::new(&hold.objects, now, now.saturating_add(UNGET_LATCH_NS));
        let done = real.in_latch(|real, wakes| {
            let owned = go(queue::settle(real));
            let released = go(queue::let_go(real, hold.i, hold.word));
            if released {
                let mut ending = hold.ending(now, wall_us);
                ending.ticket = hold
                    .objects
                    .table
                    .requests
                    .get(hold.i)
                    .map_or(0, |record| record.ticket.load(Relaxed));
                real.ended_own(&ending);
            }
            let abandoned = &hold.objects.table.header.abandoned;
            if mended && hold.abandoned != 0 && abandoned.load(Relaxed) == hold.abandoned {
                abandoned.store(0, Relaxed);
            }
            go(queue::dispatch(real, None, owned, false, wakes));
            released
        });
        match done {
            Ok(released) => Ok(released),
            Err(not_done) => {
                let released = go(queue::let_go(&real, hold.i, hold.word));
                if not_done == NotDone::Stale && hold.objects.table.header.retired.load(SeqCst) != 0 {
                    // Removed by force, or just about to be: there is nobody to give the old semaphore to.
                } else if not_done == NotDone::Stale {
                    // The table has a new semaphore: whoever is next is served with that one.
                    let mended = self.reopen(&mut current, REMOVAL_TAKES);
                    drop(current);
                    if let Err(error) = mended.and_then(|_| self.repair()) {
                        log::warn!("<{}> released, but {error}", self.name());
                    }
                } else {
                    log::warn!(
                        "<{}> released, but the next in line has to find out by itself: {}",
                        self.name(),
                        busy(&hold.objects, not_done)
                    );
                }
                Ok(released)
            }
        }
    }
}

/// The word of a request in stage Held.
pub(crate) fn held(word: Word) -> Word {
    word.at(Stage::Held)
}
