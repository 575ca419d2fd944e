//! How a table's file is divided into pages, and how much of it this process can reach: see `growth.rs`.

use crate::lock::protocol::orderings::{REACH_LOAD, REACH_STORE};
use crate::lock::shm::layout::{FIRST_PAGES, GAVE_UP, HISTORY, Layout, PAGE, Past, REQUESTS, Record};
use crate::lock::sys::atomic::{AtomicU32, Ordering::Relaxed};
use std::mem::offset_of;
use std::ops::Range;

/// A part of the table that gets its space page by page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The requests' records, and all that lies before them.
    Records,
    /// The last holds.
    History,
    /// The last requests that gave up.
    GaveUp,
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::Records, Self::History, Self::GaveUp];

    /// Its pages in the file.
    pub(crate) fn pages(self) -> Range<u32> {
        // In `weak/`, where nothing has a size, a page has one entry.
        let begins = if cfg!(weak) {
            [0, REQUESTS, REQUESTS + HISTORY, REQUESTS + HISTORY + GAVE_UP].map(|at| at as u32)
        } else {
            [
                0,
                offset_of!(Layout, all_history),
                offset_of!(Layout, all_gave_up),
                size_of::<Layout>(),
            ]
            .map(|at| (at / PAGE) as u32)
        };
        let at = self as usize;
        begins[at]..begins[at + 1]
    }

    /// How many of its pages a new table has.
    pub(crate) fn at_first(self) -> u32 {
        match self {
            Self::Records => FIRST_PAGES as u32,
            Self::History => 1,
            Self::GaveUp => 0,
        }
    }

    /// How many records, or entries of the ring, lie within its first `pages` pages.
    pub(crate) fn fit(self, pages: u32) -> usize {
        let bytes = (pages as usize).saturating_mul(PAGE);
        match self {
            _ if cfg!(weak) => (pages as usize).min(self.pages().len()),
            Self::Records => {
                (bytes.saturating_sub(offset_of!(Layout, all_records)) / size_of::<Record>()).min(REQUESTS)
            }
            Self::History => (bytes / size_of::<Past>()).min(HISTORY),
            Self::GaveUp => (bytes / size_of::<Past>()).min(GAVE_UP),
        }
    }

    /// How many of its pages so many records or entries take.
    pub(crate) fn needed(self, entries: usize) -> u32 {
        let most = self.pages().len() as u32;
        (0..most).find(|pages| self.fit(*pages) >= entries).unwrap_or(most)
    }
}

/// How many records, and entries of each ring, this process can reach: those in pages that it has made sure of.
pub(crate) struct Reach(pub(crate) [AtomicU32; 3]);

impl Reach {
    #[cfg(not(weak))]
    pub(crate) fn of_nothing() -> Self {
        Self([const { AtomicU32::new(0) }; 3])
    }

    /// So many.
    pub(crate) fn of(&self, part: Part) -> usize {
        self.0[part as usize].load(REACH_LOAD) as usize
    }

    /// From now on it is sure that so many of the part's pages have their space.
    pub(crate) fn extend(&self, part: Part, pages: u32) {
        let fit = part.fit(pages) as u32;
        let more = |reach: u32| (reach < fit).then_some(fit);
        let _ = self.0[part as usize].fetch_update(REACH_STORE, Relaxed, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_what_fits_into_them() {
        assert_eq!(Part::ALL.map(Part::pages), [0..34, 34..45, 45..48]);
        assert_eq!(
            [0, 1, 2, 3, 33, 34, 99].map(|n| Part::Records.fit(n)),
            [0, 0, 21, 53, 1013, 1024, 1024]
        );
        assert_eq!(
            [0, 1, 2, 10, 11, u32::MAX].map(|n| Part::History.fit(n)),
            [0, 23, 46, 232, 256, 256]
        );
        assert_eq!([0, 1, 2, 3, 4].map(|n| Part::GaveUp.fit(n)), [0, 23, 46, 64, 64]);
        for part in Part::ALL {
            let most = part.pages().len() as u32;
            for pages in 0..=most {
                let entries = part.fit(pages);
                assert!(part.needed(entries) <= pages && part.fit(part.needed(entries)) == entries);
                assert!(
                    part.needed(entries + 1) > pages || pages == most || entries == 0,
                    "{part:?}"
                );
            }
        }
    }
}
