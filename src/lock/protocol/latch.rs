//! The latch: a 32-bit futex word in the table that guards the table for well under a microsecond. It holds the id of
//! the handle inside, and a bit that says that somebody sleeps. If a process dies inside, its beacon tells; the next
//! one takes the latch over and repairs. Pure, like [`queue`](crate::lock::protocol::queue).

/// Set while somebody sleeps for the latch.
pub(crate) const SLEEPERS: u32 = 1 << 31;

/// What the latch needs of the world. Each call is one action.
pub(crate) trait LatchWorld: crate::lock::protocol::queue::World {
    /// The caller's id, never 0, below 2^31.
    fn me(&self) -> u32;
    /// Reads the latch.
    fn latch(&self) -> Result<u32, Self::Stop>;
    /// Compare-exchange of the latch: true = changed.
    fn swap_latch(&self, from: u32, to: u32) -> Result<bool, Self::Stop>;
    /// Lets some time pass before another try (a few dozen cycles); false = that is enough, sleep.
    fn spin(&self) -> bool;
    /// Sleeps while the latch is `seen`, for at most 10 ms.
    fn sleep_on_latch(&self, seen: u32) -> Result<Slept, Self::Stop>;
    /// Wakes one sleeper.
    fn wake_latch(&self);
    /// True if the process with this id is proven to be gone.
    fn is_id_gone(&self, id: u32) -> Result<bool, Self::Stop>;
}

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slept {
    /// Woken, or the latch had changed already.
    Woken,
    /// The slice is over.
    Slice,
    /// The caller's deadline has passed.
    Deadline,
}

/// How the latch was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// As usual.
    Clean,
    /// The process inside has died: repair everything.
    Repair,
    /// Not at all: it stayed taken until the deadline, under this id.
    Busy(u32),
}

/// Enters the latch; blocks until the deadline that [`LatchWorld::sleep_on_latch`] knows.
#[inline]
pub(crate) fn enter<W: LatchWorld>(w: &W) -> Result<Entry, W::Stop> {
    let seen = w.latch()?;
    if seen & !SLEEPERS == 0 && w.swap_latch(seen, w.me() | seen)? {
        return Ok(Entry::Clean);
    }
    enter_taken(w)
}

/// The same after a first try.
fn enter_taken<W: LatchWorld>(w: &W) -> Result<Entry, W::Stop> {
    let mut slept = 0; // SLEEPERS once we have slept: others may still be asleep
    loop {
        let seen = w.latch()?;
        if seen & !SLEEPERS == 0 {
            if w.swap_latch(seen, w.me() | slept | seen)? {
                return Ok(Entry::Clean);
            }
            continue;
        }
        if slept == 0 && w.spin() {
            continue;
        }
        let marked = seen | SLEEPERS;
        if marked != seen && !w.swap_latch(seen, marked)? {
            continue;
        }
        slept = SLEEPERS;
        match w.sleep_on_latch(marked)? {
            Slept::Woken => {}
            Slept::Deadline => return Ok(Entry::Busy(marked & !SLEEPERS)),
            Slept::Slice => {
                // Once it is dead, only a takeover changes the word.
                if w.is_id_gone(marked & !SLEEPERS)? && w.swap_latch(marked, w.me() | SLEEPERS)? {
                    return Ok(Entry::Repair);
                }
            }
        }
    }
}

/// Leaves the latch.
pub(crate) fn leave<W: LatchWorld>(w: &W) -> Result<(), W::Stop> {
    loop {
        let seen = w.latch()?;
        if seen & !SLEEPERS != w.me() {
            return Ok(()); // taken over: we were taken for dead (our beacon was closed from outside)
        }
        if w.swap_latch(seen, 0)? {
            if seen & SLEEPERS != 0 {
                w.wake_latch();
            }
            return Ok(());
        }
    }
}
