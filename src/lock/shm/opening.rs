//! Opening a lock's objects, and creating what is missing.

use crate::lock::protocol::orderings::RETIRED;
use crate::lock::protocol::word::Word;
use crate::lock::shm::beacon::Beacon;
use crate::lock::shm::files::{self, NewFile, Ownership};
use crate::lock::shm::layout::KEEPER_LEFT_BEHIND;
use crate::lock::shm::lock_objects::Objects;
use crate::lock::shm::note::Note;
use crate::lock::shm::real::Real;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::shm::table::Table;
use crate::lock::shm::tombstone::{REMOVAL_CHECK, Removal, being_removed, retire};
use crate::lock::sys;
use crate::lock::sys::atomic::{AtomicU32, Ordering::Relaxed};
use crate::lock::types::{Error, LockName, Result};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for the table when its semaphore has changed.
const LATCH_NS: u64 = 1_000_000_000;

/// Opens a lock's objects, and creates what is missing. While the lock is being removed, creates nothing and waits for
/// the end of that, for as long as `timeout`.
pub(crate) fn open_objects(
    name: &LockName,
    owner: &Ownership,
    note_size: usize,
    timeout: Duration,
) -> Result<Arc<Objects>> {
    let mut waited = Duration::ZERO;
    loop {
        match open_once(name, owner, note_size) {
            Ok(Some(objects)) => return Ok(objects),
            Ok(None) => {}
            Err(Error::BeingRemoved { .. }) if waited < timeout => {
                std::thread::sleep(REMOVAL_CHECK);
                waited += REMOVAL_CHECK;
            }
            Err(error) => return Err(error),
        }
    }
}

/// One try; `None` = something was replaced meanwhile.
fn open_once(name: &LockName, owner: &Ownership, note_size: usize) -> Result<Option<Arc<Objects>>> {
    // A semaphore that is created while the rest of the lock is deleted would be left over.
    if files::inode_at(&name.semaphore_path()).is_none()
        && let Ok(table) = Table::open(name, true)
        && let Removal::UnderWay(remover) = Removal::of(&table)
    {
        return Err(being_removed(&table, remover));
    }
    // The semaphore is the first object of a new lock and cannot be taken back: somebody may use it at once.
    let semaphore = Semaphore::open_or_create(name, owner, || rehearse(name, owner, note_size))?;
    let note = Note::open_or_create(name, note_size, &semaphore.owner)?;
    let table = Table::open_or_create(name, &semaphore)?;
    let dead_remover = match Removal::of(&table) {
        Removal::None => 0,
        Removal::Abandoned(remover) => remover,
        // This semaphore must not be taken for the old table's.
        Removal::UnderWay(remover) => return Err(being_removed(&table, remover)),
        Removal::Over => return Ok(None),
    };
    let Some(beacon) = Beacon::light(&table)? else {
        return Ok(None);
    };
    let objects = Arc::new(Objects {
        semaphore,
        note,
        table,
        id: beacon.id,
        beacon: Some(beacon),
    });
    Ok(adopt_semaphore(name, &objects, dead_remover)?.then_some(objects))
}

/// Makes sure that there is enough space for all three objects.
fn rehearse(name: &LockName, owner: &Ownership, note_size: usize) -> Result<()> {
    let sizes = [
        (name.semaphore_path(), sys::new_semaphore().len()),
        (name.note_path(), note_size),
        (name.table_path(), Table::SIZE),
    ];
    let new = sizes.each_ref().map(|(path, size)| NewFile {
        path,
        size: *size as u64,
        content: &[],
        owner,
    });
    files::rehearse(&new)
}

/// The table records its semaphore's inode. If the semaphore at the path is another one (deleted and created again), it
/// is taken for the table if anything is held, and recorded. Then a table that this dead remover (0 = none) has retired
/// is in use again. False = by now there is yet another semaphore, or the lock is being removed: open everything again.
fn adopt_semaphore(name: &LockName, objects: &Objects, dead_remover: u32) -> Result<bool> {
    let table = &objects.table;
    let recorded = &table.header.semaphore_inode;
    if recorded.load(Relaxed) == objects.semaphore.inode && dead_remover == 0 {
        return Ok(true);
    }
    let now = sys::monotonic();
    let real = Real::new(objects, now, now.saturating_add(LATCH_NS));
    let done = real.in_latch_of_any(|real, _, _| {
        if table.header.retired.load(RETIRED) != dead_remover {
            return Ok(false);
        }
        if recorded.load(Relaxed) != objects.semaphore.inode {
            if files::inode_at(&name.semaphore_path()) != Some(objects.semaphore.inode) {
                return Ok(false);
            }
            take_for_holds(objects);
            leave_keepers_behind(objects);
            recorded.store(objects.semaphore.inode, Relaxed);
            real.refresh();
        }
        Ok(dead_remover == 0 || retire(table, dead_remover, 0))
    });
    done.map_err(|not_done| not_done.error(objects))
}

/// In the latch. Takes the semaphore for the table, if anything is held or offered.
fn take_for_holds(objects: &Objects) {
    let is_active = |word: &AtomicU32| Word(word.load(Relaxed)).is_active();
    if !objects.table.words.iter().any(is_active) {
        return;
    }
    let mut semaphore = objects.semaphore.load();
    while semaphore.value() != 0 {
        match objects
            .semaphore
            .swap(semaphore, semaphore.with(0, objects.table.mark()))
        {
            Ok(()) => break,
            Err(seen) => semaphore = seen,
        }
    }
}

/// In the latch. The beacons that commands have inherited lie on the old semaphore, where nobody can probe them any
/// more: what cannot be proven dead is alive.
fn leave_keepers_behind(objects: &Objects) {
    for record in &objects.table.requests {
        if record.keeper.load(Relaxed) != 0 {
            record.keeper.fetch_or(KEEPER_LEFT_BEHIND, Relaxed);
        }
    }
}
