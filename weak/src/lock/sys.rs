//! Replaces `src/lock/sys.rs`: shared memory, futexes and clocks.

#[path = "atomic.rs"]
pub mod atomic;
#[path = "futex.rs"]
mod futex;
#[path = "life.rs"]
pub mod life;

use crate::mutant;
use atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Declares a struct that processes share.
macro_rules! shared {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$of_field:meta])* $seen:vis $field:ident: $type:ty,)*
        }
    ) => {
        $visibility struct $name {
            $($(#[$of_field])* $seen $field: $type,)*
        }
        impl $crate::lock::sys::atomic::Fill for $name {
            fn fill() -> Self {
                Self { $($field: $crate::lock::sys::atomic::Fill::fill(),)* }
            }
        }
    };
}
pub(crate) use shared;

/// What to wait on, while it has this value.
pub enum Watched<'a> {
    Word(&'a AtomicU32, u32),
    /// The low half of a semaphore's word.
    Low(&'a AtomicU64, u32),
}

/// A sleep longer than this, in ns, takes its full time; a shorter one takes one nanosecond.
const LONG: u64 = 1_000;

/// Sleeps on the first word until woken; if it has no futex, lets time pass and other threads take a turn.
pub fn futex_wait(on: &[Watched<'_>], until: u64) {
    let futex = match on.first() {
        Some(Watched::Word(word, _)) => word.futex(),
        Some(Watched::Low(word, _)) => word.futex(),
        None => None,
    };
    let Some(futex) = futex else {
        let now = life::now();
        life::sleep_until(if until.saturating_sub(now) > LONG {
            until
        } else {
            now + 1
        });
        return loom::thread::yield_now();
    };
    futex.wait(|| match &on[0] {
        Watched::Word(word, value) => word.load(Relaxed) == *value,
        Watched::Low(word, value) => word.load(Relaxed) as u32 == *value,
    });
}

/// Something that sleeps.
pub trait Sleeps {
    fn wake(&self, everybody: bool);
}

impl Sleeps for AtomicU32 {
    fn wake(&self, everybody: bool) {
        self.futex().into_iter().for_each(|futex| futex.wake(everybody));
    }
}

/// The word of a wait that can be cancelled: here, nobody cancels.
impl Sleeps for std::sync::atomic::AtomicU32 {
    fn wake(&self, _everybody: bool) {}
}

pub fn futex_wake(word: &impl Sleeps, n: i32) {
    if !mutant::is("no wake") {
        word.wake(n > 1);
    }
}

pub fn futex_wake_low(word: &AtomicU64, n: i32) {
    word.futex().into_iter().for_each(|futex| futex.wake(n > 1));
}

pub fn pause() {}

pub fn monotonic() -> u64 {
    life::now()
}

pub fn boottime() -> u64 {
    life::now()
}

pub fn realtime() -> u64 {
    life::now()
}
