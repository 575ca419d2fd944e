//! `doctor`: finds problems, says why they matter and which command solves them; `--fix` solves those that are safe to
//! solve. What a person should know, and is no problem, is a note.

mod dev_shm;
mod objects;
mod programs;
mod stopped;

use super::Failure;
use super::access::Access;
use super::cycles::{self, Cycle};
use crate::cli::{Common, DoctorArgs, shell_word};
use crate::exit::Exit;
use crate::output::view::{self, Level};
use crate::output::{self, names, shown};
use resourcelock::engines::{Engine, Listing};
use resourcelock::{GetOptions, State, Wait};
use std::collections::HashMap;
use std::path::PathBuf;

/// A problem, or a note.
pub struct Finding {
    level: Level,
    /// One or two words, stable, for scripts.
    kind: &'static str,
    /// The lock concerned, if any.
    lock: Option<String>,
    what: String,
    why: &'static str,
    mend: String,
    remedy: Remedy,
}

/// What `--fix` may do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Remedy {
    /// Nothing: a person has to decide.
    None,
    /// Drop dead holders and notify the next in line, as every request does.
    Repair,
    /// Acquire the lock if it is free, and release it: that corrects its semaphore.
    TakeOnce,
    /// Delete this other name of the semaphore.
    DeleteName(PathBuf),
}

/// Carries it out.
pub fn perform(engine: &dyn Engine, common: &Common, args: &DoctorArgs) -> Result<Exit, Failure> {
    let access = Access::new(&common.access)?;
    let Listing { states, unreadable, .. } = engine.list().map_err(Failure::engine)?;
    // What another's lock says is what its owner claims.
    let (states, others): (Vec<State>, Vec<State>) = states.into_iter().partition(|state| state.trusted);
    let mut findings = dev_shm::findings();
    findings.extend(programs::findings());
    findings.extend(objects::findings(&states, &unreadable));
    for state in &states {
        findings.extend(of_lock(state));
    }
    findings.extend(cycles::of_all(&states).into_iter().map(of_cycle));
    findings.extend(stopped::findings(engine, &states));
    findings.sort_by_key(|finding| finding.level == Level::Note); // stable
    let owners: HashMap<&str, Option<u32>> = states.iter().map(|state| (state.name.as_str(), state.owner)).collect();
    let mut left = 0;
    let mut views = Vec::new();
    for finding in findings {
        let owner = finding.lock.as_deref().and_then(|lock| *owners.get(lock)?);
        let may_fix = args.fix && owner.is_some_and(|owner| access.acts_for(owner));
        let mended = may_fix && apply(&access, &finding);
        left += usize::from(!mended && finding.level == Level::Problem);
        views.push(view::FindingView {
            level: finding.level,
            kind: finding.kind,
            lock: finding.lock,
            what: finding.what,
            why: finding.why,
            mend: finding.mend,
            mended,
        });
    }
    show(common, args, views, &others)?;
    Ok(if left == 0 { Exit::Done } else { Exit::No })
}

fn of_cycle(cycle: Cycle) -> Finding {
    Finding {
        level: Level::Problem,
        kind: "cycle",
        lock: None,
        what: cycle.what,
        why: cycles::WHY,
        mend: cycle.mend,
        remedy: Remedy::None,
    }
}

/// True if it is solved now. That one cannot be solved does not keep the others from it.
fn apply(access: &Access, finding: &Finding) -> bool {
    try_to_apply(access, finding).unwrap_or_else(|failure| {
        output::message(&format!("resourcelock: {failure}"));
        false
    })
}

fn try_to_apply(access: &Access, finding: &Finding) -> Result<bool, Failure> {
    let (Some(name), true) = (&finding.lock, finding.remedy != Remedy::None) else {
        return Ok(false);
    };
    let failed = |error| Failure::lock(name, error);
    let open = || {
        let engine = access.engine();
        engine.builder(&super::name(name)?).open().map_err(failed)
    };
    match &finding.remedy {
        Remedy::None => return Ok(false),
        Remedy::Repair => open()?.repair().map_err(failed)?,
        Remedy::TakeOnce => {
            let request = GetOptions::new().wait(Wait::No).lock_info("doctor");
            if let Some(guard) = open()?.acquire_with(&request).map_err(failed)? {
                guard.release().map_err(failed)?;
            }
        }
        Remedy::DeleteName(path) => return Ok(objects::delete_second_name(&super::name(name)?, path)),
    }
    Ok(true)
}

/// `others`: locks whose owners are not trusted.
fn show(common: &Common, args: &DoctorArgs, findings: Vec<view::FindingView>, others: &[State]) -> Result<(), Failure> {
    if args.json {
        output::print_json(&view::DoctorView {
            version: view::VERSION,
            findings,
            not_examined: others.len(),
        })?;
        return Ok(());
    }
    if common.quiet {
        return Ok(());
    }
    let mut text = String::new();
    for finding in &findings {
        let lock = finding
            .lock
            .as_ref()
            .map(|lock| format!("{}: ", shown(lock)))
            .unwrap_or_default();
        let note = if finding.level == Level::Note { "note: " } else { "" };
        let mended = if finding.mended { " (mended)" } else { "" };
        text.push_str(&format!(
            "{note}{lock}{}{mended}\n  why:  {}\n  mend: {}\n",
            shown(&finding.what),
            finding.why,
            shown(&finding.mend)
        ));
    }
    if findings.is_empty() {
        text.push_str("nothing found\n");
    }
    if !others.is_empty() {
        text.push_str(&not_examined(others));
    }
    output::print(&text)?;
    Ok(())
}

/// How many owners are named.
const MOST_OWNERS: usize = 5;

/// Says whose locks were left out.
fn not_examined(others: &[State]) -> String {
    let mut owners: Vec<String> = others.iter().filter_map(names::owner).collect();
    owners.sort();
    owners.dedup();
    let more = if owners.len() > MOST_OWNERS { ", ..." } else { "" };
    owners.truncate(MOST_OWNERS);
    let (locks, owners) = (others.len(), owners.join(", "));
    let noun = if locks == 1 { "lock" } else { "locks" };
    format!("not examined: {locks} {noun} of {owners}{more} (see --owner)\n")
}

/// Problems that the state of one lock shows.
fn of_lock(state: &State) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = state.name.to_string();
    for holder in state.holders.iter().filter(|holder| !holder.alive) {
        findings.push(Finding {
            level: Level::Problem,
            kind: "dead holder",
            lock: Some(name.clone()),
            what: format!("{} died holding it", output::holder(holder)),
            why: "a program that uses only the Python module waits until a resourcelock command or program checks the lock",
            mend: "resourcelock doctor --fix".to_owned(),
            remedy: Remedy::Repair,
        });
    }
    if let Some(token) = state.abandoned {
        let unget = format!("resourcelock {} unget", shell_word(&name));
        // Released by hand, a lock that is held is another's beside its holder.
        let mend = if state.locked {
            format!(
                "repair the resource; the mark goes when the command that runs now ends well; if it does not, once the lock \
                 is free: {unget}"
            )
        } else {
            format!("repair the resource, then: {unget}")
        };
        findings.push(Finding {
            level: Level::Problem,
            kind: "abandoned",
            lock: Some(name.clone()),
            what: format!(
                "the holder with token {token}, or its command, died holding it, and no command has ended well since"
            ),
            why: "the protected resource may be inconsistent",
            mend,
            remedy: Remedy::None,
        });
    }
    if state.value > 1 {
        findings.push(Finding {
            level: Level::Problem,
            kind: "value above 1",
            lock: Some(name.clone()),
            what: format!("its semaphore is at {}", state.value),
            why: "that many programs that use the Python module could hold the lock at once",
            mend: "resourcelock doctor --fix".to_owned(),
            remedy: Remedy::TakeOnce,
        });
    }
    let stopped: Vec<String> = state
        .waiters
        .iter()
        .filter(|waiter| waiter.stalled && waiter.alive)
        .filter_map(|waiter| waiter.requester.pid)
        .map(|pid| pid.to_string())
        .collect();
    if !stopped.is_empty() {
        let pids = stopped.join(" ");
        findings.push(Finding {
            level: Level::Problem,
            kind: "stopped waiter",
            lock: Some(name),
            what: format!("waiting, but stopped: {pids}"),
            why: "a stopped process is passed over until it runs again",
            mend: format!("kill -CONT {pids}"),
            remedy: Remedy::None,
        });
    }
    findings
}
