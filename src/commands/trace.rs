//! `trace`: follow the lock, at an interval as the Python tool does, or event by event.

use super::{Failure, bare, look};
use crate::cli::{Common, TraceArgs};
use crate::exec;
use crate::exit::Exit;
use crate::output::{self, text, view};
use nix::poll::{PollTimeout, poll};
use std::time::{Duration, Instant};

/// The shortest interval: 0 is not a busy loop.
const SHORTEST: Duration = Duration::from_millis(1);

/// After a signal that came just before it fell asleep, it wakes within this time.
const LOOK: Duration = Duration::from_millis(200);

/// Carries it out.
pub fn perform(_common: &Common, args: &TraceArgs) -> Result<Exit, Failure> {
    exec::catch_interrupts(|| ());
    let interval = args.update.max(SHORTEST);
    let mut next = Instant::now();
    while exec::interrupt().is_none() {
        if !show(args)? {
            return Ok(Exit::Done); // nobody reads it any more
        }
        next += interval;
        pause_until(next);
    }
    Ok(ended_by(exec::interrupt()))
}

/// Ctrl-C is how one leaves it, as in the Python tool, which treats TERM alike.
fn ended_by(signal: Option<i32>) -> Exit {
    match signal {
        Some(signal) if signal != libc::SIGINT && signal != libc::SIGTERM => Exit::Signal(signal),
        _ => Exit::Done,
    }
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
fn pause_until(deadline: Instant) {
    while exec::interrupt().is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let slice = left.min(LOOK).as_millis().max(1);
        let _ = poll(&mut [], PollTimeout::try_from(slice).unwrap_or(PollTimeout::ZERO));
    }
}
