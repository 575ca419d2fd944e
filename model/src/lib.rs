//! The protocol under a model checker: the shipped functions of `src/lock/protocol/queue.rs` and
//! `src/lock/protocol/latch.rs`, run by several processes in every order, with crashes between any two actions, foreign
//! users of the semaphore, forced releases, and timeouts. *Mutants* each have to lead to a violation. See
//! `docs/model.md`.
//!
//! A package of its own, so that it is optimized without the rest: the files of the lock that it explores are compiled
//! here once more, with all that they need.
#![cfg(test)]

mod actor;
mod ghost;
mod latch_model;
mod progress;
mod report;
mod states;
mod told;
mod world;

/// What the lock has in `src/lock/`, as far as it is explored.
#[path = "../../src/lock"]
#[allow(dead_code, unused_imports)]
mod lock {
    pub(crate) mod protocol;
    pub(crate) mod sys {
        pub(crate) mod atomic;
    }
    pub(crate) mod types {
        mod ended;
        pub use ended::Ended;
    }
}

use crate::lock::protocol::queue::{Field, Kind, Sweep};
use crate::lock::protocol::word::{SemaphoreWord, Stage};
use actor::Phase;
use report::{refute, verify};
use stateright::{Model, Property};
use states::{Budget, State};
use world::{Far, advance};

/// What is deliberately wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// The semaphore does not tell our hold from a foreign one.
    NoMark,
    /// A request's word contains its stage only.
    NoTicket,
    /// A waiter is made the holder without being asked.
    NoOffers,
    /// The latch is entered under a beacon that the command inherits.
    InheritedBeacon,
    /// A semaphore that was released by force counts as taken.
    ForceNotChecked,
    /// Grants do not take the semaphore.
    SemaphoreNotTaken,
    /// Others are taken for dead.
    TakenForDead,
    /// The queue is served from its end.
    LastFirst,
    /// The next token is not stored.
    TokenKept,
    /// Nobody does the work of a head that is late.
    NobodyStandsIn,
    /// The semaphore is released with a value one too high.
    RaisesSemaphore,
    /// A release clears the mark of a death.
    ReleaseRepairs,
    /// A holder repairs a death that it was not told of.
    AnyDeathRepaired,
    /// A release after a crash leaves no mark.
    CrashUnmarked,
    /// Of others' requests it is not seen that they came to replace.
    MarkUnseen,
    /// Nobody is told of the end of a process.
    EventLost,
    /// A number is believed that may be another process's by now.
    NumberReused,
    /// What tells a waiter of the ends of others may die.
    WatcherDies,
    /// Whoever leaves the queue wakes nobody.
    LeavesSilently,
    /// Whoever detaches its hold wakes nobody.
    DetachesSilently,
    /// A new head is not woken.
    HeadNotWoken,
    /// A waiter does not look again, before it sleeps, at what it depends on.
    ChangeUnseen,
    /// Whoever is granted the lock, and can share it, wakes nobody.
    NotPassedOn,
}

/// What is explored.
#[derive(Debug, Clone)]
struct Rules {
    kinds: Vec<Kind>,
    capacity: usize,
    /// Requests of each process.
    rounds: u8,
    left: Budget,
    /// There are foreign users of the semaphore.
    foreign: bool,
    /// Foreign users sleep in the semaphore, and there have been enough grants in a row for them to have a turn.
    foreign_turn: bool,
    /// The latch may stay taken past a deadline.
    timeouts: bool,
    /// Requests may leave the queue.
    withdrawals: bool,
    /// A crash may leave the command running.
    commands: bool,
    /// Latch sections are not interrupted, except by their process's crash.
    coarse: bool,
    /// Only the latch is explored, by single actions.
    latch_alone: bool,
    /// Holders that are told of a death may repair what it left.
    marks: bool,
    /// All requests come to replace those before them.
    replaces: bool,
    /// Waiters look only when they are told something. (With `coarse` only.)
    told: bool,
    /// They may look without a reason as well: an event comes twice, or for another process.
    spurious: bool,
    /// They look from time to time as well.
    safety: bool,
    /// Nobody is stopped: offers are accepted in time.
    prompt: bool,
    mutant: Option<Mutant>,
}

/// What can happen. Processes are given by their place in the sorted state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// A process goes on with its phase.
    Step(usize),
    Ask(usize, bool),
    Poll(usize),
    Withdraw(usize, bool),
    Visit(usize, Sweep),
    /// The table was busy when it wanted to change it.
    Busy(usize),
    /// The watcher of this waiter dies.
    WatcherDies(usize),
    Release(usize),
    /// What ran under its hold has crashed.
    Crashed(usize),
    Recover(usize),
    Force(usize),
    ForceOne(usize, usize),
    /// It gives up waiting for the latch.
    GiveUp(usize),
    /// It is killed after this many more changes.
    Crash {
        p: usize,
        changes: u32,
        child: bool,
    },
    ChildEnds(usize),
    /// It detaches its hold.
    Detach(usize),
    /// What ran under its hold has crashed, and it leaves that to its time.
    Leave(usize),
    Ages(usize),
    Expires(usize),
    Tick,
    ForeignTake,
    ForeignRelease,
    /// A forced release reads the semaphore...
    ForeignForce,
    /// ...and posts.
    ForeignPost,
}

impl Rules {
    fn new(kinds: &[Kind], rounds: u8, left: Budget) -> Self {
        Self {
            kinds: kinds.to_vec(),
            capacity: kinds.len(),
            rounds,
            foreign: left.takes + left.posts > 0,
            left,
            foreign_turn: false,
            timeouts: true,
            withdrawals: true,
            commands: false,
            coarse: false,
            marks: false,
            replaces: false,
            told: false,
            spurious: false,
            safety: false,
            prompt: false,
            latch_alone: false,
            mutant: None,
        }
    }

    fn far(&self) -> Far {
        if self.coarse { Far::END } else { Far::STEP }
    }

    fn begin(&self, state: &State, p: usize, phase: Phase, far: Far) -> Option<State> {
        let mut state = state.clone();
        if let (Phase::Poll((_, own)), true) = (&phase, self.replaces) {
            state.checks(p, *own);
        }
        if let Phase::Poll(_) = phase {
            state.processes[p].waits.due = false;
        }
        state.processes[p].phase = phase;
        if self.coarse && !far.give_up {
            return Some(state); // the whole phase comes next, unless it is killed in it
        }
        advance(self, state, p, far).map(|ran| ran.state)
    }

    /// How far a process may get before it is killed in the middle of its next step.
    fn killed(&self, changes: u32) -> Far {
        Far {
            visible: if self.coarse { u32::MAX } else { 0 },
            changes,
            give_up: false,
        }
    }

    /// The changes that a process makes before its next visible action (or, if coarse, in its phase).
    fn changes_ahead(&self, state: &State, p: usize) -> u32 {
        match state.processes[p].phase {
            Phase::Idle | Phase::Queued(_) | Phase::Watch { .. } | Phase::Holding(_) => 0,
            _ => advance(self, state.clone(), p, self.killed(u32::MAX - 1)).map_or(0, |ran| ran.changes),
        }
    }

    fn crash(&self, state: &State, p: usize, changes: u32, child: bool) -> Option<State> {
        let mut after = state.clone();
        if changes > 0 {
            after = advance(self, after, p, self.killed(changes))?.state;
        }
        self.ends(&mut after, p, child);
        after.left.crashes -= 1;
        Some(after)
    }

    /// The phases that process `p` may begin now.
    fn beginnings(&self, state: &State, p: usize, actions: &mut Vec<Action>) {
        let process = &state.processes[p];
        match process.phase {
            Phase::Idle => {
                if process.rounds > 0 && self.latch_alone {
                    actions.push(Action::Ask(p, false));
                } else if process.rounds > 0 {
                    actions.extend([Action::Ask(p, true), Action::Ask(p, false)]);
                }
                if state.left.forces > 0 {
                    actions.push(Action::Force(p));
                    let held = |i: &usize| self.coarse && state.words[*i].stage() == Stage::Held;
                    let held = (0..self.capacity).filter(held);
                    actions.extend(held.map(|i| Action::ForceOne(p, i)));
                }
            }
            Phase::Queued(_) => {
                if !self.told {
                    actions.extend([Action::Poll(p), Action::Visit(p, Sweep::All)]);
                } else if process.waits.due || self.spurious || self.safety {
                    actions.push(Action::Poll(p));
                }
                if self.mutant == Some(Mutant::WatcherDies) && process.watches != 0 {
                    actions.push(Action::WatcherDies(p));
                }
                if self.withdrawals {
                    actions.extend([Action::Withdraw(p, false), Action::Withdraw(p, true)]);
                }
            }
            Phase::Holding(_) => {
                actions.push(Action::Release(p));
                if self.marks {
                    actions.push(Action::Crashed(p));
                }
                if process.told != 0 {
                    actions.push(Action::Recover(p));
                }
                if state.left.detaches > 0 {
                    actions.push(Action::Detach(p));
                    if self.marks {
                        actions.push(Action::Leave(p));
                    }
                }
            }
            _ => actions.push(Action::Step(p)),
        }
        let at_latch = matches!(
            process.phase,
            Phase::Holding(_) | Phase::Visit { .. } | Phase::Release(_)
        );
        if self.timeouts && process.log.is_empty() && at_latch && state.latch != 0 {
            actions.push(Action::GiveUp(p));
        }
        let in_latch = matches!(process.phase, Phase::Visit { .. } | Phase::Release(_));
        if self.told && self.timeouts && in_latch {
            actions.push(Action::Busy(p));
        }
    }
}

impl Model for Rules {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State::new(&self.kinds, self.rounds, self.left.clone());
        if self.foreign_turn {
            state.fields[Field::Streak as usize] = crate::lock::protocol::queue::FOREIGN_TURN_AFTER - 1;
            state.semaphore = SemaphoreWord::new(1, 1, 0);
        }
        vec![state.canonical(!self.latch_alone)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (p, process) in state.processes.iter().enumerate() {
            if process.child && !process.alive {
                actions.push(Action::ChildEnds(p));
            }
            if !process.alive {
                continue;
            }
            if process.log.is_empty() {
                self.beginnings(state, p, actions);
            } else {
                actions.push(Action::Step(p));
            }
            let busy = !matches!(process.phase, Phase::Idle);
            if state.left.crashes > 0 && busy {
                for changes in 0..=self.changes_ahead(state, p) {
                    actions.push(Action::Crash {
                        p,
                        changes,
                        child: false,
                    });
                    if self.commands && (process.hold.is_some() || matches!(process.phase, Phase::Release(_))) {
                        actions.push(Action::Crash {
                            p,
                            changes,
                            child: true,
                        });
                    }
                }
            }
        }
        for (i, (word, record)) in state.words.iter().zip(&state.records).enumerate() {
            if word.stage() == Stage::Offered && !record.overdue && !self.prompt {
                actions.push(Action::Ages(i));
            }
            if word.stage() == Stage::Held && record.owner == 0 && !record.expired {
                actions.push(Action::Expires(i));
            }
        }
        if state.left.ticks > 0 {
            actions.push(Action::Tick);
        }
        if self.foreign {
            if !state.foreign.holds && state.left.takes > 0 && state.semaphore.value() > 0 {
                actions.push(Action::ForeignTake);
            }
            if state.foreign.holds {
                actions.push(Action::ForeignRelease);
            }
            if state.foreign.posting {
                actions.push(Action::ForeignPost);
            } else if state.left.posts > 0 && state.semaphore.value() == 0 {
                actions.push(Action::ForeignForce);
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let queued = |p: usize| match last.processes[p].phase {
            Phase::Queued(mine) => Some(mine),
            _ => None,
        };
        let far = self.far();
        let next = match action {
            Action::Step(p) if self.told => self.go_on(state, p)?,
            Action::Step(p) => advance(self, state, p, far)?.state,
            Action::Busy(p) => self.busy(state, p),
            Action::WatcherDies(p) => {
                state.processes[p].watches = 0;
                state
            }
            Action::Ask(p, queue) => {
                state.processes[p].rounds -= 1;
                let phase = if self.latch_alone {
                    Phase::Pass
                } else {
                    Phase::Ask { queue }
                };
                self.begin(&state, p, phase, far)?
            }
            Action::Poll(p) => self.begin(&state, p, Phase::Poll(queued(p)?), far)?,
            Action::Withdraw(p, cancelled) => {
                let mine = queued(p)?;
                self.begin(&state, p, Phase::Withdraw { mine, cancelled }, far)?
            }
            Action::Visit(p, what) => {
                let back = Some(queued(p)?);
                self.begin(&state, p, Phase::Visit { what, back }, far)?
            }
            Action::Release(p) | Action::GiveUp(p) => {
                let phase = match state.processes[p].phase {
                    Phase::Holding(mine) => Phase::Release(mine),
                    ref other => other.clone(),
                };
                let give_up = matches!(action, Action::GiveUp(_));
                self.begin(&state, p, phase, Far { give_up, ..far })?
            }
            Action::Crashed(p) => {
                let Phase::Holding(mine) = last.processes[p].phase else {
                    return None;
                };
                self.begin(&state, p, Phase::Crashed(mine), far)?
            }
            Action::Leave(p) => {
                let Phase::Holding(mine) = last.processes[p].phase else {
                    return None;
                };
                state.left.detaches -= 1;
                self.begin(&state, p, Phase::Leave(mine), far)?
            }
            Action::Recover(p) => {
                let Phase::Holding(mine) = last.processes[p].phase else {
                    return None;
                };
                let told = last.processes[p].told;
                self.begin(&state, p, Phase::Recover { mine, told }, far)?
            }
            Action::Force(p) => {
                state.left.forces -= 1;
                self.begin(&state, p, Phase::Force, far)?
            }
            Action::ForceOne(p, i) => {
                state.left.forces -= 1;
                self.begin(&state, p, Phase::ForceOne((i, last.words[i])), far)?
            }
            Action::Crash { p, changes, child } => self.crash(&state, p, changes, child)?,
            Action::ChildEnds(p) => {
                self.ends(&mut state, p, false);
                state
            }
            Action::Detach(p) => {
                let (i, word) = state.processes[p].hold.filter(|&(i, word)| state.words[i] == word)?;
                debug_assert_eq!(word.stage(), Stage::Held);
                state.left.detaches -= 1;
                state.records[i].owner = 0;
                state.processes[p].hold = None;
                state.processes[p].excused = false;
                state.processes[p].phase = match self.told && self.mutant != Some(Mutant::DetachesSilently) {
                    true => Phase::Tell { behind: None },
                    false => Phase::Idle,
                };
                state
            }
            Action::Ages(i) => {
                state.records[i].overdue = true;
                state.time_is_over(i);
                state
            }
            Action::Expires(i) => {
                state.records[i].expired = true;
                state.time_is_over(i);
                state
            }
            Action::Tick => {
                state.left.ticks -= 1;
                state.clock += 1;
                state
            }
            Action::ForeignTake => {
                state.left.takes -= 1;
                state.foreign_take();
                state
            }
            Action::ForeignRelease => {
                state.foreign_release();
                state
            }
            Action::ForeignForce => {
                state.left.posts -= 1;
                state.foreign.posting = true;
                state
            }
            Action::ForeignPost => {
                state.foreign.posting = false;
                state.post();
                state
            }
        };
        Some(next.canonical(!self.latch_alone))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("0 one in the latch", |_: &Self, state: &State| state.broken & 1 == 0),
            Property::always("1 exclusion", |rules: &Self, state| progress::exclusive(rules, state)),
            Property::always("2 semaphore taken", |_: &Self, state| progress::semaphore_taken(state)),
            Property::always("3 ends with reason", |_: &Self, state: &State| {
                state.broken & 1 << 3 == 0
            }),
            Property::always("4 alive unless proven dead", |_: &Self, state: &State| {
                state.broken & 1 << 4 == 0
            }),
            Property::always("5 nobody forgotten", |rules: &Self, state| {
                progress::nobody_forgotten(rules, state)
            }),
            Property::always("5 somebody is told", |rules: &Self, state| {
                told::somebody_is_told(rules, state)
            }),
            Property::always("6 order", |_: &Self, state: &State| state.broken & 1 << 6 == 0),
            Property::always("7 tokens grow", |_: &Self, state: &State| state.broken & 1 << 7 == 0),
            Property::always("8 semaphore at most 1", |_: &Self, state: &State| {
                state.broken & 1 << 8 == 0
            }),
            Property::always("10 deaths are told", |_: &Self, state: &State| {
                state.broken & 1 << 10 == 0 && (state.unrepaired == 0 || state.fields[Field::Abandoned as usize] != 0)
            }),
            Property::always("9 the newest replaces", |_: &Self, state: &State| {
                state.broken & 1 << 9 == 0
            }),
            Property::always("11 repair settles", |rules: &Self, state| {
                progress::repair_settles(rules, state)
            }),
        ]
    }
}

const E: Kind = Kind::Exclusive;
const S: Kind = Kind::Shared;
const J: Kind = Kind::Slot;

fn left(crashes: u8, forces: u8, takes: u8, posts: u8) -> Budget {
    Budget {
        crashes,
        forces,
        takes,
        posts,
        ..Budget::default()
    }
}

/// True if the long form is requested.
fn long() -> bool {
    std::env::var_os("RESOURCELOCK_MODEL").is_some_and(|form| form == "long")
}

/// Only what is needed to acquire, hold and release.
fn plain(rules: Rules) -> Rules {
    Rules {
        timeouts: false,
        withdrawals: false,
        ..rules
    }
}

#[test]
fn latch_alone() {
    let rules = |processes, rounds, crashes| Rules {
        latch_alone: true,
        ..Rules::new(&vec![E; processes], rounds, left(crashes, 0, 0, 0))
    };
    verify("the latch alone", rules(3, 1, 2));
    verify("the latch alone, again and again", rules(2, 2, 1));
    refute(
        "the living are taken for dead",
        rules(2, 1, 1),
        Mutant::TakenForDead,
        "0 one in the latch",
    );
}

#[test]
fn three_of_ours() {
    verify(
        "three processes, one request each",
        Rules::new(&[E; 3], 1, left(2, 0, 0, 0)),
    );
    verify(
        "two processes, two requests each",
        Rules::new(&[E; 2], 2, left(1, 0, 0, 0)),
    );
    verify(
        "three, a forced release",
        plain(Rules::new(&[E; 3], 1, left(2, 1, 0, 0))),
    );
    let full = Rules {
        capacity: 2,
        ..Rules::new(&[E; 3], 1, left(2, 0, 0, 0))
    };
    verify("three processes, two records", full);
    if long() {
        verify(
            "three, a forced release, timeouts",
            Rules::new(&[E; 3], 1, left(2, 1, 0, 0)),
        );
        verify(
            "three processes, two requests each",
            plain(Rules::new(&[E; 3], 2, left(2, 0, 0, 0))),
        );
    }
}

#[test]
fn three_of_ours_and_foreign_ones() {
    verify(
        "three and a foreign holder",
        plain(Rules::new(&[E; 3], 1, left(1, 0, 1, 0))),
    );
    verify(
        "three and a foreign forced release",
        plain(Rules::new(&[E; 3], 1, left(1, 0, 0, 1))),
    );
    verify("two and both", Rules::new(&[E; 2], 1, left(1, 0, 1, 1)));
    if long() {
        verify("three and both", plain(Rules::new(&[E; 3], 1, left(1, 0, 1, 1))));
        verify("two and both, forced by all", Rules::new(&[E; 2], 1, left(2, 1, 1, 1)));
        verify("two and more of both", plain(Rules::new(&[E; 2], 1, left(1, 1, 2, 2))));
        verify(
            "three and a foreign holder, timeouts",
            Rules::new(&[E; 3], 1, left(2, 0, 1, 0)),
        );
        verify(
            "three and a foreign forced release, timeouts",
            Rules::new(&[E; 3], 1, left(2, 0, 0, 1)),
        );
    }
}

#[test]
fn a_turn_for_foreign_waiters() {
    let rules = |rounds| Rules {
        foreign_turn: true,
        ..plain(Rules::new(
            &[E; 2],
            rounds,
            Budget {
                ticks: 2,
                ..left(1, 0, 1, 0)
            },
        ))
    };
    verify("a turn for foreign waiters", rules(1));
    if long() {
        verify("a turn for foreign waiters, two requests each", rules(2));
    }
}

#[test]
fn kinds() {
    let rules = |kinds: &[Kind], crashes, forces, foreign| Rules {
        coarse: true,
        commands: true,
        ..Rules::new(
            kinds,
            1,
            Budget {
                detaches: 1,
                ..left(crashes, forces, foreign, foreign)
            },
        )
    };
    let verify = |form: &str, kinds: &[Kind], rules| verify(&format!("whole sections, {kinds:?}{form}"), rules);
    for kinds in [[E, S, S], [J, J, J], [E, S, J]] {
        verify("", &kinds, rules(&kinds, 1, 1, 0));
        if long() {
            verify(", two crashes", &kinds, rules(&kinds, 2, 1, 0));
            verify(", foreign ones", &kinds, plain(rules(&kinds, 1, 1, 1)));
        }
    }
    for kinds in [[E, E, E, E], [E, S, S, E], [J, J, J, E]] {
        verify("", &kinds, plain(rules(&kinds, 1, 0, 0)));
        if long() {
            verify(", two crashes", &kinds, plain(rules(&kinds, 2, 0, 0)));
            verify(", a forced release", &kinds, plain(rules(&kinds, 1, 1, 0)));
        }
    }
}

/// Of a holder that died, or released after a crash, is told until one of those who were told has repaired what it left.
#[test]
fn marks_of_deaths() {
    let rules = |kinds: &[Kind], crashes| Rules {
        coarse: true,
        marks: true,
        ..plain(Rules::new(kinds, 1, left(crashes, 0, 0, 0)))
    };
    verify("marks of deaths", rules(&[E, S, S], 2));
    let leaves = |kinds: &[Kind], crashes| Rules {
        left: Budget {
            detaches: 1,
            ..left(crashes, 0, 0, 0)
        },
        ..rules(kinds, crashes)
    };
    verify(
        "marks of deaths, and of what is left to its time",
        leaves(&[E, S, S], 1),
    );
    if long() {
        verify("marks of deaths, four", rules(&[S, S, S, E], 2));
    }
    let told = "10 deaths are told";
    refute("a crash unmarked", rules(&[E, E], 0), Mutant::CrashUnmarked, told);
    refute("a release repairs", rules(&[E, E, E], 1), Mutant::ReleaseRepairs, told);
    refute(
        "any death repaired",
        rules(&[S, S, S, E], 2),
        Mutant::AnyDeathRepaired,
        told,
    );
}

/// Of requests that came to replace others, the newest alone accepts an offer.
#[test]
fn the_newest_replaces() {
    let rules = |processes, crashes| Rules {
        replaces: true,
        ..plain(Rules::new(&vec![E; processes], 1, left(crashes, 0, 0, 0)))
    };
    verify("requests that replace others", rules(3, 1));
    let four = Rules {
        coarse: true,
        ..rules(4, 1)
    };
    verify("requests that replace others, four", four);
    refute(
        "marks of newer ones unseen",
        rules(3, 0),
        Mutant::MarkUnseen,
        "9 the newest replaces",
    );
}

#[test]
fn mutants() {
    let two = |rounds, left| Rules::new(&[E; 2], rounds, left);
    let alone = left(0, 0, 0, 0);
    let exclusion = "1 exclusion";
    let forgotten = "5 nobody forgotten";
    refute("no mark", plain(two(1, left(0, 0, 1, 0))), Mutant::NoMark, exclusion);
    refute("no ticket", two(2, left(0, 1, 0, 0)), Mutant::NoTicket, exclusion);
    refute("no offers", plain(two(1, alone.clone())), Mutant::NoOffers, forgotten);
    let run = Rules {
        commands: true,
        ..plain(two(1, left(1, 0, 0, 0)))
    };
    refute("inherited beacon", run, Mutant::InheritedBeacon, forgotten);
    let forced = plain(two(1, left(0, 0, 1, 1)));
    refute("force not checked", forced, Mutant::ForceNotChecked, exclusion);
    // One for each of the other invariants, to show that none of them is an empty promise.
    let one = plain(Rules::new(&[E], 1, alone.clone()));
    refute(
        "semaphore not taken",
        one.clone(),
        Mutant::SemaphoreNotTaken,
        "2 semaphore taken",
    );
    let two = plain(two(1, alone.clone()));
    refute(
        "taken for dead",
        two.clone(),
        Mutant::TakenForDead,
        "3 ends with reason",
    );
    let four = Rules {
        coarse: true,
        ..plain(Rules::new(&[E; 4], 1, left(1, 0, 0, 0)))
    };
    refute("nobody stands in", four, Mutant::NobodyStandsIn, forgotten);
    let three = plain(Rules::new(&[E; 3], 1, alone));
    let alive = "4 alive unless proven dead";
    refute("waiters taken for dead", three.clone(), Mutant::TakenForDead, alive);
    refute("last first", three, Mutant::LastFirst, "6 order");
    refute("token kept", two, Mutant::TokenKept, "7 tokens grow");
    refute(
        "raises semaphore",
        one,
        Mutant::RaisesSemaphore,
        "8 semaphore at most 1",
    );
}

/// Waiters look only when they are told something. Deaths at any time, but nobody is stopped, and the table is never busy.
fn told(kinds: &[Kind], crashes: u8) -> Rules {
    Rules {
        coarse: true,
        told: true,
        commands: true,
        prompt: true,
        timeouts: false,
        ..Rules::new(kinds, 1, left(crashes, 0, 0, 0))
    }
}

/// The same without deaths, but some are stopped, and the table is busy.
fn told_slowly(kinds: &[Kind]) -> Rules {
    Rules {
        prompt: false,
        timeouts: true,
        ..told(kinds, 0)
    }
}

/// One hold may be detached.
fn detached(mut rules: Rules) -> Rules {
    rules.left.detaches = 1;
    rules
}

fn foreign(mut rules: Rules) -> Rules {
    rules.left.takes = 1;
    Rules { foreign: true, ..rules }
}

#[test]
fn waiters_that_are_told() {
    let staying = |rules| Rules {
        withdrawals: false,
        ..rules
    };
    verify("told of two deaths, three", told(&[E; 3], 2));
    verify("told of two deaths, four", staying(told(&[E; 4], 2)));
    verify("told of a detached hold", detached(told(&[E; 3], 1)));
    verify("told, shared", detached(told(&[E, S, S], 1)));
    verify("told, slots", detached(told(&[J; 3], 2)));
    verify("told of a foreign holder", foreign(told(&[E; 2], 1)));
    verify("told slowly", detached(told_slowly(&[E; 3])));
    verify("told slowly, shared", detached(told_slowly(&[E, S, S])));
    verify(
        "told slowly, two requests each",
        Rules {
            rounds: 2,
            ..told_slowly(&[E; 2])
        },
    );
    let mut forced = told_slowly(&[E; 3]);
    forced.left.forces = 1;
    verify("told slowly of a forced release", forced);
    if long() {
        verify("told of two deaths, four, withdrawals", told(&[E; 4], 2));
        for kinds in [[E, S, S, E], [S, S, E, S], [J, J, J, E]] {
            verify(&format!("told, {kinds:?}"), staying(told(&kinds, 1)));
            verify(&format!("told slowly, {kinds:?}"), staying(told_slowly(&kinds)));
        }
        verify("told slowly, four", told_slowly(&[E; 4]));
        verify("told of a foreign holder, three", foreign(told(&[E; 3], 1)));
    }
}

/// What is wrong with what waiters are told is found if they do not look as well, and else harmless.
#[test]
fn mutants_of_what_is_told() {
    let wrong = [
        ("an event lost", Mutant::EventLost, told(&[E; 2], 1)),
        ("a number reused", Mutant::NumberReused, told(&[E; 2], 1)),
        ("a watcher that dies", Mutant::WatcherDies, told(&[E; 2], 1)),
        ("leaves silently", Mutant::LeavesSilently, told_slowly(&[E; 3])),
        (
            "detaches silently",
            Mutant::DetachesSilently,
            detached(told(&[E; 2], 0)),
        ),
        ("a head not woken", Mutant::HeadNotWoken, told_slowly(&[E; 3])),
        ("a change unseen", Mutant::ChangeUnseen, told(&[E; 3], 1)),
        ("not passed on", Mutant::NotPassedOn, told(&[E, S, S], 1)),
    ];
    for (name, mutant, rules) in wrong {
        refute(name, rules.clone(), mutant, "5 somebody is told");
        let looks = Rules {
            safety: true,
            mutant: Some(mutant),
            ..rules
        };
        verify(&format!("{name}, but with looks"), looks);
    }
    // An event that comes twice, or without a reason.
    let twice = Rules {
        spurious: true,
        ..told(&[E; 3], 1)
    };
    verify("told twice", twice);
}
