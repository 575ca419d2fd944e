//! Beacons: how a process proves that it is alive.
//!
//! A beacon is an open-file-description lock (fcntl(2), F_OFD_SETLK) on one byte of a file, far behind its end; the
//! byte's number is the beacon's id. The kernel drops the lock when nothing refers to that open file any more, however
//! the process ended. None of this depends on PIDs, so their reuse, PID namespaces and hidepid do not matter. LMDB's
//! reader table works on the same idea.
//!
//! | | a handle's beacon | a keeper, which a command inherits |
//! |---|---|---|
//! | file | the table | the semaphore |
//! | opened | for reading and writing | for reading |
//! | lock | for writing | for reading |
//! | kept open by | a mapping | a descriptor, in the process and in what it starts |
//!
//! What refers to a handle's beacon is not a descriptor but a mapping that children do not inherit ([`KeptOpen`]): a
//! program may close descriptors that it does not know, and a forked child would inherit one. Probing a beacon takes a
//! descriptor of the file, but any one will do.
//!
//! A command may have dropped its privileges, and must not be able to change the lock through what it inherits. With a
//! descriptor that is open for reading it can neither write, truncate, nor map for writing, and it can lock bytes only
//! for reading. If that were the table's, it could light all beacons for ever: no new one could be lit, and nobody
//! could be found dead. On the semaphore it can light keepers: as long as it lives, a dead command of the same lock
//! seems alive. A probe for a write lock finds both kinds of lock.

use crate::lock::shm::layout::KEEPER_LEFT_BEHIND;
use crate::lock::shm::random::random;
use crate::lock::shm::semaphore::Semaphore;
use crate::lock::shm::table::Table;
use crate::lock::shm::{files, heirs};
use crate::lock::sys::{Descriptor, KeptOpen, not_during_a_fork};
use crate::lock::types::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI32};

/// Where the beacons' bytes begin: far behind the end of any of the files.
const OFFSET: i64 = 1 << 40;
/// Ids are 1 to 2^31 − 1, because they share the latch's word with another bit.
const ID_MASK: u32 = u32::MAX >> 1;
/// How many ids are tried. Of 2^31, at most a few thousand are in use.
const DRAWS: u32 = 1_000;
/// The lowest descriptor number of a beacon that a command inherits, because shell scripts use small ones.
const INHERITED_FROM: RawFd = 100;

fn byte(id: u32, lock: c_int) -> libc::flock {
    libc::flock {
        l_type: lock as libc::c_short,
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
            let Some(file) = files::open_again(&table.path, table.inode, table.writable)? else {
                return Ok(None);
            };
            let open = KeptOpen::new(file.as_fd()).map_err(failed("keep open", &table.path))?;
            // With our lock on it, the id of a dead process in the table would come to life.
            let id = lock_a_byte(file.as_fd(), &table.path, libc::F_WRLCK, |id| {
                table.header.retired.load(Relaxed) == id
                    || table.header.latch.load(Relaxed) & ID_MASK == id
                    || table
                        .used_records()
                        .iter()
                        .any(|record| record.holder.load(Relaxed) == id)
            })?;
            Ok(Some(Self { id, open }))
        })
    }

    /// True if it is this process's own, and not that of a parent that has forked.
    pub(crate) fn is_own(&self) -> bool {
        !self.open.is_inherited()
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Os { doing, path, source }
}

/// Lights a beacon on an open file, with a lock of this type; returns its id. `in_table`: true if the table contains
/// this id.
fn lock_a_byte(file: BorrowedFd<'_>, path: &Path, lock: c_int, in_table: impl Fn(u32) -> bool) -> Result<u32> {
    for _ in 0..DRAWS {
        let id = random() as u32 & ID_MASK;
        if id == 0 {
            continue;
        }
        match fcntl(file, FcntlArg::F_OFD_SETLK(&byte(id, lock))) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => continue, // somebody's
            Err(errno) => return Err(failed("lock a byte of", path)(errno.into())),
        }
        if !in_table(id) {
            return Ok(id);
        }
        let _ = fcntl(file, FcntlArg::F_OFD_SETLK(&byte(id, libc::F_UNLCK)));
    }
    Err(Error::BeaconsTaken { path: path.to_owned() })
}

/// True if nobody has this byte locked, for reading or for writing.
fn is_unlocked(file: BorrowedFd<'_>, id: u32) -> nix::Result<bool> {
    let mut probe = byte(id & ID_MASK, libc::F_WRLCK);
    let asked = fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe));
    if let Err(errno @ (Errno::EPERM | Errno::ENOSYS)) = asked {
        REFUSED.store(errno as i32, Relaxed);
    }
    asked.map(|_| probe.l_type == libc::F_UNLCK as libc::c_short)
}

/// Why the system does not let this process probe beacons, in a sandbox that refuses that; 0 = it does, as far as is known.
static REFUSED: AtomicI32 = AtomicI32::new(0);

/// True if this process cannot find out whether others live. Warns of that, once.
pub(crate) fn is_blind() -> bool {
    static WARNED: AtomicBool = AtomicBool::new(false);
    let refused = REFUSED.load(Relaxed);
    if refused != 0 && !WARNED.swap(true, Relaxed) {
        let errno = Errno::from_raw(refused);
        log::warn!("whether others live cannot be seen, so all do: fcntl(2) with F_OFD_GETLK is refused: {errno}");
    }
    refused != 0
}

/// True if nobody keeps this beacon of a handle lit. What cannot be found out counts as lit.
pub(crate) fn is_out(table: &Table, id: u32) -> bool {
    #[cfg(test)]
    PROBES.set(PROBES.get() + 1);
    for _ in 0..2 {
        // "Lit" is safe to believe. "Out" counts only if the descriptor is still the table's: the program may have
        // closed it, and have something else open under its number.
        match is_unlocked(table.file.as_fd(), id) {
            Ok(false) => return false,
            Ok(true) if table.file.is_ours() => return true,
            Err(_) if table.file.is_ours() => return false,
            Ok(true) | Err(_) => {
                let fresh = files::open_again(&table.path, table.inode, table.writable)
                    .ok()
                    .flatten();
                if !fresh.is_some_and(|fresh| table.file.renew(fresh)) {
                    return false;
                }
            }
        }
    }
    false
}

/// True if nobody keeps this keeper of the lock with this semaphore lit. What cannot be found out counts as lit.
/// `keeper` is the value in the table.
pub(crate) fn is_keeper_out(semaphore: &Semaphore, keeper: u32) -> bool {
    if keeper & KEEPER_LEFT_BEHIND != 0 {
        return false;
    }
    // Rarely needed, because the handle's beacon is out first. So no descriptor is kept for it.
    let file = files::open_again(&semaphore.path, semaphore.inode, false)
        .ok()
        .flatten();
    file.is_some_and(|file| is_unlocked(file.as_fd(), keeper).unwrap_or(false))
}

/// A process that keeps this keeper lit, as far as can be seen; `keeper` is the value in the table. Reads all of /proc.
pub(crate) fn heir(semaphore: &Semaphore, keeper: u32) -> Option<u32> {
    let byte = OFFSET.unsigned_abs() + u64::from(keeper & ID_MASK);
    heirs::oldest(semaphore.inode, byte)
}

#[cfg(test)]
thread_local! {
    /// How many beacons this thread has probed.
    pub(crate) static PROBES: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A beacon whose descriptor a child process inherits.
pub(crate) struct Keeper {
    _file: Descriptor,
    pub(crate) id: u32,
}

impl Keeper {
    /// Opens the semaphore's file again, and lights a beacon on it. `None` = its path leads elsewhere by now.
    pub(crate) fn light(semaphore: &Semaphore, table: &Table) -> Result<Option<Self>> {
        let path = &semaphore.path;
        let Some(opened) = files::open_again(path, semaphore.inode, false)? else {
            return Ok(None);
        };
        // Others may have locked the byte for reading, too: so a command that locks all of them keeps nobody from the
        // lock.
        let id = lock_a_byte(opened.as_fd(), path, libc::F_RDLCK, |id| {
            let mut records = table.used_records().iter();
            records.any(|record| record.keeper.load(Relaxed) & ID_MASK == id)
        })?;
        let high = fcntl(&opened, FcntlArg::F_DUPFD(INHERITED_FROM)).or_else(|_| fcntl(&opened, FcntlArg::F_DUPFD(3)));
        let high = high.map_err(|errno| failed("open again", path)(errno.into()))?;
        let file = Descriptor::new(crate::lock::sys::own(high)).map_err(failed("examine", path))?;
        Ok(Some(Self { _file: file, id }))
    }
}
