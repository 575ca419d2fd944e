//! When a hold is certain, and telling those who must know.

use super::Lease;
#[cfg(feature = "remote")]
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is certain about a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It lasts until it is released or taken away by force.
    Unlimited,
    /// It is certain until this lease ends.
    Until(Lease),
    /// It is gone: somebody else may have the lock.
    Lost,
}

impl Validity {
    /// True if the hold is certain now.
    pub fn is_certain(&self) -> bool {
        match self {
            Self::Unlimited => true,
            Self::Until(lease) => !lease.left().is_zero(),
            Self::Lost => false,
        }
    }
}

/// A hold's validity as it changes: the thread that renews it writes it, the holder reads it.
#[cfg(feature = "remote")]
pub(crate) struct TrackedValidity(Mutex<Tracked>);

#[cfg(feature = "remote")]
struct Tracked {
    validity: Validity,
    listener: Option<Box<dyn Fn(Validity) + Send>>,
}

#[cfg(feature = "remote")]
impl TrackedValidity {
    pub(crate) fn new(lease: Lease) -> Self {
        Self(Mutex::new(Tracked {
            validity: Validity::Until(lease),
            listener: None,
        }))
    }

    /// What is certain now; a lease that has ended is lost.
    pub(crate) fn now(&self) -> Validity {
        match self.tracked().validity {
            Validity::Until(lease) if lease.left().is_zero() => Validity::Lost,
            other => other,
        }
    }

    /// A renewal whose request was sent at `begun` has succeeded. What is lost, or over by this clock, stays so.
    pub(crate) fn renewed(&self, begun: u64) {
        if let Validity::Until(lease) = self.now()
            && lease.begun < begun
        {
            self.change(Validity::Until(Lease { begun, ..lease }));
        }
    }

    pub(crate) fn lost(&self) {
        self.change(Validity::Lost);
    }

    fn change(&self, validity: Validity) {
        let mut tracked = self.tracked();
        if tracked.validity != Validity::Lost && validity != tracked.validity {
            tracked.validity = validity;
            if let Some(listener) = &tracked.listener {
                listener(validity);
            }
        }
    }

    /// Tells `listener` the present validity at once, and every change from now on.
    pub(crate) fn on_change(&self, listener: Box<dyn Fn(Validity) + Send>) {
        let mut tracked = self.tracked();
        listener(tracked.validity);
        tracked.listener = Some(listener);
    }

    /// Tells nobody from now on.
    pub(crate) fn silence(&self) {
        self.tracked().listener = None;
    }

    fn tracked(&self) -> MutexGuard<'_, Tracked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
