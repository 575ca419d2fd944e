//! What a user of the library does with a lock.

mod acquire_all;
#[cfg(feature = "tokio")]
mod asynchronous;
mod builder;
pub(crate) mod removal;
mod resource_lock;
mod seed_words;
mod viewer;

#[cfg(feature = "tokio")]
pub use asynchronous::Changes;
pub use builder::Builder;
pub use removal::{Removed, Unused, remove, remove_unused, unused};
pub use resource_lock::ResourceLock;
pub use viewer::Viewer;
