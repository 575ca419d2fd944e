//! What an engine cannot do is refused here, before it is asked. Which option needs what stands at its definition
//! ([`Need`]), and what an engine has is declared by it ([`Capabilities`]).

use crate::cli::{GetArgs, Invocation, Need, Task};
use crate::commands::Failure;
use resourcelock::engines::{Capabilities, Engine, SHORTEST_TTL};

/// Checks that `engine` can do what is asked for.
///
/// # Errors
/// It cannot; the line says what can be done instead.
pub fn check(engine: &dyn Engine, invocation: &Invocation) -> Result<(), Failure> {
    let can = engine.capabilities();
    let refusal = match (invocation.lacks(|need| has(can, need)), &invocation.task) {
        (Some(lack), _) => format!("{}: {}", lack.what, lack.why),
        (None, Task::Get(args)) if can.lease => match lease(args) {
            Some(what) => what.to_owned(),
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    let refusal = if can.remote {
        format!("not on {}: {refusal}", engine.kind())
    } else {
        refusal
    };
    Err(match invocation.task.name() {
        Some(name) => Failure::about(name, refusal),
        None => Failure::general(refusal),
    })
}

fn has(can: Capabilities, need: Need) -> bool {
    match need {
        Need::Local => !can.remote,
        Need::Files => can.files,
        Need::Processes => can.processes,
        Need::Lease => can.lease,
        Need::Detached => can.detached,
        Need::Slots => can.slots,
        Need::Abandoned => can.abandoned,
        Need::History => can.history,
        Need::Skips => can.skips,
    }
}

/// What `get` has to say about the lease, and does not.
fn lease(args: &GetArgs) -> Option<&'static str> {
    match args.ttl {
        None if args.auto_unget.is_none() && !args.forever => {
            Some("a lock that nobody renews needs an end: use --ttl DURATION (or --forever), or run")
        }
        Some(ttl) if ttl < SHORTEST_TTL => {
            Some("--ttl: the shortest lease is 5 s, as renewals need time on a busy machine or network")
        }
        _ => None,
    }
}
