//! `trace`: follow the lock, at an interval as the Python tool does, or event by event.

use super::{Failure, bare, look};
use crate::cli::{Common, TraceArgs};
use crate::exec;
use crate::exit::Exit;
use crate::output::{self, text, view};
use nix::poll::{PollTimeout, poll};
use resourcelock::{Cancel, Change};
use std::io;
use std::time::{Duration, Instant};

/// The shortest interval: 0 is not a busy loop.
pub const SHORTEST: Duration = Duration::from_millis(1);

/// After a signal that came just before it fell asleep, it wakes within this time.
const LOOK: Duration = Duration::from_millis(200);

/// Ends the wait for the next event; triggered by the signal handler.
static CANCEL: Cancel = Cancel::new();

/// Carries it out.
pub fn perform(_common: &Common, args: &TraceArgs) -> Result<Exit, Failure> {
    exec::catch_interrupts(|| CANCEL.cancel());
    if args.follow {
        follow(args)?;
    } else {
        repeat(args)?;
    }
    Ok(left())
}

/// How it ends when it has been left.
pub fn left() -> Exit {
    match exec::interrupt() {
        // Ctrl-C is how one leaves it, as in the Python tool, which treats TERM alike.
        Some(signal) if signal != libc::SIGINT && signal != libc::SIGTERM => Exit::Signal(signal),
        _ => Exit::Done,
    }
}

/// A line at each interval, until a signal comes or nobody reads any more.
fn repeat(args: &TraceArgs) -> Result<(), Failure> {
    let interval = args.update.max(SHORTEST);
    let mut next = Instant::now();
    while exec::interrupt().is_none() && show(args)? {
        next += interval;
        pause_until(next);
    }
    Ok(())
}

/// One line. The lock is opened anew each time: it may be created, removed and created again meanwhile.
fn show(args: &TraceArgs) -> Result<bool, Failure> {
    let state = look(&args.name)?.map(|lock| lock.state());
    let name = bare(&args.name);
    Ok(match (state, args.json) {
        (Some(state), true) => output::print_json(&view::LockView::from(&state))?,
        (Some(state), false) => output::print(&format!("{}\n", text::trace(&state)))?,
        (None, true) => output::print_json(&view::LockView::absent(name))?,
        (None, false) => output::print(&format!("{}\n", text::trace_absent(name)))?,
    })
}

/// Sleeps; a signal ends it.
pub fn pause_until(deadline: Instant) {
    while exec::interrupt().is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let slice = left.min(LOOK).as_millis().max(1);
        let _ = poll(&mut [], PollTimeout::try_from(slice).unwrap_or(PollTimeout::ZERO));
    }
}

/// A line for each event.
fn follow(args: &TraceArgs) -> Result<(), Failure> {
    let Some(lock) = look(&args.name)? else {
        return Err(Failure::about(
            &args.name,
            "there is no such lock yet: nothing to follow",
        ));
    };
    let name = bare(&args.name);
    let mut watch = lock.watch();
    while let Some(change) = watch.next(&CANCEL) {
        if !print_event(name, &change, args.json)? {
            break;
        }
    }
    Ok(())
}

/// Prints one event of the lock `name`: whether anybody still reads.
pub fn print_event(name: &str, change: &Change, json: bool) -> io::Result<bool> {
    if json {
        output::print_json(&view::EventView::new(name, change))
    } else {
        output::print(&format!("{}\n", text::event(change)))
    }
}
