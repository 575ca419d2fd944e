//! Named locks for processes on Linux: acquired in turn, released when their holder dies, and open to inspection.
//!
//! A [`ResourceLock`] is opened by name. All processes of this machine that open the same name, with this crate, with the
//! command `resourcelock`, or with the Python module `cjnfuncs.resourcelock`, compete for the same lock.
//!
//! ```sh
//! cargo add resourcelock --no-default-features    # the library alone, 15 crates; without the option, the program, too
//! ```
//!
//! ```
//! use resourcelock::ResourceLock;
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
//! | feature | |
//! |---|---|
//! | `cli` (default) | the program `resourcelock` |
//! | `etcd`, `postgres`, `tls` | locks across machines ([`Builder::backend`]), and encryption on the way |
//! | `tokio` | `ResourceLock::acquire_async`, and changes as a stream |
//! | `serde` | [`State`] and all that is in it, [`HistoryRecord`] and [`LockName`] are `Serialize` |
//!
//! # Guarantees
//! - At every instant there is at most one exclusive hold, or there are only compatible holds ([`Mode`]), also with users
//!   of the Python module.
//! - A holder that dies, however it does, loses the lock within milliseconds to the next in line. No other holder does:
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
//! # Worked examples
//! Programs in `examples/` of the repository, each run by a test:
//!
//! | | |
//! |---|---|
//! | `daemon.rs` | a guard in the daemon's own struct; threads that share a handle and take turns |
//! | `single_instance.rs` | one instance at a time; the second one says who is running |
//! | `tokio_service.rs` | tasks that wait without blocking, and give up on Ctrl-C |
//! | `readers_writers.rs` | many readers at once, a writer alone |
//! | `watcher.rs` | what happens to a lock, as it happens |
//!
//! # Coming from another crate
//! | | fd-lock, `std::fs::File::lock` | named-lock | here |
//! |---|---|---|---|
//! | open | `RwLock::new(File::create(path)?)`, `File::create(path)?` | `NamedLock::create("n")?` | `ResourceLock::open("n")?` |
//! | wait, exclusive | `lock.write()?`, `file.lock()?` | `lock.lock()?` | `lock.acquire()?` |
//! | don't wait | `lock.try_write()?`, `file.try_lock()?`: an error if taken | `lock.try_lock()?`: an error if taken | `lock.try_acquire()?`: `None` if taken |
//! | wait for a time | no | no | `lock.acquire_for(time)?` |
//! | shared | `lock.read()?`, `file.lock_shared()?` | no | [`Mode::Shared`] |
//! | the guard | borrows the lock; of a file, none | borrows the lock | owns its hold: `'static`, `Send`, `Sync` |
//! | order of waiters | the kernel's | the kernel's | as they have asked |
//! | who has it; who waits | no | no | [`ResourceLock::state`] |
//! | the holder died | the lock is free | the lock is free | the lock is free, and the next holder is told |
//! | works on | all systems | all systems | Linux, 64 bits |
//!
//! # Misuse
//! Each of these is tested (`tests/local/misuse.rs`, `fault_04.rs`, `crash_fork.rs`, `tests/conformance/forks.rs`).
//!
//! | | what comes of it |
//! |---|---|
//! | asking again through a handle that has the lock | taken: `None`, or a wait for one's own guard; [`GetOptions::same_process_ok`] shares the hold |
//! | forgetting a guard | the lock stays taken until the process ends, which counts as its death: the next holder is told |
//! | dropping the handle before its guards | nothing: guards go on; what [`ResourceLock::get_lock`] has acquired is released |
//! | fork | the child has copies that release nothing; asking or releasing there is [`Error::Forked`] |
//! | a panic under the lock | it is released, and the next holder is told ([`Guard::abandoned`]) |
//! | `std::process::exit` under the lock | drops no guard: a death, of which the next holder is told |
//! | a panic in [`GetOptions::on_wait`] | the request leaves the queue |
//! | a logger that uses the handle | it works: nothing is logged inside |
//! | two locks in different orders | a deadlock, if nobody limits the wait; [`ResourceLock::acquire_all`] cannot |
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

#[cfg(not(all(target_os = "linux", target_endian = "little")))]
compile_error!(
    "resourcelock shares glibc's semaphores in memory, and does so on little-endian Linux only: elsewhere, their bytes lie \
     differently, so a lock would not exclude the other programs"
);

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "resourcelock needs a 64-bit target: in the semaphores of 32-bit glibc no bits are free for the mark that tells who has \
     taken a lock, so a death in between could not be told from another program's hold (docs/design.md, \"Other machines\")"
);

mod lock;
pub use lock::*;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
