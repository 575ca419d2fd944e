//! A lock's three objects, open.

use crate::lock::protocol::orderings::RETIRED;
use crate::lock::shm::beacon::{self, Beacon};
use crate::lock::shm::note::Note;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::shm::table::Table;

/// The lock's three objects, and this handle's beacon.
pub(crate) struct Objects {
    pub(crate) semaphore: Semaphore,
    pub(crate) note: Note,
    pub(crate) table: Table,
    /// Id of the handle's beacon; 0 in objects that are only read.
    pub(crate) id: u32,
    pub(crate) beacon: Option<Beacon>,
}

impl Objects {
    /// True if nobody keeps a handle's beacon with this id lit.
    pub(crate) fn is_out(&self, id: u32) -> bool {
        // The beacon of this very handle, in the process that opened it, is lit: no need to ask.
        let own = id == self.id && self.beacon.as_ref().is_none_or(Beacon::is_own);
        !own && beacon::is_out(&self.table, id)
    }

    /// True if the lock's paths still lead to these objects.
    pub(crate) fn are_at_their_paths(&self) -> bool {
        self.semaphore.is_at_its_path() && self.table.is_at_its_path()
    }

    /// True unless somebody has truncated or overwritten the table, or truncated the semaphore.
    pub(crate) fn are_intact(&self) -> bool {
        self.table.is_intact() && !self.semaphore.is_gone()
    }

    /// True if the lock's paths still lead to these objects, and nobody is about to change that.
    pub(crate) fn are_current(&self) -> bool {
        self.table.header.retired.load(RETIRED) == 0 && self.are_at_their_paths() && self.are_intact()
    }
}
