//! The protocol under a model checker: the shipped functions of [`queue`](crate::queue) and [`latch`](crate::latch),
//! run by several processes in every order, with crashes between any two actions, foreign users of the flag, forced
//! releases and timeouts; and *mutants*, each of which must lead to a violation. See `docs/model.md`.

#[path = "model/process.rs"]
mod process;
#[path = "model/progress.rs"]
mod progress;
#[path = "model/state.rs"]
mod state;
#[path = "model/world.rs"]
mod world;

use crate::queue::{Field, Kind, Sweep};
use crate::word::{FlagWord, Stage};
use process::Phase;
use state::{Budget, State};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::io::Write;
use world::{Far, advance};

/// What is deliberately wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// The flag does not tell our hold from a foreign one.
    NoMark,
    /// A request's word says its state only.
    NoTicket,
    /// A waiter is made the holder without being asked.
    NoOffers,
    /// The latch is entered under a beacon that the command inherits.
    InheritedBeacon,
    /// A released-by-force flag counts as taken.
    ForceNotLookedAt,
    /// Grants do not take the flag.
    FlagNotTaken,
    /// Others are taken for dead.
    TakenForDead,
    /// The queue is served from its end.
    LastFirst,
    /// The next token is not stored.
    TokenKept,
    /// The flag is given back with one too many.
    RaisesFlag,
}

/// What is explored.
#[derive(Debug, Clone)]
struct Rules {
    kinds: Vec<Kind>,
    capacity: usize,
    /// Requests of each process.
    rounds: u8,
    left: Budget,
    /// There are users of the flag besides ours.
    foreign: bool,
    /// Foreign users sleep for the flag, and enough grants have been made in a row for them to have a turn.
    foreign_turn: bool,
    /// The latch may stay taken past a deadline.
    timeouts: bool,
    /// Requests may leave the queue.
    withdrawals: bool,
    /// A crash may leave the command that was run.
    commands: bool,
    /// Latch sections are not interrupted, except by their process's crash.
    coarse: bool,
    mutant: Option<Mutant>,
}

/// What can happen. Processes are named by their place in the (sorted) state, and by their lasting name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Goes on with its phase.
    Step(usize),
    Ask(usize, bool),
    Poll(usize),
    Withdraw(usize, bool),
    Visit(usize, Sweep),
    Release(usize),
    Force(usize),
    /// Gives up waiting for the latch.
    GiveUp(usize),
    /// Killed after so many more changes.
    Crash {
        p: usize,
        changes: u32,
        child: bool,
    },
    ChildEnds(usize),
    /// Leaves its hold to itself.
    Detach(usize),
    Ages(usize),
    Expires(usize),
    Tick,
    ForeignTake,
    ForeignRelease,
    /// A forced release looks at the flag...
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
            mutant: None,
        }
    }

    fn far(&self) -> Far {
        if self.coarse { Far::END } else { Far::STEP }
    }

    fn begin(&self, state: &State, p: usize, phase: Phase, far: Far) -> Option<State> {
        let mut state = state.clone();
        state.processes[p].phase = phase;
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
            Phase::Idle | Phase::Queued(_) | Phase::Holding(_) => 0,
            _ => advance(self, state.clone(), p, self.killed(u32::MAX - 1)).map_or(0, |ran| ran.changes),
        }
    }

    fn crash(&self, state: &State, p: usize, changes: u32, child: bool) -> Option<State> {
        let mut after = state.clone();
        if changes > 0 {
            after = advance(self, after, p, self.killed(changes))?.state;
        }
        after.crash(p, child);
        after.left.crashes -= 1;
        Some(after)
    }

    /// The phases that process `p` may begin now.
    fn beginnings(&self, state: &State, p: usize, actions: &mut Vec<Action>) {
        let process = &state.processes[p];
        match process.phase {
            Phase::Idle => {
                if process.rounds > 0 {
                    actions.extend([Action::Ask(p, true), Action::Ask(p, false)]);
                }
                if state.left.forces > 0 {
                    actions.push(Action::Force(p));
                }
            }
            Phase::Queued(_) => {
                actions.extend([Action::Poll(p), Action::Visit(p, Sweep::All)]);
                if self.withdrawals {
                    actions.extend([Action::Withdraw(p, false), Action::Withdraw(p, true)]);
                }
            }
            Phase::Holding(_) => {
                actions.push(Action::Release(p));
                if state.left.detaches > 0 {
                    actions.push(Action::Detach(p));
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
    }
}

impl Model for Rules {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State::new(&self.kinds, self.rounds, self.left.clone());
        if self.foreign_turn {
            state.fields[Field::Streak as usize] = crate::queue::FOREIGN_TURN_AFTER - 1;
            state.flag = FlagWord::new(1, 1, 0);
        }
        vec![state.canonical()]
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
                    if self.commands && process.hold.is_some() {
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
            if word.stage() == Stage::Offered && !record.overdue {
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
            if !state.foreign.holds && state.left.takes > 0 && state.flag.value() > 0 {
                actions.push(Action::ForeignTake);
            }
            if state.foreign.holds {
                actions.push(Action::ForeignRelease);
            }
            if state.foreign.posting {
                actions.push(Action::ForeignPost);
            } else if state.left.posts > 0 && state.flag.value() == 0 {
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
            Action::Step(p) => advance(self, state, p, far)?.state,
            Action::Ask(p, queue) => {
                state.processes[p].rounds -= 1;
                self.begin(&state, p, Phase::Ask { queue }, far)?
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
            Action::Force(p) => {
                state.left.forces -= 1;
                self.begin(&state, p, Phase::Force, far)?
            }
            Action::Crash { p, changes, child } => self.crash(&state, p, changes, child)?,
            Action::ChildEnds(p) => {
                state.crash(p, false);
                state
            }
            Action::Detach(p) => {
                let (i, word) = state.processes[p].hold.filter(|&(i, word)| state.words[i] == word)?;
                debug_assert_eq!(word.stage(), Stage::Held);
                state.left.detaches -= 1;
                state.records[i].owner = 0;
                state.processes[p].hold = None;
                state.processes[p].excused = false;
                state.processes[p].phase = Phase::Idle;
                state
            }
            Action::Ages(i) => {
                state.records[i].overdue = true;
                state
            }
            Action::Expires(i) => {
                state.records[i].expired = true;
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
        Some(next.canonical())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("1 exclusion", |rules: &Self, state| progress::exclusive(rules, state)),
            Property::always("2 flag taken", |_: &Self, state| progress::flag_taken(state)),
            Property::always("3 ends with reason", |_: &Self, state: &State| {
                state.broken & 1 << 3 == 0
            }),
            Property::always("4 alive unless proven dead", |_: &Self, state: &State| {
                state.broken & 1 << 4 == 0
            }),
            Property::always("5 nobody forgotten", |rules: &Self, state| {
                progress::nobody_forgotten(rules, state)
            }),
            Property::always("6 order", |_: &Self, state: &State| state.broken & 1 << 6 == 0),
            Property::always("7 tokens grow", |_: &Self, state: &State| state.broken & 1 << 7 == 0),
            Property::always("8 flag at most 1", |_: &Self, state: &State| state.broken & 1 << 8 == 0),
        ]
    }
}

/// Past the test harness, which keeps what tests print.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Explores everything; no property may be violated.
fn verify(name: &str, rules: Rules) {
    let start = std::time::Instant::now();
    let checker = rules
        .clone()
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::Any)
        .timeout(std::time::Duration::from_secs(300))
        .spawn_dfs()
        .join();
    say(&format!(
        "model {name}: {} states, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64()
    ));
    if checker.discoveries().is_empty() {
        return;
    }
    // Again, for a short trace.
    let checker = rules
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::Any)
        .spawn_bfs()
        .join();
    for (property, path) in checker.discoveries() {
        say(&trace(property, path.into_vec()));
    }
    panic!("model {name}: a property is violated");
}

/// The mutant must violate `property`.
fn refute(name: &str, rules: Rules, mutant: Mutant, property: &'static str) {
    let rules = Rules {
        mutant: Some(mutant),
        ..rules
    };
    let checker = rules.checker().threads(2);
    let checker = checker
        .finish_when(HasDiscoveries::AnyOf([property].into()))
        .spawn_bfs()
        .join();
    let states = checker.unique_state_count();
    let path = checker.discovery(property).map(|path| path.into_vec());
    let Some(path) = path else {
        panic!("mutant {name}: {property} is not violated in {states} states");
    };
    say(&format!(
        "mutant {name}: violates {property} after {} actions, {states} states",
        path.len() - 1
    ));
    if std::env::var_os("RESOURCELOCK_MODEL_TRACE").is_some() {
        say(&trace(property, path));
    }
}

/// One line an action: what stands after it.
fn trace(property: &str, path: Vec<(State, Option<Action>)>) -> String {
    let name = |state: &State, number: u8| match state.process(number) {
        Some(process) => char::from(b'A' + process.name),
        None => '-',
    };
    let mut text = format!("violates {property}:");
    let mut did = "start".to_owned();
    for (state, action) in path {
        let mut words = String::new();
        for (word, record) in state.words.iter().zip(&state.records) {
            if word.stage() != Stage::Vacant {
                words += &format!(" {}:{word:?}", name(&state, record.owner));
            }
        }
        let mut ghost = String::new();
        for process in &state.processes {
            if process.believes() {
                let excused = if process.excused { " (excused)" } else { "" };
                ghost += &format!(" {} has it{excused}", char::from(b'A' + process.name));
            }
        }
        if state.foreign.holds {
            let excused = if state.foreign.excused { " (excused)" } else { "" };
            ghost += &format!(" foreign has it{excused}");
        }
        let latch = name(&state, state.latch);
        text += &format!("\n  {did:<24} latch {latch} flag {:?}{words} |{ghost}", state.flag);
        let of = |p: usize| char::from(b'A' + state.processes[p].name);
        did = match action {
            None => break,
            Some(Action::Step(p)) => format!("{} goes on", of(p)),
            Some(Action::Ask(p, queue)) => format!("{} asks{}", of(p), if queue { "" } else { ", no queue" }),
            Some(Action::Poll(p)) => format!("{} polls", of(p)),
            Some(Action::Withdraw(p, cancelled)) => {
                format!("{} {}", of(p), if cancelled { "is cancelled" } else { "withdraws" })
            }
            Some(Action::Visit(p, what)) => format!("{} visits ({what:?})", of(p)),
            Some(Action::Release(p)) => format!("{} releases", of(p)),
            Some(Action::Force(p)) => format!("{} forces", of(p)),
            Some(Action::GiveUp(p)) => format!("{} gives up the latch", of(p)),
            Some(Action::Crash { p, changes, child }) => {
                let child = if child { ", not its command" } else { "" };
                format!("{} dies {changes} on{child}", of(p))
            }
            Some(Action::ChildEnds(p)) => format!("{}'s command ends", of(p)),
            Some(Action::Detach(p)) => format!("{} detaches", of(p)),
            Some(other) => format!("{other:?}"),
        };
    }
    text
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

#[test]
fn ours_alone() {
    verify("ours", Rules::new(&[E; 3], 1, left(2, 0, 0, 0)));
}

#[test]
fn kinds() {
    for kinds in [[E, S, S], [J, J, J], [E, S, J]] {
        let rules = Rules {
            coarse: true,
            commands: true,
            ..Rules::new(&kinds, 1, left(1, 1, 0, 0))
        };
        verify("kinds", rules);
    }
}

#[test]
fn mutants() {
    let rules = |left: Budget| Rules::new(&[E; 2], 2, left);
    refute("no mark", rules(left(1, 0, 1, 1)), Mutant::NoMark, "1 exclusion");
    refute("no ticket", rules(left(1, 1, 1, 1)), Mutant::NoTicket, "1 exclusion");
    refute(
        "no offers",
        rules(left(1, 0, 1, 1)),
        Mutant::NoOffers,
        "5 nobody forgotten",
    );
    refute(
        "inherited beacon",
        Rules {
            commands: true,
            ..rules(left(1, 0, 1, 1))
        },
        Mutant::InheritedBeacon,
        "5 nobody forgotten",
    );
    refute(
        "force not looked at",
        rules(left(1, 0, 1, 1)),
        Mutant::ForceNotLookedAt,
        "1 exclusion",
    );
    refute(
        "flag not taken",
        rules(left(1, 0, 1, 1)),
        Mutant::FlagNotTaken,
        "2 flag taken",
    );
    refute(
        "taken for dead",
        rules(left(1, 0, 1, 1)),
        Mutant::TakenForDead,
        "3 ends with reason",
    );
    refute(
        "taken for dead",
        rules(left(1, 0, 1, 1)),
        Mutant::TakenForDead,
        "4 alive unless proven dead",
    );
    refute(
        "last first",
        Rules::new(&[E; 3], 1, left(1, 0, 0, 0)),
        Mutant::LastFirst,
        "6 order",
    );
    refute(
        "token kept",
        rules(left(1, 0, 1, 1)),
        Mutant::TokenKept,
        "7 tokens grow",
    );
    refute(
        "raises flag",
        rules(left(1, 0, 1, 1)),
        Mutant::RaisesFlag,
        "8 flag at most 1",
    );
}
