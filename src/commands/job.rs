//! The job that this program is part of: which locks the programs hold that started it.
//!
//! A command under `run` finds its locks in `RESOURCELOCK_HELD`: `TOKEN:NAME` joined by `/` (which no name contains),
//! outermost first.

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

    /// The tokens of this job's holds of the lock `name` that still stand according to `is_held`, outermost first.
    pub fn tokens(&self, name: &LockName, is_held: impl Fn(u64) -> bool) -> Vec<u64> {
        tokens_of(&self.held, name.as_str())
            .filter(|token| is_held(*token))
            .collect()
    }

    /// Whether it has, or had, a hold of this lock at all.
    pub fn mentions(&self, lock: &LockName) -> bool {
        tokens_of(&self.held, lock.as_str()).next().is_some()
    }

    /// What the command finds in its environment when it runs under `token` of the lock `name`.
    pub fn environment(&self, name: &str, token: u64, abandoned: bool) -> [(&'static str, Option<OsString>); 4] {
        let held = if tokens_of(&self.held, name).any(|t| t == token) {
            self.held.clone() // not taken anew (--same-process-ok)
        } else if self.held.is_empty() {
            format!("{token}:{name}")
        } else {
            format!("{}/{token}:{name}", self.held)
        };
        [
            (NAME, Some(name.into())),
            (TOKEN, Some(token.to_string().into())),
            (HELD, Some(held.into())),
            (ABANDONED, abandoned.then(|| "1".into())),
        ]
    }
}

fn tokens_of<'a>(held: &'a str, name: &'a str) -> impl Iterator<Item = u64> + 'a {
    let entries = held.split('/').filter_map(|entry| entry.split_once(':'));
    entries
        .filter(move |(_, of)| *of == bare(name))
        .filter_map(|(token, _)| token.parse().ok())
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
        assert_eq!(tokens_of(held, "a").collect::<Vec<_>>(), [7, 9]);
        assert_eq!(tokens_of(held, "/a").collect::<Vec<_>>(), [7, 9]);
        assert_eq!(tokens_of(held, "b:c").collect::<Vec<_>>(), [8]);
        assert_eq!(tokens_of("", "a").count(), 0);
    }

    #[test]
    fn the_list_grows_inwards() {
        assert_eq!(held_after(&job(""), "a", 1), "1:a");
        assert_eq!(held_after(&job("1:a"), "b", 2), "1:a/2:b");
        assert_eq!(held_after(&job("1:a/2:b"), "a", 1), "1:a/2:b");
    }
}
