//! The life of a process, for which a loom thread stands: its clock, and its death before one of its actions.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Where all clocks start, in ns.
pub const BEGIN: u64 = 1_000_000_000_000;

loom::thread_local! {
    static CLOCK: Cell<u64> = Cell::new(BEGIN);
    static LEFT: Cell<Option<u32>> = Cell::new(None);
    static TIME_NAMESPACE: Cell<u32> = Cell::new(1);
}

/// True if some process of this scenario dies: only then are actions counted, because that costs time.
static SOMEBODY_DIES: AtomicBool = AtomicBool::new(false);

/// The panic payload that ends a process.
struct Died;

/// Called before each action.
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

/// Does `work`, or dies before completing more than `after` actions and returns `None`.
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

/// This process's clock.
pub fn now() -> u64 {
    CLOCK.with(Cell::get)
}

/// Lets time pass.
pub fn sleep_until(then: u64) {
    CLOCK.with(|clock| clock.set(clock.get().max(then)));
}

/// This process's time namespace.
pub fn time_namespace() -> u32 {
    TIME_NAMESPACE.with(Cell::get)
}

/// Moves this process to another time namespace.
pub fn enter_time_namespace(other: u32) {
    TIME_NAMESPACE.with(|namespace| namespace.set(other));
}
