//! Patience before the queue.

use crate::Mode;
use crate::lock::shm::real::Objects;
use crate::lock::sys;
use std::time::Duration;

/// Patience before the queue, where holds are short: tries to see the semaphore free...
const GLANCES: u32 = 40;
/// ...each after so many pauses...
const PAUSES: u32 = 24;
/// ...then naps, while a holder that was preempted gets the processor. Together below 1 ms: what a person could
/// notice is served in order.
const NAPS: u32 = 5;
/// ...and all that for no longer than this, however often a glimpse of the free semaphore came too late.
const PATIENCE_NS: u64 = 900_000;
const NAP: Duration = Duration::from_micros(50);

/// The short time outside the queue in which a running process may take a lock that becomes free, ahead of sleeping
/// ones: throughput where holds last microseconds.
#[derive(Default)]
pub(crate) struct Patience {
    naps: u32,
    until: Option<u64>,
}

impl Patience {
    /// Waits a little; true = worth another try, false = patience is over: join the queue.
    pub(crate) fn wait_a_little(&mut self, objects: &Objects, mode: Mode) -> bool {
        let now = sys::monotonic();
        if self.naps >= NAPS || now >= *self.until.get_or_insert(now.saturating_add(PATIENCE_NS)) {
            return false;
        }
        if mode == Mode::Exclusive {
            for _ in 0..GLANCES {
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
    fn patience_ends_before_order_is_promised() {
        assert!(NAP * NAPS < Duration::from_millis(1));
    }
}
