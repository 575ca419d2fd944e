//! A request in the queue: it sleeps, looks after the lock meanwhile, and leaves.
//!
//! It looks when it is told of something ([`Watching`], or a wake-up by whoever changes its place), and every few seconds in
//! case that it was not. Where something cannot be watched, and as long as the queue moves fast, it looks often.

use crate::lock::acquire::handle::{Handle, LATCH_TURN_NS, visit_as};
use crate::lock::acquire::watching::{Next, Watching};
use crate::lock::inspect::snapshot::{self, Owned};
use crate::lock::protocol::queue::{self, Check, Place, Poll, Sweep, World};
use crate::lock::protocol::staleness;
use crate::lock::protocol::word::{Stage, Word};
use crate::lock::shm::latched::NotDone;
use crate::lock::shm::layout::REQUESTS;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::process;
use crate::lock::shm::real_world::{Gone, Real};
use crate::lock::shm::request::{Request, kind_of};
use crate::lock::sys::{self, Watched};
use crate::lock::types::get_options::{OnSignal, OnWait};
use crate::lock::types::{Cancel, Ended, State};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const MS: u64 = 1_000_000;
/// How often a request checks that has been told of nothing. In a long queue, less often the further back it stands: this
/// long for every [`SAFETY_AHEAD`] ahead.
const SAFETY_NS: u64 = 5_000 * MS;
const SAFETY_AHEAD: u64 = 25;
/// How soon one checks again that could not do what is due: the table may have been busy.
const AGAIN_NS: u64 = 100 * MS;
/// Where something cannot be watched, how often the head checks the holders: at first, and after [`HEAD_EAGER_NS`].
const HEAD_NS: (u64, u64) = (2 * MS, 10 * MS);
const HEAD_EAGER_NS: u64 = 2_000 * MS;
/// How often the second checks the head; it does the head's work if that has not been done for [`HEAD_LATE_NS`].
const SECOND_NS: u64 = 20 * MS;
pub(crate) const HEAD_LATE_NS: u64 = 100 * MS;
/// How often the third checks both.
const THIRD_NS: u64 = 100 * MS;
/// How often all others do; in a long queue, less often: this long for every hundred ahead.
const FURTHER_NS: u64 = 1_000 * MS;
/// How long they stand in their place before they have others watched.
const FURTHER_WATCH_NS: u64 = 500 * MS;
/// How often the head checks while a foreign process holds the semaphore and will wake it.
const FOREIGN_NS: u64 = 100 * MS;

/// How often a program is asked if a signal has come, if none has ended the sleep.
const SIGNAL_NS: u64 = 5_000 * MS;
/// So many visits to the latch are made one after the other before it sleeps in between.
const VISITS: u32 = 64;

/// How a wait in the queue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// `stood_at`: when the lock's paths were last found to lead to its objects, in monotonic ns.
    Granted {
        stood_at: u64,
    },
    TimedOut,
    /// Through the request's [`Cancel`], or what it has for signals.
    Cancelled,
    /// Start again: the lock's files were replaced, or the request is gone from the table.
    Again,
    /// A later request that came to replace others takes its place.
    Superseded,
    /// What the program wants to be called has forked, and this is the child: the request is its parent's.
    Forked,
    /// Its time is up and nobody holds the lock, but a process stands still in the middle of changing the table.
    StoodStill(NotDone),
}

/// What ends a wait from outside: [`GetOptions::cancel`](crate::GetOptions::cancel),
/// [`GetOptions::on_signal`](crate::GetOptions::on_signal).
pub(crate) type Stops<'a> = (Option<&'a Cancel>, Option<&'a OnSignal<'a>>);

/// Why a request leaves the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    TimeIsUp,
    Cancelled,
    /// A later request came to replace others, as this one did.
    Superseded,
    /// The lock's files were deleted or replaced.
    Replaced,
}

impl Leave {
    /// How the request ends; `None`: it goes on elsewhere.
    fn ending(self) -> Option<Ended> {
        match self {
            Self::TimeIsUp => Some(Ended::TimedOut),
            Self::Cancelled | Self::Superseded => Some(Ended::Cancelled),
            Self::Replaced => None,
        }
    }
}

/// See the module.
pub(crate) struct Queued<'a> {
    handle: &'a Handle,
    objects: &'a Arc<Objects>,
    request: &'a Request,
    i: usize,
    /// The request's word when it joined the queue.
    word: Word,
    /// When to leave, in monotonic ns.
    deadline: u64,
    /// Which holders are checked next.
    cursor: usize,
    /// Since when it has been the head, in monotonic ns.
    head_since: Option<u64>,
    /// The last check led to this visit, which the next one need not repeat.
    visited: Option<Sweep>,
    /// How many visits there were one after the other.
    visits: u32,
    watching: Watching,
    /// The request right before it, and since when it is that one, or none, in monotonic ns.
    before: (Option<(usize, Word)>, u64),
    first_check: bool,
    /// When the lock's paths were last found to lead to its objects, in monotonic ns.
    stood_at: u64,
    /// It has left the queue, or was granted the lock.
    over: bool,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if !self.over && !self.is_forked() {
            // Something of the program's panicked. A request that nobody looks after would be offered the lock in vain.
            self.leave(sys::monotonic(), Leave::Cancelled);
        }
    }
}

impl<'a> Queued<'a> {
    /// The request in record `i`, that joined the queue as `word`.
    pub(crate) fn new(
        handle: &'a Handle,
        objects: &'a Arc<Objects>,
        request: &'a Request,
        (i, word): (usize, Word),
        deadline: u64,
    ) -> Self {
        Self {
            handle,
            objects,
            request,
            i,
            word,
            deadline,
            cursor: 0,
            head_since: None,
            visited: None,
            visits: 0,
            watching: Watching::new(objects, i),
            before: (None, sys::monotonic()),
            first_check: true,
            stood_at: 0,
            over: false,
        }
    }

    /// Sleeps in the queue until the request is granted, the deadline passes, or the wait is cancelled. If that panics (in
    /// what the program wants to be called), the request leaves the queue.
    pub(crate) fn wait(mut self, stops: Stops<'_>, on_wait: &mut &[OnWait<'_>], every: Option<&OnWait<'_>>) -> Waited {
        let waited = self.wait_for_end(stops, on_wait, every);
        self.over = true;
        waited
    }

    fn wait_for_end(
        &mut self,
        (cancel, on_signal): Stops<'_>,
        on_wait: &mut &[OnWait<'_>],
        every: Option<&OnWait<'_>>,
    ) -> Waited {
        let queued = self.request.queued;
        let due = |since: u64, on_wait: Option<&OnWait<'_>>| {
            on_wait.map_or(u64::MAX, |(after, _)| {
                since.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
            })
        };
        let tell_at = |on_wait: &[OnWait<'_>]| due(queued, on_wait.first());
        let mut tell_again_at = due(queued, every);
        // There is time for it now; a request that is granted at once may do so later, if at all. The note's page is needed
        // when a holder has died.
        let _ = self.objects.note.read();
        Real::new(self.objects, self.request.queued, self.request.queued).name_namespace(self.i);
        if self.request.replaces {
            self.wake_replaced();
        }
        loop {
            let told = self.watching.looks();
            let now = sys::monotonic();
            let real = Real::new(self.objects, now, now);
            // First: an offer is not accepted then.
            if self.request.replaces && queue::is_superseded(&real, self.i, self.word) == Ok(true) {
                return self.leave(now, Leave::Superseded);
            }
            match queue::poll(&real, self.i, self.word) {
                Ok(Poll::Granted) => return self.granted(&real),
                Ok(Poll::Dropped) | Err(Gone) => return Waited::Again,
                Ok(Poll::Unstalled | Poll::Withdrawn) => {
                    self.visit(Sweep::Active);
                    continue;
                }
                Ok(Poll::Waiting) => {}
            }
            if let Some(why) = self.reason_to_leave(cancel, now, told) {
                return self.leave(now, why);
            }
            // At each look, not only when a signal ends the sleep: it may come while we are awake.
            let is_stopped = on_signal.is_some_and(|stop| stop());
            if is_stopped && !self.is_forked() {
                return self.leave(sys::monotonic(), Leave::Cancelled);
            }
            if now >= tell_at(on_wait)
                && let Some(((_, tell), later)) = on_wait.split_first()
            {
                *on_wait = later;
                self.tell(&**tell);
            }
            if now >= tell_again_at
                && let Some((_, tell)) = every
            {
                self.tell(&**tell);
                tell_again_at = due(sys::monotonic(), every);
            }
            if self.is_forked() {
                return Waited::Forked;
            }
            if told {
                // To probe first what has ended would take time. If it was not the last that kept the request, the check that
                // follows sees that.
                self.visit(self.before.0.map_or(Sweep::Active, |(k, _)| Sweep::With(k)));
                continue;
            }
            let Some(check) = self.check(&real, now) else {
                continue;
            };
            self.prepare_grant(now);
            let mut latest = self.deadline.min(tell_at(on_wait)).min(tell_again_at);
            if on_signal.is_some() {
                // It may come between the question and the sleep.
                latest = latest.min(now.saturating_add(SIGNAL_NS));
            }
            let Some(next) = self.next_check(&real, &check, now) else {
                continue;
            };
            let foreign = now.saturating_add(FOREIGN_NS);
            self.sleep(&check, cancel, next.min(latest), foreign.min(latest));
        }
    }

    /// When to check again, in monotonic ns, if nothing wakes it until then; `None`: at once.
    fn next_check(&mut self, real: &Real<'_>, check: &Check, now: u64) -> Option<u64> {
        let often = self.check_again_after(real, check, now);
        let before = check.before.map(|(k, word)| (k, word.at(Stage::Waiting)));
        if before != self.before.0 {
            self.before = (before, now);
        }
        // Where the queue moves fast, the time would be spent on watching.
        let until_watching = watches_after(check.place).saturating_sub(now.saturating_sub(self.before.1));
        let after = if check.visit.is_some() {
            often.min(AGAIN_NS)
        } else if check.foreign && check.place == Place::Head {
            often
        } else if until_watching > 0 && !self.is_only_told() {
            often.min(until_watching)
        } else {
            match self.watching.watch(real, check, now) {
                Next::Now => return None,
                Next::Look => often,
                Next::After(ns) => often.min(ns),
                Next::Told(until) if self.is_only_told() => until.saturating_sub(now),
                Next::Told(until) => {
                    in_a_long_queue(SAFETY_NS, check.ahead, SAFETY_AHEAD).min(until.saturating_sub(now))
                }
            }
        };
        Some(now.saturating_add(after))
    }

    /// True for a test of what requests are told: then this one does not look besides.
    fn is_only_told(&self) -> bool {
        cfg!(test) && self.handle.name().as_str().starts_with("test-fail-tell")
    }

    /// It came to replace others: they find that out at once.
    fn wake_replaced(&self) {
        let real = Real::new(self.objects, self.request.queued, self.request.queued);
        for k in (0..REQUESTS).filter(|k| *k != self.i) {
            let waits = real.word(k).is_ok_and(|word| word.stage() == Stage::Waiting);
            if waits && real.replaces(k) == Ok(true) {
                real.wake_request(k);
            }
        }
    }

    /// True in the child of a fork, made by what the program wants to be called. The handle's mutex may be locked for ever
    /// there.
    fn is_forked(&self) -> bool {
        self.handle.check_fork().is_err()
    }

    /// Tells the program what can be seen of the lock.
    fn tell(&self, tell: &dyn Fn(&State)) {
        if !self.is_forked() {
            tell(&self.seen());
        }
    }

    fn seen(&self) -> State {
        let objects = self.handle.current().objects.clone();
        let (semaphore, note) = (&objects.semaphore, &objects.note);
        let owned = Owned::used(semaphore);
        snapshot::state(self.handle.name(), owned, semaphore, note, Some(&objects))
    }

    /// What a grant needs that takes long, as long as there is time.
    fn prepare_grant(&self, now: u64) {
        self.objects.table.catch_up();
        if let Some(mut current) = self.handle.current_if_free() {
            current.clock.prepare(now, &self.objects.table.header.zone);
        }
    }

    /// After it was told of a death, the paths are not checked: that is done at the grant, or at the next look.
    fn reason_to_leave(&mut self, cancel: Option<&Cancel>, now: u64, told: bool) -> Option<Leave> {
        if cancel.is_some_and(Cancel::is_cancelled) {
            Some(Leave::Cancelled)
        } else if now >= self.deadline {
            Some(Leave::TimeIsUp)
        } else if told {
            None
        } else if self.objects.are_current() {
            self.stood_at = now;
            None
        } else {
            Some(Leave::Replaced)
        }
    }

    fn visit(&self, what: Sweep) {
        let _mine = self.handle.current();
        visit_as(self.objects, what, Some(self.i));
    }

    /// Does what a waiter has to do in its place. `None` = it was a visit: see what that came to.
    fn check(&mut self, real: &Real<'_>, now: u64) -> Option<Check> {
        let head_checked = self.objects.table.header.head_checked.load(Relaxed);
        // A newcomer may have joined behind dead requests only.
        let late = std::mem::take(&mut self.first_check) || staleness::is_past(head_checked, now, HEAD_LATE_NS);
        // Gone: so are its files, which is found out before the next one.
        let mut check = queue::check(real, self.i, self.word, late, &mut self.cursor).ok()?;
        if process::settle_doubts() {
            check.visit = Some(Sweep::Active);
        }
        if let Some(what) = check.visit
            && self.visited != Some(what)
            && self.visits < VISITS
        {
            self.visited = Some(what);
            self.visits += 1;
            self.visit(what);
            return None;
        }
        (self.visited, self.visits) = (None, 0);
        Some(check)
    }

    /// After how long to check again, in ns, if not everything is watched.
    fn check_again_after(&mut self, real: &Real<'_>, check: &Check, now: u64) -> u64 {
        match check.place {
            Place::Head => {
                self.objects.table.header.head_checked.store(now, Relaxed);
                if self.head_since.is_none()
                    && let Some(second) = check.second
                {
                    // We have just become the head: the next one has to know that it is the second now.
                    real.wake_request(second);
                }
                let since = *self.head_since.get_or_insert(now);
                checks_every(check.place, 0, now.saturating_sub(since))
            }
            // Not all at the same time.
            Place::Further => checks_every(check.place, check.ahead, 0) + (self.i as u64 % 64) * MS,
            place => checks_every(place, check.ahead, 0),
        }
    }

    /// Sleeps until the request's word changes, the wait is cancelled, or `until`. While a foreign process holds the
    /// semaphore, the head sleeps in that as well, and until `foreign_until`.
    fn sleep(&self, check: &Check, cancel: Option<&Cancel>, until: u64, foreign_until: u64) {
        if self.watching.is_alarmed() {
            return;
        }
        let word = &self.objects.table.words[self.i & (REQUESTS - 1)];
        let own = || Watched::Word(word, self.word.at(Stage::Waiting).0);
        let cancel = cancel.map(|cancel| Watched::Word(&cancel.0, 0));
        let semaphore = &self.objects.semaphore;
        if check.foreign && check.place == Place::Head && semaphore.join() {
            // As sem_wait(3) does: the process that posts wakes us.
            let value = Watched::Low(&semaphore.word, 0);
            match cancel {
                Some(cancel) => sys::futex_wait(&[value, own(), cancel], foreign_until),
                None => sys::futex_wait(&[value, own()], foreign_until),
            }
            semaphore.leave();
            return;
        }
        match cancel {
            Some(cancel) => sys::futex_wait(&[own(), cancel], until),
            None => sys::futex_wait(&[own()], until),
        }
    }

    fn granted(&self, real: &Real<'_>) -> Waited {
        let (kind, _) = kind_of(self.request.mode);
        let _ = queue::pass_on(real, kind, self.word);
        Waited::Granted {
            stood_at: self.stood_at,
        }
    }

    /// Leaves the queue. If the lock was granted at the last moment, a request whose time is up accepts that, and one that
    /// is no longer wanted releases it.
    fn leave(&self, now: u64, why: Leave) -> Waited {
        let real = Real::new(self.objects, now, now.saturating_add(LATCH_TURN_NS));
        // Before leaving: afterwards the record may be another request's.
        let record = self.objects.table.records().get(self.i);
        let ticket = record.map_or(0, |record| record.ticket.load(Relaxed));
        let left = queue::withdraw(&real, self.i, self.word).unwrap_or(Poll::Dropped);
        if left == Poll::Granted && why == Leave::TimeIsUp {
            return self.granted(&real);
        }
        if left == Poll::Granted {
            let _ = queue::let_go(&real, self.i, self.word);
        }
        let _mine = self.handle.current();
        if why.ending().is_some() {
            self.objects.table.make_room(&self.objects.table.gave_up());
        }
        // Busy, stale or gone: what is left undone, the next in line will do.
        let done = real.in_latch(|real, wakes| {
            if let Some(how) = why.ending() {
                let ending = self.request.gave_up(ticket, now, how);
                self.objects.table.record_gave_up(&ending);
            }
            // It may have stood in others' way.
            queue::visit(real, Sweep::Active, wakes)
        });
        // The next one watches this process, which lives on. And if the table was busy, it has to see to what is left undone.
        let behind = (left != Poll::Granted).then_some(self.word);
        let _ = queue::wake_next(&real, behind);
        match (why, done) {
            (Leave::TimeIsUp, Err(busy @ NotDone::Busy(_))) if self.objects.table.is_free() => Waited::StoodStill(busy),
            (Leave::TimeIsUp, _) => Waited::TimedOut,
            (Leave::Cancelled, _) => Waited::Cancelled,
            (Leave::Superseded, _) => Waited::Superseded,
            (Leave::Replaced, _) => Waited::Again,
        }
    }
}

/// How often a waiter in this place checks, in ns, that has so many ahead of it, or has been the head for so long.
pub(crate) fn checks_every(place: Place, ahead: usize, head_for: u64) -> u64 {
    match place {
        Place::Head if head_for < HEAD_EAGER_NS => HEAD_NS.0,
        Place::Head => HEAD_NS.1,
        Place::Second => SECOND_NS,
        Place::Third => THIRD_NS,
        Place::Further => in_a_long_queue(FURTHER_NS, ahead, 100),
    }
}

/// How long a waiter stands in this place, in ns, before it has others watched.
fn watches_after(place: Place) -> u64 {
    match place {
        Place::Further => FURTHER_WATCH_NS,
        place => checks_every(place, 0, 0),
    }
}

/// This time for every `each` ahead.
fn in_a_long_queue(time: u64, ahead: usize, each: u64) -> u64 {
    time * (ahead as u64).max(each) / each
}
