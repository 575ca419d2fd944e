//! The atomics of the objects that processes share.
//!
//! In `weak/` loom's atomics stand in this module's place: the code that uses them runs there under a weak memory model,
//! with each named ordering as it is here and weaker.

pub(crate) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

/// Declares named orderings.
macro_rules! orderings {
    ($($(#[$reason:meta])* $name:ident = $ordering:ident;)*) => {
        $($(#[$reason])* pub(crate) const $name: $crate::lock::sys::atomic::Ordering =
            $crate::lock::sys::atomic::Ordering::$ordering;)*
    };
}
pub(crate) use orderings;

/// A fence(SeqCst) behind a successful compare-exchange, which on x86 is one itself.
pub(crate) fn fence_after_swap(ordering: Ordering) {
    if !cfg!(target_arch = "x86_64") {
        fence(ordering);
    }
}
