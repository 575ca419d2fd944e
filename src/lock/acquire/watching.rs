//! On whose life the next look of a request in the queue depends, and having it told of their end.
//!
//! | a request | depends on |
//! |---|---|
//! | that is first in line | all that is active, each by one of its lifelines: its owner's process, or else the process that it is bound to; on the time when it expires, or when an offer has not been accepted |
//! | behind others | the one right before it |
//!
//! [`depends_on`](queue::depends_on) decides which requests these are, [`is_unchanged`](queue::is_unchanged) whether that
//! still holds.
//!
//! A number in the table is only believed if the request that it belongs to is found alive *after* the process was opened:
//! then it was that process all the time. What cannot be watched so, is looked at as often as if nothing could be.

use crate::lock::protocol::orderings::{BOUND_LOAD, EXPIRES_LOAD, HOLDER_LOAD};
use crate::lock::protocol::queue::{self, Check, World};
use crate::lock::protocol::word::{Stage, Word};
use crate::lock::shm::layout::Record;
use crate::lock::shm::lifelines::{self, Kept};
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::process::{self, Life};
use crate::lock::shm::real_world::{OFFER_NS, Real};
use crate::lock::shm::watcher::{Alarm, Watch};
use crate::lock::sys;
use crate::lock::system::Process;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// More holders than this are not watched but looked at.
const MOST: usize = 64;
/// A process that has ended although the request is found alive is looked at after these times, in ns, then as if it could
/// not be watched: its parts may end one after the other.
const ENDING_NS: [u64; 3] = [100_000, 1_000_000, 10_000_000];
/// So often in a row the table may change while it is looked at.
const CHANGES: u32 = 8;

/// When to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// When told, or at this time, in monotonic ns.
    Told(u64),
    /// After so many ns.
    After(u64),
    /// As often as if nothing was told.
    Look,
    /// At once: something has changed meanwhile.
    Now,
}

/// On what a request lives, as far as can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// This process.
    Process(u32),
    /// Nobody's life.
    Itself,
    /// Something that can only be looked at.
    Unseen,
    /// It is gone.
    Nothing,
}

/// A request whose process is watched.
struct Watched {
    request: (usize, Word),
    pid: u32,
    watch: Watch,
}

/// See the module.
pub(super) struct Watching {
    alarm: Alarm,
    watched: Vec<Watched>,
    /// How often in a row something had changed.
    changes: u32,
    /// How often in a row a process had ended whose request was alive.
    ending: usize,
}

impl Watching {
    /// For the request in record `i`.
    pub(super) fn new(objects: &Arc<Objects>, i: usize) -> Self {
        Self {
            alarm: Alarm::new(objects, i),
            watched: Vec::new(),
            changes: 0,
            ending: 0,
        }
    }

    /// True if a look is due.
    pub(super) fn is_alarmed(&self) -> bool {
        self.alarm.is_rung()
    }

    /// A look begins. True if it was told to.
    pub(super) fn looks(&self) -> bool {
        self.alarm.hear()
    }

    /// After a look that found nothing to do: has everything watched on which the next one depends.
    pub(super) fn watch(&mut self, real: &Real<'_>, check: &Check, now: u64) -> Next {
        let next = self.watch_all(real, check, now);
        self.changes = if next == Next::Now { self.changes + 1 } else { 0 };
        match next {
            Next::Now if self.changes > CHANGES => Next::Look,
            next => next,
        }
    }

    fn watch_all(&mut self, real: &Real<'_>, check: &Check, now: u64) -> Next {
        let Ok(requests) = queue::depends_on(real, check, MOST + 1) else {
            return Next::Look;
        };
        // Of no holder: it has just changed, or is left to others for a moment.
        if requests.is_empty() || requests.len() > MOST {
            self.watched.clear();
            return Next::Look;
        }
        let same = |watched: &Watched, (i, word): (usize, Word)| watched.request == (i, word.at(Stage::Waiting));
        self.watched
            .retain(|watched| requests.iter().any(|request| same(watched, *request)));
        let (mut until, mut all, mut ending) = (u64::MAX, true, false);
        let mut described = Vec::with_capacity(requests.len());
        for (i, word) in requests {
            let Some(record) = real.objects.table.records().get(i) else {
                return Next::Look;
            };
            described.push((record, description(record)));
            let line = line_of(real, record);
            // After that: one that is left to its time says so last.
            until = until.min(ends_at(record, word, now));
            let known = self.watched.iter().position(|watched| same(watched, (i, word)));
            let pid = match line {
                Line::Process(pid) => pid,
                Line::Itself => continue,
                Line::Unseen => {
                    all = false;
                    continue;
                }
                Line::Nothing => return Next::Now,
            };
            if let Some(known) = known {
                if self.watched[known].pid == pid {
                    ending |= self.watched[known].watch.has_ended();
                    continue;
                }
                self.watched.swap_remove(known);
            }
            let watch = match Process::open(pid) {
                Ok(process) => self.alarm.watch(process),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Next::Now,
                Err(error) => Err(error),
            };
            match watch {
                // What is alive and the same now, was so when its process was opened.
                Ok(_) if line_of(real, record) != line || !is_still(real, i, word) => return Next::Now,
                Ok(watch) => self.watched.push(Watched {
                    request: (i, word.at(Stage::Waiting)),
                    pid,
                    watch,
                }),
                Err(_) => all = false,
            }
        }
        // Last, because a wake-up does not reach a waiter that is awake.
        let handed_over = described.iter().any(|(record, before)| description(record) != *before);
        match queue::is_unchanged(real, check) {
            Ok(true) if !handed_over => {}
            Ok(_) => return Next::Now,
            Err(_) => return Next::Look,
        }
        if ending {
            self.ending += 1;
            return ENDING_NS.get(self.ending - 1).map_or(Next::Look, |&ns| Next::After(ns));
        }
        self.ending = 0;
        if all { Next::Told(until) } else { Next::Look }
    }
}

/// What a request's former owner changes if it leaves it to its time, or to another process.
fn description(record: &Record) -> (u32, u32, u32, u64) {
    (
        record.holder.load(HOLDER_LOAD),
        record.keeper.load(Relaxed),
        record.bound_pid.load(BOUND_LOAD),
        record.expires.load(EXPIRES_LOAD),
    )
}

/// True if the record still belongs to this request.
fn is_still(real: &Real<'_>, i: usize, word: Word) -> bool {
    real.word(i)
        .is_ok_and(|now| now.at(Stage::Waiting) == word.at(Stage::Waiting))
}

/// When a request has expired, or has not accepted an offer in time, in monotonic ns.
fn ends_at(record: &Record, word: Word, now: u64) -> u64 {
    if word.stage() == Stage::Offered {
        return now.saturating_add(OFFER_NS + 1_000_000);
    }
    let expires = record.expires.load(EXPIRES_LOAD);
    if expires == 0 || !process::is_own_time(record.time_namespace.load(Relaxed)) {
        return u64::MAX;
    }
    now.saturating_add(expires.saturating_sub(sys::boottime()))
}

fn line_of(real: &Real<'_>, record: &Record) -> Line {
    let own = process::pid_namespace();
    let is_here = own != 0 && record.pid_namespace.load(Relaxed) == own;
    let bound = record.bound_pid.load(BOUND_LOAD);
    match real.kept(record) {
        Kept::ByOwner if is_here => match record.pid.load(Relaxed) {
            0 => Line::Unseen,
            pid => Line::Process(pid),
        },
        Kept::ByHeirs | Kept::ByProcess
            if is_here && bound != 0 && lifelines::process_of(record, bound) == Life::Lives =>
        {
            Line::Process(bound)
        }
        Kept::ByItself => Line::Itself,
        Kept::ByNobody => Line::Nothing,
        Kept::ByOwner | Kept::ByHeirs | Kept::ByProcess | Kept::Unknown => Line::Unseen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ResourceLock;
    use crate::lock::acquire::handle::Handle;
    use crate::lock::protocol::queue::{Ask, Asked, Poll};
    use crate::lock::shm::request::{Request, kind_of};
    use crate::lock::types::Mode;

    /// Requests the lock through the handle, without waiting for it.
    fn request(handle: &Handle, mode: Mode) -> (usize, Word) {
        process::pid_namespace();
        let now = sys::monotonic();
        let request = Request {
            mode,
            detached: None,
            replaces: false,
            bound_start: 0,
            requester: handle.requester([0; 2]),
            note: Default::default(),
            queued: now,
            queued_wall_us: 0,
        };
        let (kind, slots) = kind_of(mode);
        let queue = true;
        let objects = handle.current().objects.clone();
        let real = Real::new(&objects, now, u64::MAX).requesting(&request);
        let asked = real.in_latch(|real, wakes| queue::request(real, Ask { kind, slots, queue }, wakes));
        match asked.unwrap() {
            Asked::Granted { i, word, .. } | Asked::Queued { i, word } => (i, word),
            other => panic!("{other:?}"),
        }
    }

    /// What changes between a waiter's check and its sleep cannot wake it: it sees that by itself.
    #[test]
    fn one_that_is_about_to_sleep_sees_what_it_was_woken_for() {
        let name = format!("test-watching-{}", std::process::id());
        let lock = ResourceLock::open(&name).unwrap();
        let handle = lock.handle().clone();
        let objects = handle.current().objects.clone();
        let holders = [Mode::Shared; 2].map(|mode| request(&handle, mode));
        let [first, second] = [Mode::Exclusive; 2].map(|mode| request(&handle, mode));
        let now = sys::monotonic();
        let real = Real::new(&objects, now, now);
        let watching = |(i, word): (usize, Word)| {
            let check = queue::check(&real, i, word, false, &mut 0).unwrap();
            assert_eq!(check.visit, None);
            let mut watching = Watching::new(&objects, i);
            assert_eq!(watching.watch(&real, &check, now), Next::Told(u64::MAX));
            (watching, check)
        };
        let (mut of_first, checked_by_first) = watching(first);
        let (mut of_second, checked_by_second) = watching(second);
        // The same process has both, and lives.
        assert_eq!(queue::withdraw(&real, first.0, first.1), Ok(Poll::Withdrawn));
        assert_eq!(of_second.watch(&real, &checked_by_second, now), Next::Now);
        assert_eq!(queue::let_go(&real, holders[0].0, holders[0].1), Ok(true));
        assert_eq!(of_first.watch(&real, &checked_by_first, now), Next::Now);
        drop((of_first, of_second, real));
        drop(lock);
        crate::remove(&name, true).unwrap();
    }
}
