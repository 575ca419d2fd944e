//! A table that claims what nobody did: a good one whose fields are overwritten. Where they stand is told in
//! `src/lock/shm/layout.rs`.

/// A table's content.
#[derive(Clone)]
pub struct Forged(pub Vec<u8>);

/// How many requests a table has room for.
pub const REQUESTS: usize = 1024;
const HISTORY: usize = 256;
const GAVE_UP: usize = 64;

/// The stages of a request.
pub const WAITING: u32 = 1;
pub const OFFERED: u32 = 2;
pub const HELD: u32 = 3;
pub const STALLED: u32 = 4;

/// Fields of the header of 64 bits.
pub const SEMAPHORE_INODE: usize = 16;
/// How many pages of both histories have their space, of 32 bits each.
pub const ROOM: usize = 24;
pub const NEXT_TICKET: usize = 72;
pub const NEXT_TOKEN: usize = 80;
pub const HIGH_WATER: usize = 88;
pub const ABANDONED: usize = 112;
pub const HISTORY_NEXT: usize = 120;
pub const GAVE_UP_NEXT: usize = 240;
/// All that follows the latch and the count of events, up to the words.
const CLAIMS: std::ops::Range<usize> = 72..320;

/// One request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request {
    pub stage: u32,
    pub kind: u8,
    pub ticket: u64,
    pub token: u64,
    /// Of all its times.
    pub time: u64,
    pub expires: u64,
    pub holder: u32,
    pub keeper: u32,
    pub pid: u32,
    pub bound_pid: u32,
    pub bound_start: u64,
    pub slots: u32,
}

impl Forged {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A field of the header.
    pub fn header(mut self, at: usize, value: u64) -> Self {
        self.put(at, &value.to_ne_bytes());
        self
    }

    /// Every number of the header is this one.
    pub fn all_numbers(mut self, value: u64) -> Self {
        for at in CLAIMS.step_by(8) {
            self.put(at, &value.to_ne_bytes());
        }
        self
    }

    /// The request with this record.
    pub fn request(mut self, number: usize, request: Request) -> Self {
        let word = (request.ticket as u32) << 3 | request.stage;
        self.put(320 + 4 * number, &word.to_ne_bytes());
        self.put(4416 + number, &[request.kind]);
        let at = 5504 + 128 * number;
        let longs = [
            (0, request.ticket),
            (8, request.token),
            (16, request.time),
            (24, request.time),
            (32, request.time),
            (40, request.expires),
            (72, request.bound_start),
        ];
        for (offset, value) in longs {
            self.put(at + offset, &value.to_ne_bytes());
        }
        let shorts = [
            (48, request.holder),
            (52, request.keeper),
            (56, request.pid),
            (80, request.bound_pid),
            (84, request.slots),
        ];
        for (offset, value) in shorts {
            self.put(at + offset, &value.to_ne_bytes());
        }
        self.put(at + 88, b"forged\x1b[31m\xe2\x80\xae");
        self.header(HIGH_WATER, REQUESTS as u64)
    }

    /// Both histories are full of records with these numbers.
    pub fn past(mut self, value: u64, what: u64) -> Self {
        for (first, count) in [(34 * 4096, HISTORY), (45 * 4096, GAVE_UP)] {
            for number in 0..count {
                let at = first + 176 * number;
                for offset in (8..176).step_by(8) {
                    self.put(at + offset, &value.to_ne_bytes());
                }
                self.put(at, &(number as u64 + 1).to_ne_bytes());
                self.put(at + 80, &what.to_ne_bytes());
            }
        }
        self.header(ROOM, 11 | 3 << 32)
            .header(HISTORY_NEXT, HISTORY as u64)
            .header(GAVE_UP_NEXT, GAVE_UP as u64)
    }

    /// The whole file, for a semaphore with this inode.
    pub fn for_semaphore(self, inode: u64) -> Vec<u8> {
        self.header(SEMAPHORE_INODE, inode).0
    }
}
