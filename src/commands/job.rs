//! The job that this program is part of: which locks the programs hold that started it.
//!
//! A command under `run` finds its locks in `RESOURCELOCK_HELD`: `TOKEN:NAME` joined by `/` (which no name contains),
//! outermost first. Tokens of etcd are small numbers, so that two clusters may well have a lock of one name with a token
//! of one number: one that an engine keeps is `TOKEN@PID@HOST:NAME`, after the `run` that holds it, and
//! counts only where the engine shows that holder. So it is sound whatever URL leads there, and neither this machine's
//! hold nor that of another cluster is taken for it.

use crate::commands::bare;
use resourcelock::{LockName, Mode, State};
use std::env;
use std::ffi::OsString;

/// Name of the lock of the innermost `run`.
pub const NAME: &str = "RESOURCELOCK_NAME";
/// Its token.
pub const TOKEN: &str = "RESOURCELOCK_TOKEN";
/// All locks of the job.
pub const HELD: &str = "RESOURCELOCK_HELD";
/// `1` if the previous holder died holding.
pub const ABANDONED: &str = "RESOURCELOCK_ABANDONED";

/// What was inherited. Whether it is still held is for the lock to say.
pub struct Job {
    held: String,
}

impl Job {
    /// Reads the environment.
    pub fn inherited() -> Self {
        Self {
            held: env::var(HELD).unwrap_or_default(),
        }
    }

    /// The tokens of this job's holds of this machine's lock `name` that still stand according to `is_held`, outermost
    /// first.
    pub fn tokens(&self, name: &LockName, is_held: impl Fn(u64) -> bool) -> Vec<u64> {
        holds_of(&self.held, name.as_str())
            .filter(|(token, process)| process.is_none() && is_held(*token))
            .map(|(token, _)| token)
            .collect()
    }

    /// The same for a lock that an engine keeps, according to its state.
    pub fn tokens_in(&self, state: &State) -> Vec<u64> {
        let is_holder = |token: u64, process: &str| {
            let mut holders = state.holders.iter().filter(|holder| holder.token == token);
            holders.any(|holder| process == process_of(holder.pid, holder.host.as_deref().unwrap_or_default()))
        };
        holds_of(&self.held, state.name.as_str())
            .filter(|(token, process)| process.is_some_and(|process| is_holder(*token, process)))
            .map(|(token, _)| token)
            .collect()
    }

    /// Whether it has, or had, a hold of this lock at any engine.
    pub fn mentions(&self, lock: &LockName) -> bool {
        holds_of(&self.held, lock.as_str()).any(|(_, process)| process.is_some())
    }

    /// What the command finds in its environment when it runs under `token` of this machine's lock `name`.
    pub fn environment(&self, name: &str, token: u64, abandoned: bool) -> Environment {
        self.with(&format!("{token}:{name}"), name, token, abandoned)
    }

    /// The same for a lock that an engine keeps and this process has taken.
    pub fn environment_afar(&self, name: &str, token: u64) -> Environment {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let process = process_of(std::process::id(), host.trim_end());
        self.with(&format!("{token}@{process}:{name}"), name, token, false)
    }

    /// The same for one that an engine keeps and this job had already.
    pub fn environment_as_it_was(&self, name: &str, token: u64) -> Environment {
        variables(self.held.clone(), name, token, false)
    }

    fn with(&self, hold: &str, name: &str, token: u64, abandoned: bool) -> Environment {
        let held = if self.held.split('/').any(|had| had == hold) {
            self.held.clone() // not taken anew (--same-process-ok)
        } else if self.held.is_empty() {
            hold.to_owned()
        } else {
            format!("{}/{hold}", self.held)
        };
        variables(held, name, token, abandoned)
    }
}

/// What is set, or removed (`None`).
type Environment = [(&'static str, Option<OsString>); 4];

fn variables(held: String, name: &str, token: u64, abandoned: bool) -> Environment {
    [
        (NAME, Some(name.into())),
        (TOKEN, Some(token.to_string().into())),
        (HELD, Some(held.into())),
        (ABANDONED, abandoned.then(|| "1".into())),
    ]
}

/// The holds of a lock: tokens, and the process and host where an engine keeps it.
fn holds_of<'a>(held: &'a str, name: &'a str) -> impl Iterator<Item = (u64, Option<&'a str>)> + 'a {
    let entries = held.split('/').filter_map(|entry| entry.split_once(':'));
    entries
        .filter(move |(_, of)| *of == bare(name))
        .filter_map(|(hold, _)| {
            let (token, process) = hold
                .split_once('@')
                .map_or((hold, None), |(token, of)| (token, Some(of)));
            Some((token.parse().ok()?, process))
        })
}

/// `PID@HOST`, without what separates the parts of the list.
fn process_of(pid: u32, host: &str) -> String {
    format!("{pid}@{}", host.replace(['/', ':'], "_"))
}

/// Whether a request in `mode` would wait for the job's own holds (`tokens`) alone to end, which they do not before
/// the request is answered.
pub fn waits_for_itself(state: &State, tokens: &[u64], mode: Mode) -> bool {
    let own: Vec<Mode> = state
        .holders
        .iter()
        .filter(|h| tokens.contains(&h.token))
        .map(|h| h.mode)
        .collect();
    match mode {
        Mode::Exclusive => !own.is_empty(),
        Mode::Shared => own.iter().any(|m| *m != Mode::Shared),
        Mode::Slots(slots) => {
            let in_slots = own.iter().filter(|m| matches!(m, Mode::Slots(_))).count();
            in_slots < own.len() || in_slots >= slots as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(held: &str) -> Job {
        Job { held: held.to_owned() }
    }

    fn held_after(job: &Job, name: &str, token: u64) -> String {
        let [_, _, (_, held), _] = job.environment(name, token, false);
        held.unwrap().into_string().unwrap()
    }

    #[test]
    fn tokens_of_a_name() {
        let held = "7:a/8:b:c/9:a/x:a/10";
        let tokens = |name| job(held).tokens(&LockName::new(name).unwrap(), |_| true);
        assert_eq!(tokens("a"), [7, 9]);
        assert_eq!(tokens("/a"), [7, 9]);
        assert_eq!(tokens("b:c"), [8]);
        assert!(job("").tokens(&LockName::new("a").unwrap(), |_| true).is_empty());
        let afar: Vec<_> = holds_of("7@12@h:a/8:a/x@1@h:a", "a").collect();
        assert_eq!(afar, [(7, Some("12@h")), (8, None)]);
    }

    #[test]
    fn an_engine_and_this_machine_are_told_apart() {
        let [_, _, (_, held), _] = job("7:a").environment_afar("a", 7);
        let job = job(held.as_ref().unwrap().to_str().unwrap());
        let name = LockName::new("a").unwrap();
        assert_eq!(job.tokens(&name, |_| true), [7], "that of this machine");
        assert!(job.mentions(&name));
        let [_, _, (_, again), _] = job.environment_as_it_was("a", 7);
        assert_eq!(again, held);
    }

    #[test]
    fn the_list_grows_inwards() {
        assert_eq!(held_after(&job(""), "a", 1), "1:a");
        assert_eq!(held_after(&job("1:a"), "b", 2), "1:a/2:b");
        assert_eq!(held_after(&job("1:a/2:b"), "a", 1), "1:a/2:b");
    }
}
