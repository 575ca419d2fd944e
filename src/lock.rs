//! The lock: its rooms, and what the crate shows of them.
//!
//! | room | what |
//! |---|---|
//! | `api` | what a user of the library sees: handle, guard, options, records, errors |
//! | `acquire` | from asking to holding: a try, a short spin, the queue, a full table |
//! | `protocol` | the decisions, without I/O: run on the real table and by the model checker alike |
//! | `shm` | the real objects in /dev/shm, beacons, processes, clocks; all of the unsafe code |
//! | `system` | what the library and the program both ask of the system |
//! | `inspect` | looking at locks without disturbing anybody |
//! | `engines` | the same lock, kept by this machine, by etcd or by PostgreSQL |
//! | `testing` | the model, failpoints, interleavings, entry points for fuzzing |

mod acquire;
mod api;
pub mod engines;
mod inspect;
mod protocol;
mod shm;
#[doc(hidden)]
pub mod system;
mod testing;

pub use api::{
    Builder, Cancel, Counters, Detached, Ended, Error, GetOptions, Guard, HistoryRecord, Holder, Host, LockName, Lost,
    Mode, Requester, ResourceLock, Result, State, UngetOptions, Wait, Waiter,
};
pub use inspect::{Change, Viewer, Watch, list};
pub use shm::remove;
#[doc(hidden)]
pub use testing::fuzzing;
