//! Aligned columns.

use unicode_width::UnicodeWidthStr;

/// Rows of cells below a row of headings.
pub struct Table {
    rows: Vec<Vec<String>>,
}

/// Between two columns.
const GAP: usize = 2;

impl Table {
    /// An empty table.
    pub fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub fn push(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    /// How wide each column's widest cell is.
    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        (0..columns)
            .map(|column| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.width())
                    .max()
                    .unwrap_or(0)
            })
            .collect()
    }

    /// Renders the table as text. Lines are cut to `width`, that of the terminal; `None`: nothing is cut.
    pub fn render(&self, width: Option<usize>) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - cell.width() + GAP));
            }
            text.push_str(&cut(line.trim_end(), width));
            text.push('\n');
        }
        text
    }

    /// Renders the table as lines that are `width` wide at most: where there is no room, the widest of the columns that
    /// may be cut is made narrower, one after the other, and shown with an ellipsis.
    pub fn fit(&self, shapes: &[Shape], width: usize) -> Vec<String> {
        let gap = if width < ROOMY { 1 } else { GAP };
        let mut widths = self.widths();
        for (width, shape) in widths.iter_mut().zip(shapes) {
            *width = (*width).max(shape.least);
        }
        let whole = |widths: &[usize]| widths.iter().sum::<usize>() + gap * widths.len().saturating_sub(1);
        while whole(&widths) > width {
            let wide = (0..widths.len()).filter(|&column| {
                let shape = shapes.get(column).copied().unwrap_or_default();
                shape.cut && widths[column] > shape.least.max(NARROWEST)
            });
            // The last of equals: what stands in front is what a reader looks for.
            let Some(widest) = wide.max_by_key(|&column| widths[column]) else {
                break;
            };
            widths[widest] -= 1;
        }
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let cell = cut(cell, Some(widths[column]));
                let spaces = " ".repeat(widths[column] - cell.width().min(widths[column]));
                let right = shapes.get(column).is_some_and(|shape| shape.right);
                let (before, after) = if right { (&*spaces, "") } else { ("", &*spaces) };
                line.extend([before, &cell, after, &" ".repeat(gap)]);
            }
            cut(line.trim_end(), Some(width))
        };
        self.rows.iter().map(line).collect()
    }
}

/// How a column looks that has to fit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
    /// It may be made narrower.
    pub cut: bool,
    /// Its cells end below each other: numbers.
    pub right: bool,
    /// It is at least as wide, so that it does not move when its content changes.
    pub least: usize,
}

impl Shape {
    /// Of words: they may be cut.
    pub const fn words(least: usize) -> Self {
        Self {
            cut: true,
            right: false,
            least,
        }
    }

    /// Of numbers: a part of one would be another one.
    pub const fn number(least: usize) -> Self {
        Self {
            cut: false,
            right: true,
            least,
        }
    }
}

/// A terminal that has room for wide gaps.
const ROOMY: usize = 100;
/// No column is made narrower.
const NARROWEST: usize = 4;

/// Not wider than `width`; an ellipsis shows that something was cut.
pub fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if width > 0 && line.width() > width => {
            let ends = line.char_indices().map(|(end, _)| end);
            let kept = ends.take_while(|&end| line[..end].width() < width).last();
            format!("{}…", &line[..kept.unwrap_or(0)])
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cut_to_the_width() {
        let mut table = Table::new(&["A", "NOTE"]);
        table.push(["größe".to_owned(), "one two".to_owned()]);
        table.push(["x".to_owned(), String::new()]);
        assert_eq!(table.render(None), "A      NOTE\ngröße  one two\nx\n");
        assert_eq!(table.render(Some(10)), "A      NO…\ngröße  on…\nx\n");
        assert_eq!(Table::new(&["A"]).render(Some(1)), "A\n");
    }

    #[test]
    fn columns_that_fit() {
        let mut table = Table::new(&["LOCK", "AGE", "NOTE"]);
        table.push(["a-long-name".to_owned(), "12s".to_owned(), "what it is for".to_owned()]);
        table.push(["備份".to_owned(), "3m05s".to_owned(), String::new()]);
        let (cut, age) = (Shape::words(0), Shape::number(6));
        assert_eq!(
            table.fit(&[cut, age, cut], 100),
            [
                "LOCK            AGE  NOTE",
                "a-long-name     12s  what it is for",
                "備份          3m05s"
            ]
        );
        assert_eq!(
            table.fit(&[cut, age, cut], 24),
            ["LOCK        AGE NOTE", "a-long-…    12s what it…", "備份      3m05s"]
        );
        for width in 1..40 {
            assert!(
                table
                    .fit(&[cut, age, cut], width)
                    .iter()
                    .all(|line| line.width() <= width)
            );
        }
    }

    /// Letters of East Asian scripts take two columns, combining marks none.
    #[test]
    fn columns_are_those_of_a_terminal() {
        let mut table = Table::new(&["A", "NOTE"]);
        table.push(["備份".to_owned(), "夜間備份".to_owned()]);
        table.push(["e\u{301}te\u{301}".to_owned(), "x".to_owned()]);
        assert_eq!(
            table.render(None),
            "A     NOTE\n備份  夜間備份\ne\u{301}te\u{301}   x\n"
        );
        // Half a letter is none.
        assert_eq!(table.render(Some(10)), "A     NOTE\n備份  夜…\ne\u{301}te\u{301}   x\n");
    }
}
