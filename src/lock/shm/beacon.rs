//! Beacons: how a process proves that it is alive.
//!
//! A beacon is an open-file-description lock (fcntl(2), F_OFD_SETLK) on one byte of the table file, far behind its
//! end; the byte's number is the beacon's id. The kernel drops the lock when nothing refers to that open file any more,
//! however the process ended. Nothing in this depends on PIDs: there is no reuse, no namespace, no hidepid.
//! LMDB's reader table works on the same idea.
//!
//! What refers to a handle's beacon is a mapping that children do not inherit ([`KeptOpen`]), not a descriptor: a program
//! may close descriptors that it knows nothing of, and a forked child would inherit one. Asking about beacons takes a
//! descriptor, but any one of the table's file will do.

use crate::lock::shm::files::{self, Opened};
use crate::lock::shm::layout::REQUESTS;
use crate::lock::shm::random::random;
use crate::lock::shm::table::Table;
use crate::lock::sys::{Descriptor, KeptOpen, not_during_a_fork};
use crate::lock::types::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

/// Where the beacons' bytes begin: far behind the end of any table.
const OFFSET: i64 = 1 << 40;
/// Ids are 1 to 2^31 − 1: they share the latch's word with a bit.
const ID_MASK: u32 = u32::MAX >> 1;
/// So many ids are tried: of 2^31, at most a few thousand are in use.
const DRAWS: u32 = 1_000;
/// Lowest descriptor number of a beacon that a command inherits: shell scripts use small ones.
const INHERITED_FROM: RawFd = 100;

fn byte(id: u32) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: OFFSET + i64::from(id),
        l_len: 1,
        l_pid: 0, // required to be 0 for open-file-description locks
    }
}

/// A beacon of this process: lit until it is dropped.
pub(crate) struct Beacon {
    pub(crate) id: u32,
    open: KeptOpen,
}

impl Beacon {
    /// Lights one. `None` = the table's path leads elsewhere by now.
    pub(crate) fn light(table: &Table) -> Result<Option<Self>> {
        // Between opening and mapping there is a descriptor, which a fork in another thread would copy.
        not_during_a_fork(|| {
            let Some(file) = open_again(table)? else {
                return Ok(None);
            };
            let open = KeptOpen::new(file.as_fd()).map_err(failed("keep open", &table.path))?;
            let id = lock_a_byte(table, file.as_fd())?;
            Ok(Some(Self { id, open }))
        })
    }

    /// Whether it is this process's own, not that of a parent which has forked.
    pub(crate) fn is_own(&self) -> bool {
        !self.open.is_inherited()
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Os { doing, path, source }
}

/// The table's file once more: an open file of its own. `None` = its path leads elsewhere by now.
fn open_again(table: &Table) -> Result<Option<OwnedFd>> {
    // By name, then compared: through /proc it would be the same file for sure, but /proc may not be there.
    match files::open(&table.path, table.writable) {
        Ok(Opened { file, inode, .. }) => Ok((inode == table.inode).then_some(file)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Lights a beacon on an open file and returns its id.
fn lock_a_byte(table: &Table, file: BorrowedFd<'_>) -> Result<u32> {
    for _ in 0..DRAWS {
        let id = random() as u32 & ID_MASK;
        if id == 0 {
            continue;
        }
        match fcntl(file, FcntlArg::F_OFD_SETLK(&byte(id))) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => continue, // somebody's
            Err(errno) => {
                return Err(failed("lock a byte of", &table.path)(errno.into()));
            }
        }
        // A dead one's id in the table would come to life by our lock.
        let in_use = usize::try_from(table.header.high_water.load(Relaxed))
            .unwrap_or(REQUESTS)
            .min(REQUESTS);
        let stands = table.requests[..in_use]
            .iter()
            .any(|record| record.holder.load(Relaxed) == id || record.keeper.load(Relaxed) == id);
        let removed_by = table.header.retired.load(Relaxed);
        if !stands && removed_by != id && table.header.latch.load(Relaxed) & ID_MASK != id {
            return Ok(id);
        }
        let mut unlock = byte(id);
        unlock.l_type = libc::F_UNLCK as libc::c_short;
        let _ = fcntl(file, FcntlArg::F_OFD_SETLK(&unlock));
    }
    Err(Error::BeaconsTaken {
        path: table.path.clone(),
    })
}

/// Whether nobody keeps this beacon lit. What cannot be found out counts as lit.
pub(crate) fn is_out(table: &Table, id: u32) -> bool {
    #[cfg(test)]
    PROBES.set(PROBES.get() + 1);
    let ask = || {
        let mut probe = byte(id & ID_MASK);
        fcntl(table.file.as_fd(), FcntlArg::F_OFD_GETLK(&mut probe))
            .map(|_| probe.l_type == libc::F_UNLCK as libc::c_short)
    };
    for _ in 0..2 {
        // "Lit" is safe to believe. "Out" counts if it was the table that was asked: the program may have closed the
        // descriptor, and have something else open under its number.
        match ask() {
            Ok(false) => return false,
            Ok(true) if table.file.is_ours() => return true,
            Err(_) if table.file.is_ours() => return false,
            Ok(true) | Err(_) => {
                let fresh = open_again(table).ok().flatten();
                if !fresh.is_some_and(|fresh| table.file.renew(fresh)) {
                    return false;
                }
            }
        }
    }
    false
}

#[cfg(test)]
thread_local! {
    /// How often this thread has asked.
    pub(crate) static PROBES: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A second beacon, on an open file of its own, whose descriptor a child process inherits.
pub(crate) struct Keeper {
    file: Descriptor,
    pub(crate) id: u32,
}

impl Keeper {
    /// Opens the table's file once more and lights a beacon on it.
    pub(crate) fn light(table: &Table) -> Result<Self> {
        let path = &table.path;
        let opened = open_again(table)?
            .ok_or_else(|| failed("open again", path)(io::Error::other("it was replaced meanwhile")))?;
        let id = lock_a_byte(table, opened.as_fd())?;
        let high = fcntl(&opened, FcntlArg::F_DUPFD(INHERITED_FROM)).or_else(|_| fcntl(&opened, FcntlArg::F_DUPFD(3)));
        let high = high.map_err(|errno| failed("open again", path)(errno.into()))?;
        let file = Descriptor::new(crate::lock::sys::own(high)).map_err(failed("examine", path))?;
        Ok(Self { file, id })
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.file.raw()
    }
}
