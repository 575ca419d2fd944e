//! The files in /dev/shm: opening what exists, and publishing what is new, in one step and with the right owner.

use crate::lock::shm::random::random;
use crate::lock::shm::trust::Facts;
use crate::lock::sys;
use crate::lock::types::name::TEMPORARY;
use crate::lock::types::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::unistd::{Gid, Uid};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Who may use a new object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ownership {
    /// Permission bits, not subject to the umask.
    pub(crate) mode: u32,
    /// Owner, if it is to differ from the creator (table and note follow the semaphore).
    pub(crate) uid: Option<u32>,
    /// Group, if it is to differ from the creator's.
    pub(crate) gid: Option<u32>,
}

/// An opened object.
pub(crate) struct Opened {
    pub(crate) file: OwnedFd,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// How many bytes of space it occupies.
    pub(crate) space: u64,
    pub(crate) facts: Facts,
}

impl Opened {
    /// The same with a descriptor of its own.
    pub(crate) fn try_clone(&self, path: &Path) -> Result<Self> {
        let file = self.file.try_clone().map_err(|source| Error::Os {
            doing: "examine",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { file, ..*self })
    }

    /// Owner, group and mode, for those that follow it.
    pub(crate) fn ownership(&self) -> Ownership {
        Ownership {
            mode: self.facts.mode & 0o777,
            uid: Some(self.facts.owner),
            gid: Some(self.facts.group),
        }
    }
}

/// An object to be created.
pub(crate) struct NewFile<'a> {
    pub(crate) path: &'a Path,
    pub(crate) size: u64,
    /// Which of its bytes get their space now; `None` = all.
    pub(crate) space: Option<&'a [Range<u64>]>,
    /// Its beginning; the rest is zero.
    pub(crate) content: &'a [u8],
    pub(crate) owner: &'a Ownership,
}

/// The error of an errno that came of `doing` something to `path`.
pub(crate) fn fail(doing: &'static str, path: &Path, errno: Errno) -> Error {
    let source = io::Error::from(errno);
    let path = path.to_owned();
    match errno {
        Errno::ENOENT if path.parent().is_some_and(is_missing) => Error::Os {
            doing: "find the directory of shared memory for",
            path,
            source: io::Error::new(source.kind(), "/dev/shm does not exist"),
        },
        Errno::ENOENT => Error::NotFound { path },
        Errno::EACCES => {
            let owner = owner_of(&path);
            Error::Permission { path, owner, source }
        }
        Errno::ELOOP => wrong(&path, "it is a symbolic link"),
        _ => Error::Os { doing, path, source },
    }
}

fn is_missing(directory: &Path) -> bool {
    nix::sys::stat::stat(directory) == Err(Errno::ENOENT)
}

/// A process that asks whether anybody has a lock open has a lease on its semaphore, for microseconds
/// ([`sys::is_open_for_writing`]). If it is stopped just then, the lease is broken by the kernel in the end
/// (/proc/sys/fs/lease-break-time).
///
/// Whoever owns a file may have a lease on it for as long as they like. The time that is waited for those of other users is
/// for all their files together, and so much in each minute: with thousands of them, one could otherwise keep root from
/// getting through a list for hours.
const LEASED_NS: u64 = 1_000_000_000;
const LEASED_CHECK: Duration = Duration::from_micros(100);
const MINUTE_NS: u64 = 60_000_000_000;
static WAITED_FOR_OTHERS: Waited = Waited {
    since: AtomicU64::new(0),
    time: AtomicU64::new(0),
};

/// Opens an existing object: without O_CREAT, so that `fs.protected_regular` does not lock root out of others' locks,
/// never through a symbolic link, and never blocking on a fifo.
pub(crate) fn open(path: &Path, writable: bool) -> Result<Opened> {
    open_unless(path, writable, open_leased)
}

/// The same, for reading, without waiting for the end of a lease: its owner decides when that is.
pub(crate) fn open_at_once(path: &Path) -> Result<Opened> {
    open_unless(path, false, |_, _| Err(Errno::EWOULDBLOCK))
}

fn open_unless(
    path: &Path,
    writable: bool,
    leased: impl FnOnce(&Path, OFlag) -> nix::Result<OwnedFd>,
) -> Result<Opened> {
    let access = if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    let flags = access | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let file = match nix::fcntl::open(path, flags, Mode::empty()) {
        Err(Errno::EWOULDBLOCK) => leased(path, flags),
        done => done,
    };
    let file = match file {
        Ok(file) => file,
        Err(Errno::EISDIR) => return Err(wrong(path, "it is a directory where a file should be")),
        Err(Errno::ENXIO) => return Err(wrong(path, "it is a socket or a fifo")),
        Err(errno) => return Err(fail("open", path, errno)),
    };
    opened(file, path)
}

/// Opens it once there is no lease on it any more.
#[cold]
fn open_leased(path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let start = sys::monotonic();
    let is_others = !is_own(owner_of(path));
    let time = if is_others {
        WAITED_FOR_OTHERS.left(start)
    } else {
        LEASED_NS
    };
    let until = start.saturating_add(time);
    let opened = loop {
        match nix::fcntl::open(path, flags, Mode::empty()) {
            Err(Errno::EWOULDBLOCK) if sys::monotonic() < until => std::thread::sleep(LEASED_CHECK),
            done => break done,
        }
    };
    if is_others {
        WAITED_FOR_OTHERS.add(sys::monotonic().saturating_sub(start));
    }
    opened
}

/// True for a file of this user or of root.
fn is_own(owner: Option<u32>) -> bool {
    owner.is_some_and(|owner| owner == 0 || owner == nix::unistd::geteuid().as_raw())
}

/// For how long something was waited for, in a minute that began then (monotonic, ns).
struct Waited {
    since: AtomicU64,
    time: AtomicU64,
}

impl Waited {
    /// What is left of [`LEASED_NS`]; after a minute, all of it again.
    fn left(&self, now: u64) -> u64 {
        let since = self.since.load(Relaxed);
        let is_over = since == 0 || now.saturating_sub(since) >= MINUTE_NS;
        // Of several threads one begins the next minute.
        if is_over && self.since.compare_exchange(since, now, Relaxed, Relaxed).is_ok() {
            self.time.store(0, Relaxed);
        }
        LEASED_NS.saturating_sub(self.time.load(Relaxed))
    }

    fn add(&self, time: u64) {
        self.time.fetch_add(time, Relaxed);
    }
}

/// Opens a file again, as an open file of its own. `None` = its path leads elsewhere by now.
pub(crate) fn open_again(path: &Path, inode: u64, writable: bool) -> Result<Option<OwnedFd>> {
    // By name, then compared. Through /proc it would certainly be the same file, but there may be no /proc.
    match open(path, writable) {
        Ok(opened) => Ok((opened.inode == inode).then_some(opened.file)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Examines a file that is open.
pub(crate) fn opened(file: OwnedFd, path: &Path) -> Result<Opened> {
    let stat = fstat(&file).map_err(|errno| fail("examine", path, errno))?;
    if kind(&stat) != SFlag::S_IFREG {
        return Err(wrong(path, "it is not a regular file"));
    }
    Ok(Opened {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        space: space(&stat),
        facts: facts(&stat),
        file,
    })
}

/// The same; `None` = there is nothing.
pub(crate) fn open_if_there(path: &Path, writable: bool) -> Result<Option<Opened>> {
    match open(path, writable) {
        Ok(opened) => Ok(Some(opened)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first `most` bytes of a file, or as many as it has.
pub(crate) fn beginning(opened: &Opened, path: &Path, most: usize) -> Result<Vec<u8>> {
    let size = usize::try_from(opened.size).unwrap_or(usize::MAX).min(most);
    let mut bytes = vec![0; size];
    let mut read = 0;
    while read < size {
        match nix::sys::uio::pread(&opened.file, &mut bytes[read..], read as i64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(fail("read", path, errno)),
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

#[allow(
    clippy::unnecessary_cast,
    reason = "the number of links has 32 bits on some architectures"
)]
fn facts(stat: &FileStat) -> Facts {
    Facts {
        owner: stat.st_uid,
        group: stat.st_gid,
        mode: stat.st_mode & 0o7777,
        links: stat.st_nlink as u64,
    }
}

/// The facts of the directory where locks are.
pub(crate) fn directory(path: &Path) -> Result<Facts> {
    let stat = nix::sys::stat::stat(path).map_err(|errno| fail("examine", path, errno))?;
    Ok(facts(&stat))
}

/// The error of a file that cannot be an object of a lock.
pub(crate) fn wrong(path: &Path, what: &str) -> Error {
    Error::WrongObject {
        path: path.to_owned(),
        what: what.to_owned(),
        owner: owner_of(path),
    }
}

/// The owner of what is at a path, without following a link.
pub(crate) fn owner_of(path: &Path) -> Option<u32> {
    nix::sys::stat::lstat(path).ok().map(|stat| stat.st_uid)
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// The inode at a path now, without following a link.
pub(crate) fn inode_at(path: &Path) -> Option<u64> {
    nix::sys::stat::lstat(path).ok().map(|stat| stat.st_ino)
}

/// Fails if it cannot be seen what is at a path.
pub(crate) fn check_sight(path: &Path) -> Result<()> {
    match nix::sys::stat::lstat(path) {
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(fail("look at", path, errno)),
    }
}

/// Creates an object, complete, and gives it its name. If another process was faster, its object stays, and this is
/// `Ok`.
pub(crate) fn publish(new: &NewFile<'_>) -> Result<()> {
    let directory = new.path.parent().unwrap_or(Path::new("/"));
    let tmpfile = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    match nix::fcntl::open(directory, tmpfile, Mode::from_bits_truncate(0o600)) {
        Ok(file) => {
            fill(&file, new)?;
            // Through /proc, if that is mounted. Without, it takes Linux 6.10 or a privilege.
            let source = format!("/proc/self/fd/{}", file.as_raw_fd());
            let linked = nix::unistd::linkat(AT_FDCWD, &*source, AT_FDCWD, new.path, AtFlags::AT_SYMLINK_FOLLOW)
                .or_else(|errno| match errno {
                    Errno::EEXIST => Err(errno),
                    _ => nix::unistd::linkat(&file, "", AT_FDCWD, new.path, AtFlags::AT_EMPTY_PATH),
                });
            match linked {
                Ok(()) | Err(Errno::EEXIST) => Ok(()),
                Err(_) => publish_renamed(new, directory),
            }
        }
        // A file system without O_TMPFILE, or a sandbox that refuses it.
        Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL | Errno::EPERM | Errno::ENOSYS) => {
            publish_renamed(new, directory)
        }
        Err(errno) => Err(match fail("create", new.path, errno) {
            Error::NotFound { path } => Error::Os {
                doing: "create",
                path,
                source: errno.into(),
            },
            other => other,
        }),
    }
}

/// Makes sure that there is enough space for new objects, as far as that can be known: creates files without a name and
/// drops them. So a full /dev/shm is noticed before the first object of a new lock exists.
pub(crate) fn rehearse(new: &[NewFile<'_>]) -> Result<()> {
    let mut files = Vec::new();
    for one in new {
        let directory = one.path.parent().unwrap_or(Path::new("/"));
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        match nix::fcntl::open(directory, flags, Mode::from_bits_truncate(0o600)) {
            Ok(file) => {
                match fill(&file, one) {
                    Err(Error::Os { source, .. }) if one.space.is_some() && is_refused(&source) => {
                        fill(&file, &NewFile { space: None, ..*one })?;
                    }
                    done => done?,
                }
                files.push(file);
            }
            Err(errno @ (Errno::ENOSPC | Errno::EDQUOT)) => return Err(fail("create", one.path, errno)),
            // Whatever else is wrong, publishing will report.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// The same, under a temporary name first.
fn publish_renamed(new: &NewFile<'_>, directory: &Path) -> Result<()> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let (temporary, file) = loop {
        let temporary = directory.join(format!("{TEMPORARY}{:016x}", random()));
        match nix::fcntl::open(&temporary, flags, Mode::from_bits_truncate(0o600)) {
            Ok(file) => break (temporary, file),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(fail("create", new.path, errno)),
        }
    };
    let done = fill(&file, new).and_then(|()| {
        // By renaming it never has two names. Some file systems cannot rename without replacing.
        let named = sys::rename_noreplace(&temporary, new.path);
        match named.or_else(|errno| match errno {
            Errno::EINVAL | Errno::ENOSYS | Errno::EPERM => {
                nix::unistd::linkat(AT_FDCWD, &temporary, AT_FDCWD, new.path, AtFlags::empty())
            }
            _ => Err(errno),
        }) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(Error::Os {
                doing: "give its name to",
                path: new.path.to_owned(),
                source: errno.into(),
            }),
        }
    });
    let _ = nix::unistd::unlink(&temporary);
    done
}

/// True if this process may not make the system call, in a sandbox, or because the kernel has none.
pub(crate) fn is_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

/// The bytes of space that a file occupies.
fn space(stat: &FileStat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}

/// Allocates space for these bytes of a file, which is at least that long.
pub(crate) fn allocate(file: &OwnedFd, bytes: &Range<u64>) -> io::Result<()> {
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, bytes) {
        // A file system without a limit (ramfs).
        Ok(()) | Err(Errno::EOPNOTSUPP) => Ok(()),
        Err(errno @ (Errno::ENOSYS | Errno::EPERM)) => {
            // Not allowed to ask: whoever made the file may have written all of it.
            let stat = fstat(file)?;
            let is_whole = i64::try_from(space(&stat)).is_ok_and(|space| space >= stat.st_size);
            if is_whole { Ok(()) } else { Err(errno.into()) }
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Gives a new file its size, and space for these bytes of it (`None` = all): a full file system is an error here instead of
/// a SIGBUS later.
fn set_size(file: &OwnedFd, size: u64, space: Option<&[Range<u64>]>) -> std::result::Result<(), (&'static str, Errno)> {
    const PAGE: usize = 4096;
    // In a program that has not ignored it, a signal would come before the error (SIGXFSZ).
    let limit = getrlimit(Resource::RLIMIT_FSIZE).map_or(RLIM_INFINITY, |(soft, _)| soft);
    if size > limit {
        return Err(("allocate space for", Errno::EFBIG));
    }
    let to_size = || nix::unistd::ftruncate(file, signed(size)).map_err(|errno| ("size", errno));
    if let Some(space) = space {
        to_size()?;
        return space.iter().try_for_each(
            |bytes| match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, bytes) {
                Ok(()) | Err(Errno::EOPNOTSUPP) => Ok(()),
                Err(errno) => Err(("allocate space for", errno)),
            },
        );
    }
    match fallocate(file, FallocateFlags::empty(), &(0..size)) {
        Ok(()) => return Ok(()),
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EPERM) => {}
        Err(errno) => return Err(("allocate space for", errno)),
    }
    to_size()?;
    for at in (0..signed(size)).step_by(PAGE) {
        while let Err(errno) = nix::sys::uio::pwrite(file, &[0], at) {
            if errno != Errno::EINTR {
                return Err(("write", errno));
            }
        }
    }
    Ok(())
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// fallocate(2), again if a signal interrupts it.
fn fallocate(file: &OwnedFd, flags: FallocateFlags, bytes: &Range<u64>) -> nix::Result<()> {
    let (start, len) = (signed(bytes.start), signed(bytes.end.saturating_sub(bytes.start)));
    loop {
        match nix::fcntl::fallocate(file, flags, start, len) {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}

fn fill(file: &OwnedFd, new: &NewFile<'_>) -> Result<()> {
    let failed = |doing| move |errno| fail(doing, new.path, errno);
    set_size(file, new.size, new.space).map_err(|(doing, errno)| failed(doing)(errno))?;
    let mut written = 0;
    while let Some(rest) = new.content.get(written..).filter(|rest| !rest.is_empty()) {
        written += match nix::unistd::write(file, rest) {
            Ok(n) => n,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(failed("write")(errno)),
        };
    }
    let owner = new.owner;
    let stat = fstat(file).map_err(failed("examine"))?;
    let uid = owner.uid.filter(|&uid| uid != stat.st_uid);
    let gid = owner.gid.filter(|&gid| gid != stat.st_gid);
    if uid.is_some() || gid.is_some() {
        let given = nix::unistd::fchown(file, uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        given.map_err(|errno| match (errno, uid, gid) {
            (Errno::EPERM, None, Some(gid)) => Error::NotInGroup {
                gid,
                source: errno.into(),
            },
            _ => Error::Os {
                doing: "give its owner or group to",
                path: new.path.to_owned(),
                source: errno.into(),
            },
        })?;
    }
    fchmod(file, Mode::from_bits_truncate(owner.mode)).map_err(failed("set the mode of"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn the_leases_of_others_are_waited_for_a_second_in_each_minute() {
        let me = nix::unistd::geteuid().as_raw();
        assert!(is_own(Some(0)) && is_own(Some(me)));
        assert!(!is_own(Some(me + 1)) && !is_own(None));
        let waited = Waited {
            since: AtomicU64::new(0),
            time: AtomicU64::new(0),
        };
        assert_eq!(waited.left(5), LEASED_NS);
        waited.add(LEASED_NS / 4);
        assert_eq!(waited.left(6), LEASED_NS / 4 * 3);
        waited.add(LEASED_NS);
        assert_eq!(waited.left(4 + MINUTE_NS), 0);
        assert_eq!(waited.left(5 + MINUTE_NS), LEASED_NS);
        waited.add(LEASED_NS);
        assert_eq!(waited.left(6 + MINUTE_NS), 0);
    }

    #[test]
    fn under_a_temporary_name_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("object");
        let owner = Ownership {
            mode: 0o640,
            uid: None,
            gid: None,
        };
        let new = |content| NewFile {
            path: &path,
            size: 4096,
            space: None,
            content,
            owner: &owner,
        };
        publish_renamed(&new(b"first"), directory.path()).unwrap();
        publish_renamed(&new(b"second"), directory.path()).unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.len(), found.permissions().mode() & 0o777), (4096, 0o640));
        assert_eq!(found.nlink(), 1);
        assert!(
            std::fs::read(&path).unwrap().starts_with(b"first"),
            "the first one stays"
        );
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            1,
            "nothing else does"
        );
    }
}
