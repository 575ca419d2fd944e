//! The holds that the command runs under: that of NAME, and those of `--with`.

use crate::output;
use resourcelock::system::boottime;
use resourcelock::{Error, Guard, LockName, Lost};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// The holds of one run; NAME's is the first. What is asked of them is true if it is of any, and what is done is done to all.
pub(super) struct Holds(Vec<Guard>);

/// How a release has come out.
#[derive(Debug, Default)]
pub(super) struct Released {
    /// The first that was not held any more.
    pub(super) lost: Option<LockName>,
    /// Of one of them nobody knows, as the engine cannot be reached.
    pub(super) unknown: bool,
}

impl Holds {
    /// There is at least one.
    pub(super) fn new(holds: Vec<Guard>) -> Self {
        Self(holds)
    }

    /// NAME's.
    pub(super) fn first(&self) -> Option<&Guard> {
        self.0.first()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Guard> {
        self.0.iter()
    }

    /// Those whose previous holder died.
    pub(super) fn abandoned(&self) -> impl Iterator<Item = &LockName> {
        self.iter().filter(|hold| hold.abandoned()).map(Guard::name)
    }

    /// The first that was lost, and how.
    pub(super) fn lost(&self) -> Option<(LockName, Lost)> {
        self.iter().find_map(|hold| Some((hold.name().clone(), hold.lost()?)))
    }

    /// See [`Guard::confirm`].
    pub(super) fn confirm(&self) -> Result<Option<LockName>, (LockName, Error)> {
        for hold in self.iter() {
            match hold.confirm() {
                Ok(None) => {}
                Ok(Some(_)) => return Ok(Some(hold.name().clone())),
                Err(error) => return Err((hold.name().clone(), error)),
            }
        }
        Ok(None)
    }

    /// Does this to all; stops at the first error.
    pub(super) fn each(&self, act: impl Fn(&Guard) -> Result<(), Error>) -> Result<(), (LockName, Error)> {
        self.iter()
            .try_for_each(|hold| act(hold).map_err(|error| (hold.name().clone(), error)))
    }

    /// See [`Guard::kept_alive_elsewhere`]. Asks all of them, as each closes its own copy of what keeps it.
    pub(super) fn kept_alive_elsewhere(&self) -> bool {
        self.iter().filter(|hold| hold.kept_alive_elsewhere()).count() > 0
    }

    /// See [`Guard::keep_open`].
    pub(super) fn keep_open(&self) -> Vec<BorrowedFd<'_>> {
        self.iter().filter_map(Guard::keep_open).collect()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Guard> {
        self.0.iter_mut()
    }

    /// Releases all of them, but leaves NAME's taken `until` then (CLOCK_BOOTTIME, ns). That the engine may not have heard of
    /// it is said.
    pub(super) fn release(self, until: Option<u64>) -> Released {
        let mut released = Released::default();
        let mut until = until;
        for mut hold in self.0 {
            if until.take().is_some_and(|until| stays(&mut hold, until)) {
                continue;
            }
            let name = hold.name().clone();
            match hold.release() {
                Ok(true) => {}
                Ok(false) => _ = released.lost.get_or_insert(name),
                Err(error) => {
                    say(
                        &name,
                        &format!("not released, it ends by itself: {}", error.with_source()),
                    );
                    released.unknown = true;
                }
            }
        }
        released
    }
}

/// Leaves a hold to its time: false = that is over, or it has to be released all the same.
fn stays(hold: &mut Guard, until: u64) -> bool {
    loop {
        let left = Duration::from_nanos(until.saturating_sub(boottime()));
        if left.is_zero() {
            return false;
        }
        match hold.linger(left) {
            Ok(()) => return true,
            // A process is stopped in the middle of changing the table: until that goes on, this one keeps the lock.
            Err(Error::Busy { .. }) => {}
            Err(Error::NotHeld) => return false, // the release tells
            Err(error) => {
                say(
                    hold.name(),
                    &format!(
                        "released {} too early, as it cannot be kept: {}",
                        output::duration(left),
                        error.with_source()
                    ),
                );
                return false;
            }
        }
    }
}

/// One line about a lock on standard error.
pub(super) fn say(lock: &LockName, what: &str) {
    output::message(&format!("resourcelock: {lock}: {what}"));
}
