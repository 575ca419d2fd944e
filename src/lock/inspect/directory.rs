//! The locks of this machine.

use crate::lock::types::name::{SHM, TABLE_PREFIX};
use crate::lock::types::{Error, LockName, Result};
use std::collections::HashSet;
use std::ffi::OsStr;
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
    let (mut names, mut others) = (Vec::new(), HashSet::new());
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let file = entry.map_err(failed)?.file_name();
        match file.to_str().and_then(|file| file.strip_prefix("sem.")) {
            Some(name) => names.extend(LockName::new(name)),
            None => _ = others.insert(file),
        }
    }
    let is_there = |file: &str| others.contains(OsStr::new(file));
    names.retain(|name| is_there(name.as_str()) || is_there(&format!("{TABLE_PREFIX}{name}")));
    names.sort();
    Ok(names)
}
