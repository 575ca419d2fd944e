//! The locks of this machine.

use crate::lock::types::name::{SHM, TABLE_PREFIX};
use crate::lock::types::{Error, LockName, Result};
use std::path::Path;

/// The names of all locks of this machine, sorted: of the semaphores that have a table or a note beside them. Blocks for
/// the file system only.
///
/// # Errors
/// [`Error::Os`] if /dev/shm cannot be read.
pub fn list() -> Result<Vec<LockName>> {
    let directory = Path::new(SHM);
    let failed = |source| Error::Os {
        doing: "read",
        path: directory.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|file| file.strip_prefix("sem.")) else {
            continue;
        };
        let Ok(name) = LockName::new(name) else { continue };
        if directory
            .join(format!("{TABLE_PREFIX}{name}"))
            .symlink_metadata()
            .is_ok()
            || directory.join(name.as_str()).symlink_metadata().is_ok()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
