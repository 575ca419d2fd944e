//! Removing what is left of a lock, or was never made: without a table, without a semaphore, or damaged.

use super::{
    Condition, Removed, TURN_CHECKS, delete_file, delete_note, delete_older_tables, not_deletable, unused,
    wake_everybody,
};
use crate::lock::acquire::hold::RELEASE_LATCH_NS;
use crate::lock::inspect::snapshot;
use crate::lock::shm::beacon::Beacon;
use crate::lock::shm::files::{self, Opened};
use crate::lock::shm::found::{Found, System, beginning_of};
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::note::Note;
use crate::lock::shm::opening::Terms;
use crate::lock::shm::real_world::Real;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::shm::table::Table;
use crate::lock::shm::tombstone::{REMOVAL_CHECK, Removal, being_removed, retire};
use crate::lock::shm::trust;
use crate::lock::sys;
use crate::lock::types::{Error, LockName, Result};
use std::path::PathBuf;
use std::time::Duration;

/// Deletes the objects that are damaged. Only their owner and root do that.
pub(super) fn remove_damaged(name: &LockName, found: &Found, damaged: Vec<(PathBuf, Error)>) -> Result<Removed> {
    let mut deleted = Vec::new();
    for (path, error) in damaged {
        if !found.first(name).is_some_and(|(_, owner)| may_delete(owner)) {
            return Err(error);
        }
        if let Some(inode) = found.inode_of(name, &path)
            && delete_file(&path, inode)?
        {
            deleted.push(path);
        }
    }
    Ok(Removed::Damaged(deleted))
}

/// True if the caller is the owner or root.
pub(super) fn may_delete(owner: u32) -> bool {
    Terms::default().trust().may_complete(owner, &System)
}

/// Deletes a note that is there alone, if it is surely one.
pub(super) fn remove_note(name: &LockName, note: Option<Opened>) -> Result<Option<Removed>> {
    let path = name.note_path();
    match note {
        Some(note) if trust::is_dated(&beginning_of(&note, &path)?) => {
            delete_note(name, Some(note.facts.owner))?;
            Ok(Some(Removed::Lock))
        }
        _ => Err(Error::NotFound {
            path: name.semaphore_path(),
        }),
    }
}

/// Removes a lock that only the Python module has used, which makes no table. If this process is killed in the middle,
/// the lock stays taken, as after the death of a holder that uses only the module.
pub(super) fn remove_without_table(name: &LockName, opened: &Opened, condition: Condition) -> Result<Option<Removed>> {
    let path = name.semaphore_path();
    let semaphore = Semaphore::new(opened, name)?;
    if !may_delete(opened.facts.owner) {
        return Err(not_deletable(&path));
    }
    let force = condition.is_none();
    if !force && !take(&semaphore)? {
        return Ok(Some(Removed::Nothing));
    }
    if let Condition::Unused(time) = condition {
        let is_unused = is_unused(name, time);
        if !matches!(is_unused, Ok(true)) {
            release(&semaphore);
            return is_unused.map(|_| Some(Removed::Nothing));
        }
    }
    let is_unchanged = files::inode_at(&path) == Some(semaphore.inode) && files::inode_at(&name.table_path()).is_none();
    if !is_unchanged {
        if !force {
            release(&semaphore);
        }
        return Ok(None);
    }
    delete_older_tables(name, Some(opened.facts.owner));
    match delete_file(&path, semaphore.inode) {
        Ok(true) => delete_note(name, Some(opened.facts.owner))?,
        Ok(false) => return Ok(None),
        Err(error) => {
            if !force {
                release(&semaphore);
            }
            return Err(error);
        }
    }
    Ok(Some(Removed::Lock))
}

/// True if a lock without a table has not been used for `time`.
fn is_unused(name: &LockName, time: Duration) -> Result<bool> {
    let note = match files::open_if_there(&name.note_path(), false)? {
        Some(note) => Note::new(note, false, name)?,
        None => Note::Absent,
    };
    Ok(unused::is_unused(name, &note, None, time))
}

/// Takes a semaphore that is free. False = it is taken.
///
/// # Errors
/// Processes seem to wait for it.
fn take(semaphore: &Semaphore) -> Result<bool> {
    for check in 0..=TURN_CHECKS {
        let word = semaphore.load();
        if word.value() == 0 {
            return Ok(false);
        }
        if word.waiters() == 0 {
            if semaphore.swap(word, word.with(0, 0)).is_ok() {
                return Ok(true);
            }
        } else if check == TURN_CHECKS {
            return Err(Error::WaitedFor {
                waiters: word.waiters().into(),
            });
        } else {
            // Wakes one, in case that a post was lost with a process that was killed.
            sys::futex_wake_low(&semaphore.word, 1);
            std::thread::sleep(REMOVAL_CHECK);
        }
    }
    Ok(false)
}

/// Releases what was taken.
fn release(semaphore: &Semaphore) {
    let mut word = semaphore.load();
    while word.value() == 0 {
        match semaphore.swap(word, word.with(1, 0)) {
            Ok(()) => break,
            Err(seen) => word = seen,
        }
    }
    sys::futex_wake_low(&semaphore.word, 1);
}

/// Removes a lock whose semaphore somebody has deleted. Its table may have holders still.
pub(super) fn remove_without_semaphore(
    name: &LockName,
    table: Opened,
    condition: Condition,
) -> Result<Option<Removed>> {
    let path = name.table_path();
    let owner = table.facts.owner;
    let table = Table::new(table, name)?;
    if !may_delete(owner) {
        return Err(not_deletable(&path));
    }
    let before = match Removal::of(&table) {
        Removal::None => 0,
        Removal::Abandoned(remover) => remover,
        Removal::UnderWay(remover) => return Err(being_removed(&table, remover)),
        Removal::Over => return Ok(None),
    };
    let Some(beacon) = Beacon::light(&table)? else {
        return Ok(None);
    };
    let objects = Objects {
        semaphore: Semaphore::detached(name)?,
        note: Note::Absent,
        table,
        id: beacon.id,
        beacon: Some(beacon),
    };
    let now = sys::monotonic();
    let real = Real::new(&objects, now, now.saturating_add(RELEASE_LATCH_NS));
    let force = condition.is_none();
    // Nobody is granted it, nor gets a new semaphore for it, once it is retired.
    let retired = real.in_latch_of_any(|_, _, _| {
        let is_idle = force || !snapshot::is_in_use(&objects);
        let retired =
            is_idle && files::inode_at(&name.semaphore_path()).is_none() && retire(&objects.table, before, objects.id);
        Ok(retired)
    });
    if !retired.map_err(|not_done| not_done.error(&objects))? {
        let in_use = !force && snapshot::is_in_use(&objects);
        return Ok(in_use.then_some(Removed::Nothing));
    }
    if let Err(error) = delete_note(name, Some(owner)).and_then(|()| delete_file(&path, objects.table.inode)) {
        retire(&objects.table, objects.id, before);
        return Err(error);
    }
    wake_everybody(&objects.table);
    Ok(Some(Removed::Lock))
}
