//! Removing a lock: deleting its files so that nobody is granted the old one beside a holder of the new one. How that
//! works is described in `shm/tombstone.rs`.

mod remains;
mod unused;

pub use unused::{Unused, remove_unused, unused};

use crate::lock::acquire::handle::{Handle, visit_now};
use crate::lock::acquire::hold::{RELEASE_LATCH_NS, User};
use crate::lock::acquire::share::Share;
use crate::lock::protocol::orderings::RETIRED;
use crate::lock::protocol::queue::Sweep;
use crate::lock::shm::beacon;
use crate::lock::shm::files::{self, Opened};
use crate::lock::shm::found::{Finding, Found, Retry};
use crate::lock::shm::latched::NotDone;
use crate::lock::shm::opening::Terms;
use crate::lock::shm::real_world::Real;
use crate::lock::shm::table::Table;
use crate::lock::shm::tombstone::{REMOVAL_CHECK, REMOVAL_TAKES, being_removed, retire};
use crate::lock::sys;
use crate::lock::types::{Error, GetOptions, LockName, Result, Wait};
use nix::errno::Errno;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How many times a remover checks, every [`REMOVAL_CHECK`], whether a waiter of the semaphore has taken it.
const TURN_CHECKS: u32 = 25;

/// What the table of any version begins with.
const TABLE: &[u8] = b"reslock";

/// What [`remove`] has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Removed {
    /// The lock's files are deleted.
    Lock,
    /// Only these damaged ones are. The others are as they were: whoever holds the lock goes on.
    Damaged(Vec<PathBuf>),
    /// Nothing is: the lock is in use.
    Nothing,
}

/// Deletes a lock's objects, whoever owns it, unless it is in use. With `force` it is deleted even then: its holder goes
/// on believing that it holds the lock, and the next request gets a new lock beside it. With `force`, objects that are
/// damaged are deleted, and then only these.
///
/// Creates nothing, and deletes only what is known to be a lock's: not a file of another program at the note's path, nor
/// one there that is empty, or that somebody has locked with flock(2); leaving that is logged as a warning.
///
/// Does not wait for holders; waits up to 1 s for the table. Requests that wait for the old lock, or are made meanwhile,
/// queue for the new one by themselves. Those that sleep in the semaphore itself (the Python module's) do not: they would
/// sleep until their time is up. So without `force` a lock with such waiters is left alone; with it, they sleep on.
///
/// # Errors
/// [`Error::WaitedFor`] if processes seem to wait for the semaphore itself, [`Error::NotFound`], [`Error::Permission`],
/// [`Error::BeingRemoved`] if another process is removing it and takes longer than 1 s (also with `force`),
/// [`Error::WrongObject`], [`Error::ForeignFile`] and, without `force`, [`Error::Damaged`] if something else is at one of
/// its paths; [`Error::Busy`], and those of [`ResourceLock::open`](crate::ResourceLock::open).
pub fn remove(name: impl AsRef<str>, force: bool) -> Result<Removed> {
    remove_if(
        &LockName::new(name)?,
        if force { Condition::None } else { Condition::Idle },
    )
}

/// What has to be true of a lock that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// Nothing.
    None,
    /// Nobody holds it or waits for it.
    Idle,
    /// The same, and nobody has used it for this time.
    Unused(Duration),
}

impl Condition {
    /// True if it is removed whoever uses it.
    fn is_none(self) -> bool {
        self == Self::None
    }
}

/// Deletes a lock's objects under this condition.
fn remove_if(name: &LockName, condition: Condition) -> Result<Removed> {
    let mut retry = Retry::default();
    // A try may wait itself, so the time is what counts, not the number of tries.
    let until = Instant::now() + REMOVAL_TAKES;
    loop {
        match remove_once(name, condition, &mut retry) {
            Ok(Some(removed)) => return Ok(removed),
            Ok(None) => {} // it was replaced meanwhile
            Err(Error::BeingRemoved { .. }) if Instant::now() < until => std::thread::sleep(REMOVAL_CHECK),
            Err(error) => return Err(error),
        }
    }
}

/// One try; `None` = something was replaced meanwhile.
fn remove_once(name: &LockName, condition: Condition, retry: &mut Retry) -> Result<Option<Removed>> {
    let found = Found::open(name, true)?;
    if matches!(condition, Condition::Unused(_)) && found.semaphore.is_none() {
        return Ok(Some(Removed::Nothing));
    }
    if found.semaphore.is_none() && found.table.is_none() {
        return remains::remove_note(name, found.note);
    }
    match found.examine(name, retry)? {
        Finding::Good => {}
        Finding::Replaced => return Ok(None),
        Finding::NotYet(_) if retry.again() => return Ok(None),
        Finding::NotYet(error) => return Err(error),
    }
    let mut damaged = found.damaged(name)?;
    if !damaged.is_empty() {
        if !condition.is_none() {
            return Err(damaged.swap_remove(0).1);
        }
        return remains::remove_damaged(name, &found, damaged).map(Some);
    }
    match (found.semaphore, found.table) {
        (Some(_), Some(_)) => whole(name, condition),
        (Some(semaphore), None) => remains::remove_without_table(name, &semaphore, condition),
        (None, Some(table)) => remains::remove_without_semaphore(name, table, condition),
        (None, None) => Ok(None),
    }
}

/// Removes a lock that has its semaphore and its table.
fn whole(name: &LockName, condition: Condition) -> Result<Option<Removed>> {
    let handle = match Handle::open(name.clone(), Terms::for_removal()) {
        Err(Error::NotFound { .. }) => return Ok(None),
        handle => Arc::new(handle?),
    };
    remove_opened(&handle, name, condition)
}

/// Removes a lock that is open. `None` = somebody else has removed it since.
fn remove_opened(handle: &Arc<Handle>, name: &LockName, condition: Condition) -> Result<Option<Removed>> {
    if condition.is_none() {
        if !seize(handle)? {
            return Ok(None);
        }
        delete(handle)?;
        return Ok(Some(Removed::Lock));
    }
    let objects = handle.current().objects.clone();
    // By the note before the lock is taken, by the table afterwards, too.
    if let Condition::Unused(time) = condition
        && !unused::is_unused(name, &objects.note, Some(&objects.table), time)
    {
        return Ok(Some(Removed::Nothing));
    }
    let _taken = match take(handle) {
        Ok(Some(taken)) => taken,
        Ok(None) => return Ok(Some(Removed::Nothing)),
        // Somebody else has removed it since it was opened.
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if let Condition::Unused(time) = condition
        && !unused::is_still_unused(&objects.table, time)
    {
        return Ok(Some(Removed::Nothing));
    }
    if !claim(handle)? {
        return Ok(Some(Removed::Nothing));
    }
    delete(handle)?;
    Ok(Some(Removed::Lock))
}

/// Takes the lock, if nobody holds it or waits for it.
fn take(handle: &Arc<Handle>) -> Result<Option<Share>> {
    if handle.state()?.waiters.iter().any(|waiter| waiter.alive) {
        return Ok(None);
    }
    give_foreign_waiters_a_turn(handle)?;
    handle.get(&GetOptions::new().wait(Wait::No), User::Guard)
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

/// Deletes the files of a lock whose table we have retired.
fn delete(handle: &Handle) -> Result<()> {
    let name = handle.name();
    let objects = handle.current().objects.clone();
    let owner = objects.semaphore.ownership.uid;
    delete_older_tables(name, owner);
    let deleted = delete_file(&name.semaphore_path(), objects.semaphore.inode)
        .and_then(|is_gone| if is_gone { delete_note(name, owner) } else { Ok(()) })
        .and_then(|()| delete_file(&name.table_path(), objects.table.inode));
    if let Err(error) = deleted {
        give_up(handle, &name.semaphore_path());
        return Err(error);
    }
    #[cfg(test)]
    crate::lock::testing::failpoint::here();
    wake_everybody(&objects.table);
    handle.leave_everything();
    Ok(())
}

/// The tables that older versions of this library have made for a lock of this owner, and their inodes.
fn older_tables(name: &LockName, owner: Option<u32>) -> impl Iterator<Item = (PathBuf, u64)> {
    name.older_table_paths().into_iter().filter_map(move |path| {
        let table = files::open_at_once(&path).ok()?;
        let is_one = Some(table.facts.owner) == owner
            && table.facts.links == 1
            && files::beginning(&table, &path, TABLE.len()).is_ok_and(|bytes| bytes == TABLE);
        is_one.then_some((path, table.inode))
    })
}

/// Deletes them. The lock is taken for its removal, so nobody holds it in them; whoever still uses such a version makes a
/// new one.
fn delete_older_tables(name: &LockName, owner: Option<u32>) {
    for (path, inode) in older_tables(name, owner) {
        // If that is not possible, the lock is gone all the same.
        let _ = delete_file(&path, inode);
    }
}

/// Deletes a file, if it is at its path still: its owner may have deleted it, and another user made a lock of that name.
/// False = there is another file.
fn delete_file(path: &Path, inode: u64) -> Result<bool> {
    #[cfg(test)]
    crate::lock::testing::failpoint::here();
    if files::inode_at(path).is_some_and(|there| there != inode) {
        return Ok(false);
    }
    match nix::unistd::unlink(path) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        // The directory is sticky: that somebody may use the lock does not mean that they may delete it.
        Err(Errno::EPERM | Errno::EACCES) => Err(not_deletable(path)),
        Err(errno) => Err(files::fail("delete", path, errno)),
    }
}

fn not_deletable(path: &Path) -> Error {
    Error::NotDeletable {
        path: path.to_owned(),
        owner: files::owner_of(path),
    }
}

/// Deletes the note of a lock of this owner, if it is one. Another program may have put its own file there, or be just
/// creating it.
fn delete_note(name: &LockName, owner: Option<u32>) -> Result<()> {
    let path = name.note_path();
    let Ok(note) = files::open_at_once(&path) else {
        return Ok(());
    };
    let inode = note.inode;
    let why = if Some(note.facts.owner) != owner || note.facts.links != 1 {
        "it is not the lock's"
    } else if note.size == 0 {
        "it is empty, so another program may have just created it"
    } else if is_locked(note) {
        "another program has locked it"
    } else {
        return delete_file(&path, inode).map(drop);
    };
    log::warn!("<{name}> {} is left: {why}", path.display());
    Ok(())
}

/// True if somebody has locked the file with flock(2).
fn is_locked(file: Opened) -> bool {
    let locked = nix::fcntl::Flock::lock(file.file, nix::fcntl::FlockArg::LockExclusiveNonblock);
    matches!(locked, Err((_, Errno::EWOULDBLOCK)))
}

/// The removal has failed. If the semaphore is still there, the lock goes on; else it is as if we had died.
fn give_up(handle: &Handle, semaphore_path: &Path) {
    let objects = handle.current().objects.clone();
    if files::inode_at(semaphore_path) == Some(objects.semaphore.inode) {
        retire(&objects.table, objects.id, 0);
        // Holds may have ended meanwhile without releasing the semaphore.
        visit_now(&objects, Sweep::Active);
    }
}

/// Lets all that wait for the lock, or watch it, find out that it was deleted.
fn wake_everybody(table: &Table) {
    for word in &table.words {
        if word.load(Relaxed) != 0 {
            sys::futex_wake(word, i32::MAX);
        }
    }
    table.header.announce();
}
