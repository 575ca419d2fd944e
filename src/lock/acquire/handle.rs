//! The state of a handle: its open objects and its holds.

use crate::lock::acquire::hold::{Grant, Hold};
use crate::lock::protocol::orderings::RETIRED;
use crate::lock::protocol::queue::{self, Sweep, Wakes};
use crate::lock::shm::clock::NoteClock;
use crate::lock::shm::deferred_log::{Silence, log_unlocked};
use crate::lock::shm::layout::PackedRequester;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::opening::{Terms, open_objects};
use crate::lock::shm::process;
use crate::lock::shm::real_world::{Gone, Real};
use crate::lock::shm::request::Request;
use crate::lock::shm::tombstone::REMOVAL_TAKES;
use crate::lock::sys;
use crate::lock::types::{Error, LockName, Result};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// Longest uninterrupted wait for the latch, so that the handle's other threads are not held up for long.
pub(crate) const LATCH_TURN_NS: u64 = 50_000_000;
/// How long work on the lock as a whole (a forced release, a repair) may wait for the latch.
const LATCH_NS: u64 = 1_000_000_000;
/// How often a handle in use checks that the lock's files are still the ones at the lock's paths.
const CHECK_PATHS_NS: u64 = 10_000_000;

/// See the module. Several threads may use it.
pub(crate) struct Handle {
    name: LockName,
    terms: Terms,
    generation: u32,
    pid: u32,
    uid: u32,
    current: Mutex<Current>,
}

/// What changes in a handle. Its mutex is also what the handle's threads pass before they enter the latch, which knows
/// only handles (beacons).
pub(crate) struct Current {
    pub(crate) objects: Arc<Objects>,
    /// What the last hold was kept in, for the next one: in a loop, memory and the reference to the objects cost as much as
    /// the rest of what a hold needs from the handle.
    spare: Option<Box<Hold>>,
    #[expect(
        clippy::vec_box,
        reason = "so that a hold is not copied when it begins and when it ends"
    )]
    pub(crate) holds: Vec<Box<Hold>>,
    /// When the lock's paths were last checked, in monotonic ns.
    pub(crate) checked: u64,
    pub(crate) clock: NoteClock,
}

impl Current {
    /// A hold of its objects.
    pub(crate) fn hold(&mut self, grant: Grant, request: &Request) -> Box<Hold> {
        let spare = self.spare.take();
        match spare.filter(|hold| Arc::ptr_eq(&hold.objects, &self.objects)) {
            Some(mut hold) => {
                let objects = hold.objects;
                *hold = Hold::new(objects, grant, request);
                hold
            }
            None => Box::new(Hold::new(self.objects.clone(), grant, request)),
        }
    }

    /// Takes back what an ended hold was kept in.
    pub(crate) fn keep_spare(&mut self, ended: Box<Hold>) {
        if Arc::ptr_eq(&ended.objects, &self.objects) && ended.keeper.is_none() {
            self.spare = Some(ended);
        }
    }
}

/// The state, locked. What is logged meanwhile is logged when it is unlocked.
pub(crate) struct Locked<'a> {
    current: MutexGuard<'a, Current>,
    // Last: dropped when the mutex is unlocked.
    _silence: Silence,
}

impl<'a> Locked<'a> {
    fn new(current: MutexGuard<'a, Current>) -> Self {
        Self {
            current,
            _silence: Silence::new(),
        }
    }
}

impl Deref for Locked<'_> {
    type Target = Current;
    fn deref(&self) -> &Current {
        &self.current
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Current {
        &mut self.current
    }
}

impl Handle {
    /// Opens the lock; creates what is missing. Waits only for a process that is just removing it.
    pub(crate) fn open(name: LockName, terms: Terms) -> Result<Self> {
        let objects = open_objects(&name, &terms, REMOVAL_TAKES)?;
        log::debug!("<{name}> opened");
        Ok(Self {
            name,
            terms,
            generation: sys::fork_generation(),
            pid: std::process::id(),
            uid: nix::unistd::geteuid().as_raw(),
            current: Mutex::new(Current {
                objects,
                spare: None,
                holds: Vec::new(),
                checked: sys::monotonic(),
                clock: NoteClock::default(),
            }),
        })
    }

    /// The lock's name.
    pub(crate) fn name(&self) -> &LockName {
        &self.name
    }

    /// For whom it was opened.
    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// This process, under the packed name `command`.
    pub(crate) fn requester(&self, command: [u64; 2]) -> PackedRequester {
        PackedRequester {
            pid: self.pid,
            uid: self.uid,
            command,
        }
    }

    /// Fails in the child of a fork: a handle of an ancestor process has lost its beacon there.
    pub(crate) fn check_fork(&self) -> Result<()> {
        if self.generation == sys::fork_generation() {
            Ok(())
        } else {
            Err(Error::Forked)
        }
    }

    /// Not for the child of a fork, where a thread that exists only in the parent may have locked it for ever.
    pub(crate) fn current(&self) -> Locked<'_> {
        Locked::new(self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same, unless another thread is at work with it.
    pub(crate) fn current_if_free(&self) -> Option<Locked<'_>> {
        match self.current.try_lock() {
            Ok(current) => Some(Locked::new(current)),
            Err(TryLockError::Poisoned(poisoned)) => Some(Locked::new(poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The same for what a child may do as well: `None` = locked for ever, or for a moment by another thread of it.
    pub(crate) fn current_unless_stuck(&self) -> Option<Locked<'_>> {
        if self.check_fork().is_ok() {
            return Some(self.current());
        }
        self.current_if_free()
    }

    /// The token of the handle's latest hold, and true if its holder was told of a death.
    pub(crate) fn latest_hold(&self) -> Option<(u64, bool)> {
        let current = self.current();
        let mut latest_first = current.holds.iter().rev();
        let held = latest_first.find(|hold| hold.is_held() && !hold.detached);
        held.map(|hold| (hold.token, hold.abandoned != 0))
    }

    /// Clears the mark that a holder died, by the hold with this token, or the latest one: see [`Hold::mark_recovered`].
    pub(crate) fn mark_recovered(&self, token: Option<u64>) -> Result<()> {
        self.check_fork()?;
        let mut current = self.current();
        let mut latest_first = current.holds.iter_mut().rev();
        let meant = latest_first.find(|hold| token.is_none_or(|token| hold.token == token));
        match meant.map(|hold| hold.mark_recovered()) {
            Some(Ok(true)) => Ok(()),
            Some(Err(error)) => Err(error),
            Some(Ok(false)) | None => Err(Error::NotHeld),
        }
    }

    /// True if the lock is marked as abandoned and people have not been told of that death. From now on they have.
    pub(crate) fn report_death(&self) -> bool {
        let objects = self.current().objects.clone();
        let header = &objects.table.header;
        let died = header.abandoned.load(Relaxed);
        died != 0 && header.abandoned_reported.swap(died, Relaxed) != died
    }

    /// Counts a run that was skipped: returns how many that makes in a row.
    pub(crate) fn count_skip(&self) -> u64 {
        let objects = self.current().objects.clone();
        objects.table.header.skips.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// Opens the objects again, if the lock's paths lead elsewhere. Checks that if `force`d to, or if it has not been
    /// checked for a while. Waits up to `timeout` for a process that is removing the lock.
    pub(crate) fn refresh(&self, current: &mut Current, now: u64, force: bool, timeout: Duration) -> Result<()> {
        let due = self.is_check_due(current, now);
        if !(force || due) || current.objects.are_current() {
            return Ok(());
        }
        self.reopen(current, timeout)
    }

    /// True if these objects stand at the lock's paths, as far as that was checked lately. A removal by this library is seen
    /// at once. If not, whoever uses the lock next checks it again.
    pub(crate) fn stands(&self, current: &mut Current) -> bool {
        let retired = current.objects.table.header.retired.load(RETIRED) != 0;
        if !self.is_check_due(current, sys::monotonic()) && !retired {
            return true;
        }
        let stands = current.objects.are_at_their_paths();
        if !stands {
            current.checked = 0;
        }
        stands
    }

    /// True if the paths have not been checked for a while. From now on they count as checked.
    pub(crate) fn is_check_due(&self, current: &mut Current, now: u64) -> bool {
        let due = now.saturating_sub(current.checked) >= CHECK_PATHS_NS;
        if due {
            current.checked = now;
        }
        due
    }

    /// The paths were found to lead to these objects at this time. Not if they were found to lead elsewhere since.
    pub(crate) fn stood(&self, current: &mut Current, objects: &Arc<Objects>, at: u64) {
        if Arc::ptr_eq(&current.objects, objects) && current.checked != 0 {
            current.checked = current.checked.max(at);
        }
    }

    /// Opens the lock's objects again. Waits up to `timeout` for a process that is removing the lock.
    pub(crate) fn reopen(&self, current: &mut Current, timeout: Duration) -> Result<()> {
        current.objects = open_objects(&self.name, &self.terms, timeout)?;
        current.spare = None;
        log_unlocked!(Debug, "<{}> the lock's files were replaced: opened afresh", self.name);
        Ok(())
    }

    /// Runs `work` in the latch of the lock that is at the paths now. Blocks for the table up to 1 s.
    pub(crate) fn in_latch<R>(
        &self,
        work: impl Fn(&Real<'_>, &mut Wakes) -> std::result::Result<R, Gone>,
    ) -> Result<R> {
        let mut current = self.current();
        let now = sys::monotonic();
        self.refresh(&mut current, now, true, REMOVAL_TAKES)?;
        loop {
            let objects = current.objects.clone();
            let real = Real::new(&objects, now, now.saturating_add(LATCH_NS));
            let done = real.in_latch(|real, wakes| {
                real.refresh();
                work(real, wakes)
            });
            match done {
                Ok(result) => return Ok(result),
                Err(not_done) if not_done.is_lasting() => self.reopen(&mut current, REMOVAL_TAKES)?,
                Err(not_done) => return Err(not_done.error(&objects)),
            }
        }
    }

    /// Repairs what crashed processes left behind, and offers the lock to the next in line.
    pub(crate) fn repair(&self) -> Result<()> {
        self.in_latch(|real, wakes| queue::visit(real, Sweep::All, wakes))
    }
}

/// Repairs now, as far as the table is free. The caller has passed the handle's mutex.
pub(crate) fn visit_now(objects: &Objects, what: Sweep) {
    visit_as(objects, what, None);
}

/// The same for the owner of the request in record `own`.
pub(crate) fn visit_as(objects: &Objects, what: Sweep, own: Option<usize>) {
    loop {
        let now = sys::monotonic();
        let real = Real::new(objects, now, now.saturating_add(LATCH_TURN_NS)).of_owner(own);
        // Busy, stale or gone: the next check tries again, or finds that the lock was replaced.
        let _ = real.in_latch(|real, wakes| {
            real.refresh();
            queue::visit(real, what, wakes)
        });
        if !process::settle_doubts() {
            return;
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
