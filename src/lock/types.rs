//! What all rooms speak of: names, options, errors, and what can be seen of a lock. Plain values, without I/O.

mod cancel;
mod error;
pub(crate) mod get_options;
pub(crate) mod name;
mod records;

pub use cancel::Cancel;
pub use error::{Error, Result};
pub use get_options::{Detached, GetOptions, Mode, UngetOptions, Wait};
pub use name::LockName;
pub use records::{Counters, Ended, HistoryRecord, Holder, Host, Requester, State, Waiter};
