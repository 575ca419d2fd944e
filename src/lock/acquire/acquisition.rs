//! Getting the lock: a try, a short patience outside the queue, then the queue.

use crate::lock::acquire::full;
use crate::lock::acquire::hold::{Hold, held};
use crate::lock::acquire::spin::Patience;
use crate::lock::acquire::wait::Waited;
use crate::lock::api::handle::{Current, REMOVAL_LOOK, ResourceLock, busy};
use crate::lock::protocol::queue::{self, Ask, Asked, Sweep};
use crate::lock::protocol::word::Word;
use crate::lock::shm::process;
use crate::lock::shm::real::{Describe, NotDone, Objects, Real, go, kind_of};
use crate::lock::shm::table::{PackedRequester, pack_command};
use crate::lock::sys::{self, Watched};
use crate::{Error, GetOptions, Result, Wait};
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

const MS: u64 = 1_000_000;
/// Longest stay in the queue for the latch at a time, so that the handle's other threads are not held up for long.
pub(crate) const LATCH_TURN_NS: u64 = 50 * MS;
/// Even a request that does not wait gives the latch this long. It is normally free within a microsecond, but on a busy
/// machine the process inside may be kept from running for some tens of milliseconds.
const LATCH_LEAST_NS: u64 = 250 * MS;

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
            process::pid_namespace(); // once; a process that takes one lock in its life names it later, if at all
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
                    Real::new(&objects, now, now).name_namespace(i);
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
                    let visit = full::visit_due(&current.objects, now, &mut cursor);
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
                    nap(&options, deadline.min(now.saturating_add(full::TRY_NS)));
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
            Some(pid) => process::start_of_living(pid).map_err(|source| Error::NoProcess { pid, source })?,
            None => 0,
        };
        // Nobody could tell when its time is over.
        if options.detached.is_some_and(|detached| detached.ttl.is_some()) && process::time_namespace() == 0 {
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
            requester: PackedRequester {
                pid,
                uid,
                command: options.command.map_or_else(process::own_command_packed, pack_command),
            },
            queued,
            queued_wall_us: 0,
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
            let real = Real::new(&objects, now, now.saturating_add(LATCH_TURN_NS)).describing(describe);
            let asked = real.in_latch(|real, wakes| {
                let asked = go(queue::request(real, ask, wakes));
                if let Asked::Granted { .. } = asked {
                    real.count_grant(now.saturating_sub(describe.queued));
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
            // same table with another semaphore would take it for a hold.
            go(queue::let_go(&Real::new(&hold.objects, now, now), hold.i, hold.word));
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
                "<{}> the previous holder died while holding the lock; the protected resource may be inconsistent",
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
        let real = Real::new(objects, now, now.saturating_add(LATCH_TURN_NS));
        // Busy or stale: the next look tries again, or finds that the lock was replaced.
        let _ = real.in_latch(|real, wakes| {
            real.refresh();
            go(queue::visit(real, what, wakes));
        });
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
    let real = Real::new(objects, now, now);
    real.count_grant(now.saturating_sub(describe.queued));
    if let Some(detached) = describe.detached {
        match hold.detach(detached, describe.bound_start) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(busy) => {
                // Or this handle, which forgets it, would wait for its own hold.
                go(queue::let_go(&real, i, word));
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
