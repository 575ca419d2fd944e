//! Holders that wait for each other: A waits for B's holder, B for A's.

use crate::cli::shell_word;
use crate::output;
use resourcelock::system::Stat;
use resourcelock::{Holder, LockName, State};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Why that is a problem.
pub const WHY: &str = "none of them can continue";

/// Locks whose holders wait for each other, around in a circle.
pub struct Cycle {
    /// Who has which lock, and waits for which.
    pub what: String,
    /// What to do about it.
    pub mend: String,
    /// For how long all of them have waited.
    pub stands: Duration,
}

/// How many locks one process is taken to hold. More are left out: what a table says of processes is what its owner
/// claims, and must not make this slow.
const MOST_HOLDS: usize = 64;
/// How many processes are followed from a waiter to its ancestors.
const MOST_ANCESTORS: usize = 64;

/// Of the locks that hang together, the shortest cycle.
pub fn of_all(states: &[State]) -> Vec<Cycle> {
    let waits = Waits::new(states, None);
    let cycles = components(&waits.next).into_iter().filter_map(|component| {
        let within: HashSet<usize> = component.iter().copied().collect();
        component
            .iter()
            .find_map(|start| cycle_through(*start, &waits.next, &within))
    });
    cycles.map(|cycle| waits.told(&cycle)).collect()
}

/// The shortest cycle in which process `pid` waits for `lock`.
pub fn of_request(states: &[State], lock: &LockName, pid: u32) -> Option<Cycle> {
    let wanted = states.iter().position(|state| state.name == *lock)?;
    let waits = Waits::new(states, Some((wanted, pid)));
    let all = (0..states.len()).collect();
    Some(waits.told(&cycle_through(wanted, &waits.next, &all)?))
}

/// Which lock's holders wait for which lock.
struct Waits<'a> {
    states: &'a [State],
    /// For each lock: those that its holders wait for.
    next: Vec<Vec<usize>>,
    /// A holder of the first lock who waits for the second, of several the one that has done so longest, and for how long.
    who: HashMap<(usize, usize), (&'a Holder, Duration)>,
}

impl<'a> Waits<'a> {
    /// `of`: for this lock, only this process counts as waiting.
    fn new(states: &'a [State], of: Option<(usize, u32)>) -> Self {
        let holds = Holds::new(states);
        let mut parents = Parents::default();
        let mut waits = Self {
            states,
            next: vec![Vec::new(); states.len()],
            who: HashMap::new(),
        };
        for (wanted, state) in states.iter().enumerate() {
            for waiter in state
                .waiters
                .iter()
                .filter(|waiter| waiter.requester.same_pid_namespace)
            {
                let pid = waiter.requester.pid;
                if of.is_some_and(|(lock, only)| lock == wanted && pid != Some(only)) {
                    continue;
                }
                for pid in parents.line(pid) {
                    for (held, holder) in holds.of(pid) {
                        let both = waiter.waited.min(holder.held).unwrap_or_default();
                        match waits.who.entry((*held, wanted)) {
                            Entry::Vacant(entry) => {
                                entry.insert((*holder, both));
                                waits.next[*held].push(wanted);
                            }
                            Entry::Occupied(mut entry) if entry.get().1 < both => {
                                entry.insert((*holder, both));
                            }
                            Entry::Occupied(_) => {}
                        }
                    }
                }
            }
        }
        waits
    }

    fn told(&self, cycle: &[usize]) -> Cycle {
        let name = |at: usize| &self.states[at].name;
        let next = cycle.iter().cycle().skip(1);
        let (mut chain, mut stands) = (Vec::new(), Duration::MAX);
        for (held, wanted) in cycle.iter().zip(next) {
            if let Some((holder, both)) = self.who.get(&(*held, *wanted)) {
                let (held, wanted) = (name(*held), name(*wanted));
                chain.push(format!(
                    "{} holds {held} and waits for {wanted}",
                    output::holder(holder)
                ));
                stands = stands.min(*both);
            }
        }
        Cycle {
            what: chain.join("; "),
            mend: format!(
                "have all of them acquire the locks in the same order; now end one of them, or: resourcelock {} unget",
                shell_word(name(cycle[0]).as_str())
            ),
            stands,
        }
    }
}

/// Which locks a process holds.
struct Holds<'a>(HashMap<u32, Vec<(usize, &'a Holder)>>);

impl<'a> Holds<'a> {
    fn new(states: &'a [State]) -> Self {
        let mut holds: HashMap<u32, Vec<(usize, &Holder)>> = HashMap::new();
        for (at, state) in states.iter().enumerate() {
            for holder in state
                .holders
                .iter()
                .filter(|holder| holder.requester.same_pid_namespace && !holder.lingers)
            {
                for pid in [holder.requester.pid, holder.bound_pid].into_iter().flatten() {
                    let of_pid = holds.entry(pid).or_default();
                    if of_pid.len() < MOST_HOLDS && of_pid.last().is_none_or(|(last, _)| *last != at) {
                        of_pid.push((at, holder));
                    }
                }
            }
        }
        Self(holds)
    }

    fn of(&self, pid: u32) -> &[(usize, &'a Holder)] {
        self.0.get(&pid).map_or(&[], Vec::as_slice)
    }
}

/// The sets of nodes that can be reached from each other; of more than one node, or of one that leads to itself.
/// (Kosaraju: in the order in which a search leaves the nodes, backwards along the edges.)
fn components(next: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut back = vec![Vec::new(); next.len()];
    for (from, to) in next
        .iter()
        .enumerate()
        .flat_map(|(from, to)| to.iter().map(move |to| (from, *to)))
    {
        back[to].push(from);
    }
    let mut seen = vec![false; next.len()];
    let mut left = Vec::new();
    for start in 0..next.len() {
        search(start, next, &mut seen, &mut left);
    }
    seen.fill(false);
    let mut components = Vec::new();
    for start in left.into_iter().rev() {
        let mut component = Vec::new();
        search(start, &back, &mut seen, &mut component);
        component.sort_unstable();
        if component.len() > 1 || component.iter().any(|node| next[*node].contains(node)) {
            components.push(component);
        }
    }
    components.sort();
    components
}

/// Adds the nodes that can be reached and were not `seen`, in the order in which they are left.
fn search(start: usize, next: &[Vec<usize>], seen: &mut [bool], left: &mut Vec<usize>) {
    if std::mem::replace(&mut seen[start], true) {
        return;
    }
    let mut way = vec![(start, 0)];
    while let Some((node, edge)) = way.last_mut() {
        match next[*node].get(*edge) {
            Some(to) => {
                *edge += 1;
                if !std::mem::replace(&mut seen[*to], true) {
                    way.push((*to, 0));
                }
            }
            None => {
                left.push(*node);
                way.pop();
            }
        }
    }
}

/// The shortest way from `start` back to itself, within these nodes.
fn cycle_through(start: usize, next: &[Vec<usize>], within: &HashSet<usize>) -> Option<Vec<usize>> {
    let mut came_from: HashMap<usize, usize> = HashMap::new();
    let mut edge = vec![start];
    while !edge.is_empty() {
        let mut reached = Vec::new();
        for from in edge {
            for &to in next[from].iter().filter(|to| within.contains(to)) {
                if to == start {
                    let mut cycle = vec![from];
                    while let Some(&earlier) = came_from.get(cycle.last()?) {
                        cycle.push(earlier);
                    }
                    cycle.reverse();
                    return Some(cycle);
                }
                if let Entry::Vacant(entry) = came_from.entry(to) {
                    entry.insert(from);
                    reached.push(to);
                }
            }
        }
        edge = reached;
    }
    None
}

/// Who started whom, read once each.
#[derive(Default)]
struct Parents(HashMap<u32, Option<u32>>);

impl Parents {
    /// The process and its ancestors: they wait for whatever it waits for.
    fn line(&mut self, pid: Option<u32>) -> Vec<u32> {
        let mut line = Vec::new();
        let mut next = pid;
        while let Some(pid) = next.filter(|pid| *pid > 1 && line.len() < MOST_ANCESTORS) {
            line.push(pid);
            next = self.parent(pid);
        }
        line
    }

    fn parent(&mut self, pid: u32) -> Option<u32> {
        let read = || Stat::of(pid).ok().map(|stat| stat.parent);
        *self.0.entry(pid).or_insert_with(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortest_cycles() {
        let next = [vec![1], vec![2, 0], vec![0], vec![3], vec![0]];
        let all = (0..5).collect();
        assert_eq!(cycle_through(0, &next, &all), Some(vec![0, 1]));
        assert_eq!(cycle_through(2, &next, &all), Some(vec![2, 0, 1]));
        assert_eq!(cycle_through(3, &next, &all), Some(vec![3]));
        assert_eq!(cycle_through(4, &next, &all), None);
        assert_eq!(cycle_through(0, &next, &[0, 2].into()), None);
        assert_eq!(components(&next), [vec![0, 1, 2], vec![3]]);
    }

    #[test]
    fn nodes_that_hang_together() {
        assert_eq!(components(&[]), [[0; 0]; 0]);
        assert_eq!(components(&[vec![1], vec![2], vec![]]), [[0; 0]; 0]);
        let next = [vec![1], vec![0, 2], vec![3], vec![2], vec![0, 3]];
        assert_eq!(components(&next), [[0, 1], [2, 3]]);
    }

    /// Recursion would need a stack as deep as that.
    #[test]
    fn a_long_way() {
        let last = 100_000;
        let mut next: Vec<Vec<usize>> = (1..=last).map(|to| vec![to]).collect();
        next.push(vec![0]);
        assert_eq!(components(&next).len(), 1);
    }
}
