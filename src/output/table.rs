//! Aligned columns.

/// Lines of cells below a line of headings.
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

    /// Adds a line.
    pub fn push<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The text. `width` is the terminal's: the last column is cut to fit; `None`: nothing is cut.
    pub fn render(&self, width: Option<usize>) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| count(cell))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - count(cell) + GAP));
            }
            text.push_str(&cut(line.trim_end(), width));
            text.push('\n');
        }
        text
    }
}

fn count(text: &str) -> usize {
    text.chars().count()
}

/// Not longer than `width`; an ellipsis shows that something was cut.
fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if width > 0 && count(line) > width => {
            line.chars().take(width - 1).chain(std::iter::once('…')).collect()
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
}
