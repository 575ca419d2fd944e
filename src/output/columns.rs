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

    /// Renders the table as text. Lines are cut to `width`, that of the terminal; `None`: nothing is cut.
    pub fn render(&self, width: Option<usize>) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.width())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
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
}

/// Not wider than `width`; an ellipsis shows that something was cut.
fn cut(line: &str, width: Option<usize>) -> String {
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
