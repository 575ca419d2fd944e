//! The lock: its modules, and what the crate shows of them.
//!
//! | module | what it contains | may use |
//! |---|---|---|
//! | `sys` | all unsafe code: shared memory, futexes, clocks, descriptors, forks | |
//! | `system` | what the library and the program both ask the system | `sys` |
//! | `types` | names, options, errors, and the records of what can be seen: plain values | `sys`, `system` |
//! | `protocol` | the decisions, without I/O: run on the real table and by the model checker alike | `types`; of `sys` the atomics |
//! | `shm` | the real objects in /dev/shm, beacons, processes, clocks | all of the above |
//! | `inspect` | inspecting locks without disturbing anybody | all of the above |
//! | `acquire` | the state of a handle; from asking to holding, and the release | all of the above |
//! | `engines` | the same lock, kept by this machine, by etcd, or by PostgreSQL; the guard of a hold | all of the above |
//! | `api` | what a user of the library does with a lock: handle, viewer, removal | all of the above |
//! | `testing` | failpoints, interleavings, entry points for fuzzing | everything |
//!
//! The dependencies run one way, from the bottom of this list to its top. `testing/modules.rs` holds the imports to it.

mod acquire;
mod api;
pub mod engines;
mod inspect;
mod protocol;
mod shm;
mod sys;
#[doc(hidden)]
pub mod system;
mod testing;
mod types;

#[cfg(feature = "tokio")]
pub use api::Changes;
pub use api::{Builder, Removed, ResourceLock, Unused, Viewer, remove, remove_unused, unused};
pub use engines::follow::Watch;
pub use engines::guard::Guard;
pub use inspect::{Change, list};
#[doc(hidden)]
pub use shm::temporary::temporary_names;
pub use sys::survive_truncation;
#[doc(hidden)]
pub use testing::fuzzing;
#[doc(hidden)]
pub use types::PREVIOUS_HOLDER_DIED;
pub use types::{
    Cancel, CommandEnd, Counters, Detached, Ended, Error, GetOptions, HistoryRecord, Holder, Host, Inside, LastDone,
    LockName, Lost, Mode, Requester, Result, State, Survivor, UngetOptions, Wait, Waiter,
};
