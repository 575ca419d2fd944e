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

#[path = "lock/beacon.rs"]
mod beacon;
#[path = "lock/cancel.rs"]
mod cancel;
#[path = "lock/clock.rs"]
mod clock;
#[path = "lock/error.rs"]
mod error;
#[path = "lock/flag.rs"]
mod flag;
#[path = "lock/folder.rs"]
mod folder;
#[doc(hidden)]
#[path = "lock/fuzzing.rs"]
pub mod fuzzing;
#[path = "lock/get.rs"]
mod get;
#[path = "lock/guard.rs"]
mod guard;
#[path = "lock/handle.rs"]
mod handle;
#[path = "lock/hold.rs"]
mod hold;
#[path = "lock/identity.rs"]
mod identity;
#[path = "lock/latch.rs"]
mod latch;
#[path = "lock/live.rs"]
mod live;
#[path = "lock/name.rs"]
mod name;
#[path = "lock/note.rs"]
mod note;
#[path = "lock/objects.rs"]
mod objects;
#[path = "lock/options.rs"]
mod options;
#[path = "lock/queue.rs"]
mod queue;
#[path = "lock/snapshot.rs"]
mod snapshot;
#[path = "lock/state.rs"]
mod state;
#[path = "lock/sys.rs"]
mod sys;
#[path = "lock/table.rs"]
mod table;
#[path = "lock/viewer.rs"]
mod viewer;
#[path = "lock/watch.rs"]
mod watch;
#[path = "lock/word.rs"]
mod word;

pub use cancel::Cancel;
pub use error::{Error, Result};
pub use folder::{list, remove};
pub use guard::{Guard, Lost};
pub use handle::{Builder, ResourceLock, Viewer};
pub use name::LockName;
pub use options::{Detached, GetOptions, Mode, UngetOptions, Wait};
pub use state::{Counters, Ended, HistoryRecord, Holder, State, Waiter};
pub use watch::{Change, Watch};
