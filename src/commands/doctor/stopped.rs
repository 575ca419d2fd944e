//! A process that is stopped in the middle of changing a lock's table: until it runs again or ends, nobody else can change
//! anything there.

use super::{Finding, Remedy};
use crate::commands::support::stopped_inside::told;
use crate::output::view::Level;
use resourcelock::engines::Engine;
use resourcelock::{Cancel, Inside, LockName, State};
use std::time::Duration;

/// Nobody is inside for longer than microseconds, unless his process is stopped, or kept from running on a busy machine.
const LOOKS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(25);

/// Locks whose tables are blocked. Takes half a second if there may be some.
pub fn findings(engine: &dyn Engine, states: &[State]) -> Vec<Finding> {
    let mut inside: Vec<(&LockName, Inside)> = states
        .iter()
        .filter_map(|state| Some((&state.name, state.inside?)))
        .collect();
    for _ in 0..LOOKS {
        if inside.is_empty() {
            break;
        }
        std::thread::sleep(BETWEEN);
        inside.retain(|(name, before)| {
            let state = engine.state(name, &Cancel::new());
            let now = state.ok().flatten().and_then(|state| state.inside);
            now.is_some_and(|now| now.handle == before.handle)
        });
    }
    inside.into_iter().map(|(name, inside)| finding(name, inside)).collect()
}

fn finding(name: &LockName, inside: Inside) -> Finding {
    let (what, mend) = told(name, inside.pid);
    Finding {
        level: Level::Problem,
        kind: "stopped inside",
        lock: Some(name.to_string()),
        what,
        why: "nobody can acquire the lock meanwhile: requests end with status 75",
        mend,
        remedy: Remedy::None,
    }
}
