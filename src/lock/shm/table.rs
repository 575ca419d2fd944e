//! The table: layout in memory, creation, validation. One file of fixed size per lock, `/dev/shm/resourcelock.NAME`.
//!
//! Every field is an atomic; there are no pointers and no trusted lengths. Whoever may write the table can break the
//! lock, but cannot corrupt this process's memory. A new layout gets a new file name prefix, so that versions are
//! foreign to each other and exclude each other through the semaphore.

use crate::lock::shm::files::{self, NewFile, Opened, Ownership};
use crate::lock::sys::{self, Descriptor, Mapping};
use crate::lock::system::printable_bytes;
use crate::lock::types::Ended;
use crate::lock::types::LockName;
use crate::{Error, Host, Requester, Result};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Requests (holders and waiters) at once.
pub(crate) const REQUESTS: usize = 1024;
/// Ended requests that are remembered.
pub(crate) const HISTORY: usize = 256;
/// Requests that gave up that are remembered: apart from the grants, which a busy poller must not push out.
pub(crate) const GAVE_UP: usize = 64;
/// "reslock" and the layout's number.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"reslock\x01");

sys::shared! {
    /// The head of the table. What is written once, what the latch guards, and what is written often by different
    /// processes lie on cache lines of their own.
    #[repr(align(64))]
    pub(crate) struct Header {
        pub(crate) magic: AtomicU64,
        /// This table's mark on the semaphore, 1 to 65,535.
        pub(crate) mark: AtomicU32,
        /// Beacon of who removes or has removed the lock, 0 = nobody: see [`crate::lock::shm::removal`].
        pub(crate) retired: AtomicU32,
        /// Inode of the semaphore that belongs to this table.
        pub(crate) semaphore_inode: AtomicU64,
        _line0: [AtomicU64; 5],
        pub(crate) latch: AtomicU32,
        /// Bit 0: somebody sleeps until something happens; the rest is a count.
        pub(crate) events: AtomicU32,
        pub(crate) next_ticket: AtomicU64,
        pub(crate) next_token: AtomicU64,
        pub(crate) high_water: AtomicU64,
        pub(crate) slots: AtomicU64,
        pub(crate) streak: AtomicU64,
        pub(crate) abandoned: AtomicU64,
        /// Number of history records ever begun.
        pub(crate) history_next: AtomicU64,
        pub(crate) pause_until: AtomicU64,
        pub(crate) ignore_until: AtomicU64,
        pub(crate) acquisitions: AtomicU64,
        pub(crate) waited_ns: AtomicU64,
        pub(crate) held_ns: AtomicU64,
        pub(crate) consecutive_timeouts: AtomicU64,
        _line2: [AtomicU64; 2],
        pub(crate) conflicts: AtomicU64,
        pub(crate) timeouts: AtomicU64,
        pub(crate) abandonments: AtomicU64,
        pub(crate) forced: AtomicU64,
        /// Monotonic ns of the head's last look.
        pub(crate) head_looked: AtomicU64,
        /// Monotonic ms of the last full look, and of the last small one, by requests that found no room
        /// ([`crate::lock::acquire::full`]).
        pub(crate) searched_ms: AtomicU32,
        pub(crate) outside_looked_ms: AtomicU32,
        /// Number of records of requests that gave up ever begun.
        pub(crate) gave_up_next: AtomicU64,
        /// The time zone's offset, as found lately (see [`crate::lock::shm::clock`]).
        pub(crate) zone: AtomicU64,
    }
}

sys::shared! {
    /// Everything that describes a request but its word and kind. Times are monotonic ns unless they say otherwise.
    #[repr(align(64))]
    pub(crate) struct Record {
        pub(crate) ticket: AtomicU64,
        pub(crate) token: AtomicU64,
        pub(crate) queued: AtomicU64,
        /// When it was granted (for an offer: when it was offered).
        pub(crate) granted: AtomicU64,
        /// When it was queued, by the wall clock (µs since 1970): for display only.
        pub(crate) queued_wall_us: AtomicU64,
        /// Boot-time ns, as they are counted in `time_namespace`; 0 = never.
        pub(crate) expires: AtomicU64,
        /// Beacon of the handle; 0 = detached.
        pub(crate) holder: AtomicU32,
        /// Beacon that a command inherits; 0 = none.
        pub(crate) keeper: AtomicU32,
        pub(crate) pid: AtomicU32,
        pub(crate) uid: AtomicU32,
        pub(crate) pid_namespace: AtomicU64,
        /// Start time (proc(5), clock ticks) of the bound process. Stored before its pid.
        pub(crate) bound_start: AtomicU64,
        pub(crate) bound_pid: AtomicU32,
        pub(crate) slots: AtomicU32,
        pub(crate) command: [AtomicU64; 2],
        /// 1 = the hold is meant to end with its process.
        pub(crate) lapses: AtomicU32,
        /// Inode of the time namespace in which `expires` and `bound_start` were read; 0 = not known. Stored before them.
        pub(crate) time_namespace: AtomicU32,
        _pad: [AtomicU32; 2],
    }
}

sys::shared! {
    /// One ended request. `sequence` is 0 while it is written, else its number + 1.
    pub(crate) struct Past {
        pub(crate) sequence: AtomicU64,
        pub(crate) ticket: AtomicU64,
        pub(crate) token: AtomicU64,
        pub(crate) queued_wall_us: AtomicU64,
        pub(crate) waited_ns: AtomicU64,
        pub(crate) held_ns: AtomicU64,
        pub(crate) ended_wall_us: AtomicU64,
        pub(crate) pid: AtomicU32,
        pub(crate) uid: AtomicU32,
        pub(crate) command: [AtomicU64; 2],
        /// kind | how << 8 | slots << 16
        pub(crate) what: AtomicU64,
    }
}

sys::shared! {
    /// The whole file.
    pub(crate) struct Layout {
        pub(crate) header: Header,
        /// The requests' words lie together: they are what every decision scans.
        pub(crate) words: [AtomicU32; REQUESTS],
        pub(crate) kinds: [AtomicU8; REQUESTS],
        pub(crate) requests: [Record; REQUESTS],
        pub(crate) history: [Past; HISTORY],
        pub(crate) gave_up: [Past; GAVE_UP],
    }
}

/// A [`Requester`] as the table stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedRequester {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) command: [u64; 2],
}

impl PackedRequester {
    pub(crate) fn unpack(self, same_pid_namespace: bool) -> Requester {
        let command = unpack_command(self.command);
        Requester {
            pid: (self.pid != 0).then_some(self.pid),
            uid: Some(self.uid),
            user: None,
            host: Host::Local,
            command: (!command.is_empty()).then_some(command),
            same_pid_namespace,
        }
    }
}

impl Record {
    pub(crate) fn requester(&self) -> PackedRequester {
        load_requester(&self.pid, &self.uid, &self.command)
    }

    pub(crate) fn set_requester(&self, requester: PackedRequester) {
        store_requester(requester, &self.pid, &self.uid, &self.command);
    }
}

impl Past {
    pub(crate) fn requester(&self) -> PackedRequester {
        load_requester(&self.pid, &self.uid, &self.command)
    }

    pub(crate) fn set_requester(&self, requester: PackedRequester) {
        store_requester(requester, &self.pid, &self.uid, &self.command);
    }
}

fn load_requester(pid: &AtomicU32, uid: &AtomicU32, command: &[AtomicU64; 2]) -> PackedRequester {
    PackedRequester {
        pid: pid.load(Relaxed),
        uid: uid.load(Relaxed),
        command: command.each_ref().map(|half| half.load(Relaxed)),
    }
}

fn store_requester(requester: PackedRequester, pid: &AtomicU32, uid: &AtomicU32, command: &[AtomicU64; 2]) {
    command[0].store(requester.command[0], Relaxed);
    command[1].store(requester.command[1], Relaxed);
    pid.store(requester.pid, Relaxed);
    uid.store(requester.uid, Relaxed);
}

/// What stands in a history record besides times and names.
pub(crate) fn pack_what(kind: u8, how: Ended, slots: u32) -> u64 {
    let how = match how {
        Ended::Released => 0u64,
        Ended::Abandoned => 1,
        Ended::Expired => 2,
        Ended::Forced => 3,
        Ended::TimedOut => 4,
    };
    u64::from(kind) | how << 8 | u64::from(slots) << 16
}

/// The reverse of [`pack_what`]; hostile values become the nearest meaning.
pub(crate) fn unpack_what(what: u64) -> (u8, Ended, u32) {
    let how = match what >> 8 & 0xff {
        1 => Ended::Abandoned,
        2 => Ended::Expired,
        3 => Ended::Forced,
        4 => Ended::TimedOut,
        _ => Ended::Released,
    };
    (what as u8, how, (what >> 16) as u32)
}

/// A command's name as it is stored: up to 16 bytes, zero-padded.
pub(crate) fn pack_command(name: &str) -> [u64; 2] {
    let mut bytes = [0u8; 16];
    let mut end = name.len().min(15);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
    let (a, b) = bytes.split_at(8);
    let word = |half: &[u8]| half.iter().rev().fold(0u64, |w, &byte| w << 8 | u64::from(byte));
    [word(a), word(b)]
}

/// The reverse, for display: unprintable characters escaped.
pub(crate) fn unpack_command(words: [u64; 2]) -> String {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .take_while(|&b| b != 0)
        .collect();
    printable_bytes(&bytes)
}

/// An open table.
pub(crate) struct Table {
    /// For asking about beacons.
    pub(crate) file: Descriptor,
    pub(crate) path: PathBuf,
    pub(crate) inode: u64,
    pub(crate) writable: bool,
    map: Mapping<Layout>,
    mark: u16,
}

impl std::ops::Deref for Table {
    type Target = Layout;
    fn deref(&self) -> &Layout {
        &self.map
    }
}

impl Table {
    /// Of its file, in bytes.
    pub(crate) const SIZE: usize = size_of::<Layout>();

    /// Opens the table at `name`'s path, or makes one for the semaphore with this inode.
    pub(crate) fn open_or_create(name: &LockName, semaphore_inode: u64, owner: &Ownership) -> Result<Self> {
        loop {
            match Self::open(name, true) {
                Err(Error::NotFound { .. }) => {}
                other => return other,
            }
            let path = name.table_path();
            let bytes = Self::initial(semaphore_inode);
            files::publish(&NewFile {
                path: &path,
                size: size_of::<Layout>() as u64,
                content: &bytes,
                owner,
            })?;
        }
    }

    /// Opens an existing table.
    pub(crate) fn open(name: &LockName, writable: bool) -> Result<Self> {
        let Opened { file, inode, size } = files::open(&name.table_path(), writable)?;
        Self::from_file(file, inode, size, writable, name)
    }

    /// Maps and checks an open table.
    pub(crate) fn from_file(file: OwnedFd, inode: u64, size: u64, writable: bool, name: &LockName) -> Result<Self> {
        let path = name.table_path();
        let wrong = |what: String| Error::WrongObject {
            path: path.clone(),
            what,
        };
        if size < size_of::<Layout>() as u64 {
            return Err(wrong(format!(
                "it has {size} bytes where a table has {}",
                size_of::<Layout>()
            )));
        }
        let map = Mapping::<Layout>::new(file.as_fd(), writable).map_err(|source| Error::Os {
            doing: "map",
            path: path.clone(),
            source,
        })?;
        let magic = map.header.magic.load(Relaxed);
        let mark = map.header.mark.load(Relaxed);
        if magic != MAGIC || mark == 0 || mark > u32::from(u16::MAX) {
            return Err(wrong(format!(
                "it is not a lock table of this version (it begins with {magic:#018x})"
            )));
        }
        Ok(Self {
            file: Descriptor::new(file).map_err(|source| Error::Os {
                doing: "examine",
                path: path.clone(),
                source,
            })?,
            path,
            inode,
            writable,
            map,
            mark: mark as u16,
        })
    }

    fn initial(semaphore_inode: u64) -> Vec<u8> {
        // Only the head differs from zero.
        let mut bytes = vec![0u8; size_of::<Header>()];
        let mut put = |offset: usize, value: u64| bytes[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        let mark = random() % u64::from(u16::MAX) + 1;
        put(std::mem::offset_of!(Header, magic), MAGIC);
        put(std::mem::offset_of!(Header, mark), mark); // `retired` behind it stays 0
        put(std::mem::offset_of!(Header, semaphore_inode), semaphore_inode);
        put(std::mem::offset_of!(Header, next_ticket), 1);
        put(std::mem::offset_of!(Header, next_token), sys::realtime() / 1000);
        bytes
    }

    pub(crate) fn mark(&self) -> u16 {
        self.mark
    }

    /// Wakes whoever sleeps until something happens ([`crate::lock::inspect::watch`]). Called after every change.
    pub(crate) fn announce(&self) {
        use std::sync::atomic::Ordering::SeqCst;
        let events = &self.header.events;
        // The change before this look; a compare-exchange is barrier enough on x86.
        #[cfg(not(target_arch = "x86_64"))]
        std::sync::atomic::fence(SeqCst);
        if events.load(SeqCst) & 1 != 0 {
            // Clears the bit and counts, so that a sleeper that is about to sleep does not.
            let _ = events.fetch_update(SeqCst, SeqCst, |e| Some((e & !1).wrapping_add(2)));
            sys::futex_wake(events, i32::MAX);
        }
    }
}

/// A random number: unpredictable enough that two processes seldom draw the same, and harmless if they do.
pub(crate) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    // A forked child goes on with its parent's seeds.
    hasher.write_u32(std::process::id());
    hasher.write_u64(sys::monotonic());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_has_no_surprises() {
        assert_eq!(size_of::<Header>(), 256);
        assert_eq!(size_of::<Record>(), 128);
        assert_eq!(size_of::<Past>(), 88);
        assert_eq!(std::mem::offset_of!(Header, latch), 64);
        assert_eq!(std::mem::offset_of!(Layout, words), 256);
    }

    #[test]
    fn commands_are_cut_at_a_character() {
        assert_eq!(unpack_command(pack_command("read_sensor.sh")), "read_sensor.sh");
        assert_eq!(unpack_command(pack_command("0123456789abcdeX")), "0123456789abcde");
        assert_eq!(unpack_command(pack_command("0123456789abcdé")), "0123456789abcd");
        assert_eq!(unpack_command(pack_command("a\x1b[31m")), "a\\u{1b}[31m");
    }

    #[test]
    fn what_survives_packing() {
        for how in [
            Ended::Released,
            Ended::Abandoned,
            Ended::Expired,
            Ended::Forced,
            Ended::TimedOut,
        ] {
            assert_eq!(unpack_what(pack_what(2, how, 77)), (2, how, 77));
        }
    }
}
