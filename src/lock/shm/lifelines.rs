//! On whose life a request depends, and proof that all of it is gone.

use crate::lock::protocol::orderings::{BOUND_LOAD, HOLDER_LOAD};
use crate::lock::shm::layout::Record;
use crate::lock::shm::process::{self, Life};
use crate::lock::sys::atomic::Ordering::Relaxed;

/// On whose life a request depends: two beacons and a process; 0 = none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lifelines {
    holder: u32,
    keeper: u32,
    bound: u32,
}

/// Who keeps a request, as far as can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The process that made it: its beacon is lit.
    ByOwner,
    /// Whoever inherited the keeper, after the owner's death.
    ByHeirs,
    /// The process that it is bound to.
    ByProcess,
    /// It depends on nobody's life.
    ByItself,
    /// It cannot be found out, so it counts as kept.
    Unknown,
    /// Everything that it depends on is proven to be gone.
    ByNobody,
}

/// Who keeps the request in `record`. `is_out` tells of a handle's beacon that it is out, `is_keeper_out` of the record's
/// keeper.
pub(crate) fn kept(record: &Record, is_out: impl Fn(u32) -> bool, is_keeper_out: impl Fn(u32) -> bool) -> Kept {
    let read = || Lifelines {
        holder: record.holder.load(HOLDER_LOAD),
        keeper: record.keeper.load(Relaxed),
        bound: record.bound_pid.load(BOUND_LOAD),
    };
    asked_twice(read, |on| {
        if on.holder != 0 && !is_out(on.holder) {
            return Kept::ByOwner;
        }
        if on.keeper != 0 && !is_keeper_out(on.keeper) {
            return Kept::ByHeirs;
        }
        if on.bound == 0 {
            return Kept::ByNobody;
        }
        match process_of(record, on.bound) {
            Life::Lives => Kept::ByProcess,
            Life::Unknown => Kept::Unknown,
            Life::Gone => Kept::ByNobody,
        }
    })
}

/// What can be said of the process that the request in `record` is bound to.
pub(crate) fn process_of(record: &Record, bound: u32) -> Life {
    process::life(
        bound,
        record.bound_start.load(Relaxed),
        record.pid_namespace.load(Relaxed),
        record.time_namespace.load(Relaxed),
    )
}

/// Asking takes a while, in which the request's owner may detach it and end. Then the lifelines that are gone are not
/// the ones that count, so they have to be the same afterwards.
fn asked_twice(read: impl Fn() -> Lifelines, ask: impl FnOnce(Lifelines) -> Kept) -> Kept {
    let before = read();
    if before.holder == 0 && before.keeper == 0 && before.bound == 0 {
        return Kept::ByItself;
    }
    match ask(before) {
        Kept::ByNobody if read() != before => Kept::Unknown,
        kept => kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn on(holder: u32, bound: u32) -> Lifelines {
        Lifelines {
            holder,
            keeper: 0,
            bound,
        }
    }

    #[test]
    fn a_hold_that_is_detached_while_its_owner_ends_stays() {
        let now = Cell::new(on(7, 0));
        assert_eq!(asked_twice(|| now.get(), |_| Kept::ByNobody), Kept::ByNobody);
        for detached in [on(0, 0), on(0, 4242)] {
            now.set(on(7, 0));
            let ends_meanwhile = |_| {
                now.set(detached);
                Kept::ByNobody
            };
            assert_eq!(asked_twice(|| now.get(), ends_meanwhile), Kept::Unknown);
        }
        now.set(on(0, 0));
        assert_eq!(
            asked_twice(|| now.get(), |_| Kept::ByNobody),
            Kept::ByItself,
            "for good"
        );
    }
}
