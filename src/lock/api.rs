//! What a user of the library does with a lock.

mod builder;
mod guard;
mod inspection;
pub(crate) mod removal;
mod resource_lock;

pub use builder::Builder;
pub use guard::{Guard, Lost};
pub use removal::{Removed, remove};
pub use resource_lock::ResourceLock;
