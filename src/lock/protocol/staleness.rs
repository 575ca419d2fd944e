//! Monotonic times in the table, as other processes left them there.
//!
//! All processes share the monotonic clock, except those of other time namespaces (time_namespaces(7)), whose clock may
//! be days ahead or behind. A time of theirs that seems old is treated as old; one that is further in the future than
//! [`AHEAD_NS`] is treated as void. So at worst a process loses a turn; none waits for a time that does not come.

/// A time of the same clock may be in the future, because the present is read before the latch is entered; but not as
/// far as this.
const AHEAD_NS: u64 = 1_000_000_000;

/// True if something that ends at `end` still lasts. For what lasts less than [`AHEAD_NS`].
pub(crate) fn lasts(end: u64, now: u64) -> bool {
    (1..=AHEAD_NS).contains(&end.saturating_sub(now))
}

/// True if what happened at `then` was more than `ns` ago.
pub(crate) fn is_past(then: u64, now: u64, ns: u64) -> bool {
    now.saturating_sub(then) > ns || then.saturating_sub(now) > AHEAD_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_other_clocks_hold_nobody_up() {
        const NOW: u64 = 10 * AHEAD_NS;
        assert!(lasts(NOW + 1, NOW) && lasts(NOW + AHEAD_NS, NOW));
        assert!(!lasts(0, NOW) && !lasts(NOW, NOW) && !lasts(NOW + AHEAD_NS + 1, NOW) && !lasts(u64::MAX, NOW));
        assert!(is_past(NOW - 101, NOW, 100) && !is_past(NOW - 100, NOW, 100));
        assert!(!is_past(NOW + AHEAD_NS, NOW, 100) && is_past(NOW + AHEAD_NS + 1, NOW, 100));
        assert!(is_past(0, NOW, 100) && is_past(u64::MAX, NOW, 100));
    }
}
