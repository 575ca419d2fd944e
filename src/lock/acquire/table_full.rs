//! Requests that find the table full: what they look after, and how rarely.
//!
//! All 1,024 records are in use, so there are enough holders and waiters to look after the lock, unless they are dead or
//! stopped. Probing 1,024 beacons takes milliseconds, and there may be many such requests. They share the work: the table
//! says when it was last done.

use crate::lock::acquire::queued::HEAD_LATE_NS;
use crate::lock::protocol::queue::{self, Sweep};
use crate::lock::protocol::staleness;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::real_world::Real;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

/// Time between two tries of a request.
pub(crate) const TRY_NS: u64 = 10_000_000;
/// Time between two checks of the semaphore and some holders, if the head of the queue does not check them.
const SOME_MS: i32 = 10;
/// Time between two checks of all requests.
const ALL_MS: i32 = 1_000;
/// A time this far in the future is not from another process, but from another clock or a damaged table.
const AHEAD_MS: i32 = 10_000;

/// The visit that is due, if a check finds a reason for one. Without the latch.
pub(crate) fn visit_due(objects: &Objects, now: u64, cursor: &mut usize) -> Option<Sweep> {
    let header = &objects.table.header;
    let real = Real::new(objects, now, now);
    if is_turn(&header.all_checked_ms, now, ALL_MS) && queue::any_gone(&real).unwrap_or(false) {
        return Some(Sweep::All);
    }
    let head_late = staleness::is_past(header.head_checked.load(Relaxed), now, HEAD_LATE_NS);
    let turn = head_late && is_turn(&header.some_checked_ms, now, SOME_MS);
    (turn && queue::check_from_outside(&real, cursor).unwrap_or(false)).then_some(Sweep::Active)
}

/// True if it is time again, and nobody else has taken the turn.
fn is_turn(last: &AtomicU32, now: u64, every_ms: i32) -> bool {
    let now = (now / 1_000_000) as u32; // wraps around after 49 days: only differences count
    let seen = last.load(Relaxed);
    let ago = now.wrapping_sub(seen) as i32;
    (ago >= every_ms || ago < -AHEAD_MS) && last.compare_exchange(seen, now, Relaxed, Relaxed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::shm::beacon;
    use crate::lock::shm::layout::REQUESTS;
    use crate::{GetOptions, Mode, ResourceLock, Wait};
    use std::time::{Duration, Instant};

    #[test]
    fn turns_come_after_their_time_across_the_wrap() {
        let ms = |ms: u64| ms * 1_000_000;
        let last = AtomicU32::new(0);
        assert!(is_turn(&last, ms(5000), 1000));
        assert!(!is_turn(&last, ms(5999), 1000) && is_turn(&last, ms(6000), 1000));
        assert!(!is_turn(&last, ms(5990), 1000), "a little behind another process");
        let wrap = u64::from(u32::MAX);
        last.store(u32::MAX - 100, Relaxed);
        assert!(!is_turn(&last, ms(wrap + 800), 1000) && is_turn(&last, ms(wrap + 901), 1000));
        last.store(2_000_000_000, Relaxed);
        assert!(is_turn(&last, ms(7000), 1000), "a damaged table does not stop it");
    }

    /// Requests outside a full table do not all probe everybody again and again, however many they are.
    #[test]
    fn a_crowd_outside_shares_its_checks() {
        let name = format!("test-full-{}", std::process::id());
        let crowd = ResourceLock::open(&name).unwrap();
        let shared = || GetOptions::new().mode(Mode::Shared);
        for _ in 0..REQUESTS {
            assert!(crowd.get_lock(&shared()).unwrap());
        }
        let start = Instant::now();
        let outside = || {
            let lock = ResourceLock::open(&name).unwrap();
            let before = beacon::PROBES.get();
            assert!(
                !lock
                    .get_lock(&shared().wait(Wait::For(Duration::from_millis(300))))
                    .unwrap()
            );
            beacon::PROBES.get() - before
        };
        let probes: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(outside)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let of_all = start.elapsed().as_millis() as u64 / ALL_MS as u64 + 1;
        let of_some = start.elapsed().as_millis() as u64 / SOME_MS as u64 + 1;
        assert!(
            probes <= of_all * REQUESTS as u64 + of_some * 8,
            "{probes} in {:?}",
            start.elapsed()
        );
        drop(crowd);
        crate::remove(&name, true).unwrap();
    }
}
