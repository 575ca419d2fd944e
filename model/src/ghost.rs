//! What others than the protocol do to the state (foreign users of the semaphore, SIGKILL), and the ghost state that
//! goes with the protocol's changes: is each of them allowed?

use crate::actor::Phase;
use crate::lock::protocol::queue::Field;
use crate::lock::protocol::word::{SemaphoreWord, Stage, Word};
use crate::states::{Foreign, MARK, RECORDS, State, Told};

impl State {
    /// Somebody else has raised the semaphore from 0 to 1 (or higher).
    fn opened(&mut self) {
        self.foreign.excused |= self.foreign.holds;
        if self.semaphore.mark() != MARK {
            return;
        }
        self.force_unseen = true;
        for (word, record) in self.words.iter().zip(&mut self.records) {
            record.forced |= word.is_active();
        }
        for process in &mut self.processes {
            process.excused |= process.hold.is_some();
        }
    }

    /// A foreign process takes the free semaphore, as sem_wait(3) does.
    pub(crate) fn foreign_take(&mut self) {
        let value = self.semaphore.value();
        self.foreign.holds = true;
        // (1, ours) → (0, ours) before any process of ours could check cannot be told from a hold of ours, and a value
        // above 1 lets several in: both are in the nature of the Python module's forced release.
        self.foreign.excused = self.force_unseen || value > 1;
        self.semaphore = self.semaphore.with(value - 1, self.semaphore.mark());
        self.force_unseen &= value > 1;
    }

    /// The foreign holder releases it.
    pub(crate) fn foreign_release(&mut self) {
        self.foreign = Foreign {
            posting: self.foreign.posting,
            ..Foreign::default()
        };
        self.post();
    }

    /// sem_post(3).
    pub(crate) fn post(&mut self) {
        let closed = self.semaphore.value() == 0;
        self.semaphore = self.semaphore.with(self.semaphore.value() + 1, self.semaphore.mark());
        if closed {
            self.opened();
        }
    }

    /// SIGKILL. `child`: the command that it runs lives on.
    pub(crate) fn crash(&mut self, p: usize, child: bool) {
        let process = &mut self.processes[p];
        if process.saw_force && self.latch == p as u8 + 1 && self.semaphore.mark() == MARK {
            // No living process has seen it.
            self.force_unseen |= self.semaphore.value() > 0;
            self.foreign.excused |= self.foreign.holds;
        }
        process.alive = false;
        process.child = child;
        process.phase = Phase::Idle;
        process.log.clear();
        process.rounds = 0;
        process.waiting = 0;
        process.newer = 0;
        process.inside = false;
        process.read = false;
        process.saw_force = false;
        process.waits = Told::default();
        process.watches = 0;
        if !child {
            process.hold = None;
            process.excused = false;
        }
    }

    /// Process `p` is about to check its request, `own`.
    pub(crate) fn checks(&mut self, p: usize, own: Word) {
        let is_newer = |k: &usize| {
            let other = self.words[*k];
            matches!(other.stage(), Stage::Waiting | Stage::Stalled) && own.is_before(other)
        };
        self.processes[p].newer = (0..RECORDS).filter(is_newer).map(|k| 1 << k).sum();
    }

    /// Process `p` has accepted an offer. Did none of those wait that came to replace it, and were there before?
    pub(crate) fn accepted(&mut self, p: usize) {
        let newer = self.processes[p].newer;
        if (0..RECORDS).any(|k| newer & 1 << k != 0 && !self.is_gone(k)) {
            self.break_invariant(9);
        }
    }

    /// Process `me` reads the semaphore. The first time in a latch section, what it reads has been seen.
    pub(crate) fn semaphore_read(&mut self, me: usize) {
        let process = &mut self.processes[me];
        if !process.read {
            process.read = true;
            process.saw_force = self.force_unseen;
            self.force_unseen = false;
        }
    }

    /// Process `me` changes the semaphore.
    pub(crate) fn semaphore_changed(&mut self, me: usize, to: SemaphoreWord) {
        if to.value() > 1 {
            self.break_invariant(8);
        }
        if self.semaphore.value() == 0 && to.value() > 0 && self.processes[me].phase == Phase::Force {
            self.foreign.excused |= self.foreign.holds;
        }
        if to.mark() != MARK {
            self.force_unseen = false;
        }
        self.semaphore = to;
    }

    /// Process `me` has changed a request's word.
    pub(crate) fn word_changed(&mut self, me: usize, i: usize, from: Word, to: Word) {
        let owner = self.records[i].owner;
        let own = usize::from(owner) == me + 1;
        let gone = self.is_gone(i);
        for process in &mut self.processes {
            process.waiting &= !(1 << i);
            process.newer &= !(1 << i);
            process.waits.times &= !(1 << i);
        }
        match (from.stage(), to.stage()) {
            (Stage::Vacant, Stage::Waiting) => {}
            (Stage::Vacant | Stage::Waiting, Stage::Held) if own => {
                self.granted(me, i, to);
                let process = &mut self.processes[me];
                process.hold = Some((i, to));
                process.excused = self.force_unseen;
            }
            (Stage::Waiting, Stage::Offered | Stage::Held) => self.granted(me, i, to),
            (Stage::Offered, Stage::Held) if own => {
                let process = &mut self.processes[me];
                process.hold = Some((i, to));
                process.excused = self.records[i].forced;
            }
            (Stage::Held, Stage::Vacant) if own => {
                if let Phase::Crashed(_) = self.processes[me].phase {
                    // Without a mark nobody can be told; no death has this number.
                    let marked = self.fields[Field::Abandoned as usize] as u8;
                    self.unrepaired = if marked == 0 { u8::MAX } else { marked };
                }
                let process = &mut self.processes[me];
                process.hold = None;
                process.excused = false;
            }
            (Stage::Held, Stage::Vacant) => {
                let record = &self.records[i];
                let phase = &self.processes[me].phase;
                let force = record.forced || *phase == Phase::Force || *phase == Phase::ForceOne((i, from));
                if !gone && !record.expired && !force {
                    self.break_invariant(if owner == 0 { 4 } else { 3 });
                }
                if gone && !force {
                    self.unrepaired = self.fields[Field::Abandoned as usize] as u8;
                }
                for process in &mut self.processes {
                    process.excused |= force && process.hold == Some((i, from));
                }
            }
            (Stage::Waiting | Stage::Stalled | Stage::Offered, Stage::Vacant) if own || gone => {}
            (Stage::Stalled, Stage::Waiting) if own => {}
            (Stage::Offered, Stage::Stalled) if self.records[i].overdue => {}
            (Stage::Offered, Stage::Waiting) if self.records[i].forced => {}
            _ => self.break_invariant(4),
        }
    }

    /// A holder that was told of a death clears the mark: it has repaired what that one left.
    pub(crate) fn recovered(&mut self, told: u8) {
        if told == self.unrepaired {
            self.unrepaired = 0;
        }
    }

    /// A request is granted: in turn, and under a new token?
    fn granted(&mut self, me: usize, i: usize, to: Word) {
        let waiting = self.processes[me].waiting;
        let overtaken = (0..RECORDS).any(|k| {
            let other = self.words[k];
            waiting & (1 << k) != 0 && other.stage() == Stage::Waiting && other.is_before(to)
        });
        if overtaken {
            self.break_invariant(6);
        }
        let token = self.records[i].token;
        if token <= self.last_token {
            self.break_invariant(7);
        }
        self.last_token = token;
        self.records[i].forced = self.force_unseen;
    }
}
