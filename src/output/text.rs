//! Locks as text and tables.

use super::columns::Table;
use super::past::Past;
use super::sentence::{self, duration, held, note_text};
use super::{Style, names, shown, view};
use chrono::{DateTime, Local, NaiveDateTime, TimeDelta};
use resourcelock::{Change, CommandEnd, HistoryRecord, Holder, Host, LockName, Mode, Requester, State, Waiter};
use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// Everything about one lock, for `state`.
pub fn state(state: &State, style: Style) -> String {
    let mut text = format!("{}: {}\n", shown(&state.name), headline(state, style));
    if let Some(owner) = owner(state) {
        let _ = writeln!(text, "  owner      {owner}");
    }
    for holder in &state.holders {
        let _ = writeln!(text, "  held by    {}", holder_line(holder));
    }
    if state.foreign {
        text.push_str("  held by    a program that uses the Python module or the bare semaphore\n");
    }
    for (place, waiter) in state.waiters.iter().enumerate() {
        let _ = writeln!(
            text,
            "  {:<10} {}. {}",
            if place == 0 { "waiting" } else { "" },
            place + 1,
            waiter_line(waiter)
        );
    }
    if state.foreign_waiters > 0 {
        let _ = writeln!(
            text,
            "  waiting    {} in the semaphore itself (the Python module)",
            state.foreign_waiters
        );
    }
    if !state.note.is_empty() {
        let label = if state.locked { "note" } else { "last note" };
        let _ = writeln!(text, "  {label:<10} {}", note(state));
    }
    if let Some(token) = state.abandoned {
        let _ = writeln!(
            text,
            "  abandoned  the holder with token {token}, or its command, died while holding it; a 'run' that ends well, or 'unget', clears this"
        );
    }
    if state.value > 1 {
        let _ = writeln!(
            text,
            "  value      {} (released by force too often; the next use resets it to 1)",
            state.value
        );
    }
    text
}

/// The note, with its time in the reader's zone. It was written in the zone of the process that took the lock: which one that
/// was is known if the note is about the last grant.
fn note(state: &State) -> String {
    let shown_here = || {
        let (written, message) = NaiveDateTime::parse_and_remainder(&state.note, "%Y-%m-%d %H:%M:%S%.f").ok()?;
        let granted = DateTime::<Local>::from(state.last_grant?);
        // Offsets are quarters of an hour; the two times may come from clocks that were read differently.
        let apart = written - granted.naive_utc();
        let quarters = (apart.num_milliseconds() as f64 / 900_000.0).round() as i64;
        let offset = TimeDelta::minutes(15 * quarters);
        let is_that_grant =
            (apart - offset).abs() < TimeDelta::milliseconds(50) && offset.abs() <= TimeDelta::hours(14);
        let here = written - offset + TimeDelta::seconds(granted.offset().local_minus_utc().into());
        is_that_grant.then(|| format!("{}{message}", here.format("%Y-%m-%d %H:%M:%S%.6f")))
    };
    shown_here().unwrap_or_else(|| state.note.clone())
}

/// Whose the lock is, and what that means for what is shown of it. `None` on an engine.
fn owner(state: &State) -> Option<String> {
    match (names::owner(state), state.trusted) {
        (Some(owner), true) => Some(owner),
        (owner, false) => {
            let owner = owner.unwrap_or_else(|| "not known".to_owned());
            Some(format!("{owner} (not trusted: all of this is what the owner claims)"))
        }
        (None, true) => None,
    }
}

fn headline(state: &State, style: Style) -> String {
    match (state.locked, longest(state)) {
        (true, Some(held)) => format!("{} for {}{}", style.taken("locked"), duration(held), slots(state)),
        (true, None) => style.taken("locked"),
        (false, _) if !state.holders.is_empty() => {
            format!("{} (its holder died; the next request gets it)", style.free("free"))
        }
        (false, _) => style.free("free"),
    }
}

/// How long it has been held by holders that are alive, as far as that is known.
pub(super) fn longest(state: &State) -> Option<Duration> {
    let living = state.holders.iter().filter(|holder| holder.alive);
    living.filter_map(|holder| holder.held).max()
}

fn slots(state: &State) -> String {
    match state.slots {
        Some(slots) => format!(", {} of {slots} slots", state.holders.len()),
        None => String::new(),
    }
}

fn holder_line(holder: &Holder) -> String {
    let mut text = format!("{}, {}", sentence::holder(holder), view::mode(holder.mode));
    match (holder.bound_pid, holder.detached) {
        (Some(pid), false) if holder.kept_by.is_none() => {
            let _ = write!(text, ", command {pid}");
        }
        (Some(_), true) => text.push_str(", until it ends"),
        (None, true) if !holder.lingers => text.push_str(", until released"),
        _ => {}
    }
    if let Some(left) = holder.expires_in {
        let _ = write!(text, ", expires in {}", duration(left));
    }
    if let Some((since, waited)) = holder.since.zip(holder.waited) {
        let _ = write!(text, ", since {} (waited {})", clock(since), duration(waited));
    }
    if let Some(token) = holder.token {
        let _ = write!(text, ", token {token}");
    }
    if !holder.alive {
        text.push_str(", DEAD");
        if let Some((since, held)) = holder.since.zip(holder.held) {
            let _ = write!(text, " (last known alive at {})", clock(since + held));
        }
    }
    if holder.presumed {
        let _ = write!(text, " ({})", sentence::PRESUMED);
    } else if !holder.requester.same_pid_namespace && holder.requester.host == Host::Local {
        text.push_str(" (process IDs of another container)");
    }
    text
}

fn waiter_line(waiter: &Waiter) -> String {
    let mut text = format!(
        "{}, {}{}",
        names::requester(&waiter.requester),
        view::mode(waiter.mode),
        held(", for", waiter.waited)
    );
    if waiter.stalled {
        text.push_str(", stopped: skipped until it runs again");
    }
    if !waiter.alive {
        text.push_str(", DEAD");
    }
    text
}

/// A line for `trace`: the time, the lock, who holds it.
pub fn trace(state: &State) -> String {
    let mut text = format!("{} {}: ", precise_clock(state.read_at), shown(&state.name));
    text.push_str(&summary(state));
    if !state.waiters.is_empty() {
        let _ = write!(text, "; {} waiting", state.waiters.len());
    }
    if !state.note.is_empty() {
        let _ = write!(text, "; note: {}", note(state));
    }
    if !state.trusted {
        let _ = write!(text, "; claims of {}", owner_word(state));
    }
    text
}

/// The owner, in a table; whether what stands beside it is what he claims.
pub(super) fn owner_cell(state: &State) -> String {
    match (names::owner(state), state.trusted) {
        (owner, true) => owner.unwrap_or_default(),
        (owner, false) => format!("{} (claims)", owner.unwrap_or_else(|| "?".to_owned())),
    }
}

fn owner_word(state: &State) -> String {
    names::owner(state).unwrap_or_else(|| "?".to_owned())
}

/// The same for a lock that does not exist.
pub fn trace_absent(name: &str) -> String {
    format!(
        "{} {}: free (never used)",
        precise_clock(SystemTime::now()),
        shown(name)
    )
}

/// A line for `trace -f`: the time, what happened, to whom.
pub fn event(change: &Change) -> String {
    let mut text = format!("{} {:<9} ", precise_clock(change.at()), view::event(change));
    match change {
        Change::Queued(waiter) => {
            text.push_str(&names::requester(&waiter.requester));
        }
        Change::Granted(holder) => {
            text.push_str(&sentence::holder(holder));
            if let Some(token) = holder.token {
                let _ = write!(text, ", token {token}");
            }
            text.push_str(&held(", waited", holder.waited));
        }
        Change::Ended(record) => {
            text.push_str(&names::requester(&record.requester));
            if let Some(token) = record.token {
                let _ = write!(text, ", token {token}");
                match record.last_alive() {
                    Some(last) => {
                        let _ = write!(text, ", found gone now, last known alive at {}", precise_clock(last));
                    }
                    None => text.push_str(&held(", held", record.held)),
                }
                match record.command_end {
                    Some(CommandEnd::Exited(status)) => _ = write!(text, ", status {status}"),
                    Some(CommandEnd::Killed(signal)) => _ = write!(text, ", killed by {}", names::signal(signal)),
                    _ => {}
                }
            } else {
                text.push_str(&held(", waited", record.waited));
            }
        }
        Change::Foreign(_) => text.push_str("by a program that uses the Python module or the bare semaphore"),
        Change::Missed(missed) => {
            let _ = write!(text, "{missed} ended before they could be read");
        }
        Change::Removed => text.push_str("its files were deleted; what follows is about a new lock of this name"),
        _ => {}
    }
    text
}

fn summary(state: &State) -> String {
    match state.holders.as_slice() {
        _ if !state.locked => "free".to_owned(),
        [] => "locked by the Python module or the bare semaphore".to_owned(),
        [one] => format!("locked by {}{}", sentence::holder(one), held(" for", one.held)),
        [first, others @ ..] => format!("locked by {} and {} more", sentence::holder(first), others.len()),
    }
}

/// A lock that cannot be inspected, and why.
pub struct Unreadable {
    pub name: LockName,
    pub reason: String,
    /// The owner of the file that is the reason, if he is known.
    pub owner: Option<u32>,
}

/// A table of locks, for `list`. Locks that cannot be inspected are listed with the reason.
pub fn list(states: &[State], unreadable: &[Unreadable], width: Option<usize>) -> String {
    if states.is_empty() && unreadable.is_empty() {
        return "no locks\n".to_owned();
    }
    let mut table = Table::new(&["LOCK", "OWNER", "STATE", "FOR", "HOLDER", "WAITING", "NOTE"]);
    for state in states {
        table.push([
            shown(&state.name),
            owner_cell(state),
            word(state).to_owned(),
            longest(state).map(duration).unwrap_or_default(),
            holder_cell(state),
            match state.waiters.len() + state.waiters_left_out {
                0 => String::new(),
                waiting => waiting.to_string(),
            },
            note_text(&state.note).to_owned(),
        ]);
    }
    for Unreadable { name, reason, owner } in unreadable {
        let nothing = String::new;
        table.push([
            shown(name),
            owner.map(names::user).unwrap_or_default(),
            "?".to_owned(),
            nothing(),
            nothing(),
            nothing(),
            shown(reason),
        ]);
    }
    table.render(width)
}

pub(super) fn word(state: &State) -> &'static str {
    match state.holders.first().map(|holder| holder.mode) {
        _ if !state.locked => "free",
        Some(Mode::Shared) => "shared",
        Some(Mode::Slots(_)) => "slots",
        _ => "locked",
    }
}

fn holder_cell(state: &State) -> String {
    match state.holders.as_slice() {
        [] if state.foreign => "(Python module)".to_owned(),
        [] => String::new(),
        [one] => sentence::holder(one),
        [first, others @ ..] => {
            let others = others.len() + state.holders_left_out;
            format!("{} +{others}", sentence::holder(first))
        }
    }
}

/// A table of ended requests, oldest first, for `history`: of one lock or `of_all`; `chosen`: there may be others.
pub fn history(past: &Past, of_all: bool, chosen: bool, width: Option<usize>) -> String {
    if past.records.is_empty() {
        return if chosen {
            "nothing of that kind\n"
        } else {
            "nothing yet\n"
        }
        .to_owned();
    }
    let lock = of_all.then_some("LOCK");
    let mut table = Table::new(
        &["ENDED"]
            .into_iter()
            .chain(lock)
            .chain([
                "HOW", "STATUS", "WAITED", "HELD", "PID", "USER", "MODE", "TOKEN", "OWNER", "COMMAND", "NOTE",
            ])
            .collect::<Vec<_>>(),
    );
    for (lock, record) in past.iter() {
        let time = |known: Option<Duration>| known.map_or_else(|| "-".to_owned(), duration);
        let mut cells = vec![date_and_clock(record.ended)];
        if of_all {
            cells.push(shown(&lock.name));
        }
        cells.extend([
            record.how.as_str().to_owned(),
            status_cell(record),
            time(record.waited),
            held_cell(record, duration),
            names::pid(&record.requester),
            names::user_of(&record.requester).unwrap_or_default(),
            view::mode(record.mode).to_owned(),
            record.token.map_or_else(|| "-".to_owned(), |token| token.to_string()),
            lock.state.as_ref().map(owner_cell).unwrap_or_default(),
            record.requester.command.clone().unwrap_or_default(),
            note_cell(&record.note, &record.requester).to_owned(),
        ]);
        table.push(cells);
    }
    table.render(width)
}

/// How the command of an ended hold ended.
pub(super) fn status_cell(record: &HistoryRecord) -> String {
    match record.command_end {
        Some(CommandEnd::Exited(status)) => status.to_string(),
        Some(CommandEnd::Killed(signal)) => names::signal(signal),
        _ => "-".to_owned(),
    }
}

/// How long it lasted.
pub(super) fn held_cell(record: &HistoryRecord, duration: fn(Duration) -> String) -> String {
    match (record.last_alive(), record.held) {
        // When it ended is not known.
        (Some(_), Some(Duration::ZERO)) => "?".to_owned(),
        (Some(_), Some(least)) => format!("≥ {}", duration(least)),
        (_, held) => held.map_or_else(|| "-".to_owned(), duration),
    }
}

/// What it was for, unless that is the command, which it is if nothing else was said.
pub(super) fn note_cell<'a>(note: &'a str, requester: &Requester) -> &'a str {
    match &requester.command {
        Some(command) if *command == note => "",
        _ => note,
    }
}

/// A time today, or with its date.
pub fn clock(time: SystemTime) -> String {
    let time = DateTime::<Local>::from(time);
    let format = if time.date_naive() == Local::now().date_naive() {
        "%H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    time.format(format).to_string()
}

fn precise_clock(time: SystemTime) -> String {
    DateTime::<Local>::from(time).format("%H:%M:%S%.6f").to_string()
}

fn date_and_clock(time: SystemTime) -> String {
    DateTime::<Local>::from(time)
        .format("%Y-%m-%d %H:%M:%S%.3f")
        .to_string()
}
