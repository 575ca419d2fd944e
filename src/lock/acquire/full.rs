//! Requests for which the table has no room: what they look after, and how seldom.
//!
//! All 1,024 records are taken, so there are holders and waiters enough to look after the lock, unless they are dead or
//! stopped. Asking after 1,024 beacons takes milliseconds, and there may be many such requests: they share the work,
//! through time stamps in the table.

use crate::lock::acquire::wait::HEAD_LATE_NS;
use crate::lock::protocol::queue::{self, Sweep};
use crate::lock::protocol::staleness;
use crate::lock::shm::real::{Objects, Real, go};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

/// Between two tries of a request.
pub(crate) const TRY_NS: u64 = 10_000_000;
/// Between two small looks (semaphore and some holders), if the head of the queue does not look itself.
const SMALL_LOOK_MS: i32 = 10;
/// Between two looks at all requests.
const FULL_LOOK_MS: i32 = 1_000;
/// A stamp this far in the future is no other process's, but of another clock or a damaged table.
const AHEAD_MS: i32 = 10_000;

/// Whether something was found that calls for a visit. Without the latch.
pub(crate) fn visit_due(objects: &Objects, now: u64, cursor: &mut usize) -> Option<Sweep> {
    let header = &objects.table.header;
    let real = Real::new(objects, now, now);
    if is_turn(&header.searched_ms, now, FULL_LOOK_MS) && go(queue::any_gone(&real)) {
        return Some(Sweep::All);
    }
    let head_late = staleness::is_past(header.head_looked.load(Relaxed), now, HEAD_LATE_NS);
    let small_look = head_late && is_turn(&header.outside_looked_ms, now, SMALL_LOOK_MS);
    (small_look && go(queue::look_from_outside(&real, cursor))).then_some(Sweep::Active)
}

/// Whether it is time, and nobody else has taken the turn.
fn is_turn(stamp: &AtomicU32, now: u64, every_ms: i32) -> bool {
    let now = (now / 1_000_000) as u32; // wraps around after 49 days: only differences count
    let last = stamp.load(Relaxed);
    let ago = now.wrapping_sub(last) as i32;
    (ago >= every_ms || ago < -AHEAD_MS) && stamp.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::shm::beacon;
    use crate::lock::shm::table::REQUESTS;
    use crate::{GetOptions, Mode, ResourceLock, Wait};
    use std::time::{Duration, Instant};

    #[test]
    fn turns_come_after_their_time_across_the_wrap() {
        let ms = |ms: u64| ms * 1_000_000;
        let stamp = AtomicU32::new(0);
        assert!(is_turn(&stamp, ms(5000), 1000));
        assert!(!is_turn(&stamp, ms(5999), 1000) && is_turn(&stamp, ms(6000), 1000));
        assert!(!is_turn(&stamp, ms(5990), 1000), "a little behind another process");
        let wrap = u64::from(u32::MAX);
        stamp.store(u32::MAX - 100, Relaxed);
        assert!(!is_turn(&stamp, ms(wrap + 800), 1000) && is_turn(&stamp, ms(wrap + 901), 1000));
        stamp.store(2_000_000_000, Relaxed);
        assert!(is_turn(&stamp, ms(7000), 1000), "a damaged stamp does not stop it");
    }

    /// Requests outside a full table do not ask after everybody again and again, however many they are.
    #[test]
    fn a_crowd_outside_shares_its_looks() {
        let name = format!("test-room-{}", std::process::id());
        let crowd = ResourceLock::open(&name).unwrap();
        let shared = || GetOptions::new().mode(Mode::Shared);
        for _ in 0..REQUESTS {
            assert!(crowd.get_lock(shared()).unwrap());
        }
        let start = Instant::now();
        let outside = || {
            let lock = ResourceLock::open(&name).unwrap();
            let before = beacon::ASKED.get();
            assert!(
                !lock
                    .get_lock(shared().wait(Wait::For(Duration::from_millis(300))))
                    .unwrap()
            );
            beacon::ASKED.get() - before
        };
        let asked: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(outside)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let full_looks = start.elapsed().as_millis() as u64 / FULL_LOOK_MS as u64 + 1;
        let small_looks = start.elapsed().as_millis() as u64 / SMALL_LOOK_MS as u64 + 1;
        assert!(
            asked <= full_looks * REQUESTS as u64 + small_looks * 8,
            "{asked} in {:?}",
            start.elapsed()
        );
        drop(crowd);
        crate::remove(&name, true).unwrap();
    }
}
