//! What an engine cannot do is refused here, before it is asked, from what it declares ([`Capabilities`]).

use super::Failure;
use super::backend::VARIABLE;
use crate::cli::{Create, GetArgs, OnAbandoned, RunArgs, Task};
use resourcelock::engines::{Capabilities, Engine, SHORTEST_TTL};

/// Checks that `engine` can do what is asked for.
///
/// # Errors
/// It cannot; the line says what can be done instead.
pub fn check(engine: &dyn Engine, task: &Task) -> Result<(), Failure> {
    let can = engine.capabilities();
    let (name, refusal) = match task {
        Task::Get(args) => (&args.name, get(can, args)),
        Task::Run(args) => (&args.name, run(can, args)),
        Task::Unget(args) => (
            &args.name,
            needs_processes(can, args.pid.is_some(), "--pid", "use --token"),
        ),
        Task::History(args) => {
            let what = (!can.history).then(|| "it keeps no history of a lock; 'trace -f' follows it".to_owned());
            (&args.name, what)
        }
        Task::Remove(args) => {
            let what = (!can.files).then(|| "there is nothing to remove: a lock is there while it is used".to_owned());
            (&args.name, what)
        }
        Task::Doctor(_) if !can.files => {
            return Err(Failure::general(format!(
                "not on {}: 'doctor' examines the locks of this machine; leave out --backend ({VARIABLE})",
                engine.kind()
            )));
        }
        _ => return Ok(()),
    };
    match refusal {
        None => Ok(()),
        Some(what) if can.files => Err(Failure::about(name, what)),
        Some(what) => Err(Failure::about(name, format!("not on {}: {what}", engine.kind()))),
    }
}

/// The first of these that was given and cannot be had.
fn first(refused: &[(bool, &str)]) -> Option<String> {
    refused
        .iter()
        .find(|(refuse, _)| *refuse)
        .map(|(_, what)| (*what).to_owned())
}

fn needs_processes(can: Capabilities, given: bool, option: &str, instead: &str) -> Option<String> {
    (given && !can.processes).then(|| format!("{option}: it does not know this machine's processes; {instead}"))
}

/// `--mode` and `--group` make files.
fn is_for_files(create: &Create) -> bool {
    create.mode.is_some() || create.group.is_some()
}

const FOR_FILES: &str = "--mode and --group are for the files of a lock of this machine";

fn run(can: Capabilities, args: &RunArgs) -> Option<String> {
    first(&[
        (
            args.ttl.is_some() && !can.lease,
            "--ttl is for engines with leases (--backend): a lock of this machine lasts as long as its command",
        ),
        (
            args.no_fork && !can.processes,
            "-F: nobody would be left to keep the lock",
        ),
        (
            args.replace && can.remote,
            "--replace: the holder may run on another machine",
        ),
        (
            args.on_abandoned == OnAbandoned::Fail && !can.abandoned,
            "--on-abandoned: it does not tell whether the previous holder died",
        ),
        (
            args.recover.is_some() && !can.abandoned,
            "--recover: it does not tell whether the previous holder died",
        ),
        (is_for_files(&args.create) && !can.files, FOR_FILES),
    ])
}

fn get(can: Capabilities, args: &GetArgs) -> Option<String> {
    let keeps = args.auto_unget.is_some();
    let instead = if can.detached { "use run, or --ttl" } else { "use run" };
    needs_processes(can, args.pid.is_some(), "--pid", instead).or_else(|| {
        first(&[
            (is_for_files(&args.create) && !can.files, FOR_FILES),
            (
                !keeps && !can.detached,
                "'get': the lock would not outlive this process; use run, or get -a SECONDS in the background",
            ),
            (
                can.lease && !keeps && args.ttl.is_none() && !args.forever,
                "a lock that nobody renews needs an end: use --ttl DURATION (or --forever), or run",
            ),
            (
                can.lease && keeps && args.forever,
                "-a and --forever contradict each other",
            ),
            (
                can.lease && args.ttl.is_some_and(|ttl| ttl < SHORTEST_TTL),
                "--ttl: the shortest lease is 5 s, as renewals need time on a busy machine or network",
            ),
        ])
    })
}
