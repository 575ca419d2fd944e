//! A short spin before the queue.

use crate::lock::shm::lock_objects::Objects;
use crate::lock::sys;
use crate::lock::types::Mode;
use std::time::Duration;

/// Loads of the semaphore, to see it free where holds are short...
const LOADS: u32 = 40;
/// ...each after this many pauses...
const PAUSES: u32 = 24;
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
            for _ in 0..LOADS {
                for _ in 0..PAUSES {
                    sys::pause();
                }
                if objects.semaphore.load().value() != 0 {
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
    }
}
