//! `history`: the last requests that ended, as a table, as JSON, or as a picture.

use super::{Failure, bare};
use crate::cli::HistoryArgs;
use crate::exit::Exit;
use crate::output::{self, text, timeline::Timeline, view};
use resourcelock::Cancel;
use resourcelock::engines::Engine;
use std::fs;
use std::path::Path;

/// Carries it out.
pub fn perform(engine: &dyn Engine, args: &HistoryArgs) -> Result<Exit, Failure> {
    let lock = super::name(&args.name)?;
    let failed = |error| Failure::lock(&args.name, error);
    let name = bare(&args.name);
    let records = engine.history(&lock).map_err(failed)?.unwrap_or_default();
    let state = engine.state(&lock, &Cancel::new()).map_err(failed)?;
    if args.svg.is_some() || args.html.is_some() {
        let timeline = Timeline::new(name, &records, state.as_ref());
        write(name, args.svg.as_deref(), || timeline.svg())?;
        write(name, args.html.as_deref(), || timeline.html())?;
        if !args.json {
            return Ok(Exit::Done);
        }
    }
    if args.json {
        output::print_json(&view::HistoryView {
            version: view::VERSION,
            lock: name.to_owned(),
            owner: state
                .as_ref()
                .map_or_else(view::OwnerView::nobody, view::OwnerView::from),
            records: records.iter().map(view::RecordView::from).collect(),
        })?;
    } else {
        output::print(&text::history(state.as_ref(), &records, output::width()))?;
    }
    Ok(Exit::Done)
}

/// Writes a picture to `path`, if one was given; `-` is standard output.
fn write(name: &str, path: Option<&Path>, picture: impl FnOnce() -> String) -> Result<(), Failure> {
    match path {
        None => Ok(()),
        Some(path) if path == Path::new("-") => {
            output::print(&picture())?;
            Ok(())
        }
        Some(path) => fs::write(path, picture())
            .map_err(|error| Failure::about(name, format!("cannot write {}: {error}", path.display()))),
    }
}
