//! What a user of the library does with a lock.

mod acquire_all;
mod builder;
pub(crate) mod removal;
mod resource_lock;
mod seed_words;
mod viewer;

pub use builder::Builder;
pub use removal::{Removed, remove};
pub use resource_lock::ResourceLock;
pub use viewer::Viewer;
