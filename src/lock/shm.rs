//! The real objects of a lock of this machine, and what the system tells of processes and time.

pub(crate) mod beacon;
pub(crate) mod clock;
pub(crate) mod deferred_log;
pub(crate) mod done;
pub(crate) mod elsewhere;
pub(crate) mod ending;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod found;
mod heirs;
pub(crate) mod latched;
pub(crate) mod layout;
pub(crate) mod lifelines;
pub(crate) mod lock_objects;
pub(crate) mod note;
pub(crate) mod opening;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod real_world;
pub(crate) mod request;
pub(crate) mod semaphore;
pub(crate) mod semaphore_word;
pub(crate) mod table;
pub(crate) mod temporary;
pub(crate) mod tombstone;
pub(crate) mod trust;
