//! A short spin before the queue.

use crate::lock::shm::lock_objects::Objects;
use crate::lock::sys;
use crate::lock::types::Mode;
use std::time::Duration;

/// Loads of the semaphore, to see it free where holds are short...
const LOADS: u32 = 40;
/// ...each after this many pauses...
const PAUSES: u32 = 24;
/// ...but with half as many loads, each after twice as many pauses, for every time that it was seen free too late, up to this
/// many times. That is what a loop looks like from outside that leaves the lock free only for an instant: each failed
/// try takes the latch, and the memory around it, from the processor that is using the lock.
const BACKOFFS: u32 = 3;
/// ...then naps, while a holder that was preempted gets the processor. Together below 1 ms: what a person could notice is
/// served in order.
const NAPS: u32 = 5;
/// ...and all that for no longer than this, however often the semaphore was seen free too late.
const SPIN_NS: u64 = 900_000;
const NAP: Duration = Duration::from_micros(50);

/// The short time outside the queue in which a running process may take a lock that becomes free, ahead of sleeping
/// ones: that is where throughput comes from if holds last microseconds.
#[derive(Default)]
pub(crate) struct Spin {
    naps: u32,
    /// How often the semaphore was seen free. Every time but the last, somebody else took the lock before the try.
    seen_free: u32,
    until: Option<u64>,
}

impl Spin {
    /// Waits a little. True = worth another try; false = the spin is over: join the queue.
    pub(crate) fn once(&mut self, objects: &Objects, mode: Mode) -> bool {
        let now = sys::monotonic();
        if self.naps >= NAPS || now >= *self.until.get_or_insert(now.saturating_add(SPIN_NS)) {
            return false;
        }
        if mode == Mode::Exclusive {
            let backoffs = self.seen_free.min(BACKOFFS);
            for _ in 0..LOADS >> backoffs {
                for _ in 0..PAUSES << backoffs {
                    sys::pause();
                }
                if objects.semaphore.load().value() != 0 {
                    self.seen_free += 1;
                    return true;
                }
            }
        }
        self.naps += 1;
        if self.naps <= 2 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(NAP);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spin_ends_before_order_is_promised() {
        assert!(NAP * NAPS < Duration::from_millis(1) && Duration::from_nanos(SPIN_NS) < Duration::from_millis(1));
        // Looking takes the same time, however often it looks.
        assert!(LOADS.is_multiple_of(1 << BACKOFFS));
    }
}
