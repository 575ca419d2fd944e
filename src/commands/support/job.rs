//! The job that this program is part of, and the locks that it already holds through the programs that started this one.
//!
//! A command under `run` finds its locks in `RESOURCELOCK_HELD`: `TOKEN:NAME` joined by `/` (which no name contains),
//! outermost first. Tokens of etcd are small numbers, so two clusters may well use the same token for locks of the same
//! name. Hence a hold kept by an engine is written `TOKEN@PID@HOST:NAME`, after the `run` that acquired it, and counts
//! only if the engine shows that holder: whichever URL leads there, a hold of this machine or of another cluster is not
//! mistaken for it.

use crate::commands::bare;
use crate::exec;
use resourcelock::system;
use resourcelock::{Holder, LockName, Mode, Requester, State};
use std::ffi::OsString;

/// Name of the lock of the innermost `run`.
pub const NAME: &str = "RESOURCELOCK_NAME";
/// Its token.
pub const TOKEN: &str = "RESOURCELOCK_TOKEN";
/// All locks of the job.
pub const HELD: &str = "RESOURCELOCK_HELD";
/// Set if a previous holder died while holding the lock: `1`, or, if the command runs under several locks (`--with`), the
/// names of those of which that is true, joined by `/`.
pub const ABANDONED: &str = "RESOURCELOCK_ABANDONED";

/// What was inherited. Only the lock tells if it is still held.
pub struct Job {
    held: String,
}

impl Job {
    /// Reads the environment.
    pub fn inherited() -> Self {
        Self::new(text(HELD).unwrap_or_default())
    }

    /// With this value of [`HELD`].
    pub fn new(held: String) -> Self {
        Self { held }
    }

    /// True if it has, or had, a hold of this lock: on a remote engine (`remote`), or on this machine.
    pub fn mentions(&self, lock: &LockName, remote: bool) -> bool {
        holds_of(&self.held, lock.as_str()).any(|(_, process)| process.is_some() == remote)
    }

    /// The tokens of this job's holds of a lock that still stand according to its state, outermost first.
    pub fn holds(&self, state: &State, remote: bool) -> Vec<u64> {
        let stands = |token: u64, process: Option<&str>| {
            let mut holders = state
                .holders
                .iter()
                // One under which the command has ended is no longer this job's.
                .filter(|holder| holder.alive && !holder.lingers && holder.token == Some(token));
            holders.any(|holder| match process {
                None => !remote,
                Some(process) => {
                    let Requester { pid, host, .. } = &holder.requester;
                    remote && process == process_of(pid.unwrap_or(0), host.name().unwrap_or_default())
                }
            })
        };
        holds_of(&self.held, state.name.as_str())
            .filter(|(token, process)| stands(*token, *process))
            .map(|(token, _)| token)
            .collect()
    }

    /// The environment of a command that runs under these holds, which this process has acquired together: names, tokens,
    /// and true if the previous holder died. The first one is its own lock's.
    pub fn environment(&self, holds: &[(&LockName, u64, bool)], remote: bool) -> Vec<Variable> {
        let [(name, token, _), others @ ..] = holds else {
            return Vec::new();
        };
        let process = remote.then(|| process_of(std::process::id(), &system::host_name()));
        let entry = |(name, token, _): &(&LockName, u64, bool)| entry(*token, process.as_deref(), name);
        // The command's own lock is the innermost.
        let new = others.iter().chain(&holds[..1]).map(entry);
        let inherited = Some(self.held.clone()).filter(|held| !held.is_empty());
        let held: Vec<String> = inherited.into_iter().chain(new).collect();
        let abandoned: Vec<&str> = holds
            .iter()
            .filter_map(|(name, _, abandoned)| abandoned.then_some(name.as_str()))
            .collect();
        let abandoned = match abandoned.as_slice() {
            [] => None,
            _ if others.is_empty() => Some("1".to_owned()),
            names => Some(names.join("/")),
        };
        variables(held.join("/"), name, *token, abandoned)
    }

    /// The same, under a hold that this job already had.
    pub fn environment_of_own(&self, name: &LockName, token: u64) -> Vec<Variable> {
        let innermost = text(TOKEN).is_some_and(|innermost| innermost.parse() == Ok(token));
        let abandoned = text(ABANDONED).filter(|_| innermost);
        variables(self.held.clone(), name, token, abandoned)
    }
}

/// The value of a variable that is valid UTF-8.
fn text(name: &str) -> Option<String> {
    exec::variable(name)?.into_string().ok()
}

/// An environment variable that is set, or removed (`None`).
pub type Variable = (&'static str, Option<OsString>);

fn variables(held: String, name: &LockName, token: u64, abandoned: Option<String>) -> Vec<Variable> {
    vec![
        (NAME, Some(name.as_str().into())),
        (TOKEN, Some(token.to_string().into())),
        (HELD, Some(held.into())),
        (ABANDONED, abandoned.map(OsString::from)),
    ]
}

/// How [`HELD`] names a hold; `process` is that of [`process_of`], on an engine.
pub fn entry(token: u64, process: Option<&str>, name: &LockName) -> String {
    match process {
        Some(process) => format!("{token}@{process}:{name}"),
        None => format!("{token}:{name}"),
    }
}

/// How the processes that run under a hold name it in [`HELD`], on a remote engine (`remote`) or on this machine. `None`: it
/// is another program's.
pub fn entry_of(holder: &Holder, name: &LockName, remote: bool) -> Option<String> {
    let Requester { pid, host, .. } = &holder.requester;
    let process = match remote {
        true => Some(process_of((*pid)?, host.name()?)),
        false => None,
    };
    Some(entry(holder.token?, process.as_deref(), name))
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

/// The innermost of the job's own holds (`tokens`) that allows all that a hold in `mode` does.
pub fn including(state: &State, tokens: &[u64], mode: Mode) -> Option<u64> {
    let includes = |token: &&u64| {
        let mut holders = state.holders.iter();
        holders.any(|holder| holder.token == Some(**token) && holder.mode.includes(mode))
    };
    tokens.iter().rev().find(includes).copied()
}

/// True if a request in `mode` would wait for the job's own holds (`tokens`), which do not end before it is answered.
pub fn waits_for_itself(state: &State, tokens: &[u64], mode: Mode) -> bool {
    let own: Vec<Mode> = state
        .holders
        .iter()
        .filter(|h| h.token.is_some_and(|token| tokens.contains(&token)))
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
        Job::new(held.to_owned())
    }

    fn name(text: &str) -> LockName {
        LockName::new(text).unwrap()
    }

    fn held_after(job: &Job, lock: &str, token: u64, remote: bool) -> String {
        let variables = job.environment(&[(&name(lock), token, false)], remote);
        let (_, held) = variables.into_iter().find(|(variable, _)| *variable == HELD).unwrap();
        held.unwrap().into_string().unwrap()
    }

    #[test]
    fn holds_of_a_name() {
        let of = |lock| holds_of("7:a/8:b:c/9:a/x:a/10", lock).collect::<Vec<_>>();
        assert_eq!(of("a"), [(7, None), (9, None)]);
        assert_eq!(of("/a"), [(7, None), (9, None)]);
        assert_eq!(of("b:c"), [(8, None)]);
        assert_eq!(holds_of("", "a").count(), 0);
        let remote: Vec<_> = holds_of("7@12@h:a/8:a/x@1@h:a", "a").collect();
        assert_eq!(remote, [(7, Some("12@h")), (8, None)]);
    }

    #[test]
    fn an_engine_and_this_machine_are_told_apart() {
        let here = job("7:a");
        assert!(here.mentions(&name("a"), false) && !here.mentions(&name("a"), true));
        let both = job(&held_after(&here, "a", 7, true));
        assert!(both.mentions(&name("a"), false) && both.mentions(&name("a"), true));
        let kept = both.environment_of_own(&name("a"), 7);
        assert!(kept.contains(&(HELD, Some(both.held.clone().into()))));
    }

    #[test]
    fn the_list_grows_inwards() {
        assert_eq!(held_after(&job(""), "a", 1, false), "1:a");
        assert_eq!(held_after(&job("1:a"), "b", 2, false), "1:a/2:b");
    }

    #[test]
    fn several_locks_at_once() {
        let (a, b, c) = (name("a"), name("b"), name("c"));
        let variables = job("1:x").environment(&[(&b, 3, true), (&a, 2, false), (&c, 4, true)], false);
        for expected in [(NAME, "b"), (TOKEN, "3"), (HELD, "1:x/2:a/4:c/3:b"), (ABANDONED, "b/c")] {
            let expected = (expected.0, Some(expected.1.into()));
            assert!(variables.contains(&expected), "{expected:?} in {variables:?}");
        }
        let alone = job("").environment(&[(&a, 2, true)], false);
        assert!(alone.contains(&(ABANDONED, Some("1".into()))));
    }
}
