//! Stands in for a process that is stopped inside a table's latch. To all others it looks like one: the latch contains
//! the id of a beacon that is lit.

use super::TestLock;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};

/// The latch's offset in the table, see `Header` in `src/lock/shm/layout.rs`.
const LATCH: u64 = 64;
/// The offset of the beacons' bytes, see `src/lock/shm/beacon.rs`.
const BEACONS: i64 = 1 << 40;
/// The beacon's id; handles draw theirs from 2^31.
const ID: u32 = 0x0123_4567;

/// Inside the latch until dropped.
pub struct Inside(File);

impl Inside {
    /// Enters the latch of a lock that nobody else is changing at this moment.
    pub fn enter(lock: &TestLock) -> Self {
        let table = open(lock);
        let beacon = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: BEACONS + i64::from(ID),
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&table, FcntlArg::F_OFD_SETLK(&beacon)).expect("nobody else has this beacon");
        Self::with(table, ID)
    }

    /// The same for the only process that has the lock open, which should be stopped.
    pub fn of_only_handle(lock: &TestLock) -> Self {
        let table = open(lock);
        let file = table.metadata().expect("its device and inode");
        let (major, minor) = (libc::major(file.dev()), libc::minor(file.dev()));
        // Other file systems have files with the same inode.
        let table_file = format!("{major:02x}:{minor:02x}:{}", file.ino());
        let locks = std::fs::read_to_string("/proc/locks").expect("the kernel lists the locks");
        let beacon = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [.., file, start, _] = fields.as_slice() else {
                return None;
            };
            let is_its = *file == table_file && fields.contains(&"WRITE");
            u32::try_from(start.parse::<i64>().ok()?.checked_sub(BEACONS)?)
                .ok()
                .filter(|_| is_its)
        };
        let beacons: Vec<u32> = locks.lines().filter_map(beacon).collect();
        assert_eq!(beacons.len(), 1, "{locks}");
        Self::with(table, beacons[0])
    }

    fn with(table: File, id: u32) -> Self {
        let mut latch = [0; 4];
        table.read_exact_at(&mut latch, LATCH).expect("the table has a latch");
        assert_eq!(u32::from_ne_bytes(latch), 0, "nobody is inside");
        table
            .write_all_at(&id.to_ne_bytes(), LATCH)
            .expect("the latch can be taken");
        Self(table)
    }
}

fn open(lock: &TestLock) -> File {
    let table = OpenOptions::new()
        .read(true)
        .write(true)
        .open(lock.paths().table_path());
    table.expect("the table can be opened")
}

impl Drop for Inside {
    fn drop(&mut self) {
        // No wake-up is needed: a process that sleeps on the latch rechecks it every 10 ms.
        let _ = self.0.write_all_at(&[0; 4], LATCH);
    }
}
