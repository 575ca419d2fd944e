//! The life of the process that a thread of loom's stands for: its clock, and its death before one of its actions.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Where all clocks begin, in ns.
pub const BEGIN: u64 = 1_000_000_000_000;

loom::thread_local! {
    static CLOCK: Cell<u64> = Cell::new(BEGIN);
    static LEFT: Cell<Option<u32>> = Cell::new(None);
    static TIME_NAMESPACE: Cell<u32> = Cell::new(1);
}

/// Some process of this scenario dies: then actions are counted, which costs time.
static SOMEBODY_DIES: AtomicBool = AtomicBool::new(false);

/// Why a process does nothing more.
struct Died;

/// Stands before each action.
pub fn act() {
    if !SOMEBODY_DIES.load(Relaxed) {
        return;
    }
    let dies = LEFT.with(|left| match left.get() {
        None => false,
        Some(0) => true,
        Some(n) => {
            left.set(Some(n - 1));
            false
        }
    });
    if dies {
        resume_unwind(Box::new(Died));
    }
}

/// Does this, but dies after so many actions: `None`.
pub fn dying<R>(after: u32, work: impl FnOnce() -> R) -> Option<R> {
    SOMEBODY_DIES.store(true, Relaxed);
    LEFT.with(|left| left.set(Some(after)));
    let result = catch_unwind(AssertUnwindSafe(work));
    LEFT.with(|left| left.set(None));
    match result {
        Ok(result) => Some(result),
        Err(why) if why.is::<Died>() => None,
        Err(why) => resume_unwind(why),
    }
}

/// The clock of this process.
pub fn now() -> u64 {
    CLOCK.with(Cell::get)
}

/// Time passes.
pub fn sleep_until(then: u64) {
    CLOCK.with(|clock| clock.set(clock.get().max(then)));
}

/// The time namespace of this process.
pub fn time_namespace() -> u32 {
    TIME_NAMESPACE.with(Cell::get)
}

/// It is another one from now on.
pub fn enter_time_namespace(other: u32) {
    TIME_NAMESPACE.with(|namespace| namespace.set(other));
}
