//! A hold's validity as it changes, and telling those who must know.

use super::{Lease, Validity};
use std::sync::{Mutex, PoisonError};

type Tell = Box<dyn Fn(Validity) + Send>;

/// A hold's validity as it changes: written by the thread that renews it, read by the holder.
pub(crate) struct Standing(Mutex<(Validity, Option<Tell>)>);

impl Standing {
    pub(crate) fn new(lease: Lease) -> Self {
        Self(Mutex::new((Validity::Until(lease), None)))
    }

    pub(crate) fn now(&self) -> Validity {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// A renewal whose request was sent at `begun` has succeeded. What is lost, or over by this clock, stays so.
    pub(crate) fn renewed(&self, begun: u64) {
        self.change(|validity| match validity {
            Validity::Until(lease) if lease.begun < begun && !lease.left().is_zero() => {
                Validity::Until(Lease { begun, ..lease })
            }
            other => other,
        });
    }

    pub(crate) fn lost(&self) {
        self.change(|_| Validity::Lost);
    }

    fn change(&self, to: impl FnOnce(Validity) -> Validity) {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = to(standing.0);
        if new != standing.0 {
            standing.0 = new;
            if let Some(tell) = &standing.1 {
                tell(new);
            }
        }
    }

    /// Tells the present validity at once, and every change from now on.
    pub(crate) fn on_change(&self, tell: Tell) {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tell(standing.0);
        standing.1 = Some(tell);
    }

    /// Nobody wants to know any more.
    pub(crate) fn silence(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = None;
    }
}
