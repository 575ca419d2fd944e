//! Releasing: a hold of this handle, or by force the holds of others.

use crate::lock::acquire::handle::{Current, Handle, Locked, visit_now};
use crate::lock::acquire::hold::{RELEASE_LATCH_NS, User};
use crate::lock::inspect::snapshot;
use crate::lock::protocol::orderings::RETIRED;
use crate::lock::protocol::queue::{self, Sweep, Which};
use crate::lock::shm::deferred_log::log_unlocked;
use crate::lock::shm::latched::NotDone;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::real_world::Real;
use crate::lock::shm::tombstone::REMOVAL_TAKES;
use crate::lock::sys;
use crate::lock::system::Stat;
use crate::lock::types::get_options::Target;
use crate::lock::types::{Detached, Ended, Holder, Result, UngetOptions};
use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;

impl Handle {
    /// Releases what the options say: false = there was no such hold.
    pub(crate) fn unget(&self, options: UngetOptions<'_>) -> Result<bool> {
        self.check_fork()?;
        let text = options.where_called;
        match options.target {
            Target::Own => self.release_own(text),
            Target::Force => self.release_all(text),
            Target::Token(token) => self.release_matching(text, |holder| holder.token == Some(token)),
            Target::BoundTo(pid) => {
                // The process that has the number now, if any; not one of another time or PID namespace.
                let start = Stat::of(pid).ok().map(|stat| stat.start_time);
                self.release_matching(text, |holder| {
                    holder.bound_pid == Some(pid)
                        && holder.requester.same_pid_namespace
                        && (start.is_none() || holder.bound_start == start)
                })
            }
        }
    }

    /// Releases what was acquired through the handle. A hold that guards use as well goes on.
    fn release_own(&self, text: &str) -> Result<bool> {
        let name = self.name();
        let current = self.current();
        if let Some(at) = current.holds.iter().rposition(|hold| hold.by_handle) {
            let released = self.give_up(current, at, User::Handle)?;
            if released {
                log::debug!("<{name}> lock released  <{text}>");
            } else {
                log::info!("<{name}> lock unget request ignored - lock not owned by current process  <{text}>");
            }
            return Ok(released);
        }
        let objects = current.objects.clone();
        drop(current);
        if objects.semaphore.load().value() == 0 {
            log::info!("<{name}> lock unget request ignored - lock not owned by current process  <{text}>");
        } else {
            log::debug!("<{name}> Extraneous lock unget request ignored  <{text}>");
        }
        Ok(false)
    }

    fn release_all(&self, text: &str) -> Result<bool> {
        let released = self.force(true, |_| Some(Which::Every))?;
        if released {
            log::debug!("<{}> lock force released  <{text}>", self.name());
        } else {
            log::debug!("<{}> Extraneous lock unget request ignored  <{text}>", self.name());
        }
        Ok(released)
    }

    fn release_matching(&self, text: &str, meant: impl Fn(&Holder) -> bool) -> Result<bool> {
        let released = self.force(false, |objects| {
            let holders = snapshot::holders(objects);
            let (i, word, holder) = holders.iter().find(|(_, _, holder)| meant(holder))?;
            // The token once more: another request may have taken the record since.
            let record = objects.table.records().get(*i)?;
            let same = holder.token == Some(record.token.load(Relaxed));
            same.then_some(Which::One(*i, *word))
        })?;
        if released {
            log::debug!("<{}> lock released  <{text}>", self.name());
        } else {
            log::info!(
                "<{}> lock unget request ignored - not held so any more  <{text}>",
                self.name()
            );
        }
        Ok(released)
    }

    /// Ends the holds that `which` names. `by_hand`: a person does so. If nobody goes on without the lock then, the person
    /// has attended to what a dead holder left.
    fn force(&self, by_hand: bool, which: impl Fn(&Objects) -> Option<Which>) -> Result<bool> {
        // First, whatever takes longer to be found dead than is possible in the latch.
        visit_now(&self.current().objects, Sweep::Active);
        self.in_latch(|real, wakes| {
            let table = &real.objects.table;
            let Some(which) = which(real.objects) else {
                return Ok(false);
            };
            let forced = Cell::new(false);
            let how = |i: usize| match table.records().get(i) {
                Some(record) if record.holder.load(Relaxed) != 0 => {
                    forced.set(true);
                    Ended::Forced
                }
                // A detached hold has no process that could release it: this is its ordinary end.
                _ => Ended::Released,
            };
            let released = queue::force(real, which, how, wakes)?;
            if by_hand && !forced.get() {
                table.header.abandoned.store(0, Relaxed);
            }
            Ok(released)
        })
    }

    /// `user` needs the hold with this token no longer: false = it was no longer held. The last user releases it, unless it
    /// is a detached one.
    pub(crate) fn give_up_share(&self, token: u64, user: User) -> Result<bool> {
        self.check_fork()?; // a child's copy: the hold is its parent's
        let current = self.current();
        match current.holds.iter().position(|hold| hold.token == token) {
            Some(at) => self.give_up(current, at, user),
            None => Ok(false),
        }
    }

    /// The same of the hold that is kept at `at`.
    fn give_up(&self, mut current: Locked<'_>, at: usize, user: User) -> Result<bool> {
        let hold = &mut current.holds[at];
        if !hold.remove(user) {
            return Ok(hold.is_held());
        }
        if hold.detached {
            return Ok(current.holds.remove(at).is_held());
        }
        self.end_hold(current, at)
    }

    /// Releases one of the holds of this handle: false = it was no longer held.
    ///
    /// The release is one compare-exchange, which works even while a process is stopped in the latch. What follows
    /// (history, the next in line) is skipped if the table stays busy; the next process that checks makes up for it.
    ///
    /// After a crash the mark has to be set first, in the latch. If that cannot be done, the hold is not released: it is
    /// found dead, and marked, as soon as this handle is closed.
    fn end_hold(&self, mut current: Locked<'_>, at: usize) -> Result<bool> {
        let now = sys::monotonic();
        let Current { holds, clock, .. } = &mut *current;
        let wall_us = clock.wall_us(now);
        let hold = &holds[at];
        let table = &hold.objects.table;
        let real = Real::new(&hold.objects, now, now.saturating_add(RELEASE_LATCH_NS));
        let done = real.in_latch(|real, wakes| {
            let owned = queue::settle(real)?;
            let released = if hold.crashed {
                queue::let_go_crashed(real, hold.i, hold.word())?
            } else {
                queue::let_go(real, hold.i, hold.word())?
            };
            if released {
                table.record_end(&hold.ending(now, wall_us));
                hold.count_end(wall_us);
            }
            queue::dispatch(real, None, owned, false, wakes)?;
            Ok(released)
        });
        let not_done = match done {
            Ok(released) => {
                let ended = holds.remove(at);
                current.keep_spare(ended);
                return Ok(released);
            }
            Err(not_done) => not_done,
        };
        let hold = holds.remove(at);
        let real = Real::new(&hold.objects, now, now.saturating_add(RELEASE_LATCH_NS));
        if hold.crashed {
            let still = hold.is_held();
            log_unlocked!(
                Warn,
                "<{}> the crash could not be marked, so the hold ends with this process: {}",
                self.name(),
                not_done.error(&hold.objects)
            );
            return Ok(still);
        }
        let released = queue::let_go(&real, hold.i, hold.word()).unwrap_or(false);
        hold.wake_next();
        if let NotDone::Busy(_) = not_done {
            log_unlocked!(
                Warn,
                "<{}> released, but the next in line has to find out by itself: {}",
                self.name(),
                not_done.error(&hold.objects)
            );
        } else if not_done == NotDone::Stale && hold.objects.table.header.retired.load(RETIRED) == 0 {
            // The table has a new semaphore: whoever is next is served with that one.
            let reopened = self.reopen(&mut current, REMOVAL_TAKES);
            drop(current);
            if let Err(error) = reopened.and_then(|()| self.repair()) {
                log_unlocked!(Warn, "<{}> released, but {}", self.name(), error.with_source());
            }
        } // else removed by force, or just about to be, or destroyed: there is nobody to pass the old semaphore on to
        Ok(released)
    }

    /// Turns the latest hold that was acquired through the handle into a detached one: false = there was none, or guards
    /// use it as well.
    pub(crate) fn leave_taken(&self) -> Result<bool> {
        self.check_fork()?;
        let mut current = self.current();
        let Some(at) = current
            .holds
            .iter()
            .rposition(|hold| hold.by_handle && hold.guards == 0)
        else {
            return Ok(false);
        };
        let detached = current.holds[at].detach(Detached::default(), 0)?;
        current.holds.remove(at);
        Ok(detached)
    }

    /// Leaves its holds to themselves: their table has been deleted.
    pub(crate) fn leave_everything(&self) {
        self.current().holds.clear();
    }

    /// Releases all that was acquired through the handle itself; guards go on.
    pub(crate) fn release_everything(&self) {
        while self.check_fork().is_ok() {
            let current = self.current();
            let own = current.holds.iter().find(|hold| hold.by_handle);
            let Some(token) = own.map(|hold| hold.token) else {
                return;
            };
            drop(current);
            let _ = self.give_up_share(token, User::Handle);
        }
    }
}
