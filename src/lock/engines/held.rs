//! A hold that an engine on another machine keeps.

use super::Validity;
use crate::lock::types::{Error, Lost, Result};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What a [`Guard`](super::Guard) needs of such a hold. Dropping it releases it, as far as that can be done without an
/// answer.
pub(crate) trait Held: Send + Sync {
    /// The grant's number: grows strictly with every grant of this lock.
    fn token(&self) -> u64;

    /// Until when it is certain that nobody else has the lock. Does not block.
    fn validity(&self) -> Validity;

    /// How the hold was lost, if it was.
    fn lost(&self) -> Option<Lost> {
        (!self.validity().is_certain()).then_some(Lost::Lease)
    }

    /// As [`lost`](Self::lost), after asking the engine if its last answer is not [recent](super::RECENT).
    fn confirm(&self) -> Result<Option<Lost>> {
        Ok(self.lost())
    }

    /// Has every change of [`validity`](Self::validity) told to `tell`, and the present one at once.
    fn on_change(&mut self, tell: Box<dyn Fn(Validity) + Send>);

    /// See [`Guard::keep_open`](super::Guard::keep_open).
    fn keep_open(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The engine, in a word.
    fn engine(&self) -> &'static str;

    /// See [`Guard::mark_done`](super::Guard::mark_done).
    fn mark_done(&self, began_ago: Duration) -> Result<()>;

    /// See [`Guard::reset_skips`](super::Guard::reset_skips).
    fn reset_skips(&self) -> Result<()> {
        Err(Error::Unsupported {
            engine: self.engine(),
            what: "skipped runs: it does not count them".to_owned(),
        })
    }

    /// See [`Guard::linger`](super::Guard::linger).
    fn linger(&mut self, _time: Duration) -> Result<()> {
        Err(Error::Unsupported {
            engine: self.engine(),
            what: "a hold that outlasts its process".to_owned(),
        })
    }

    /// From now on no answer is waited for longer than a second.
    fn shorten_release(&mut self);

    /// Releases; false = it was lost before.
    fn release(self: Box<Self>) -> Result<bool>;
}
