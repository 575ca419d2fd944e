//! A table gets its space page by page, as it needs it, and keeps it.
//!
//! # What may be touched
//! In a full /dev/shm an access to a page without space is a SIGBUS, a read as well. So a process touches a page of the
//! table that it has mapped only after *it* has had the kernel allocate it (madvise(2), MADV_POPULATE_WRITE, or before
//! Linux 5.14 fallocate(2); both change nothing where there is space), or, when it opened the table, has seen that the file
//! occupies all the space that its header claims.
//! What the table says about itself is never enough: a number there that is damaged, or that somebody has made up, leads
//! to a page that is allocated, or to an error. What is in reach only becomes more ([`Reach`](crate::lock::shm::room::Reach)).
//! Whoever only inspects reads with pread(2), which allocates nothing.
//!
//! # When it grows
//! Each step is one page. Those that others have added come into reach by one madvise(2) for each part, which takes nothing
//! back if it fails; a waiter does so before it sleeps. Where fallocate(2) has to do it, it is one call for each page alone: of
//! a range that it cannot allocate as a whole, the kernel gives back the pages that nobody has touched yet, also those that
//! another process has just allocated.
//!
//! | part | grows when | if there is no space |
//! |---|---|---|
//! | records | a request finds none vacant, up to 1,024 | it waits outside the queue, and tries again every 10 ms; at the end of its time it fails |
//! | history | a hold would overwrite one that ended in the last 24 hours, up to 256 | it overwrites it |
//! | requests that gave up | the same, up to 64 | the same; before the first page, nothing is kept |
//!
//! All of that comes before the latch, and is done again by whoever comes next if the process dies in the middle. The
//! header's `history_room` and `gave_up_room` are stored after the page is there. A record that others have begun to use
//! shows in the high water: whoever enters the latch has made sure of that page before, or, if it came in between, does
//! so then.
//!
//! An entry of a ring lies at its number modulo what fits into the pages that the ring had when it was written, so it is
//! looked for at each of these places.

use crate::lock::shm::layout::{HISTORY, Layout, Past, REQUESTS, Record};
use crate::lock::shm::room::Part;
use crate::lock::shm::table::Table;
use crate::lock::sys;
use crate::lock::sys::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::io;

/// An end that is no longer ago than this is kept, if there is space.
const KEPT_US: u64 = 24 * 60 * 60 * 1_000_000;

/// A ring of requests that have ended.
pub(crate) struct Ring<'t> {
    pub(crate) part: Part,
    /// Number of entries ever begun.
    pub(crate) next: &'t AtomicU64,
    /// How many of its pages have their space.
    pub(crate) room: &'t AtomicU32,
    all: &'t [Past],
}

impl Layout {
    /// The ended holds.
    pub(crate) fn history(&self) -> Ring<'_> {
        Ring {
            part: Part::History,
            next: &self.header.history_next,
            room: &self.header.history_room,
            all: &self.all_history,
        }
    }

    /// The requests that gave up.
    pub(crate) fn gave_up(&self) -> Ring<'_> {
        Ring {
            part: Part::GaveUp,
            next: &self.header.gave_up_next,
            room: &self.header.gave_up_room,
            all: &self.all_gave_up,
        }
    }
}

impl<'t> Ring<'t> {
    /// How many of its pages have their space, as the table says.
    pub(crate) fn room(&self) -> u32 {
        self.room.load(Relaxed).min(self.part.pages().len() as u32)
    }

    /// Those of its entries that this process can reach.
    pub(crate) fn entries(&self, table: &Table) -> &'t [Past] {
        self.all.get(..table.reach.of(self.part)).unwrap_or_default()
    }
}

impl Table {
    /// The requests' records that this process can reach.
    pub(crate) fn records(&self) -> &[Record] {
        self.all_records.get(..self.reach.of(Part::Records)).unwrap_or_default()
    }

    /// The records that may be in use, as far as this process can reach them.
    pub(crate) fn used_records(&self) -> &[Record] {
        let records = self.records();
        records.get(..self.in_use()).unwrap_or(records)
    }

    /// How many of the records may be in use, as the header says.
    pub(crate) fn in_use(&self) -> usize {
        let stored = self.header.high_water.load(Relaxed);
        usize::try_from(stored).unwrap_or(REQUESTS).min(REQUESTS)
    }

    /// True if this process can reach all records that may be in use.
    pub(crate) fn reaches_used_records(&self) -> bool {
        self.reach.of(Part::Records) >= self.in_use()
    }

    /// Makes sure that this process can reach them.
    #[cold]
    pub(crate) fn reach_used_records(&self) -> io::Result<()> {
        self.assure(Part::Records, Part::Records.needed(self.in_use()))
    }

    /// As long as there is time: has in reach what others have added, so that [`prepare`](Self::prepare) finds nothing to do.
    pub(crate) fn catch_up(&self) {
        if !self.reaches_used_records() {
            // If not, whoever needs it tells.
            let _ = self.reach_used_records();
        }
        for ring in [self.history(), self.gave_up()] {
            self.reach_ring(&ring);
        }
    }

    /// Before the latch: does what in the latch would take others' time.
    pub(crate) fn prepare(&self) {
        if !self.reaches_used_records() {
            // If not, the same in the latch tells.
            let _ = self.reach_used_records();
        }
        let reach = self.reach.of(Part::History);
        if reach < HISTORY && self.header.history_next.load(Relaxed) >= reach as u64 {
            self.make_room(&self.history());
        }
    }

    /// A request has found no record: makes room for more. False = there are as many as there can be.
    #[cold]
    pub(crate) fn add_records(&self) -> io::Result<bool> {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        let reach = self.reach.of(Part::Records);
        if reach == REQUESTS {
            return Ok(false);
        }
        self.assure(Part::Records, Part::Records.needed(reach) + 1)?;
        Ok(true)
    }

    /// Before the latch: makes room for the ring's next entry, if that would overwrite one that is to be kept.
    #[cold]
    pub(crate) fn make_room(&self, ring: &Ring<'_>) {
        let entries = self.reach_ring(ring);
        let next = ring.next.load(Relaxed);
        if next < entries.len() as u64 || entries.len() == ring.all.len() {
            return;
        }
        let overwritten = next
            .checked_rem(entries.len() as u64)
            .and_then(|at| entries.get(at as usize));
        if overwritten.is_some_and(|past| !is_kept(past.ended_wall_us.load(Relaxed))) {
            return;
        }
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        let pages = ring.part.needed(entries.len()) + 1;
        // If there is no space, the ring stays as it is.
        if self.assure(ring.part, pages).is_ok() {
            #[cfg(test)]
            crate::lock::testing::failpoint::here();
            let more = |room: u32| (room < pages).then_some(pages);
            let _ = ring.room.fetch_update(Relaxed, Relaxed, more);
        }
    }

    /// The ring's entries, with those in pages that others have added.
    pub(crate) fn reach_ring<'t>(&'t self, ring: &Ring<'t>) -> &'t [Past] {
        let room = ring.room();
        if ring.part.fit(room) > self.reach.of(ring.part) {
            let _ = self.assure(ring.part, room);
        }
        ring.entries(self)
    }
}

/// True if something that ended then is to be kept. A time to come is from before the clock was set back.
fn is_kept(ended_wall_us: u64) -> bool {
    let now = sys::realtime() / 1000;
    now.saturating_sub(ended_wall_us) < KEPT_US
}
