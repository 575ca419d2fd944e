//! Removing a lock: deleting its files such that nobody is granted the old one beside a holder of the new one.
//!
//! # Tombstone
//! Semaphore F, note N and table T are three files, and cannot be deleted at once. Before the first one is, T's field
//! `retired` gets the id of the remover's beacon; it keeps that for good, in the memory of those who have T open, when
//! T is deleted, last. With `retired` set nobody is granted, offered, swept or released by force in T
//! ([`Real::in_latch`]), so F, which the remover has taken, stays at 0 for whoever has it open, as the Python module
//! may.
//!
//! | `retired` | its beacon | T at its path | means | who opens the lock |
//! |---|---|---|---|---|
//! | 0 | | | nobody removes it | goes on |
//! | id | lit | | is being removed | makes nothing new, waits, tells who is at it |
//! | id | out | no | has been removed | opens what stands at the paths now |
//! | id | out | yes | the remover has died | makes the semaphore at the path T's, then sets `retired` to 0 |
//!
//! In this order: who is dead deletes nothing more, so if T still stands at its path *after* that was found out, T is
//! not removed by this one. (Otherwise T's last visitor would bring a removed table back to life.) And T is used again
//! with the semaphore that stands at the path, or F, deleted, would be given back beside that one. No beacon gets an id
//! that stands in `retired`.
//!
//! # A remover that dies
//! | before | what others find and do |
//! |---|---|
//! | `retired` is set | a hold whose holder died, as any |
//! | F is deleted | the same, when they have set `retired` to 0: F is given back |
//! | T is deleted | the dead hold, which goes with a new semaphore F2, theirs or the Python module's. F stays at 0 |
//! | after that | nothing: T is retired, F stays at 0 |
//!
//! One that is stopped stands in the way until it goes on or is ended; nobody else deletes anything meanwhile.

use crate::lock::api::handle;
use crate::lock::protocol::queue::Sweep;
use crate::lock::shm::beacon;
use crate::lock::shm::files;
use crate::lock::shm::real::{NotDone, Real};
use crate::lock::shm::table::Table;
use crate::lock::sys;
use crate::lock::types::LockName;
use crate::{Error, GetOptions, ResourceLock, Result, Wait};
use nix::errno::Errno;
use std::path::PathBuf;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// How often a remover looks, every [`handle::REMOVAL_LOOK`], whether a waiter of the semaphore takes it.
const TURN_LOOKS: u32 = 25;

/// Whether a lock is being removed, as its table tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It is not.
    None,
    /// By the living process with this beacon.
    UnderWay(u32),
    /// The one with this beacon has died, and left the table where it was.
    Abandoned(u32),
    /// It was.
    Over,
}

/// Looks whether the lock with this table is being removed.
pub(crate) fn look(table: &Table) -> Removal {
    let remover = table.header.retired.load(SeqCst);
    if remover == 0 {
        return Removal::None;
    }
    if !beacon::is_out(table, remover) {
        return Removal::UnderWay(remover);
    }
    // After that, see the module.
    if files::inode_at(&table.path) == Some(table.inode) {
        Removal::Abandoned(remover)
    } else {
        Removal::Over
    }
}

/// The error of a lock that is being removed by the process with this beacon.
pub(crate) fn being_removed(table: &Table, remover: u32) -> Error {
    Error::BeingRemoved {
        pid: handle::pid_of(table, remover),
    }
}

/// Deletes a lock's objects: true = done, false = it is in use and was left alone. With `force` it is deleted in use
/// or broken: whoever holds it goes on believing so, and the next one who asks gets a new lock beside it.
///
/// Does not wait for holders. Requests that wait for the old lock, or are made meanwhile, queue for the new one by
/// themselves. Not so those that sleep in the semaphore itself (the Python module's): they would sleep until their time
/// is up. So without `force` a lock with such waiters is left alone; with it, they are left to that.
///
/// # Errors
/// [`Error::WaitedFor`] if processes seem to wait for the semaphore itself, [`Error::NotFound`], [`Error::Permission`],
/// [`Error::BeingRemoved`] if another process is at it and takes longer than 1 s (also with `force`), [`Error::Busy`],
/// and those of [`ResourceLock::open`].
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
                if seize(&lock)? {
                    break Some(lock);
                } // else replaced meanwhile
            }
            Ok(lock) => {
                if !(take(&lock)? && claim(&lock)?) {
                    return Ok(false);
                }
                break Some(lock);
            }
            Err(error) if !force || matches!(error, Error::BeingRemoved { .. }) => return Err(error),
            Err(_) => break None, // broken
        }
    };
    delete(lock, &paths)?;
    Ok(true)
}

/// Takes the lock, if nobody has it or waits for it.
fn take(lock: &ResourceLock) -> Result<bool> {
    if lock.state().waiters.iter().any(|waiter| waiter.alive) {
        return Ok(false);
    }
    give_foreign_waiters_a_turn(lock)?;
    lock.get_lock(GetOptions::new().wait(Wait::No).lock_info("remove"))
}

/// Whoever sleeps in the semaphore itself knows of no new lock. It takes the semaphore if that is free for a moment;
/// then the lock is in use. If it does not, it is stopped, or was killed and left the waiter count too high.
fn give_foreign_waiters_a_turn(lock: &ResourceLock) -> Result<()> {
    if lock.current().objects.semaphore.load().waiters() == 0 {
        return Ok(());
    }
    lock.repair()?; // wakes one, too
    let objects = lock.current().objects.clone();
    for _ in 0..TURN_LOOKS {
        let semaphore = objects.semaphore.load();
        if semaphore.value() == 0 || semaphore.waiters() == 0 {
            return Ok(());
        }
        std::thread::sleep(handle::REMOVAL_LOOK);
    }
    let waiters = objects.semaphore.load().waiters().into();
    Err(Error::WaitedFor { waiters })
}

/// Retires the table of a lock that was taken for that. False = it was released by force since, or replaced, or
/// somebody has come who waits for the semaphore itself.
pub(crate) fn claim(lock: &ResourceLock) -> Result<bool> {
    let current = lock.current();
    let Some(hold) = current.holds.last() else {
        return Ok(false);
    };
    let objects = &hold.objects;
    let now = sys::monotonic();
    let real = Real::new(objects, now, now.saturating_add(handle::UNGET_LATCH_NS));
    let claimed = real.in_latch(|_, _| {
        let semaphore = objects.semaphore.load();
        hold.is_held()
            && (semaphore.value(), semaphore.waiters(), semaphore.mark()) == (0, 0, objects.table.mark())
            && lock.is_current(objects)
            && retire(&objects.table, 0, objects.id)
    });
    match claimed {
        Err(NotDone::Stale) => Ok(false),
        claimed => claimed.map_err(|not_done| handle::busy(objects, not_done)),
    }
}

/// Retires the table of a lock, whoever has that, unless somebody else is removing it. False = it is not the table at
/// the lock's path any more.
pub(crate) fn seize(lock: &ResourceLock) -> Result<bool> {
    let objects = lock.current().objects.clone();
    let table = &objects.table;
    loop {
        let before = table.header.retired.load(SeqCst);
        if before != 0 && !beacon::is_out(table, before) {
            return Err(being_removed(table, before));
        }
        if !retire(table, before, objects.id) {
            continue;
        }
        let stands = files::inode_at(&table.path) == Some(table.inode);
        if !stands {
            retire(table, objects.id, before);
        }
        return Ok(stands);
    }
}

/// Sets `retired`, if it is still what it was.
pub(crate) fn retire(table: &Table, from: u32, to: u32) -> bool {
    #[cfg(test)]
    crate::lock::testing::failpoint::here();
    table.header.retired.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
}

/// Deletes the files of a lock whose table we have retired, or that cannot be opened.
fn delete(lock: Option<ResourceLock>, paths: &[PathBuf; 3]) -> Result<()> {
    for path in paths {
        #[cfg(test)]
        crate::lock::testing::failpoint::here();
        let error = match nix::unistd::unlink(path) {
            Ok(()) | Err(Errno::ENOENT) => continue,
            // The folder is sticky: whoever may use the lock may not therefore delete it.
            Err(Errno::EPERM | Errno::EACCES) => Error::Os {
                doing: "delete",
                path: path.clone(),
                source: std::io::Error::new(
                    std::io::ErrorKind::PermissionDenied,
                    "in this folder only a file's owner and root may delete it",
                ),
            },
            Err(errno) => files::fail("delete", path, errno),
        };
        if let Some(lock) = lock {
            let objects = lock.current().objects.clone();
            // With F deleted it is the same as if we had died.
            if files::inode_at(&paths[0]) == Some(objects.semaphore.inode) {
                retire(&objects.table, objects.id, 0);
                // Holds may have ended meanwhile without giving the semaphore back.
                lock.visit_now(&objects, Sweep::Active);
            }
        }
        return Err(error);
    }
    #[cfg(test)]
    crate::lock::testing::failpoint::here();
    if let Some(lock) = lock {
        let current = lock.current();
        let table = &current.objects.table;
        for word in &table.words {
            if word.load(Relaxed) != 0 {
                sys::futex_wake(word, i32::MAX);
            }
        }
        table.announce();
        drop(current);
        lock.leave_everything();
    }
    Ok(())
}
