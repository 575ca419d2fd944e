//! What lies where in a lock's table, and how a request's description is packed into it.
//!
//! Every field is an atomic; there are no pointers, and no lengths that are trusted. A process that may write the table
//! can break the lock, but cannot corrupt this process's memory.

use crate::lock::sys;
use crate::lock::system::printable_bytes;
use crate::lock::types::{Ended, Host, Requester};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Requests (holders and waiters) at once.
pub(crate) const REQUESTS: usize = 1024;
/// Ended holds that are remembered.
pub(crate) const HISTORY: usize = 256;
/// Requests that gave up that are remembered. They have a ring of their own, so that a process that polls does not push
/// out the holds.
pub(crate) const GAVE_UP: usize = 64;
/// Set in a record's keeper that lies on a semaphore which is no longer the table's: it cannot be asked about any more.
pub(crate) const KEEPER_LEFT_BEHIND: u32 = 1 << 31;
/// "reslock" and the layout's number.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"reslock\x01");

sys::shared! {
    /// The head of the table. What is written once, what the latch guards, and what different processes write often lie
    /// on separate cache lines.
    #[repr(align(64))]
    pub(crate) struct Header {
        pub(crate) magic: AtomicU64,
        /// This table's mark on the semaphore, 1 to 65,535.
        pub(crate) mark: AtomicU32,
        /// Beacon of the process that removes or has removed the lock, 0 = none: see `tombstone.rs`.
        pub(crate) retired: AtomicU32,
        /// Inode of the semaphore that belongs to this table.
        pub(crate) semaphore_inode: AtomicU64,
        _line0: [AtomicU64; 5],
        pub(crate) latch: AtomicU32,
        /// Bit 0: a watcher sleeps until something happens. The rest is a count.
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
        /// When the head of the queue last checked the holders, in monotonic ns.
        pub(crate) head_checked: AtomicU64,
        /// When requests that found the table full last checked all requests, and last checked some, in monotonic ms:
        /// see `acquire/full.rs`.
        pub(crate) all_checked_ms: AtomicU32,
        pub(crate) some_checked_ms: AtomicU32,
        /// Number of records of requests that gave up ever begun.
        pub(crate) gave_up_next: AtomicU64,
        /// The time zone's offset, as last looked up: see `clock.rs`.
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
        /// When it expires, in boot-time ns as `time_namespace` counts them; 0 = never.
        pub(crate) expires: AtomicU64,
        /// The handle's beacon; 0 = detached.
        pub(crate) holder: AtomicU32,
        /// The beacon that a command inherits; 0 = none. May bear [`KEEPER_LEFT_BEHIND`].
        pub(crate) keeper: AtomicU32,
        pub(crate) pid: AtomicU32,
        pub(crate) uid: AtomicU32,
        pub(crate) pid_namespace: AtomicU64,
        /// Start time (proc(5), clock ticks) of the bound process. Stored before its PID.
        pub(crate) bound_start: AtomicU64,
        pub(crate) bound_pid: AtomicU32,
        pub(crate) slots: AtomicU32,
        pub(crate) command: [AtomicU64; 2],
        /// 1 = the hold is meant to end with its process.
        pub(crate) lapses: AtomicU32,
        /// Inode of the time namespace in which `expires` and `bound_start` were read; 0 = unknown. Stored before them.
        pub(crate) time_namespace: AtomicU32,
        _pad: [AtomicU32; 2],
    }
}

sys::shared! {
    /// One ended request. `sequence` is 0 while it is being written, else its number + 1.
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

/// What a history record says besides times and names.
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

/// A command's name as it is stored: up to 15 bytes, padded with zeros to 16.
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

/// The reverse, for display: unprintable characters are escaped.
fn unpack_command(words: [u64; 2]) -> String {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .take_while(|&b| b != 0)
        .collect();
    printable_bytes(&bytes)
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
