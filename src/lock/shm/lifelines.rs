//! On whose life a request depends, and proof that all of it is gone.

use crate::lock::protocol::orderings::{BOUND_LOAD, HOLDER_LOAD};
use crate::lock::shm::layout::Record;
use crate::lock::shm::process;
use crate::lock::sys::atomic::Ordering::Relaxed;

/// On whose life a request depends: two beacons and a process; 0 = none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lifelines {
    holder: u32,
    keeper: u32,
    bound: u32,
}

/// True if everything that the request in `record` depends on is proven to be gone. `is_out` tells that of a handle's
/// beacon, `is_keeper_out` of the record's keeper.
pub(crate) fn are_gone(record: &Record, is_out: impl Fn(u32) -> bool, is_keeper_out: impl Fn(u32) -> bool) -> bool {
    let read = || Lifelines {
        holder: record.holder.load(HOLDER_LOAD),
        keeper: record.keeper.load(Relaxed),
        bound: record.bound_pid.load(BOUND_LOAD),
    };
    proven_gone(read, |on| {
        (on.holder == 0 || is_out(on.holder))
            && (on.keeper == 0 || is_keeper_out(on.keeper))
            && (on.bound == 0
                || process::is_gone(
                    on.bound,
                    record.bound_start.load(Relaxed),
                    record.pid_namespace.load(Relaxed),
                    record.time_namespace.load(Relaxed),
                ))
    })
}

/// Asking takes a while, in which the request's owner may detach it and end. Then the lifelines that are gone are not
/// the ones that count, so they have to be the same afterwards.
fn proven_gone(read: impl Fn() -> Lifelines, gone: impl FnOnce(Lifelines) -> bool) -> bool {
    let before = read();
    let detached = before.holder == 0 && before.keeper == 0 && before.bound == 0;
    !detached && gone(before) && read() == before
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
        assert!(proven_gone(|| now.get(), |_| true));
        for detached in [on(0, 0), on(0, 4242)] {
            now.set(on(7, 0));
            let ends_meanwhile = |_| {
                now.set(detached);
                true
            };
            assert!(!proven_gone(|| now.get(), ends_meanwhile));
        }
        now.set(on(0, 0));
        assert!(!proven_gone(|| now.get(), |_| true), "detached for good");
    }
}
