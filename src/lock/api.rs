//! What a user of the library sees.

mod cancel;
mod error;
mod guard;
pub(crate) mod handle;
mod inspection;
pub(crate) mod name;
pub(crate) mod options;
pub(crate) mod records;

pub use cancel::Cancel;
pub use error::{Error, Result};
pub use guard::{Guard, Lost};
pub use handle::{Builder, ResourceLock};
pub use name::LockName;
pub use options::{Detached, GetOptions, Mode, UngetOptions, Wait};
pub use records::{Counters, Ended, HistoryRecord, Holder, Host, Requester, State, Waiter};
