//! Named locks between processes.
// (full crate documentation follows with the implementation)

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    target_pointer_width = "64",
    target_endian = "little"
)))]
compile_error!(
    "resourcelock shares glibc's 64-bit little-endian semaphores in memory: musl, 32-bit and big-endian systems lay \
     them out differently, so a lock built there would not exclude the others"
);

#[path = "lock/cancel.rs"]
mod cancel;
#[path = "lock/error.rs"]
mod error;
#[path = "lock/guard.rs"]
mod guard;
#[path = "lock/handle.rs"]
mod handle;
#[path = "lock/name.rs"]
mod name;
#[path = "lock/options.rs"]
mod options;
#[path = "lock/state.rs"]
mod state;

pub use cancel::Cancel;
pub use error::{Error, Result};
pub use guard::{Guard, Lost};
pub use handle::{Builder, ResourceLock, list};
pub use name::LockName;
pub use options::{Detached, GetOptions, Mode, UngetOptions, Wait};
pub use state::{Counters, Ended, HistoryRecord, Holder, State, Waiter};
