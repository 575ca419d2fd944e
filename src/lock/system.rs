//! What the library and the program both ask of the system: processes, clocks, accounts, this machine's name, and text
//! that is safe to show. Not part of the library's interface.
//!
//! Accounts and names are read from files, else asked for with getent(1): a statically linked program must not use libc's
//! name services, which load shared objects.

mod accounts;
mod escape;
mod getent;
pub(crate) mod ids;
mod machine;
pub(crate) mod namespaces;
mod own_proc;
mod pidfd;
mod proc_stat;

pub use super::sys::{boottime, change_mask, keep_mask};
pub use accounts::{group_name, group_number, user_name, user_names, user_number};
pub(crate) use accounts::{is_member, primary_group};
pub use escape::{disturbs, printable, printable_bytes};
#[cfg(feature = "remote")]
pub(crate) use getent::getent;
#[cfg(feature = "remote")]
pub(crate) use machine::boot_id;
pub use machine::host_name;
#[cfg(feature = "tls")]
pub(crate) use machine::trusted_certificates;
pub use own_proc::proc_is_own;
pub(crate) use own_proc::{has_hidden_processes, numbers_of};
pub use pidfd::Process;
pub use proc_stat::Stat;
