//! Removing a lock: deleting its files so that nobody is granted the old one beside a holder of the new one. How that
//! works is described in `shm/tombstone.rs`.

use crate::lock::acquire::handle::{Handle, visit_now};
use crate::lock::acquire::hold::RELEASE_LATCH_NS;
use crate::lock::api::resource_lock::ResourceLock;
use crate::lock::protocol::orderings::RETIRED;
use crate::lock::protocol::queue::Sweep;
use crate::lock::shm::beacon;
use crate::lock::shm::files;
use crate::lock::shm::latched::NotDone;
use crate::lock::shm::real::Real;
use crate::lock::shm::tombstone::{REMOVAL_CHECK, being_removed, retire};
use crate::lock::sys;
use crate::lock::types::{Error, GetOptions, LockName, Result, Wait};
use nix::errno::Errno;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

/// How many times a remover checks, every [`REMOVAL_CHECK`], whether a waiter of the semaphore has taken it.
const TURN_CHECKS: u32 = 25;

/// Deletes a lock's objects: true = done; false = it is in use and was left alone. With `force` it is deleted even if it
/// is in use or broken: its holder goes on believing that it holds the lock, and the next request gets a new lock beside
/// it.
///
/// Does not wait for holders; waits up to 1 s for the table. Requests that wait for the old lock, or are made meanwhile,
/// queue for the new one by themselves. Those that sleep in the semaphore itself (the Python module's) do not: they would
/// sleep until their time is up. So without `force` a lock with such waiters is left alone; with it, they sleep on.
///
/// # Errors
/// [`Error::WaitedFor`] if processes seem to wait for the semaphore itself, [`Error::NotFound`], [`Error::Permission`],
/// [`Error::BeingRemoved`] if another process is removing it and takes longer than 1 s (also with `force`),
/// [`Error::Busy`], and those of [`ResourceLock::open`].
pub fn remove(name: &str, force: bool) -> Result<bool> {
    let name = LockName::new(name)?;
    let paths = [name.semaphore_path(), name.note_path(), name.table_path()];
    if paths.iter().all(|path| files::inode_at(path).is_none()) {
        return Err(Error::NotFound {
            path: name.semaphore_path(),
        });
    }
    let lock = loop {
        match ResourceLock::open(name.as_str()) {
            Ok(lock) if force => {
                if seize(&lock.handle)? {
                    break Some(lock);
                } // else it was replaced meanwhile
            }
            Ok(lock) => {
                if !(take(&lock)? && claim(&lock.handle)?) {
                    return Ok(false);
                }
                break Some(lock);
            }
            Err(error) if !force || matches!(error, Error::BeingRemoved { .. }) => return Err(error),
            Err(_) => break None, // broken
        }
    };
    delete(lock.as_ref().map(|lock| &lock.handle), &paths)?;
    Ok(true)
}

/// Takes the lock, if nobody holds it or waits for it.
fn take(lock: &ResourceLock) -> Result<bool> {
    if lock.state().waiters.iter().any(|waiter| waiter.alive) {
        return Ok(false);
    }
    give_foreign_waiters_a_turn(&lock.handle)?;
    lock.get_lock(GetOptions::new().wait(Wait::No).lock_info("remove"))
}

/// A process that sleeps in the semaphore itself would not learn of a new lock. If the semaphore is free for a moment, it
/// takes it; then the lock is in use. If it does not, it is stopped, or was killed and left the waiter count too high.
fn give_foreign_waiters_a_turn(handle: &Handle) -> Result<()> {
    if handle.current().objects.semaphore.load().waiters() == 0 {
        return Ok(());
    }
    handle.repair()?; // wakes one, too
    let objects = handle.current().objects.clone();
    for _ in 0..TURN_CHECKS {
        let semaphore = objects.semaphore.load();
        if semaphore.value() == 0 || semaphore.waiters() == 0 {
            return Ok(());
        }
        std::thread::sleep(REMOVAL_CHECK);
    }
    let waiters = objects.semaphore.load().waiters().into();
    Err(Error::WaitedFor { waiters })
}

/// Retires the table of a lock that was taken for that. False = it was released by force since, or replaced, or somebody
/// waits for the semaphore itself by now.
pub(crate) fn claim(handle: &Handle) -> Result<bool> {
    let current = handle.current();
    let Some(hold) = current.holds.last() else {
        return Ok(false);
    };
    let objects = &hold.objects;
    let now = sys::monotonic();
    let real = Real::new(objects, now, now.saturating_add(RELEASE_LATCH_NS));
    let claimed = real.in_latch(|_, _| {
        let semaphore = objects.semaphore.load();
        Ok(hold.is_held()
            && (semaphore.value(), semaphore.waiters(), semaphore.mark()) == (0, 0, objects.table.mark())
            && objects.are_current()
            && retire(&objects.table, 0, objects.id))
    });
    match claimed {
        Err(NotDone::Stale) => Ok(false),
        claimed => claimed.map_err(|not_done| not_done.error(objects)),
    }
}

/// Retires the table of a lock, whoever holds that, unless somebody else is removing it. False = it is no longer the
/// table at the lock's path.
pub(crate) fn seize(handle: &Handle) -> Result<bool> {
    let objects = handle.current().objects.clone();
    let table = &objects.table;
    loop {
        let before = table.header.retired.load(RETIRED);
        if before != 0 && !beacon::is_out(table, before) {
            return Err(being_removed(table, before));
        }
        if !retire(table, before, objects.id) {
            continue;
        }
        let there = table.is_at_its_path();
        if !there {
            retire(table, objects.id, before);
        }
        return Ok(there);
    }
}

/// Deletes the files of a lock whose table we have retired, or that cannot be opened.
fn delete(handle: Option<&Handle>, paths: &[PathBuf; 3]) -> Result<()> {
    for path in paths {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        let error = match nix::unistd::unlink(path) {
            Ok(()) | Err(Errno::ENOENT) => continue,
            // The directory is sticky: that somebody may use the lock does not mean that they may delete it.
            Err(Errno::EPERM | Errno::EACCES) => Error::Os {
                doing: "delete",
                path: path.clone(),
                source: std::io::Error::new(
                    std::io::ErrorKind::PermissionDenied,
                    "in this directory only a file's owner and root may delete it",
                ),
            },
            Err(errno) => files::fail("delete", path, errno),
        };
        if let Some(handle) = handle {
            give_up(handle, &paths[0]);
        }
        return Err(error);
    }
    #[cfg(test)]
    crate::lock::testing::failpoint::here();
    if let Some(handle) = handle {
        wake_everybody(handle);
        handle.leave_everything();
    }
    Ok(())
}

/// The removal has failed. If the semaphore is still there, the lock goes on; else it is as if we had died.
fn give_up(handle: &Handle, semaphore_path: &std::path::Path) {
    let objects = handle.current().objects.clone();
    if files::inode_at(semaphore_path) == Some(objects.semaphore.inode) {
        retire(&objects.table, objects.id, 0);
        // Holds may have ended meanwhile without releasing the semaphore.
        visit_now(&objects, Sweep::Active);
    }
}

/// Lets all that wait for the lock, or watch it, find out that it was deleted.
fn wake_everybody(handle: &Handle) {
    let current = handle.current();
    let table = &current.objects.table;
    for word in &table.words {
        if word.load(Relaxed) != 0 {
            sys::futex_wake(word, i32::MAX);
        }
    }
    table.header.announce();
}
