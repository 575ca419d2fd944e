//! Named locks for processes on Linux: acquired in turn, released when their holder dies, and open to inspection.
//!
//! A [`ResourceLock`] is opened by name. All processes of this machine that open the same name, with this crate, with the
//! command `resourcelock`, or with the Python module `cjnfuncs.resourcelock`, compete for the same lock.
//!
//! ```
//! use resourcelock::{GetOptions, ResourceLock};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), resourcelock::Error> {
//! # let name = format!("doc-first-{}", std::process::id());
//! # let name = name.as_str();
//! let lock = ResourceLock::open(name)?; // e.g. "i2c"
//!
//! if let Some(guard) = lock.acquire_for(Duration::from_millis(200))? {
//!     println!("mine, under token {}", guard.token());
//! } else {
//!     println!("taken: {}", lock.state()?.note);
//! } // a guard releases when it is dropped
//!
//! // Who holds it, who waits, and what happened before.
//! let state = lock.state()?;
//! assert!(!state.locked && state.holders.is_empty() && state.waiters.is_empty());
//! assert_eq!(lock.history()?.len(), 1);
//! # lock.close();
//! # resourcelock::remove(name, false)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//! - At every instant there is at most one exclusive hold, or there are only compatible holds ([`Mode`]), also with users
//!   of the Python module.
//! - A holder that dies, in whatever way, loses the lock within milliseconds to the next in line. No other holder does:
//!   what cannot be proven dead is alive, and a stopped process keeps what it holds.
//! - Requests that have waited for a millisecond are served in the order in which they were made.
//! - Waits end at their deadline, counted on the monotonic clock.
//! - [`Guard::token`]s grow with every grant: pass them to the resource, and let it refuse lower ones.
//! - Holders are told if a previous one died while holding the lock, or said that what ran under it crashed
//!   ([`Guard::abandoned`], [`Guard::mark_crashed`]), until one of them says that what was left is in order
//!   ([`Guard::mark_recovered`]).
//!
//! # Not guaranteed
//! - Locks are advisory: a process that does not use them is not kept out, and one that may write the lock's files can
//!   release it by force.
//! - There is no exclusion across the deletion of the lock's files during a hold, nor, unless [`remove`] deletes them, in
//!   the 10 ms before a grant: a handle in use checks its files only every 10 ms. [`Guard::lost`] tells the holder.
//! - If a holder that uses only the Python module crashes, the lock stays taken.
//! - After a forced release by the Python module that is followed by its own take, there is no exclusion until a process
//!   that uses this crate has checked the lock.
//!
//! # Shared, slots, detached, watching
//! ```
//! use resourcelock::{Cancel, Change, Detached, GetOptions, Mode, ResourceLock, UngetOptions, Viewer};
//!
//! # fn main() -> Result<(), resourcelock::Error> {
//! # let name = format!("doc-second-{}", std::process::id());
//! # let name = name.as_str();
//! let (one, other) = (ResourceLock::open(name)?, ResourceLock::open(name)?); // two handles compete
//!
//! let shared = GetOptions::new().mode(Mode::Shared);
//! let reading = (one.acquire_with(&shared)?, other.acquire_with(&shared)?);
//! assert_eq!(one.state()?.holders.len(), 2);
//! drop(reading);
//!
//! let slot = one.acquire_with(&GetOptions::new().mode(Mode::Slots(2)))?; // up to two at once
//! assert!(slot.is_some() && other.try_acquire()?.is_none());
//! drop(slot);
//!
//! // A hold that outlives this handle, on behalf of a process:
//! let on_behalf = Detached { pid: Some(std::process::id()), ..Detached::default() };
//! assert!(one.get_lock(&GetOptions::new().detached(on_behalf))?);
//! assert!(!one.have_the_lock() && one.state()?.locked);
//! assert!(other.unget_lock(UngetOptions::new().bound_to(std::process::id()))?);
//!
//! // Follow what happens:
//! let mut watch = Viewer::open(name)?.watch()?;
//! drop(one.acquire()?);
//! assert!(matches!(watch.next(&Cancel::new())?, Some(Change::Granted(_))));
//! assert!(matches!(watch.next(&Cancel::new())?, Some(Change::Ended(_))));
//! # drop((one, other, watch));
//! # resourcelock::remove(name, false)?;
//! # Ok(())
//! # }
//! ```
//!
//! How it works is described in `docs/design.md` of the repository, and at the head of `src/lock/protocol/queue.rs`.

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

mod lock;
pub use lock::*;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
