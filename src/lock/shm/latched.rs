//! Work in the latch of the real table.

use crate::lock::protocol::latch::{self, Entry, LatchWorld, Slept};
use crate::lock::protocol::orderings::{LATCH_SWAP, RETIRED};
use crate::lock::protocol::queue::{Sweep, Wakes, visit};
use crate::lock::shm::beacon;
use crate::lock::shm::deferred_log::log_unlocked;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::real_world::{Gone, Real};
use crate::lock::sys::atomic::Ordering::Relaxed;
use crate::lock::sys::{self, Watched};
use crate::lock::types::Error;

/// Longest uninterrupted sleep for the latch: how soon it is noticed that the process inside is dead.
const SLICE_NS: u64 = 10_000_000;
/// Tries for the latch before sleeping; each is a few dozen pauses. (None in `weak/`.)
const SPINS: u32 = if cfg!(weak) { 0 } else { 24 };

/// Why work in the latch was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotDone {
    /// The latch stayed taken, by the process with this beacon.
    Busy(u32),
    /// The table has another semaphore by now (ours was deleted), so what our semaphore says of the table's holds means
    /// nothing; or the table is retired. The lock has to be opened again.
    Stale,
    /// See the type.
    Gone(Gone),
}

impl From<Gone> for NotDone {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}

impl NotDone {
    /// The error of a table that stayed busy, or is none any more.
    pub(crate) fn error(self, objects: &Objects) -> Error {
        let pid = match self {
            Self::Busy(id) => objects.table.pid_of(id),
            Self::Stale => None,
            Self::Gone(_) => {
                return Error::Damaged {
                    path: objects.table.path.clone(),
                    what: "it was truncated or overwritten while it was in use".to_owned(),
                    owner: objects.semaphore.ownership.uid,
                };
            }
        };
        Error::Busy { pid }
    }

    /// True if the lock has to be opened again.
    pub(crate) fn is_lasting(self) -> bool {
        matches!(self, Self::Stale | Self::Gone(_))
    }
}

impl Real<'_> {
    /// Runs `work` in the latch; if a process has died inside, that is repaired first. Blocks until the deadline. In a
    /// table that is retired nothing is decided: its semaphore stays at 0.
    pub(crate) fn in_latch<R>(&self, work: impl FnOnce(&Self, &mut Wakes) -> Result<R, Gone>) -> Result<R, NotDone> {
        self.in_latch_of_any(|real, entry, wakes| {
            let header = &real.table().header;
            if header.semaphore_inode.load(Relaxed) != real.objects.semaphore.inode || header.retired.load(RETIRED) != 0
            {
                return Ok(Err(NotDone::Stale));
            }
            if entry == Entry::Repair {
                visit(real, Sweep::All, wakes)?;
            }
            Ok(Ok(work(real, wakes)?))
        })?
    }

    /// The same without checking that the table is in use with our semaphore, and without repairing.
    pub(crate) fn in_latch_of_any<R>(
        &self,
        work: impl FnOnce(&Self, Entry, &mut Wakes) -> Result<R, Gone>,
    ) -> Result<R, NotDone> {
        let mut wakes = Wakes::default();
        self.table().prepare();
        let entry = latch::enter(self)?;
        if let Entry::Busy(id) = entry {
            return Err(NotDone::Busy(id));
        }
        // Others may have begun to use more records since.
        let reaches = self.table().reaches_used_records() || self.table().reach_used_records().is_ok();
        let result = if reaches {
            work(self, entry, &mut wakes)
        } else {
            Err(Gone)
        };
        latch::leave(self)?;
        wakes.deliver(self);
        let excess = self.excess.take();
        if excess > 1 {
            log_unlocked!(
                Warn,
                "the lock's semaphore stood at {excess} (released by force more than once); it counts as 1 = free"
            );
        }
        beacon::is_blind(); // warns, where a slow log does no harm
        self.table().header.announce();
        // What was decided counts if it was decided by the table.
        if self.table().is_intact() {
            Ok(result?)
        } else {
            Err(NotDone::Gone(Gone))
        }
    }
}

impl LatchWorld for Real<'_> {
    fn me(&self) -> u32 {
        self.objects.id
    }

    fn latch(&self) -> Result<u32, Gone> {
        Ok(self.table().header.latch.load(Relaxed))
    }

    fn swap_latch(&self, from: u32, to: u32) -> Result<bool, Gone> {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        let latch = &self.table().header.latch;
        Ok(latch.compare_exchange(from, to, LATCH_SWAP, Relaxed).is_ok())
    }

    fn spin(&self) -> bool {
        let spins = self.spins.get();
        self.spins.set(spins + 1);
        for _ in 0..(8 << (spins / 4).min(4)) {
            sys::pause();
        }
        spins < SPINS
    }

    fn sleep_on_latch(&self, seen: u32) -> Result<Slept, Gone> {
        let now = self.refresh();
        if now >= self.deadline {
            return Ok(Slept::Deadline);
        }
        let latch = &self.table().header.latch;
        let slice = now.saturating_add(SLICE_NS);
        sys::futex_wait(&[Watched::Word(latch, seen)], slice.min(self.deadline));
        let unchanged = latch.load(Relaxed) == seen;
        let now = self.refresh();
        Ok(if unchanged && now >= slice {
            Slept::Slice
        } else if unchanged && now >= self.deadline {
            Slept::Deadline
        } else {
            Slept::Woken
        })
    }

    fn wake_latch(&self) {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        sys::futex_wake(&self.table().header.latch, 1);
    }

    fn is_id_gone(&self, id: u32) -> Result<bool, Gone> {
        Ok(self.objects.is_out(id))
    }
}
