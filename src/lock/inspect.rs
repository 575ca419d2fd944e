//! Inspecting locks without disturbing anybody.

mod directory;
pub(crate) mod sight;
pub(crate) mod snapshot;
pub(crate) mod viewer;
pub(crate) mod watch;

pub use directory::list;
pub(crate) use viewer::Viewer;
pub use watch::Change;
pub(crate) use watch::Watch;
