//! What lies where in a lock's table, and how a request's description is packed into it.
//!
//! Every field is an atomic; there are no pointers, and no lengths that are trusted. A process that may write the table
//! can break the lock, but cannot corrupt this process's memory.
//!
//! | pages | what |
//! |---|---|
//! | 0 to 33 | header, the requests' words and kinds, the seal, then the requests' records: 21 in page 1, then 32 a page |
//! | 34 to 44 | the last holds: 23 in a page, up to 256 |
//! | 45 to 47 | the last requests that gave up: 23 in a page, up to 64 |
//!
//! The file has its full size from the beginning, but space only where it is needed: a new table in pages 0, 1 and 34.
//! Which of the others may be touched, and when they get their space, is in `growth.rs`.
//!
//! A table that was truncated and then extended again contains zeros from where it was cut. The magic is in its first
//! page and the seal in its second, so that this is seen wherever it was cut before anything that decides.

use crate::lock::sys;
use crate::lock::sys::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use crate::lock::system::printable_bytes;
use crate::lock::types::{CommandEnd, Ended, Host, Requester};
use std::mem::offset_of;

/// Requests (holders and waiters) at once. (In `weak/` there are a few of each: all of them cost time there.)
pub(crate) const REQUESTS: usize = if cfg!(weak) { 4 } else { 1024 };
/// Ended holds that are remembered, at most.
pub(crate) const HISTORY: usize = if cfg!(weak) { 2 } else { 256 };
/// Requests that gave up that are remembered, at most. They have a ring of their own, so that a process that polls does not push
/// out the holds.
pub(crate) const GAVE_UP: usize = if cfg!(weak) { 1 } else { 64 };
/// Set in a record's keeper that lies on a semaphore which is no longer the table's: it cannot be probed any more.
pub(crate) const KEEPER_LEFT_BEHIND: u32 = 1 << 31;
/// "reslock" and the layout's number.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"reslock\x03");
/// How precisely it is noted when a request was last known to be kept.
const NOTED_NS: u64 = 50_000_000;
/// What space is counted in.
pub(crate) const PAGE: usize = 4096;
/// Pages that always have their space: all but records and past.
pub(crate) const FIRST_PAGES: usize = 2;
/// The part of a note's message that is remembered of an ended request, in words of 8 bytes.
const NOTE_WORDS: usize = 10;
/// In [`Record::flags`]: the hold is meant to end with its process.
pub(crate) const LAPSES: u32 = 1;
/// In [`Record::flags`]: the request came to replace others.
pub(crate) const REPLACES: u32 = 2;
/// In [`Record::flags`]: what ran under the hold has ended as [`Record::outcome`] says. Nobody's life keeps it, and it ends
/// in order when it expires.
pub(crate) const LINGERS: u32 = 8;

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
        /// How many pages of each ring have their space; only grows: see `growth.rs`.
        pub(crate) history_room: AtomicU32,
        pub(crate) gave_up_room: AtomicU32,
        _spare0: AtomicU64,
        _line0: [AtomicU64; 3],
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
        /// Grants of requests that had joined the queue. They count outside the latch, unlike the others.
        pub(crate) queued_grants: AtomicU64,
        pub(crate) waited_ns: AtomicU64,
        pub(crate) held_ns: AtomicU64,
        pub(crate) consecutive_timeouts: AtomicU64,
        /// Holds under which something crashed.
        pub(crate) crashes: AtomicU64,
        /// Skipped runs in a row that count themselves (`run --max-skips`), since a run ended well.
        pub(crate) skips: AtomicU64,
        pub(crate) conflicts: AtomicU64,
        pub(crate) timeouts: AtomicU64,
        pub(crate) abandonments: AtomicU64,
        pub(crate) forced: AtomicU64,
        /// When the head of the queue last checked the holders, in monotonic ns.
        pub(crate) head_checked: AtomicU64,
        /// When requests that found the table full last checked all requests, and last checked some, in monotonic ms:
        /// see `acquire/table_full.rs`.
        pub(crate) all_checked_ms: AtomicU32,
        pub(crate) some_checked_ms: AtomicU32,
        /// Number of records of requests that gave up ever begun.
        pub(crate) gave_up_next: AtomicU64,
        /// The time zone's offset, as last looked up: see `clock.rs`.
        pub(crate) zone: AtomicU64,
        _success_boot_ns: AtomicU64,
        /// When the last run that ended well ended, by the wall clock in µs.
        pub(crate) success_wall_us: AtomicU64,
        /// The last run that was recorded as done: when it began, in boot-time ns as `once_time_namespace` counts them and
        /// by the wall clock in µs (0: there was none), and who that was. See `done.rs`.
        pub(crate) once_boot_ns: AtomicU64,
        pub(crate) once_wall_us: AtomicU64,
        pub(crate) once_pid: AtomicU32,
        pub(crate) once_time_namespace: AtomicU32,
        /// Token of the last death that people were told of.
        pub(crate) abandoned_reported: AtomicU64,
        /// How long after its beginning the next one is due.
        pub(crate) once_every_ns: AtomicU64,
        /// Grants of requests that had not joined the queue.
        pub(crate) unqueued_grants: AtomicU64,
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
        /// The beacon that a command inherits; 0 = none. May contain [`KEEPER_LEFT_BEHIND`].
        pub(crate) keeper: AtomicU32,
        pub(crate) pid: AtomicU32,
        pub(crate) uid: AtomicU32,
        pub(crate) pid_namespace: AtomicU64,
        /// Start time (proc(5), clock ticks) of the bound process. Stored before its PID.
        pub(crate) bound_start: AtomicU64,
        pub(crate) bound_pid: AtomicU32,
        pub(crate) slots: AtomicU32,
        pub(crate) command: [AtomicU64; 2],
        /// Bit 0: [`LAPSES`]. Bit 1: [`REPLACES`]. Bit 2 is for holds whose process
        /// has to release them before it ends. Bit 3: [`LINGERS`].
        pub(crate) flags: AtomicU32,
        /// Inode of the time namespace in which `expires` and `bound_start` were read; 0 = unknown. Stored before them.
        pub(crate) time_namespace: AtomicU32,
        /// When it was last known to be kept, by its owner or by somebody who checked; 0: not since it was granted.
        pub(crate) seen_alive: AtomicU64,
        /// With [`LINGERS`]: see [`pack_outcome`].
        pub(crate) outcome: AtomicU64,
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
        /// How the command ended: see [`pack_end`]; 0 = unknown.
        pub(crate) command_end: AtomicU64,
        /// The beginning of the note's message, padded with zeros.
        pub(crate) note: [AtomicU64; NOTE_WORDS],
    }
}

sys::shared! {
    /// The whole file.
    pub(crate) struct Layout {
        pub(crate) header: Header,
        /// The requests' words lie together: they are what every decision scans.
        pub(crate) words: [AtomicU32; REQUESTS],
        pub(crate) kinds: [AtomicU8; REQUESTS],
        /// The magic once more.
        pub(crate) seal: AtomicU64,
        _seal: [AtomicU64; 7],
        /// Not all of these have space, nor of the two rings: they are reached through `growth.rs` only.
        pub(crate) all_records: [Record; REQUESTS],
        _to_history: [AtomicU64; 336],
        pub(crate) all_history: [Past; HISTORY],
        pub(crate) all_gave_up: [Past; GAVE_UP],
        _to_end: [AtomicU64; 128],
    }
}

#[cfg(not(weak))]
const _: () = {
    assert!(size_of::<Header>() == 320 && offset_of!(Header, latch) == 64);
    assert!(size_of::<Record>() == 128 && size_of::<Past>() == 176);
    assert!(
        offset_of!(Layout, words) == 320 && offset_of!(Layout, seal) == 5440 && offset_of!(Layout, all_records) == 5504
    );
    // The magic and the seal are in different pages; 21 records fill the rest of the second one.
    assert!(
        offset_of!(Layout, seal) / PAGE == 1 && 2 * PAGE - offset_of!(Layout, all_records) == 21 * size_of::<Record>()
    );
    assert!(offset_of!(Layout, all_history) == 34 * PAGE && offset_of!(Layout, all_gave_up) == 45 * PAGE);
    assert!(size_of::<Layout>() == 48 * PAGE);
};

impl Layout {
    /// The beginning of a new table's file, for the semaphore with this inode. The rest is zero. `room`: how many pages of
    /// each ring have their space.
    pub(crate) fn initial(mark: u16, semaphore_inode: u64, first_token: u64, room: [u32; 2]) -> Vec<u8> {
        let mut bytes = vec![0u8; offset_of!(Self, all_records)];
        let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
        put(offset_of!(Header, magic), &MAGIC.to_ne_bytes());
        put(offset_of!(Header, mark), &u32::from(mark).to_ne_bytes());
        put(offset_of!(Header, semaphore_inode), &semaphore_inode.to_ne_bytes());
        put(offset_of!(Header, next_ticket), &1u64.to_ne_bytes());
        put(offset_of!(Header, next_token), &first_token.to_ne_bytes());
        put(offset_of!(Header, history_room), &room[0].to_ne_bytes());
        put(offset_of!(Header, gave_up_room), &room[1].to_ne_bytes());
        put(offset_of!(Self, seal), &MAGIC.to_ne_bytes());
        bytes
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
        let command = unpack_text(&self.command);
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
    /// Notes that the request is kept at `now` (monotonic ns). By somebody else's note the record may be another request's
    /// by now, which has just been made: then that one was alive at this time.
    pub(crate) fn note_life(&self, now: u64) {
        if now.saturating_sub(self.seen_alive.load(Relaxed)) >= NOTED_NS {
            self.seen_alive.store(now, Relaxed);
        }
    }

    /// How long the hold has lasted, as far as is known at `now`, in ns.
    pub(crate) fn known_to_last(&self, now: u64) -> u64 {
        let seen = self.seen_alive.load(Relaxed).min(now);
        seen.saturating_sub(self.granted.load(Relaxed))
    }

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
    u64::from(kind) | number_of(how) << 8 | u64::from(slots) << 16
}

/// The reverse of [`pack_what`]; hostile values become the nearest meaning.
pub(crate) fn unpack_what(what: u64) -> (u8, Ended, u32) {
    (what as u8, numbered(what >> 8), (what >> 16) as u32)
}

/// How a hold is to end that lasts for a time after its command, and how that command has ended.
pub(crate) fn pack_outcome(how: Ended, end: Option<CommandEnd>) -> u64 {
    number_of(how) << 56 | pack_end(end)
}

/// The reverse of [`pack_outcome`], the command's end as it is stored.
pub(crate) fn unpack_outcome(outcome: u64) -> (Ended, u64) {
    (numbered(outcome >> 56), outcome & !(0xff << 56))
}

fn number_of(how: Ended) -> u64 {
    match how {
        Ended::Released => 0,
        Ended::Abandoned => 1,
        Ended::Expired => 2,
        Ended::Forced => 3,
        Ended::TimedOut => 4,
        Ended::Refused => 5,
        Ended::Cancelled => 6,
        Ended::Crashed => 7,
        Ended::WithProcess => 8,
        Ended::Limit => 9,
    }
}

/// By the lowest byte.
fn numbered(number: u64) -> Ended {
    match number & 0xff {
        1 => Ended::Abandoned,
        2 => Ended::Expired,
        3 => Ended::Forced,
        4 => Ended::TimedOut,
        5 => Ended::Refused,
        6 => Ended::Cancelled,
        7 => Ended::Crashed,
        8 => Ended::WithProcess,
        9 => Ended::Limit,
        _ => Ended::Released,
    }
}

/// A command's name as it is stored: up to 15 bytes, padded with zeros to 16.
pub(crate) fn pack_command(name: &str) -> [u64; 2] {
    pack_bytes(whole_characters(name, 15))
}

/// The beginning of a note's message as it is stored.
pub(crate) type PackedNote = [u64; NOTE_WORDS];

/// A note's message as it is stored: as many whole characters as there is room for.
pub(crate) fn pack_note(message: &str) -> PackedNote {
    pack_bytes(whole_characters(message, 8 * NOTE_WORDS))
}

/// The beginning of `text`, of at most so many bytes, cut at a character.
fn whole_characters(text: &str, most: usize) -> &[u8] {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text.as_bytes()[..end]
}

/// As many bytes as there is room for, padded with zeros.
pub(crate) fn pack_bytes<const WORDS: usize>(bytes: &[u8]) -> [u64; WORDS] {
    let mut words = [[0u8; 8]; WORDS];
    let room = words.as_flattened_mut();
    let end = bytes.len().min(room.len());
    room[..end].copy_from_slice(&bytes[..end]);
    words.map(u64::from_le_bytes)
}

/// The reverse, for display: unprintable characters are escaped.
pub(crate) fn unpack_text(words: &[u64]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    printable_bytes(&bytes.take_while(|&byte| byte != 0).collect::<Vec<u8>>())
}

const EXITED: u64 = 1 << 32;
const KILLED: u64 = 2 << 32;

/// How a command ended, as it is stored.
pub(crate) fn pack_end(end: Option<CommandEnd>) -> u64 {
    match end {
        None => 0,
        Some(CommandEnd::Exited(status)) => EXITED | u64::from(status.cast_unsigned()),
        Some(CommandEnd::Killed(signal)) => KILLED | u64::from(signal.cast_unsigned()),
    }
}

/// The reverse; what nobody writes means nothing.
pub(crate) fn unpack_end(end: u64) -> Option<CommandEnd> {
    let number = (end as u32).cast_signed();
    match end & !u64::from(u32::MAX) {
        EXITED => Some(CommandEnd::Exited(number)),
        KILLED => Some(CommandEnd::Killed(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_cut_at_a_character() {
        assert_eq!(unpack_text(&pack_command("read_sensor.sh")), "read_sensor.sh");
        assert_eq!(unpack_text(&pack_command("0123456789abcdeX")), "0123456789abcde");
        assert_eq!(unpack_text(&pack_command("0123456789abcdé")), "0123456789abcd");
        assert_eq!(unpack_text(&pack_command("a\x1b[31m")), "a\\u{1b}[31m");
        let long = "é".repeat(39) + "aé";
        assert_eq!(unpack_text(&pack_note(&long)), "é".repeat(39) + "a");
        assert_eq!(unpack_text(&pack_note(&long[2..])), "é".repeat(38) + "aé");
    }

    #[test]
    fn ends_of_commands_survive_packing() {
        for end in [None, Some(CommandEnd::Exited(255)), Some(CommandEnd::Killed(9))] {
            assert_eq!(unpack_end(pack_end(end)), end);
        }
        assert_eq!(unpack_end(u64::MAX), None);
    }

    #[test]
    fn what_survives_packing() {
        for how in [
            Ended::Released,
            Ended::Abandoned,
            Ended::Expired,
            Ended::Forced,
            Ended::TimedOut,
            Ended::Refused,
            Ended::Cancelled,
            Ended::Crashed,
            Ended::WithProcess,
            Ended::Limit,
        ] {
            assert_eq!(unpack_what(pack_what(2, how, 77)), (2, how, 77));
            let end = Some(CommandEnd::Exited(3));
            assert_eq!(unpack_outcome(pack_outcome(how, end)), (how, pack_end(end)));
        }
    }
}
