//! What a user of the library does with a lock.

mod guard;
pub(crate) mod handle;
mod inspection;

pub use guard::{Guard, Lost};
pub use handle::{Builder, ResourceLock};
