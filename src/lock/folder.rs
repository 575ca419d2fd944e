//! The locks of this machine, and removing one.

use crate::name::{LockName, SHM, TABLE_PREFIX};
use crate::{Error, GetOptions, ResourceLock, Result, Wait, objects, sys};
use nix::errno::Errno;
use std::path::Path;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Names of all locks of this machine, sorted: semaphores that have a table or a note beside them. Blocks for the
/// file system only.
///
/// # Errors
/// [`Error::Os`] if /dev/shm cannot be read.
pub fn list() -> Result<Vec<LockName>> {
    let folder = Path::new(SHM);
    let failed = |source| Error::Os {
        doing: "read",
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|file| file.strip_prefix("sem.")) else {
            continue;
        };
        let Ok(name) = LockName::new(name) else { continue };
        if folder.join(format!("{TABLE_PREFIX}{name}")).symlink_metadata().is_ok()
            || folder.join(name.as_str()).symlink_metadata().is_ok()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Deletes a lock's objects: true = done, false = it is in use and was left alone. With `force` it is deleted in use
/// or broken: whoever holds it goes on believing so, and the next one who asks gets a new lock beside it.
///
/// Does not wait for holders. Processes that wait for the old lock queue for the new one by themselves.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Permission`] and those of [`ResourceLock::open`].
pub fn remove(name: &str, force: bool) -> Result<bool> {
    let name = LockName::new(name)?;
    let paths = [name.flag_path(), name.note_path(), name.table_path()];
    if paths.iter().all(|path| objects::inode_at(path).is_none()) {
        return Err(Error::NotFound { path: name.flag_path() });
    }
    let opened = ResourceLock::open(name.as_str());
    match (&opened, force) {
        (Ok(lock), false) => {
            let state = lock.state();
            let waits = state.waiters.iter().any(|waiter| waiter.alive);
            if waits || !lock.get_lock(GetOptions::new().wait(Wait::No).lock_info("remove"))? {
                return Ok(false);
            }
            // From here on the flag stays at 0 for whoever has it open.
        }
        (Err(_), true) | (Ok(_), true) => {}
        (Err(_), false) => return opened.map(|_| false),
    }
    // First: from here on nobody takes a new flag for this table.
    let retire = |to: u32| {
        if let Ok(lock) = &opened {
            lock.current().objects.table.header.retired.store(to, SeqCst);
        }
    };
    retire(1);
    for path in &paths {
        match nix::unistd::unlink(path) {
            Ok(()) | Err(Errno::ENOENT) => {}
            // The folder is sticky: whoever may use the lock may not therefore delete it.
            Err(Errno::EPERM | Errno::EACCES) => {
                retire(0);
                return Err(Error::Os {
                    doing: "delete",
                    path: path.clone(),
                    source: std::io::Error::new(
                        std::io::ErrorKind::PermissionDenied,
                        "in this folder only a file's owner and root may delete it",
                    ),
                });
            }
            Err(errno) => {
                retire(0);
                return Err(objects::fail("delete", path, errno));
            }
        }
    }
    if let Ok(lock) = opened {
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
    Ok(true)
}
