//! Holders that wait for each other: A waits for B's holder, B for A's.

use super::{Finding, Remedy};
use crate::cli::shell_word;
use crate::output;
use resourcelock::system::Stat;
use resourcelock::{Holder, State};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Every cycle of holds, once.
pub fn findings(states: &[State]) -> Vec<Finding> {
    let holds: Vec<(&State, &Holder)> = states
        .iter()
        .flat_map(|state| state.holders.iter().map(move |holder| (state, holder)))
        .collect();
    let mut parents = Parents::default();
    // For each hold: the holds that it waits for.
    let waits_for: Vec<Vec<usize>> = holds
        .iter()
        .map(|(_, holder)| {
            let waited = states.iter().filter(|state| {
                state
                    .waiters
                    .iter()
                    .map(|waiter| &waiter.requester)
                    .any(|waiter| waiter.same_pid_namespace && parents.works_for(waiter.pid, holder))
            });
            waited
                .flat_map(|state| {
                    let of_this = holds
                        .iter()
                        .enumerate()
                        .filter(|(_, (other, _))| other.name == state.name);
                    of_this.map(|(at, _)| at)
                })
                .collect()
        })
        .collect();
    let mut seen = vec![false; holds.len()];
    let mut findings = Vec::new();
    for start in 0..holds.len() {
        if let Some(cycle) = cycle_through(start, &waits_for)
            && cycle.iter().all(|&at| !seen[at])
        {
            for &at in &cycle {
                seen[at] = true;
            }
            findings.push(finding(&cycle.iter().map(|&at| holds[at]).collect::<Vec<_>>()));
        }
    }
    findings
}

fn finding(cycle: &[(&State, &Holder)]) -> Finding {
    let chain: Vec<String> = cycle
        .iter()
        .enumerate()
        .map(|(at, (state, holder))| {
            let (next, _) = cycle[(at + 1) % cycle.len()];
            format!(
                "{} holds {} and waits for {}",
                output::holder(holder),
                state.name,
                next.name
            )
        })
        .collect();
    let (first, _) = cycle[0];
    Finding {
        kind: "cycle",
        lock: None,
        what: chain.join("; "),
        why: "none of them can continue",
        mend: format!(
            "have all of them acquire the locks in the same order; now end one of them, or: resourcelock {} unget",
            shell_word(first.name.as_str())
        ),
        remedy: Remedy::None,
    }
}

/// The shortest way from `start` back to itself.
fn cycle_through(start: usize, next: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut came_from: HashMap<usize, usize> = HashMap::new();
    let mut edge = vec![start];
    while !edge.is_empty() {
        let mut reached = Vec::new();
        for from in edge {
            for &to in &next[from] {
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
    /// True if `pid` is the holder's process or one that it started: the holder waits for whatever that waits for.
    fn works_for(&mut self, mut pid: Option<u32>, holder: &Holder) -> bool {
        while let Some(current) = pid.filter(|&pid| pid > 1) {
            let holds = [holder.requester.pid, holder.bound_pid].contains(&Some(current));
            if holds && holder.requester.same_pid_namespace {
                return true;
            }
            pid = self.parent(current);
        }
        false
    }

    fn parent(&mut self, pid: u32) -> Option<u32> {
        let read = || Stat::of(pid).ok().map(|stat| stat.parent);
        *self.0.entry(pid).or_insert_with(read)
    }
}

#[cfg(test)]
mod tests {
    use super::cycle_through;

    #[test]
    fn shortest_cycles() {
        let next = [vec![1], vec![2, 0], vec![0], vec![3], vec![0]];
        assert_eq!(cycle_through(0, &next), Some(vec![0, 1]));
        assert_eq!(cycle_through(2, &next), Some(vec![2, 0, 1]));
        assert_eq!(cycle_through(3, &next), Some(vec![3]));
        assert_eq!(cycle_through(4, &next), None);
    }
}
