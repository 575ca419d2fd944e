//! The real objects of a lock of this machine, and what the system tells of processes and time.

pub(crate) mod beacon;
pub(crate) mod clock;
pub(crate) mod files;
pub(crate) mod note;
pub(crate) mod process;
pub(crate) mod real;
pub(crate) mod removal;
pub(crate) mod semaphore;
pub(crate) mod table;

pub use removal::remove;
