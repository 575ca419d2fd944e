//! Getting the lock: a try, a short patience outside the queue, then the queue.

use crate::handle::{Current, REMOVAL_LOOK, ResourceLock, busy};
use crate::hold::{Hold, held};
use crate::live::{Describe, Live, NotDone, Objects, go, kind_of};
use crate::queue::{self, Ask, Asked, Place, Poll, Sweep};
use crate::state::Ended;
use crate::sys::{self, Watched};
use crate::table::{pack_command, pack_what};
use crate::word::{Stage, Word};
use crate::{Error, GetOptions, Mode, Result, Wait, identity, room};
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

const MS: u64 = 1_000_000;
/// Longest stay in the queue for the latch at a time, so that the handle's other threads are not held up for long.
const LATCH_TURN_NS: u64 = 50 * MS;
/// Even a request that does not wait gives the latch this long. It is normally free within a microsecond, but on a busy
/// machine the process inside may be kept from running for some tens of milliseconds.
const LATCH_LEAST_NS: u64 = 250 * MS;
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
/// The head, while a foreign process holds the flag and will wake it.
const FOREIGN_NS: u64 = 100 * MS;

/// Patience before the queue, where holds are short: tries to see the flag free...
const GLANCES: u32 = 40;
/// ...each after so many pauses...
const PAUSES: u32 = 24;
/// ...then naps, while a holder that was preempted gets the processor. Together below 1 ms: what a person could
/// notice is served in order.
const NAPS: u32 = 5;
/// ...and all that for no longer than this, however often a glimpse of the free flag came too late.
const PATIENCE_NS: u64 = 900_000;
const NAP: Duration = Duration::from_micros(50);

/// What one try in the latch came to.
enum Try {
    Granted(Hold),
    Queued(usize, Word),
    Busy,
    Full,
    /// In use with this other number of slots.
    SlotsDiffer(u32),
    /// The table stayed busy for a turn.
    Latched(NotDone),
}

/// How a wait in the queue ended.
enum Waited {
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
    /// The token of the hold, and whether it is a new one of this handle; `None` = not had in time.
    pub(crate) fn get(&self, mut options: GetOptions<'_>) -> Result<Option<(u64, bool)>> {
        self.check_fork()?;
        let start = sys::monotonic();
        if options.same_process_ok
            && let Some(token) = self.held_token()
        {
            log::debug!(
                "<{}> lock already acquired   - Prior grant     <{}>",
                self.name(),
                self.get_lock_info()
            );
            return Ok(Some((token, false)));
        }
        let deadline = match options.wait {
            Wait::No => start,
            Wait::For(time) => start.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
            Wait::Forever => u64::MAX,
        };
        if !options.queue_at_once {
            identity::pid_namespace(); // once; a process that takes one lock in its life names it later, if at all
        }
        let mut describe = self.describe(&options, start)?;
        let mut current = self.current();
        // How long a table that stays busy, or a removal, is waited for.
        let until = deadline.max(start.saturating_add(LATCH_LEAST_NS));
        if let Err(error) = self.fresh(&mut current, start, false, Duration::ZERO) {
            current = self.outwait_removal(current, error, until, &options)?;
        }
        let mut queue = options.queue_at_once && options.wait != Wait::No;
        let mut patience = Patience::default();
        let mut conflict = false;
        let mut looked = false;
        let mut swept = false;
        let mut cursor = 0;
        let owned = options.detached.is_none();
        loop {
            if options.cancel.is_some_and(crate::Cancel::is_cancelled) {
                return Err(Error::Cancelled);
            }
            let now = sys::monotonic(); // after the mutex: what is offered now must not look overdue
            if !conflict {
                describe.queued = now;
                describe.queued_wall_us = current.clock.wall_us(now);
            }
            let tried = match self.attempt(&mut current, &describe, now, queue) {
                Ok(tried) => tried,
                Err(error) => {
                    current = self.outwait_removal(current, error, until, &options)?;
                    continue;
                }
            };
            match tried {
                Try::Granted(hold) => match self.accepted(&mut current, hold, &options) {
                    Ok(Some(token)) => return Ok(Some((token, owned))),
                    Ok(None) => {}
                    Err(error) => current = self.outwait_removal(current, error, until, &options)?,
                },
                Try::Queued(i, word) => {
                    let objects = current.objects.clone();
                    drop(current);
                    self.note_conflict(&mut conflict);
                    Live::new(&objects, now, now).name_namespace(i);
                    let waited = self.wait_in_queue(&objects, &describe, i, word, deadline, &mut options);
                    current = self.current();
                    match waited {
                        Waited::Granted(i, word) => {
                            let Some(hold) = granted(&objects, i, word, describe)? else {
                                continue; // released by force at once
                            };
                            match self.accepted(&mut current, hold, &options) {
                                Ok(Some(token)) => return Ok(Some((token, owned))),
                                Ok(None) => {}
                                Err(error) => current = self.outwait_removal(current, error, until, &options)?,
                            }
                        }
                        Waited::TimedOut => break,
                        Waited::Cancelled => return Err(Error::Cancelled),
                        Waited::Again => {
                            let now = sys::monotonic();
                            if now >= deadline {
                                break;
                            }
                            if let Err(error) = self.fresh(&mut current, now, true, Duration::ZERO) {
                                current = self.outwait_removal(current, error, until, &options)?;
                            }
                        }
                    }
                }
                Try::SlotsDiffer(in_use) if swept => {
                    let (_, asked) = kind_of(describe.mode);
                    return Err(Error::SlotsDiffer { asked, in_use });
                }
                Try::SlotsDiffer(_) => {
                    swept = true; // by the dead, perhaps
                    self.visit_now(&current.objects.clone(), Sweep::All);
                }
                Try::Latched(not_done) => {
                    let objects = current.objects.clone();
                    drop(current); // the handle's other threads have a turn
                    if sys::monotonic() >= until {
                        return Err(busy(&objects, not_done));
                    }
                    current = self.current();
                }
                Try::Full => {
                    drop(current);
                    self.note_conflict(&mut conflict);
                    current = self.current();
                    // All records taken: by the dead, perhaps.
                    let now = sys::monotonic();
                    let visit = room::visit_due(&current.objects, now, &mut cursor);
                    if let Some(what) = visit {
                        self.visit_now(&current.objects.clone(), what);
                        if now < deadline || !std::mem::replace(&mut looked, true) {
                            continue;
                        }
                    }
                    if now >= deadline {
                        break;
                    }
                    drop(current);
                    nap(&options, deadline.min(now.saturating_add(room::TRY_NS)));
                    current = self.current();
                    if let Err(error) = self.fresh(&mut current, now, true, Duration::ZERO) {
                        current = self.outwait_removal(current, error, until, &options)?;
                    }
                }
                Try::Busy => {
                    let objects = current.objects.clone();
                    drop(current);
                    self.note_conflict(&mut conflict);
                    let now = sys::monotonic();
                    let patient = options.wait != Wait::No && now < deadline;
                    if !(patient && patience.wait_a_little(&objects, describe.mode)) {
                        if patient {
                            queue = true;
                        } else if !looked {
                            // Is its holder dead? Then this try was not the last one.
                            looked = true;
                            current = self.current();
                            self.visit_now(&objects, Sweep::All);
                            if let Err(error) = self.fresh(&mut current, now, true, Duration::ZERO) {
                                current = self.outwait_removal(current, error, until, &options)?;
                            }
                            continue;
                        } else {
                            current = self.current();
                            break;
                        }
                    }
                    current = self.current();
                }
            }
        }
        let objects = current.objects.clone();
        drop(current);
        objects.table.header.timeouts.fetch_add(1, Relaxed);
        objects.table.header.consecutive_timeouts.fetch_add(1, Relaxed);
        log::debug!(
            "<{}> lock request timed out  - Current owner   <{}>",
            self.name(),
            self.get_lock_info()
        );
        Ok(None)
    }

    /// The lock could not be opened afresh for a request. If it is being removed, waits for the end of that, and the
    /// handle's other threads have a turn.
    #[cold]
    fn outwait_removal<'a>(
        &'a self,
        mut current: MutexGuard<'a, Current>,
        mut error: Error,
        until: u64,
        options: &GetOptions<'_>,
    ) -> Result<MutexGuard<'a, Current>> {
        loop {
            drop(current);
            let now = sys::monotonic();
            if !matches!(error, Error::BeingRemoved { .. }) || now >= until {
                return Err(error);
            }
            nap(options, until.min(now.saturating_add(REMOVAL_LOOK.as_nanos() as u64)));
            if options.cancel.is_some_and(crate::Cancel::is_cancelled) {
                return Err(Error::Cancelled);
            }
            current = self.current();
            match self.fresh(&mut current, now, true, Duration::ZERO) {
                Ok(_) => return Ok(current),
                Err(another) => error = another,
            }
        }
    }

    fn held_token(&self) -> Option<u64> {
        self.current()
            .holds
            .iter()
            .rev()
            .find(|hold| hold.is_held())
            .map(|hold| hold.token)
    }

    fn describe(&self, options: &GetOptions<'_>, queued: u64) -> Result<Describe> {
        let bound = options.detached.and_then(|detached| detached.pid);
        let bound_start = match bound {
            Some(pid) => identity::start_of_living(pid).map_err(|source| Error::NoProcess { pid, source })?,
            None => 0,
        };
        // Nobody could tell when its time is over.
        if options.detached.is_some_and(|detached| detached.ttl.is_some()) && identity::time_namespace() == 0 {
            return Err(Error::Os {
                doing: "tell the time namespace, which a hold that expires needs, from",
                path: "/proc/self/ns/time".into(),
                source: std::io::Error::other("/proc is not mounted"),
            });
        }
        let (pid, uid) = self.pid_uid();
        Ok(Describe {
            mode: options.mode,
            detached: options.detached,
            bound_start,
            command: options.command.map_or_else(identity::own_command_packed, pack_command),
            queued,
            queued_wall_us: 0,
            pid,
            uid,
        })
    }

    fn note_conflict(&self, conflict: &mut bool) {
        if !*conflict {
            *conflict = true;
            self.current().objects.table.header.conflicts.fetch_add(1, Relaxed);
        }
    }

    /// One try in the latch, for one turn at the most: the caller holds the handle's mutex.
    fn attempt(&self, current: &mut Current, describe: &Describe, now: u64, queue: bool) -> Result<Try> {
        let (kind, slots) = kind_of(describe.mode);
        let ask = Ask { kind, slots, queue };
        loop {
            let objects = current.objects.clone();
            let live = Live::new(&objects, now, now.saturating_add(LATCH_TURN_NS)).describing(describe);
            let asked = live.in_latch(|live, wakes| {
                let asked = go(queue::request(live, ask, wakes));
                if let Asked::Granted { .. } = asked {
                    live.count_grant(now.saturating_sub(describe.queued));
                }
                (asked, objects.table.header.abandoned.load(Relaxed))
            });
            return Ok(match asked {
                Ok((Asked::Granted { i, word, token }, abandoned)) => Try::Granted(Hold {
                    objects: objects.clone(),
                    i,
                    word,
                    token,
                    describe: *describe,
                    granted: now,
                    abandoned,
                    keeper: None,
                    kept: 0,
                    left: false,
                }),
                Ok((Asked::Queued { i, word }, _)) => Try::Queued(i, word),
                Ok((Asked::Busy, _)) => Try::Busy,
                Ok((Asked::Full, _)) => Try::Full,
                Ok((Asked::SlotsDiffer { in_use }, _)) => Try::SlotsDiffer(in_use),
                Err(NotDone::Stale) => {
                    self.reopen(current, Duration::ZERO)?;
                    continue;
                }
                Err(not_done) => Try::Latched(not_done),
            });
        }
    }

    /// A grant: is it still the lock at the paths? Then the note is written and the hold is ours.
    fn accepted(&self, current: &mut Current, hold: Hold, options: &GetOptions<'_>) -> Result<Option<u64>> {
        let now = hold.granted;
        let look = options.queue_at_once || self.is_check_due(current, now);
        if !Arc::ptr_eq(&hold.objects, &current.objects) || (look && !self.is_current(&hold.objects)) {
            // The lock's files were replaced: this was a grant of the old ones. It goes first; opened afresh, the
            // same table with another flag would take it for a hold.
            go(queue::let_go(&Live::new(&hold.objects, now, now), hold.i, hold.word));
            self.reopen(current, Duration::ZERO)?;
            self.visit_now(&hold.objects, Sweep::Active);
            self.visit_now(&current.objects.clone(), Sweep::Active);
            return Ok(None);
        }
        let wall_us = current.clock.wall_us(now);
        let Current { objects, clock, .. } = current;
        let text = clock.note(wall_us, options.lock_info, &objects.table.header.zone);
        if !objects.note.write(text) {
            log::warn!("<{}> the note is too long for its segment and was cut", self.name());
        }
        log::debug!("<{}> lock request successful - Granted         <{text}>", self.name());
        if hold.abandoned != 0 {
            log::warn!(
                target: "resourcelock::abandoned",
                "<{}> a previous holder died while it had the lock: what it protects may be in disorder",
                self.name()
            );
        }
        let token = hold.token;
        if options.detached.is_none() {
            current.holds.push(hold);
        }
        Ok(Some(token))
    }

    /// Repairs now, as far as the table is free.
    pub(crate) fn visit_now(&self, objects: &Objects, what: Sweep) {
        let now = sys::monotonic();
        let live = Live::new(objects, now, now.saturating_add(LATCH_TURN_NS));
        // Busy or stale: the next look tries again, or finds that the lock was replaced.
        let _ = live.in_latch(|live, wakes| {
            live.refresh();
            go(queue::visit(live, what, wakes));
        });
    }

    /// Sleeps in the queue until the request is granted, the deadline passes, or the wait is cancelled.
    fn wait_in_queue(
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
        Live::new(objects, describe.queued, describe.queued).name_namespace(i);
        let mut cursor = 0;
        let mut head_since = None;
        let mut visited = false;
        let mut first_look = true;
        loop {
            let now = sys::monotonic();
            let live = Live::new(objects, now, now);
            match go(queue::poll(&live, i, word)) {
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
            let late = std::mem::take(&mut first_look) || now.saturating_sub(head_looked.load(Relaxed)) > HEAD_LATE_NS;
            let look = go(queue::look(&live, i, word, late, &mut cursor));
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
                        crate::queue::World::wake_request(&live, second);
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
            if look.foreign && look.place == Place::Head && objects.flag.join() {
                // As sem_wait(3) does: whoever posts wakes us.
                let flag = Watched::Low(objects.flag.word(), 0);
                match cancel {
                    Some(cancel) => sys::futex_wait(&[flag, own, cancel], until(FOREIGN_NS)),
                    None => sys::futex_wait(&[flag, own], until(FOREIGN_NS)),
                }
                objects.flag.part();
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
        let live = Live::new(objects, now, now.saturating_add(LATCH_TURN_NS));
        // Before leaving: afterwards the record may be another's.
        let ticket = objects
            .table
            .requests
            .get(i)
            .map_or(0, |record| record.ticket.load(Relaxed));
        let left = go(queue::withdraw(&live, i, word));
        if left == Poll::Granted && why == Leave::TimeIsUp {
            return Waited::Granted(i, word);
        }
        if left == Poll::Granted {
            go(queue::let_go(&live, i, word));
        }
        let current = self.current();
        // Busy or stale: what is left undone, the next one's look will do.
        let _ = live.in_latch(|live, wakes| {
            if left == Poll::Withdrawn && why != Leave::Replaced {
                let (kind, slots) = kind_of(describe.mode);
                live.gave_up(&crate::live::Ending {
                    ticket,
                    token: 0,
                    queued_wall_us: describe.queued_wall_us,
                    waited_ns: now.saturating_sub(describe.queued),
                    held_ns: 0,
                    ended_wall_us: sys::realtime() / 1000,
                    pid: describe.pid,
                    uid: describe.uid,
                    command: describe.command,
                    what: pack_what(kind as u8, Ended::TimedOut, slots),
                });
            }
            // It may have stood in others' way.
            go(queue::visit(live, Sweep::Active, wakes));
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

/// The hold that a queued request has become; `None` = it was released by force before we could look. One that is to
/// be detached and cannot, because the table stays busy, is given back.
fn granted(objects: &Arc<Objects>, i: usize, word: Word, describe: Describe) -> Result<Option<Hold>> {
    let now = sys::monotonic();
    let Some(record) = objects.table.requests.get(i) else {
        return Ok(None);
    };
    let mut hold = Hold {
        objects: objects.clone(),
        i,
        word: held(word),
        token: record.token.load(Acquire),
        describe,
        granted: now,
        abandoned: objects.table.header.abandoned.load(Acquire),
        keeper: None,
        kept: 0,
        left: false,
    };
    // After the token: it is ours if the record still was.
    if !hold.is_held() {
        return Ok(None);
    }
    record.granted.store(now, Relaxed);
    let live = Live::new(objects, now, now);
    live.count_grant(now.saturating_sub(describe.queued));
    if let Some(detached) = describe.detached {
        match hold.detach(detached, describe.bound_start) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(busy) => {
                // Or this handle, which forgets it, would wait for its own hold.
                go(queue::let_go(&live, i, word));
                return Err(busy);
            }
        }
    }
    objects.table.announce();
    hold.granted = now;
    Ok(Some(hold))
}

/// Sleeps until then, or until the wait is cancelled.
fn nap(options: &GetOptions<'_>, until: u64) {
    static NEVER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let word = options.cancel.map_or(&NEVER, |cancel| &cancel.0);
    sys::futex_wait(&[Watched::Word(word, 0)], until);
}

/// The short time outside the queue in which a running process may take a lock that becomes free, ahead of sleeping
/// ones: throughput where holds last microseconds.
#[derive(Default)]
struct Patience {
    naps: u32,
    until: Option<u64>,
}

impl Patience {
    /// Waits a little; true = worth another try, false = patience is over: join the queue.
    fn wait_a_little(&mut self, objects: &Objects, mode: Mode) -> bool {
        let now = sys::monotonic();
        if self.naps >= NAPS || now >= *self.until.get_or_insert(now.saturating_add(PATIENCE_NS)) {
            return false;
        }
        if mode == Mode::Exclusive {
            for _ in 0..GLANCES {
                for _ in 0..PAUSES {
                    sys::pause();
                }
                if objects.flag.load().value() != 0 {
                    return true;
                }
            }
        }
        self.naps += 1;
        if self.naps <= 2 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(NAP);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_before_order_is_promised() {
        assert!(NAP * NAPS < Duration::from_millis(1));
    }
}
