//! `doctor`: finds problems, says why they matter and which command solves them; `--fix` solves those that are safe to
//! solve.

mod cycles;
mod host;
mod objects;

use super::Failure;
use super::list::reasons;
use crate::cli::{Common, DoctorArgs, shell_word};
use crate::exit::Exit;
use crate::output::{self, shown, view};
use resourcelock::engines::{Engine, Listing};
use resourcelock::{GetOptions, ResourceLock, State, Wait};

/// A problem.
pub struct Finding {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// Nothing: a person has to decide.
    None,
    /// Drop dead holders and notify the next in line, as every request does.
    Repair,
    /// Acquire the lock if it is free, and release it: that corrects its semaphore.
    TakeOnce,
}

/// Carries it out.
pub fn perform(engine: &dyn Engine, common: &Common, args: &DoctorArgs) -> Result<Exit, Failure> {
    let Listing { states, unreadable } = engine.list().map_err(Failure::engine)?;
    let unreadable = reasons(&unreadable);
    let mut findings = host::findings();
    findings.extend(objects::findings(&states, &unreadable));
    for state in &states {
        findings.extend(of_lock(state));
    }
    findings.extend(cycles::findings(&states));
    let mut left = 0;
    let mut views = Vec::new();
    for finding in findings {
        let mended = args.fix && apply(&finding)?;
        left += usize::from(!mended);
        views.push(view::FindingView {
            kind: finding.kind,
            lock: finding.lock,
            what: finding.what,
            why: finding.why,
            mend: finding.mend,
            mended,
        });
    }
    show(common, args, views)?;
    Ok(if left == 0 { Exit::Done } else { Exit::No })
}

/// True if it is solved now.
fn apply(finding: &Finding) -> Result<bool, Failure> {
    let (Some(name), true) = (&finding.lock, finding.remedy != Remedy::None) else {
        return Ok(false);
    };
    let failed = |error| Failure::lock(name, error);
    let lock = ResourceLock::open(name).map_err(failed)?;
    match finding.remedy {
        Remedy::None => return Ok(false),
        Remedy::Repair => lock.repair().map_err(failed)?,
        Remedy::TakeOnce => {
            let request = GetOptions::new().wait(Wait::No).lock_info("doctor");
            if let Some(guard) = lock.try_acquire(request).map_err(failed)? {
                guard.release().map_err(failed)?;
            }
        }
    }
    Ok(true)
}

fn show(common: &Common, args: &DoctorArgs, findings: Vec<view::FindingView>) -> Result<(), Failure> {
    if args.json {
        output::print_json(&view::DoctorView {
            version: view::VERSION,
            findings,
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
        let mended = if finding.mended { " (mended)" } else { "" };
        text.push_str(&format!(
            "{lock}{}{mended}\n  why:  {}\n  mend: {}\n",
            shown(&finding.what),
            finding.why,
            shown(&finding.mend)
        ));
    }
    if findings.is_empty() {
        text.push_str("nothing found\n");
    }
    output::print(&text)?;
    Ok(())
}

/// Problems that the state of one lock shows.
fn of_lock(state: &State) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = state.name.to_string();
    for holder in state.holders.iter().filter(|holder| !holder.alive) {
        findings.push(Finding {
            kind: "dead holder",
            lock: Some(name.clone()),
            what: format!("{} died holding it", output::holder(holder)),
            why: "a program that uses only the Python module waits until a resourcelock command or program checks the lock",
            mend: "resourcelock doctor --fix".to_owned(),
            remedy: Remedy::Repair,
        });
    }
    if let Some(token) = state.abandoned {
        findings.push(Finding {
            kind: "abandoned",
            lock: Some(name.clone()),
            what: format!("the holder with token {token} died holding it, and no command has ended well since"),
            why: "the protected resource may be inconsistent",
            mend: format!("repair the resource, then: resourcelock {} unget", shell_word(&name)),
            remedy: Remedy::None,
        });
    }
    if state.value > 1 {
        findings.push(Finding {
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
