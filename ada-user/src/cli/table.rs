//! Tables for people: columns as wide as their widest cell, two blanks between them.
//!
//! Invariant: no line ends in blanks.

use std::fmt;

/// A column's title, and whether its cells are numbers, which stand to the right.
pub(super) type Column = (&'static str, bool);

/// Rows under titles.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(super) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells beyond the last column are left out.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().take(self.columns.len()).collect());
    }

    /// Whether there are no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn widths(&self) -> Vec<usize> {
        let width = |(index, (title, _)): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count());
            cells.chain([title.len()]).max().unwrap_or(0)
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    fn line<'a>(&self, widths: &[usize], cells: impl Iterator<Item = &'a str>) -> String {
        let mut line = String::new();
        for (index, ((cell, width), (_, number))) in cells.zip(widths).zip(&self.columns).enumerate() {
            // The last column may be very wide.
            let missing =
                if !number && index + 1 == self.columns.len() { 0 } else { width.saturating_sub(cell.chars().count()) };
            let (before, after) = if *number { (missing, 0) } else { (0, missing) };
            line.extend(std::iter::repeat_n(' ', before));
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', after + 2));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        writeln!(f, "{}", self.line(&widths, self.columns.iter().map(|(title, _)| *title)))?;
        for row in &self.rows {
            writeln!(f, "{}", self.line(&widths, row.iter().map(String::as_str)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[("NAME", false), ("SIZE", true), ("NOTE", false)]);
        assert!(table.is_empty());
        table.row(["größe", "1", ""].map(String::from));
        table.row(["b", "12345", "last"].map(String::from));
        assert_eq!(table.to_string(), "NAME    SIZE  NOTE\ngröße      1\nb      12345  last\n");
        table.row(["w".repeat(70_000), "2".to_owned(), String::new()]);
        assert!(table.to_string().lines().last().is_some_and(|line| line.len() > 70_000));
    }
}
