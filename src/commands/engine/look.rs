//! `state`, `list`, `trace`, `unget`.

use super::name;
use crate::cli::{Common, ListArgs, StateArgs, TraceArgs, UngetArgs};
use crate::commands::job::Job;
use crate::commands::{Failure, bare, trace, unget};
use crate::exec;
use crate::exit::Exit;
use crate::output::{self, Style, metrics, text, view};
use resourcelock::engines::Engine;
use resourcelock::{Cancel, Error};
use std::time::Instant;

/// Ends the wait for the next event; triggered by the signal handler.
static CANCEL: Cancel = Cancel::new();

pub fn state(engine: &dyn Engine, common: &Common, args: &StateArgs) -> Result<Exit, Failure> {
    let name = name(&args.name)?;
    let state = engine.state(&name).map_err(|e| Failure::lock(&args.name, e))?;
    if args.json {
        output::print_json(&view::LockView::of_engine(&state))?;
    } else if !common.quiet {
        output::print(&text::state(&state, Style::of_stdout()))?;
    }
    let holds = if args.mine {
        !Job::inherited().tokens_in(&state).is_empty()
    } else {
        !common.quiet || state.locked
    };
    Ok(if holds { Exit::Done } else { Exit::No })
}

pub fn list(engine: &dyn Engine, args: &ListArgs) -> Result<Exit, Failure> {
    let states = engine.list().map_err(Failure::engine)?;
    if args.json {
        output::print_json(&view::ListView {
            version: view::VERSION,
            locks: states.iter().map(view::LockView::of_engine).collect(),
            unreadable: Vec::new(),
        })?;
    } else if args.prometheus {
        output::print(&metrics::prometheus(&states, false))?;
    } else {
        output::print(&text::list(&states, &[], output::width()))?;
    }
    Ok(Exit::Done)
}

pub fn unget(engine: &dyn Engine, common: &Common, args: &UngetArgs) -> Result<Exit, Failure> {
    let refused = [(
        args.pid.is_some(),
        "--pid: it does not know this machine's processes; use --token",
    )];
    super::refuse(engine, &args.name, &refused)?;
    let name = name(&args.name)?;
    let released = engine
        .break_hold(&name, args.token)
        .map_err(|e| Failure::lock(&args.name, e))?;
    unget::report(common, args, released)?;
    Ok(if released || args.token.is_none() {
        Exit::Done
    } else {
        Exit::No
    })
}

pub fn trace(engine: &dyn Engine, args: &TraceArgs) -> Result<Exit, Failure> {
    exec::catch_interrupts(|| CANCEL.cancel());
    let lock = name(&args.name)?;
    let failed = |error| Failure::lock(&args.name, error);
    if args.follow {
        let mut follow = match engine.watch(&lock, &CANCEL) {
            Err(Error::Cancelled) => return Ok(trace::left()),
            follow => follow.map_err(failed)?,
        };
        while let Some(change) = follow.next(&CANCEL).map_err(failed)? {
            if !trace::print_event(bare(&args.name), &change, args.json)? {
                break;
            }
        }
        return Ok(trace::left());
    }
    let interval = args.update.max(trace::SHORTEST);
    let mut next = Instant::now();
    while exec::interrupt().is_none() {
        let state = match engine.look(&lock, &CANCEL) {
            Err(Error::Cancelled) => break,
            state => state.map_err(failed)?,
        };
        let is_read = if args.json {
            output::print_json(&view::LockView::of_engine(&state))?
        } else {
            output::print(&format!("{}\n", text::trace(&state)))?
        };
        if !is_read {
            break;
        }
        next += interval;
        trace::pause_until(next);
    }
    Ok(trace::left())
}
