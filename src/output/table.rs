//! Tables of plain text.

use chrono::{DateTime, SecondsFormat, Utc};
use unicode_width::UnicodeWidthStr as _;

/// The alignment of a column's cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under a line of headings, indented by two.
#[derive(Debug)]
pub(super) struct Table {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings and no rows.
    pub(super) fn new(columns: &[(&str, Align)]) -> Self {
        Self {
            aligns: columns.iter().map(|(_, align)| *align).collect(),
            rows: vec![columns.iter().map(|(heading, _)| (*heading).to_owned()).collect()],
        }
    }

    /// Adds a row, with a cell for each column.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| clean(&cell)).collect());
    }

    /// The table as text. Each line ends with a newline.
    pub(super) fn render(&self) -> String {
        let mut widths = vec![0; self.aligns.len()];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), align) in row.iter().zip(&widths).zip(&self.aligns) {
                // The width of a format counts characters, and some characters take two columns. So the
                // padding is added here.
                let padding = " ".repeat(width - cell.width());
                line.push_str("  ");
                match align {
                    Align::Left => line.extend([cell.as_str(), &padding]),
                    Align::Right => line.extend([padding.as_str(), cell]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// `text` without characters that would move the cursor or color the terminal: an export may contain any text.
pub(super) fn clean(text: &str) -> String {
    if text.chars().any(is_control) {
        text.chars().map(|c| if is_control(c) { '\u{fffd}' } else { c }).collect()
    } else {
        text.to_owned()
    }
}

/// Control characters, and those that change the direction of the text around them.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A time for a table, to the second; empty if there is none.
pub(super) fn time(time: Option<DateTime<Utc>>) -> String {
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let mut table = Table::new(&[("name", Align::Left), ("count", Align::Right), ("", Align::Left)]);
        table.row(["größe".to_owned(), "7".to_owned(), String::new()]);
        table.row(["x".to_owned(), "1234567".to_owned(), "new".to_owned()]);
        assert_eq!(table.render(), "  name     count\n  größe        7\n  x      1234567  new\n");
    }

    #[test]
    fn a_character_that_takes_two_columns_counts_as_two() {
        let mut table = Table::new(&[("name", Align::Left), ("slug", Align::Left)]);
        table.row(["東京".to_owned(), "tokyo".to_owned()]);
        table.row(["x".to_owned(), "y".to_owned()]);
        assert_eq!(table.render(), "  name  slug\n  東京  tokyo\n  x     y\n");
    }

    #[test]
    fn an_export_cannot_paint_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
        assert_eq!(clean("größe"), "größe");
    }
}
