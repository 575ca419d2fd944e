//! Replaces `src/lock/sys/atomic.rs`: atomics of three kinds, and orderings that can be weakened by name.
//!
//! Loom runs all threads of an execution in turn in one OS thread. That is why cells may be shared here.

use super::futex::Futex;
use crate::mutant;
use crate::trace;
use loom::sync::atomic as model;
use std::cell::Cell;
use std::sync::atomic::Ordering as Real;

/// An ordering; those of `orderings.rs` know their names.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::enum_variant_names)]
pub enum Ordering {
    Relaxed,
    Acquire,
    Release,
    AcqRel,
    SeqCst,
    Named(&'static str, Real),
}

impl Ordering {
    /// The ordering used in this run.
    fn real(self) -> Real {
        match self {
            Self::Relaxed => Real::Relaxed,
            Self::Acquire => Real::Acquire,
            Self::Release => Real::Release,
            Self::AcqRel => Real::AcqRel,
            Self::SeqCst => Real::SeqCst,
            Self::Named(name, shipped) => mutant::ordering(name).unwrap_or(shipped),
        }
    }
}

/// Declares named orderings, and a list `ALL` of them.
macro_rules! orderings {
    ($($(#[$reason:meta])* $name:ident = $ordering:ident;)*) => {
        $($(#[$reason])* pub(crate) const $name: $crate::lock::sys::atomic::Ordering =
            $crate::lock::sys::atomic::Ordering::Named(stringify!($name), std::sync::atomic::Ordering::$ordering);)*
        /// Their names and values.
        pub(crate) const ALL: &[(&str, std::sync::atomic::Ordering)] =
            &[$((stringify!($name), std::sync::atomic::Ordering::$ordering)),*];
    };
}
pub(crate) use orderings;

/// A fence, unless it has been weakened to Relaxed: then nothing.
pub fn fence(ordering: Ordering) {
    match ordering.real() {
        Real::Relaxed => {}
        ordering => model::fence(ordering),
    }
}

/// A fence on every machine except x86, which does not matter here.
pub fn fence_after_swap(ordering: Ordering) {
    fence(ordering);
}

/// What an atomic is made of. (Boxed: the threads of loom have small stacks.)
enum Kind<M, C, T> {
    /// Explored by loom.
    Modelled(Box<Named<M>>),
    /// May be accessed only inside the latch: otherwise loom reports a race.
    Guarded(Box<Named<C>>),
    /// Of no interest here: everybody sees its latest value at once.
    Plain(Cell<T>),
}

/// A field that appears in traces.
struct Named<A> {
    name: &'static str,
    it: A,
    /// For those who sleep on it.
    futex: Option<Futex>,
}

macro_rules! atomic {
    ($name:ident, $type:ty) => {
        /// See the module.
        pub struct $name(Kind<model::$name, loom::cell::UnsafeCell<$type>, $type>);

        // SAFETY: see the module. Loom's cells are checked by loom.
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}

        impl Fill for $name {
            fn fill() -> Self {
                Self(Kind::Plain(Cell::new(0)))
            }
        }

        impl $name {
            /// Explored by loom.
            pub fn modelled(name: &'static str, value: $type) -> Self {
                let it = model::$name::new(value);
                Self(Kind::Modelled(Box::new(Named {
                    name,
                    it,
                    futex: None,
                })))
            }

            /// May be accessed only inside the latch.
            pub fn guarded(name: &'static str, value: $type) -> Self {
                let it = loom::cell::UnsafeCell::new(value);
                Self(Kind::Guarded(Box::new(Named {
                    name,
                    it,
                    futex: None,
                })))
            }

            /// The same, with sleepers that are woken, or missed, as the kernel would.
            pub fn with_futex(mut self) -> Self {
                if let Kind::Modelled(atomic) = &mut self.0 {
                    atomic.futex = Some(Futex::default());
                }
                self
            }

            pub fn futex(&self) -> Option<&Futex> {
                match &self.0 {
                    Kind::Modelled(atomic) => atomic.futex.as_ref(),
                    _ => None,
                }
            }

            fn name(&self) -> &'static str {
                match &self.0 {
                    Kind::Modelled(atomic) => atomic.name,
                    Kind::Guarded(cell) => cell.name,
                    Kind::Plain(_) => "",
                }
            }

            pub fn load(&self, ordering: Ordering) -> $type {
                let value = match &self.0 {
                    Kind::Plain(cell) => return cell.get(),
                    Kind::Guarded(cell) => {
                        super::life::act();
                        // SAFETY: loom checks that nobody writes at the same time.
                        cell.it.with(|value| unsafe { *value })
                    }
                    Kind::Modelled(atomic) => {
                        super::life::act();
                        atomic.it.load(ordering.real())
                    }
                };
                trace::step(self.name(), "is", value.into());
                value
            }

            pub fn store(&self, value: $type, ordering: Ordering) {
                match &self.0 {
                    Kind::Plain(cell) => return cell.set(value),
                    Kind::Guarded(cell) => {
                        super::life::act();
                        // SAFETY: loom checks that nobody else has access at the same time.
                        cell.it.with_mut(|place| unsafe { *place = value });
                    }
                    Kind::Modelled(atomic) => {
                        super::life::act();
                        atomic.it.store(value, ordering.real());
                    }
                }
                trace::step(self.name(), "set to", value.into());
            }

            pub fn compare_exchange(
                &self,
                current: $type,
                new: $type,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$type, $type> {
                let new = mutant::exchange(self.name(), current.into(), new.into()) as $type;
                let done = match &self.0 {
                    Kind::Modelled(atomic) => {
                        super::life::act();
                        atomic
                            .it
                            .compare_exchange(current, new, success.real(), failure.real())
                    }
                    _ if self.load(Ordering::Relaxed) == current => {
                        self.store(new, Ordering::Relaxed);
                        return Ok(current);
                    }
                    _ => return Err(self.load(Ordering::Relaxed)),
                };
                match done {
                    Ok(_) => trace::step(self.name(), "changed to", new.into()),
                    Err(found) => trace::step(self.name(), "not changed, is", found.into()),
                }
                done
            }

            pub fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                mut change: impl FnMut($type) -> Option<$type>,
            ) -> Result<$type, $type> {
                let mut found = self.load(failure);
                while let Some(new) = change(found) {
                    match self.compare_exchange(found, new, success, failure) {
                        Ok(before) => return Ok(before),
                        Err(now) => found = now,
                    }
                }
                Err(found)
            }

            pub fn fetch_or(&self, bits: $type, ordering: Ordering) -> $type {
                let Kind::Modelled(atomic) = &self.0 else {
                    let before = self.load(Ordering::Relaxed);
                    self.store(before | bits, Ordering::Relaxed);
                    return before;
                };
                super::life::act();
                let before = atomic.it.fetch_or(bits, ordering.real());
                trace::step(self.name(), "was, before bits were set,", before.into());
                before
            }

            pub fn fetch_add(&self, more: $type, ordering: Ordering) -> $type {
                let Kind::Modelled(atomic) = &self.0 else {
                    let before = self.load(Ordering::Relaxed);
                    self.store(before.wrapping_add(more), Ordering::Relaxed);
                    return before;
                };
                super::life::act();
                let before = atomic.it.fetch_add(more, ordering.real());
                trace::step(self.name(), "was, before something was added,", before.into());
                before
            }
        }
    };
}

atomic!(AtomicU8, u8);
atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);

/// Fills the fields of a shared struct with plain atomics, some of which a world then replaces by loom's.
pub trait Fill {
    fn fill() -> Self;
}

impl<T: Fill, const N: usize> Fill for [T; N] {
    fn fill() -> Self {
        std::array::from_fn(|_| T::fill())
    }
}
