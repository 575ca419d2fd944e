//! What a journal says: what was found wrong, and whether a forced release explains it.

use serde_json::Value;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub struct Verdict {
    pub visits: usize,
    pub python_visits: usize,
    pub package_visits: usize,
    /// From asking until being at work.
    pub longest_wait: Duration,
    pub forced: usize,
    pub removed: usize,
    /// Two at work at once, after one of them had lost the lock by force, by a removal, or by expiry.
    pub explained: usize,
    /// Two at work at once, for no reason; and why not.
    pub overlaps: Vec<String>,
    /// Tokens that came in the wrong order, for no reason.
    pub inversions: Vec<String>,
    /// Commands that were told that they had lost the lock, for no reason.
    pub losses: Vec<String>,
}

/// Between its beginning and its end, monotonic ns, holds were ended by force.
struct Force {
    begin: u64,
    end: u64,
}

impl Verdict {
    /// Reads the journal in this folder.
    pub fn of(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join("journal")).unwrap_or_default();
        let texts: Vec<&str> = text.lines().collect();
        let lines: Vec<Value> = texts
            .iter()
            .map(|line| serde_json::from_str(line).expect("a line of the journal"))
            .collect();
        let forces: Vec<Force> = lines
            .iter()
            .filter(|line| line["what"] == "force" || line["what"] == "remove")
            .map(|line| Force {
                begin: number(&line["begin"]),
                end: number(&line["end"]),
            })
            .collect();
        let mut verdict = Self::default();
        for (line, text) in lines.iter().zip(&texts) {
            let explained = || is_explained(line, &forces);
            let what = line["what"].as_str().expect("a word");
            if ["visit", "python", "package"].contains(&what) {
                let wait = Duration::from_nanos(number(&line["at"]) - number(&line["since"]));
                verdict.longest_wait = verdict.longest_wait.max(wait);
            }
            match what {
                "visit" => verdict.visits += 1,
                "python" => verdict.python_visits += 1,
                "package" => verdict.package_visits += 1,
                "force" => verdict.forced += 1,
                "idle" => {}
                "remove" => verdict.removed += 1,
                _ if explained() => verdict.explained += usize::from(line["what"] == "overlap"),
                "overlap" => verdict.overlaps.push((*text).to_owned()),
                "inversion" => verdict.inversions.push((*text).to_owned()),
                "lost" => verdict.losses.push((*text).to_owned()),
                other => panic!("{other} in the journal"),
            }
        }
        verdict
    }
}

impl Verdict {
    /// What the journal says of the time before what nothing explains.
    pub fn around(&self, folder: &Path) -> String {
        let text = std::fs::read_to_string(folder.join("journal")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let unexplained = [&self.overlaps[..], &self.inversions, &self.losses].concat();
        let near = |at: usize| {
            lines[at..]
                .iter()
                .take(30)
                .any(|line| unexplained.iter().any(|other| other == line))
        };
        let shown = lines.iter().enumerate().filter(|(at, _)| near(*at));
        shown.map(|(_, line)| *line).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} visits, {} of the Python module, {} of the package, the longest wait {:.2?}; {} forced releases, {} removals; \
             overlaps: {} explained, {} not; {} inversions of tokens, {} losses not explained",
            self.visits,
            self.python_visits,
            self.package_visits,
            self.longest_wait,
            self.forced,
            self.removed,
            self.explained,
            self.overlaps.len(),
            self.inversions.len(),
            self.losses.len(),
        )
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// True if one of them had lost the lock by then, and not by what the lock is there to prevent.
fn is_explained(line: &Value, forces: &[Force]) -> bool {
    let at = number(&line["at"]);
    if line["what"] == "lost" {
        return was_forced(&line["me"], at, forces);
    }
    let others = line["others"].as_array().into_iter().flatten();
    std::iter::once(&line["me"])
        .chain(others)
        .any(|who| match who["fate"].as_str() {
            Some("forced") => true,
            Some("expired") => who["expires"].is_u64(),
            Some("released") => who["detached"] == true && was_forced(who, at, forces),
            // The lock was removed since; or this is a user of the Python module, which knows nothing.
            Some("unknown") | None => was_forced(who, at, forces) || number(&who["expires"]).wrapping_sub(1) < at,
            Some(_) => false,
        })
}

/// True if holds were ended by force after it began to ask for the lock, and before `at`.
fn was_forced(who: &Value, at: u64, forces: &[Force]) -> bool {
    let since = who["since"].as_u64().unwrap_or(at);
    forces.iter().any(|force| force.begin <= at && force.end >= since)
}
