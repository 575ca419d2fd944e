//! `history`: the last requests that ended, as a table, as JSON, or as a picture.

use super::{Failure, bare, look};
use crate::cli::{Common, HistoryArgs};
use crate::exit::Exit;
use crate::output::{self, text, view};

/// Carries it out.
pub fn perform(_common: &Common, args: &HistoryArgs) -> Result<Exit, Failure> {
    let records = look(&args.name)?.map(|lock| lock.history()).unwrap_or_default();
    if args.json {
        output::print_json(&view::HistoryView {
            version: view::VERSION,
            lock: bare(&args.name).to_owned(),
            records: records.iter().map(view::RecordView::from).collect(),
        })?;
    } else {
        output::print(&text::history(&records, output::width()))?;
    }
    Ok(Exit::Done)
}
