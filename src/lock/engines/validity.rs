//! When a hold is certain, and telling those who must know.

use super::Lease;
#[cfg(feature = "remote")]
use std::panic::{AssertUnwindSafe, catch_unwind};
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
pub(crate) struct TrackedValidity {
    now: Mutex<Validity>,
    /// Locked before `now`, and while it is told: it hears one change after the other.
    listener: Mutex<Option<Listener>>,
}

#[cfg(feature = "remote")]
type Listener = Box<dyn Fn(Validity) + Send>;

#[cfg(feature = "remote")]
impl TrackedValidity {
    pub(crate) fn new(lease: Lease) -> Self {
        Self {
            now: Mutex::new(Validity::Until(lease)),
            listener: Mutex::new(None),
        }
    }

    /// What is certain now; a lease that has ended is lost.
    pub(crate) fn now(&self) -> Validity {
        match self.last_said() {
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
        let listener = self.listener();
        let before = self.last_said();
        if before == Validity::Lost || validity == before {
            return;
        }
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = validity;
        if let Some(listener) = &*listener {
            // If it panics, that has been reported, and the lease is to be renewed all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| listener(validity)));
        }
    }

    /// Tells `listener` the present validity at once, and every change from now on. It may ask for the validity.
    pub(crate) fn on_change(&self, listener: Listener) {
        let mut listening = self.listener();
        listener(self.last_said());
        *listening = Some(listener);
    }

    /// Tells nobody from now on.
    pub(crate) fn silence(&self) {
        *self.listener() = None;
    }

    fn listener(&self) -> MutexGuard<'_, Option<Listener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locked for a moment only, so that a listener may ask.
    fn last_said(&self) -> Validity {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, feature = "remote"))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    /// The lease is renewed all the same.
    #[test]
    fn a_listener_may_ask_and_panic() {
        let ttl = std::time::Duration::from_secs(10);
        let begun = crate::lock::sys::boottime();
        let validity = Arc::new(TrackedValidity::new(Lease { begun, ttl }));
        let heard = Arc::new(AtomicU32::new(0));
        let (asked, counter) = (validity.clone(), heard.clone());
        validity.on_change(Box::new(move |now| {
            assert_eq!(asked.now(), now);
            assert_eq!(counter.fetch_add(1, SeqCst), 0, "it panics from the second time on");
        }));
        validity.renewed(begun + 1);
        validity.renewed(begun + 2);
        assert_eq!(validity.now(), Validity::Until(Lease { begun: begun + 2, ttl }));
        validity.lost();
        assert_eq!((heard.load(SeqCst), validity.now()), (4, Validity::Lost));
    }
}
