//! The mark of a lock that is being removed, or was: nobody is granted the old one beside a holder of the new one.
//!
//! # Tombstone
//! Semaphore S, note N and table T are three files, and cannot be deleted at once. Before the first one is, T's field
//! `retired` gets the id of the remover's beacon. It keeps that for good, in the memory of the processes that have T
//! open, when T is deleted, last. With `retired` set nobody is granted, offered, swept or released by force in T
//! ([`Real::in_latch`](crate::lock::shm::real_world::Real::in_latch)), so S, which the remover has taken, stays at 0 for
//! whoever has it open, as users of the Python module may.
//!
//! | `retired` | its beacon | T at its path | meaning | a process that opens the lock |
//! |---|---|---|---|---|
//! | 0 | | | not being removed | goes on |
//! | id | lit | | being removed | creates nothing, waits, is told who removes it |
//! | id | out | no | removed | opens what is at the paths now |
//! | id | out | yes | the remover has died | makes the semaphore at the path T's, then sets `retired` to 0 |
//!
//! The order matters. A dead remover deletes nothing more, so if T is still at its path *after* the remover was found
//! dead, T was not removed by it. (Otherwise the last visitor of T would bring a removed table back to life.) And T is
//! used again with the semaphore that is at the path, because S, if it is deleted, would be released beside that one.
//! No beacon gets an id that stands in `retired`.
//!
//! # A remover that dies
//! | before | what others find and do |
//! |---|---|
//! | `retired` is set | a hold whose holder died, like any |
//! | S is deleted | the same, when they have set `retired` to 0: S is released |
//! | T is deleted | the dead hold, which goes with a new semaphore S2, theirs or the Python module's. S stays at 0 |
//! | after that | nothing: T is retired, S stays at 0 |
//!
//! A remover that is stopped stands in the way until it continues or is ended; nobody else deletes anything meanwhile.

use crate::lock::protocol::orderings::RETIRED;
use crate::lock::shm::beacon;
use crate::lock::shm::table::Table;
use crate::lock::types::Error;
use std::time::Duration;

/// Deleting a lock's files takes microseconds. A remover that has not finished after this time is stopped, and that is
/// reported.
pub(crate) const REMOVAL_TAKES: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 1 });
/// How often a process that waits for the end of a removal checks for it.
pub(crate) const REMOVAL_CHECK: Duration = Duration::from_millis(2);

/// What a lock's table tells of its removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Nobody removes it.
    None,
    /// The living process with this beacon is removing it.
    UnderWay(u32),
    /// The process with this beacon has died while removing it, and left the table where it was.
    Abandoned(u32),
    /// It has been removed.
    Over,
}

impl Removal {
    /// Of the lock with this table.
    pub(crate) fn of(table: &Table) -> Self {
        let remover = table.header.retired.load(RETIRED);
        if remover == 0 {
            return Self::None;
        }
        if !beacon::is_out(table, remover) {
            return Self::UnderWay(remover);
        }
        // After that, see the module.
        if table.is_at_its_path() {
            Self::Abandoned(remover)
        } else {
            Self::Over
        }
    }
}

/// The error of a lock that is being removed by the process with this beacon.
pub(crate) fn being_removed(table: &Table, remover: u32) -> Error {
    Error::BeingRemoved {
        pid: table.pid_of(remover),
    }
}

/// Sets `retired`, if it is still `from`: true = changed.
pub(crate) fn retire(table: &Table, from: u32, to: u32) -> bool {
    #[cfg(test)]
    crate::lock::testing::failpoint::here();
    table
        .header
        .retired
        .compare_exchange(from, to, RETIRED, RETIRED)
        .is_ok()
}
