//! `history`: the last requests that ended, of one lock or of all, as a table, as JSON, or as a picture.

use super::{Failure, bare, list};
use crate::cli::{Common, HistoryArgs};
use crate::exit::Exit;
use crate::output::past::Past;
use crate::output::text::Unreadable;
use crate::output::{self, text, timeline::Timeline, view};
use chrono::Local;
use resourcelock::Cancel;
use resourcelock::engines::Engine;
use std::fs;
use std::path::Path;

/// Carries it out.
pub fn perform(engine: &dyn Engine, common: &Common, args: &HistoryArgs) -> Result<Exit, Failure> {
    let mut past = Past::default();
    let mut unreadable = Vec::new();
    match &args.name {
        Some(name) => read_one(engine, name, &mut past)?,
        None => unreadable = read_all(engine, &mut past)?,
    }
    choose(&mut past, args);
    if args.svg.is_some() || args.html.is_some() {
        draw(&past, args)?;
        if !args.json {
            return Ok(Exit::Done);
        }
    }
    match (args.json, past.locks.as_slice()) {
        (true, [lock]) if args.name.is_some() => _ = output::print_json(&view::HistoryView::new(lock, &past))?,
        (true, _) => _ = output::print_json(&view::HistoriesView::new(&past, unreadable))?,
        (false, _) => {
            let chosen = args.failed || args.since.is_some() || args.last == Some(0);
            let of_all = args.name.is_none();
            output::print(&text::history(&past, of_all, chosen, output::width()))?;
            if !unreadable.is_empty() && !common.quiet {
                let locks = unreadable.len();
                output::message(&format!(
                    "resourcelock: not shown: {locks} that cannot be inspected; see: resourcelock list"
                ));
            }
        }
    }
    Ok(Exit::Done)
}

fn read_one(engine: &dyn Engine, name: &str, past: &mut Past) -> Result<(), Failure> {
    let lock = super::name(name)?;
    let failed = |error| Failure::lock(name, error);
    let records = engine.history(&lock).map_err(failed)?.unwrap_or_default();
    let state = engine.state(&lock, &Cancel::new()).map_err(failed)?;
    past.add(bare(name), state, records);
    Ok(())
}

/// Returns the locks that cannot be inspected.
fn read_all(engine: &dyn Engine, past: &mut Past) -> Result<Vec<Unreadable>, Failure> {
    let listing = engine.list().map_err(Failure::engine)?;
    let mut unreadable = listing.unreadable;
    for state in listing.states {
        match engine.history(&state.name) {
            // `None`: removed since it was listed.
            Ok(records) => past.add(state.name.clone().as_str(), Some(state), records.unwrap_or_default()),
            Err(error) => unreadable.push((state.name, error)),
        }
    }
    Ok(list::with_reasons(&unreadable))
}

/// Leaves what was asked for.
fn choose(past: &mut Past, args: &HistoryArgs) {
    let since = args.since.map(|since| since.instant(Local::now()));
    past.records
        .retain(|(_, record)| since.is_none_or(|since| record.ended >= since) && (!args.failed || record.failed()));
    if let Some(last) = args.last {
        past.records.drain(..past.records.len().saturating_sub(last));
    }
}

fn draw(past: &Past, args: &HistoryArgs) -> Result<(), Failure> {
    let name = args.name.as_deref().map(bare);
    let timeline = Timeline::new(name, past);
    write(name, args.svg.as_deref(), || timeline.svg())?;
    write(name, args.html.as_deref(), || timeline.html())
}

/// Writes a picture to `path`, if one was given; `-` is standard output.
fn write(name: Option<&str>, path: Option<&Path>, picture: impl FnOnce() -> String) -> Result<(), Failure> {
    match path {
        None => Ok(()),
        Some(path) if path == Path::new("-") => {
            output::print(&picture())?;
            Ok(())
        }
        Some(path) => fs::write(path, picture()).map_err(|error| {
            let what = format!("cannot write {}: {error}", path.display());
            match name {
                Some(name) => Failure::about(name, what),
                None => Failure::general(what),
            }
        }),
    }
}
