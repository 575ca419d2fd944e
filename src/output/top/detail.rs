//! What the live view shows of one lock alone: its state, its queue, and what has ended.

use super::{Line, Look, filled};
use crate::output::columns::{Shape, Table};
use crate::output::sentence::short_duration;
use crate::output::text;
use crate::output::{Style, names, shown};
use resourcelock::{HistoryRecord, State};
use unicode_width::UnicodeWidthStr;

/// One lock with everything about it.
#[derive(Debug, Clone)]
pub struct Detail {
    pub name: String,
    /// As `state` shows it.
    state: Vec<String>,
    /// The last first.
    past: Vec<HistoryRecord>,
    /// Why the past is not all that there was.
    gap: Option<String>,
}

impl Detail {
    /// Of a lock and what has ended of it, oldest first; `gap` says why that is not all that there was.
    pub fn new(name: &str, state: Option<&State>, mut past: Vec<HistoryRecord>, gap: Option<String>) -> Self {
        past.reverse();
        let state = match state {
            Some(state) => text::state(state, Style::default()),
            None => format!("{}: free (never used)", shown(name)),
        };
        Self {
            name: name.to_owned(),
            state: state.lines().map(str::to_owned).collect(),
            past,
            gap,
        }
    }

    /// How many lines it has.
    pub fn length(&self, columns: usize) -> usize {
        self.lines(columns).len()
    }

    pub(super) fn lines(&self, columns: usize) -> Vec<Line> {
        let plain = |text: &str| Line::new(text, Look::Plain, columns);
        let mut lines: Vec<Line> = Vec::new();
        for line in &self.state {
            lines.extend(wrapped(line, columns).iter().map(|part| plain(part)));
        }
        lines.push(plain(""));
        if let Some(gap) = &self.gap {
            lines.extend(wrapped(gap, columns).iter().map(|part| plain(part)));
        }
        let mut table = Table::new(&[
            "ENDED", "HOW", "STATUS", "HELD", "WAITED", "PID", "USER", "COMMAND", "NOTE",
        ]);
        let shapes = [
            Shape::words(8),
            Shape::words(9),
            Shape::words(6),
            Shape::number(6),
            Shape::number(6),
            Shape::words(7),
            Shape::words(4),
            Shape::words(7),
            Shape::words(4),
        ];
        for record in &self.past {
            table.push([
                text::clock(record.ended),
                record.how.as_str().to_owned(),
                text::status_cell(record),
                text::held_cell(record, short_duration),
                record.waited.map_or_else(|| "-".to_owned(), short_duration),
                names::process_on(record.requester.pid, &record.requester.host),
                names::user_of(&record.requester).unwrap_or_default(),
                record.requester.command.clone().unwrap_or_default(),
                text::note_cell(&record.note, &record.requester).to_owned(),
            ]);
        }
        let mut rows = table.fit(&shapes, columns).into_iter();
        let headings = rows.next().unwrap_or_default();
        lines.push(Line::new(filled(headings, columns), Look::Headings, columns));
        if self.past.is_empty() {
            lines.push(plain("nothing has ended yet"));
        }
        for (record, row) in self.past.iter().zip(rows) {
            let look = if record.failed() { Look::Alarm } else { Look::Plain };
            lines.push(Line::new(row, look, columns));
        }
        lines
    }
}

/// How far the continuation of a line is indented: as deep as what `state` says.
const INDENT: usize = 13;

/// A line in pieces of at most this width, broken between words where there are any.
fn wrapped(line: &str, columns: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for word in line.split_inclusive(' ') {
        if !piece.trim().is_empty() && piece.width() + word.trim_end().width() > columns {
            pieces.push(std::mem::take(&mut piece));
            if columns > 2 * INDENT {
                piece.push_str(&" ".repeat(INDENT));
            }
        }
        piece.push_str(word);
    }
    pieces.push(piece);
    pieces.into_iter().map(|piece| piece.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_goes_on_indented() {
        assert_eq!(
            wrapped(
                "  held by    2048 (sleep, root), exclusive, command 2052, since 09:31:02",
                50
            ),
            [
                "  held by    2048 (sleep, root), exclusive,",
                "             command 2052, since 09:31:02"
            ]
        );
    }
}
