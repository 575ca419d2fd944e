//! The model's state: the shared objects, the processes, and what only the checker knows (*ghost* state: who believes
//! that it holds the lock, and which beliefs a forced release excuses).

use crate::actor::Phase;
use crate::lock::protocol::queue::{FOREIGN_TURN_AFTER, Field, Kind, Sweep};
use crate::lock::protocol::word::{SemaphoreWord, Stage, Word};
use std::hash::{Hash, Hasher};

/// At most so many processes...
pub(crate) const PROCESSES: usize = 5;
/// ...and request records.
pub(crate) const RECORDS: usize = 5;
/// The table's mark on the semaphore.
pub(crate) const MARK: u16 = 0xbeef;

/// What one request's record says besides its word.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    /// The number, from 1, of the process on whose life it depends; 0 = none (a detached hold).
    pub(crate) owner: u8,
    pub(crate) token: u64,
    /// The offer was made a while ago.
    pub(crate) overdue: bool,
    /// The detached hold has expired.
    pub(crate) expired: bool,
    /// Ghost: the semaphore has been released by force since this was granted.
    pub(crate) forced: bool,
}

impl Record {
    const BLANK: Record = Record {
        kind: Kind::Exclusive,
        owner: 0,
        token: 0,
        overdue: false,
        expired: false,
        forced: false,
    };
}

/// What a waiter is told of, where it looks only when it is told something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Told {
    /// It was told something since its last look began, or it is to look again soon.
    pub(crate) due: bool,
    /// The requests whose time it knows: when they expire, or an offer is overdue (one bit per record).
    pub(crate) times: u8,
    /// The visit that its last look led to.
    pub(crate) visited: Option<Sweep>,
    /// It has left the queue, and has to tell the next in line behind this request (or the first of all).
    pub(crate) left: Option<Option<Word>>,
}

/// One process of ours.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// For reading counter-examples. It does not change when processes are sorted, and is not part of the state.
    pub(crate) name: u8,
    pub(crate) alive: bool,
    /// The command that it ran lives on without it.
    pub(crate) child: bool,
    pub(crate) kind: Kind,
    pub(crate) phase: Phase,
    /// The answers of the phase's actions so far.
    pub(crate) log: Vec<u32>,
    /// Requests that it may still make.
    pub(crate) rounds: u8,
    /// Ghost: the hold that it believes it has.
    pub(crate) hold: Option<(usize, Word)>,
    /// Ghost: that hold was ended, or the semaphore was released, by force.
    pub(crate) excused: bool,
    /// Ghost: who was waiting when its latch section began, and has been since (one bit per record).
    pub(crate) waiting: u8,
    /// Ghost: the later requests that were waiting when it began to check its own, and are so still (one bit per record).
    pub(crate) newer: u8,
    /// Ghost: it is in the latch.
    pub(crate) inside: bool,
    /// Ghost: it has read the semaphore in its latch section...
    pub(crate) read: bool,
    /// ...and was the first to see a forced release.
    pub(crate) saw_force: bool,
    /// The death that it was told of when it was granted the lock, and has not repaired; 0 = none.
    pub(crate) told: u8,
    pub(crate) waits: Told,
    /// The processes whose end it is told of (one bit each, by their numbers).
    pub(crate) watches: u8,
}

impl Process {
    /// Without the processes that it watches, whose numbers change when they are sorted.
    fn parts(&self) -> impl Hash + Eq + '_ {
        let own = (self.alive, self.child, self.kind, &self.phase, &self.log, self.rounds);
        let ghost = (
            self.hold,
            self.excused,
            self.waiting,
            self.newer,
            self.inside,
            self.read,
            self.saw_force,
        );
        (own, ghost, self.told, &self.waits)
    }

    /// True if it, or the command that it runs, is alive and believes that it holds the lock.
    pub(crate) fn believes(&self) -> bool {
        self.hold.is_some() && (self.alive || self.child)
    }
}

impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        self.watches == other.watches && self.parts() == other.parts()
    }
}

impl Eq for Process {}

impl Hash for Process {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.parts().hash(hasher);
    }
}

/// Users of the Python module, as far as they matter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Foreign {
    /// One of them believes that it holds the lock.
    pub(crate) holds: bool,
    /// That belief does not count: the lock was released by force, or taken when no process of ours could know.
    pub(crate) excused: bool,
    /// One has seen the value 0 and is about to post.
    pub(crate) posting: bool,
}

/// What may still happen in a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Budget {
    pub(crate) crashes: u8,
    pub(crate) forces: u8,
    pub(crate) takes: u8,
    pub(crate) posts: u8,
    pub(crate) detaches: u8,
    pub(crate) ticks: u8,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// Number of the process inside, from 1.
    pub(crate) latch: u8,
    pub(crate) latch_sleepers: bool,
    pub(crate) semaphore: SemaphoreWord,
    pub(crate) words: [Word; RECORDS],
    pub(crate) records: [Record; RECORDS],
    /// Indexed by [`Field`](crate::lock::protocol::queue::Field).
    pub(crate) fields: [u64; 8],
    pub(crate) processes: [Process; PROCESSES],
    pub(crate) foreign: Foreign,
    pub(crate) left: Budget,
    pub(crate) clock: u64,
    /// Ghost: the semaphore has been released by force, and no latch section has read it since.
    pub(crate) force_unseen: bool,
    /// Ghost: the last token that was granted.
    pub(crate) last_token: u64,
    /// The deaths that were marked so far; each is a number in place of the token. Counted only where that is explored.
    pub(crate) deaths: u8,
    /// Ghost: the last holder that died and whose mark stands for damage that nobody has repaired; 0 = none.
    pub(crate) unrepaired: u8,
    /// The invariants that an action has broken, one bit each.
    pub(crate) broken: u16,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let mut fold = Fold::default();
        let latch = (self.latch, self.latch_sleepers);
        let shared = (latch, self.semaphore, &self.words, &self.records, &self.fields);
        let more = (
            &self.foreign,
            &self.left,
            self.clock,
            self.force_unseen,
            self.last_token,
            self.deaths,
            self.unrepaired,
            self.broken,
            self.processes.each_ref().map(|process| process.watches),
        );
        (shared, &self.processes, more).hash(&mut fold);
        hasher.write_u64(fold.finish());
    }
}

/// A hash by folded multiplication; in an unoptimized build several times as fast as the standard one.
#[derive(Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
            self.write_u64(word);
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        let product = u128::from(self.0 ^ n ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93_a5a5_3c6d);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
}

impl State {
    pub(crate) fn new(kinds: &[Kind], rounds: u8, left: Budget) -> Self {
        let process = |p: usize| Process {
            name: p as u8,
            alive: p < kinds.len(),
            child: false,
            kind: kinds.get(p).copied().unwrap_or(Kind::Exclusive),
            phase: Phase::Idle,
            log: Vec::new(),
            rounds: if p < kinds.len() { rounds } else { 0 },
            hold: None,
            excused: false,
            waiting: 0,
            newer: 0,
            inside: false,
            read: false,
            saw_force: false,
            told: 0,
            waits: Told::default(),
            watches: 0,
        };
        Self {
            latch: 0,
            latch_sleepers: false,
            semaphore: SemaphoreWord::new(1, 0, 0),
            words: [Word::VACANT; RECORDS],
            records: [Record::BLANK; RECORDS],
            fields: [1, 1, 0, 0, 0, 0, 0, 0],
            processes: std::array::from_fn(process),
            foreign: Foreign::default(),
            left,
            clock: 1,
            force_unseen: false,
            last_token: 0,
            deaths: 0,
            unrepaired: 0,
            broken: 0,
        }
    }

    pub(crate) fn break_invariant(&mut self, number: u16) {
        self.broken |= 1 << number;
    }

    /// True if the process with this number (from 1) runs or could run again.
    pub(crate) fn is_alive(&self, number: u8) -> bool {
        self.process(number).is_some_and(|process| process.alive)
    }

    pub(crate) fn process(&self, number: u8) -> Option<&Process> {
        self.processes.get(usize::from(number).checked_sub(1)?)
    }

    /// True if all that keeps this request alive is gone.
    pub(crate) fn is_gone(&self, i: usize) -> bool {
        let owner = self.records[i].owner;
        owner != 0 && self.process(owner).is_none_or(|p| !p.alive && !p.child)
    }

    /// Forgets what no longer matters, and sorts the processes: states that differ only in their names are one state.
    pub(crate) fn canonical(mut self, sort: bool) -> Self {
        if self.latch == 0 {
            for (word, record) in self.words.iter().zip(&mut self.records) {
                if word.stage() == Stage::Vacant {
                    *record = Record::BLANK;
                }
            }
        }
        // Tokens count from the last one.
        self.fields[Field::NextToken as usize] -= self.last_token;
        for record in &mut self.records {
            record.token = record.token.saturating_sub(self.last_token);
        }
        self.last_token = 0;
        if !sort {
            return self;
        }
        let streak = &mut self.fields[Field::Streak as usize];
        *streak = (*streak).min(FOREIGN_TURN_AFTER); // beyond that, no difference
        let mut order: [usize; PROCESSES] = std::array::from_fn(|p| p);
        let keys: [u64; PROCESSES] = std::array::from_fn(|p| {
            let mut hasher = Fold::default();
            self.processes[p].hash(&mut hasher);
            for (i, record) in self.records.iter().enumerate() {
                (record.owner == p as u8 + 1).then_some(i).hash(&mut hasher);
            }
            (self.latch == p as u8 + 1).hash(&mut hasher);
            let watchers = self.processes.iter().filter(|other| other.watches & 1 << p != 0);
            watchers.count().hash(&mut hasher);
            hasher.finish()
        });
        order.sort_by_key(|&p| keys[p]);
        let number = |old: u8| {
            let at = order.iter().position(|&p| p + 1 == usize::from(old));
            at.map_or(0, |p| p as u8 + 1)
        };
        self.latch = number(self.latch);
        for record in &mut self.records {
            record.owner = number(record.owner);
        }
        for process in &mut self.processes {
            let watches = (0..PROCESSES).filter(|&p| process.watches & 1 << order[p] != 0);
            process.watches = watches.map(|p| 1 << p).sum();
        }
        let mut old: [Option<Process>; PROCESSES] = self.processes.map(Some);
        self.processes = order.map(|p| old[p].take().expect("an order names each process once"));
        self
    }
}
