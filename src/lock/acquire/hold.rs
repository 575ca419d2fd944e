//! One hold of a handle.

use crate::lock::protocol::orderings::WORD_LOAD;
use crate::lock::protocol::queue;
use crate::lock::protocol::word::{Stage, Word};
use crate::lock::shm::beacon::Keeper;
use crate::lock::shm::ending::{self, Ending};
use crate::lock::shm::latched::NotDone;
use crate::lock::shm::layout::{Record, pack_end, pack_outcome, pack_what};
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::process;
use crate::lock::shm::real_world::Real;
use crate::lock::shm::request::{Request, kind_of};
use crate::lock::sys;
use crate::lock::types::{CommandEnd, Detached, Ended, Error, Mode, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How long a release may wait for the table. (The holder's own word is what counts; others can repair the rest.)
pub(crate) const RELEASE_LATCH_NS: u64 = 1_000_000_000;
/// How long binding a hold to a process may wait for the table. The caller has a process to look after meanwhile, and
/// can try again.
const BIND_LATCH_NS: u64 = 250_000_000;

/// Who in a process uses a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Guard,
    /// The handle, which has been told to acquire the lock and will be told to release it.
    Handle,
}

/// What makes a request a hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grant {
    /// The request's record, and its word.
    pub(crate) i: usize,
    pub(crate) word: Word,
    pub(crate) token: u64,
    /// When it was granted, in monotonic ns.
    pub(crate) at: u64,
    /// See [`Hold::abandoned`].
    pub(crate) abandoned: u64,
}

/// A hold: its record in the table, and what its end needs to know.
pub(crate) struct Hold {
    pub(crate) objects: Arc<Objects>,
    pub(crate) i: usize,
    /// The request's word, in stage Held.
    word: Word,
    pub(crate) token: u64,
    pub(crate) request: Request,
    /// When it was granted, in monotonic ns.
    pub(crate) granted: u64,
    /// Token of the dead holder's grant that was marked when this one was granted; 0 = none.
    pub(crate) abandoned: u64,
    pub(crate) keeper: Option<Keeper>,
    /// The keeper's id, after this process's own copy was closed; else 0.
    pub(crate) kept: u32,
    /// What ran under it has crashed: the next holder is told.
    pub(crate) crashed: bool,
    /// How the command that ran under it has ended, and true if that was at its limit.
    pub(crate) command_end: Option<(CommandEnd, bool)>,
    /// True if it does not depend on this process: it is not released with the last user.
    pub(crate) detached: bool,
    /// Who in this process uses it: so many guards...
    pub(crate) guards: u32,
    /// ...and the handle itself, as in the Python module. The last of them releases it.
    pub(crate) by_handle: bool,
}

/// Fails if nobody could tell when the time of a hold is over. The namespaces have been looked up.
pub(crate) fn can_expire() -> Result<()> {
    if process::time_namespace() == 0 {
        return Err(Error::Os {
            doing: "tell the time namespace, which a hold that expires needs, from",
            path: "/proc/self/ns/time".into(),
            source: std::io::Error::other("/proc is not mounted"),
        });
    }
    Ok(())
}

impl Hold {
    /// The hold that the request has become by this grant.
    pub(crate) fn new(objects: Arc<Objects>, grant: Grant, request: &Request) -> Self {
        Self {
            objects,
            i: grant.i,
            word: grant.word.at(Stage::Held),
            token: grant.token,
            request: *request,
            granted: grant.at,
            abandoned: grant.abandoned,
            keeper: None,
            kept: 0,
            crashed: false,
            command_end: None,
            detached: false,
            guards: 0,
            by_handle: false,
        }
    }

    /// Adds a user.
    pub(crate) fn add(&mut self, user: User) {
        match user {
            User::Guard => self.guards += 1,
            User::Handle => self.by_handle = true,
        }
    }

    /// Removes a user: true = it was the last one.
    pub(crate) fn remove(&mut self, user: User) -> bool {
        match user {
            User::Guard => self.guards = self.guards.saturating_sub(1),
            User::Handle => self.by_handle = false,
        }
        self.guards == 0 && !self.by_handle
    }

    /// The request's word, in stage Held.
    pub(crate) fn word(&self) -> Word {
        self.word
    }

    /// Its record; none in a table that is damaged.
    pub(crate) fn record(&self) -> Option<&Record> {
        self.objects.table.records().get(self.i)
    }

    /// True if the table still says so.
    pub(crate) fn is_held(&self) -> bool {
        let word = self.objects.table.words.get(self.i);
        word.is_some_and(|word| word.load(WORD_LOAD) == self.word.0)
    }

    /// True if it is this process's, and allows all that a hold in `mode` does.
    pub(crate) fn includes(&self, mode: Mode) -> bool {
        self.is_held() && !self.detached && self.request.mode.includes(mode)
    }

    /// Changes its record, in the latch and only while it is held: a record that was released by force may be another
    /// request's by now. False = it was no longer held. [`Error::Busy`](crate::Error::Busy): the table stayed busy for
    /// `timeout_ns`, and nothing was changed. The caller has passed the handle's mutex, or is the only thread that uses
    /// these objects.
    pub(crate) fn change(&self, timeout_ns: u64, work: impl FnOnce(&Real<'_>, &Record)) -> Result<bool> {
        let now = sys::monotonic();
        let real = Real::new(&self.objects, now, now.saturating_add(timeout_ns));
        let done = real.in_latch_of_any(|real, _, _| match self.record() {
            Some(record) if self.is_held() => {
                work(real, record);
                Ok(true)
            }
            _ => Ok(false),
        });
        match done {
            Ok(held) => Ok(held),
            Err(NotDone::Gone(_)) => Ok(false),
            Err(not_done) => Err(not_done.error(&self.objects)),
        }
    }

    /// Records that it was accepted at [`granted`](Self::granted): false = it is no longer held. If the table is busy, the
    /// time of the offer stays.
    pub(crate) fn accepted(&self) -> bool {
        let accepted = self.change(0, |_, record| record.granted.store(self.granted, Relaxed));
        !matches!(accepted, Ok(false))
    }

    /// Makes it a detached one: from now on nobody's life keeps it but the bound process's.
    pub(crate) fn detach(&self, detached: Detached, bound_start: u64) -> Result<bool> {
        process::look_up_namespaces();
        let detached = self.change(RELEASE_LATCH_NS, |real, _| real.detach(self.i, detached, bound_start));
        self.wake_next();
        detached
    }

    /// Makes the next in line look at once: what it waits for does not depend on this process any more.
    pub(crate) fn wake_next(&self) {
        let real = Real::new(&self.objects, self.granted, self.granted);
        let _ = queue::wake_next(&real, None);
    }

    /// Leaves it to its time: see [`Guard::linger`](crate::Guard::linger). What else the end of a command leaves in the
    /// table is left now. False = it was no longer held.
    pub(crate) fn linger(&self, time: Duration, wall_us: u64) -> Result<bool> {
        let now = sys::monotonic();
        let real = Real::new(&self.objects, now, now.saturating_add(RELEASE_LATCH_NS));
        let done = real.in_latch(|real, wakes| {
            // What was released by force is over.
            let owned = queue::settle(real)?;
            if !self.is_held() {
                queue::dispatch(real, None, owned, false, wakes)?;
                return Ok(false);
            }
            if self.crashed {
                queue::mark(real, self.i)?;
            }
            self.count_end(wall_us);
            let end = self.command_end.map(|(end, _)| end);
            real.linger(self.i, time, pack_outcome(self.outcome(), end));
            Ok(true)
        });
        self.wake_next();
        match done {
            Ok(held) => Ok(held),
            // The files were deleted or damaged: the release tells.
            Err(NotDone::Gone(_) | NotDone::Stale) => Ok(false),
            Err(not_done) => Err(not_done.error(&self.objects)),
        }
    }

    /// In the latch. Adds what has ended under it to the sums of the table.
    pub(crate) fn count_end(&self, wall_us: u64) {
        let header = &self.objects.table.header;
        ending::add(&header.crashes, self.crashed.into());
        if self.command_end == Some((CommandEnd::Exited(0), false)) {
            header.success_wall_us.store(wall_us, Relaxed);
        }
    }

    /// How its release counts.
    fn outcome(&self) -> Ended {
        match self.command_end {
            Some((_, true)) => Ended::Limit,
            _ if self.crashed => Ended::Crashed,
            _ => Ended::Released,
        }
    }

    /// Binds it to a process as well.
    pub(crate) fn bind(&self, pid: u32, start: u64) -> Result<bool> {
        process::look_up_namespaces();
        self.change(BIND_LATCH_NS, |real, _| real.bind(self.i, pid, start))
    }

    /// Clears the mark that an earlier holder died, if this holder was told of that very death. False = it was no longer
    /// held; then nothing was changed.
    pub(crate) fn mark_recovered(&mut self) -> Result<bool> {
        let told = self.abandoned;
        let held = self.change(RELEASE_LATCH_NS, |real, _| _ = queue::mark_recovered(real, told))?;
        if held {
            (self.abandoned, self.crashed) = (0, false);
        }
        Ok(held)
    }

    /// What the history keeps of it, if it is released at `now`. In the latch, before the record is another request's.
    pub(crate) fn ending(&self, now: u64, ended_wall_us: u64) -> Ending {
        let (kind, slots) = kind_of(self.request.mode);
        let how = self.outcome();
        Ending {
            ticket: self.record().map_or(0, |record| record.ticket.load(Relaxed)),
            token: self.token,
            queued_wall_us: self.request.queued_wall_us,
            waited_ns: self.granted.saturating_sub(self.request.queued),
            held_ns: now.saturating_sub(self.granted),
            ended_wall_us,
            requester: self.request.requester,
            what: pack_what(kind as u8, how, slots),
            command_end: pack_end(self.command_end.map(|(end, _)| end)),
            note: self.request.note,
        }
    }
}
