//! Beacons: how a process proves that it is alive.
//!
//! A beacon is an open-file-description lock (fcntl(2), F_OFD_SETLK) on one byte of the table file, far behind its
//! end; the byte's number is the beacon's id. The kernel drops the lock when the last descriptor of that open file is
//! gone, however the process ended. Nothing in this depends on PIDs: there is no reuse, no namespace, no hidepid.
//! LMDB's reader table works on the same idea.

use crate::table::{REQUESTS, Table, random};
use crate::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

/// Where the beacons' bytes begin: far behind the end of any table.
const OFFSET: i64 = 1 << 40;
/// Ids are 1 to 2^31 − 1: they share the latch's word with a bit.
const ID_MASK: u32 = u32::MAX >> 1;
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

/// Lights a beacon on the open file `file` and returns its id.
pub(crate) fn light(table: &Table, file: BorrowedFd<'_>, path: &Path) -> Result<u32> {
    loop {
        let id = random() as u32 & ID_MASK;
        if id == 0 {
            continue;
        }
        match fcntl(file, FcntlArg::F_OFD_SETLK(&byte(id))) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => continue, // somebody's
            Err(errno) => {
                return Err(Error::Os {
                    doing: "lock a byte of",
                    path: path.to_owned(),
                    source: errno.into(),
                });
            }
        }
        // A dead one's id in the table would come to life by our lock.
        let in_use = usize::try_from(table.header.high_water.load(Relaxed))
            .unwrap_or(REQUESTS)
            .min(REQUESTS);
        let stands = table.requests[..in_use]
            .iter()
            .any(|record| record.holder.load(Relaxed) == id || record.keeper.load(Relaxed) == id);
        if !stands && table.header.latch.load(Relaxed) & ID_MASK != id {
            return Ok(id);
        }
        let mut unlock = byte(id);
        unlock.l_type = libc::F_UNLCK as libc::c_short;
        let _ = fcntl(file, FcntlArg::F_OFD_SETLK(&unlock));
    }
}

/// Whether nobody keeps this beacon lit. What cannot be found out counts as lit. Must not be asked about a beacon on
/// the table's own open file: one's own locks are not seen.
pub(crate) fn is_out(table: &Table, id: u32) -> bool {
    if table.is_inherited() {
        return false;
    }
    let mut probe = byte(id & ID_MASK);
    match fcntl(table.file(), FcntlArg::F_OFD_GETLK(&mut probe)) {
        Ok(_) => probe.l_type == libc::F_UNLCK as libc::c_short,
        Err(_) => false,
    }
}

/// A second beacon, on an open file of its own, whose descriptor a child process inherits.
pub(crate) struct Keeper {
    fd: OwnedFd,
    pub(crate) id: u32,
}

impl Keeper {
    /// Opens the table's file once more and lights a beacon on it.
    pub(crate) fn light(table: &Table, path: &Path) -> Result<Self> {
        let failed = |errno: Errno| Error::Os {
            doing: "open again",
            path: path.to_owned(),
            source: errno.into(),
        };
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        // By name, then compared: through /proc it would be the same file for sure, but /proc may not be there.
        let opened = nix::fcntl::open(path, flags, Mode::empty()).map_err(failed)?;
        let stat = nix::sys::stat::fstat(&opened).map_err(failed)?;
        if stat.st_ino != table.inode {
            return Err(Error::Os {
                doing: "open again",
                path: PathBuf::from(path),
                source: io::Error::other("it was replaced meanwhile"),
            });
        }
        let id = light(table, opened.as_fd(), path)?;
        let high = fcntl(&opened, FcntlArg::F_DUPFD(INHERITED_FROM)).or_else(|_| fcntl(&opened, FcntlArg::F_DUPFD(3)));
        let fd = crate::sys::own(high.map_err(failed)?);
        Ok(Self { fd, id })
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
