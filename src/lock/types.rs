//! What all rooms speak of: names, options, errors, and what can be seen of a lock. Plain values, without I/O.

mod cancel;
mod done;
mod ended;
mod error;
pub(crate) mod get_options;
pub(crate) mod name;
mod records;

pub use cancel::Cancel;
pub use done::LastDone;
pub use ended::Ended;
pub use error::{Error, Result};
pub use get_options::{Detached, GetOptions, Mode, UngetOptions, Wait};
pub use name::LockName;
/// What the next holder is told after one that died: by the log of the library, and by the program.
pub const PREVIOUS_HOLDER_DIED: &str =
    "the previous holder died while holding the lock; the protected resource may be inconsistent";

pub use records::{
    CommandEnd, Counters, HistoryRecord, Holder, Host, Inside, Lost, Requester, State, Survivor, Waiter,
};
