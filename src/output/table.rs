//! Tables of plain text, which fit the terminal.

use chrono::{DateTime, SecondsFormat, Utc};
use unicode_width::UnicodeWidthStr as _;

use super::{
    terminal::{HEADING, Width, styled},
    wrap::wrap,
};

/// The alignment of a column's cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under a line of headings, indented by two. A column without any content is left out.
#[derive(Debug)]
pub(super) struct Table {
    headings: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
    /// Headings of columns that may be left out where there is no room, the first one first.
    dispensable: &'static [&'static str],
    /// Headings of columns whose cells may go under their row where there is no room.
    under: &'static [&'static str],
    /// Whether a line below the table names the columns that were left out.
    names_left_out: bool,
}

/// Spaces before each cell.
const GAP: usize = 2;

impl Table {
    /// A table with these headings and no rows.
    pub(super) fn new(columns: &[(&str, Align)]) -> Self {
        Self {
            headings: columns.iter().map(|(heading, align)| ((*heading).to_owned(), *align)).collect(),
            rows: Vec::new(),
            dispensable: &[],
            under: &[],
            names_left_out: false,
        }
    }

    /// Where there is no room for all columns, leave these out, the first one first.
    pub(super) fn dispensable(self, headings: &'static [&'static str]) -> Self {
        Self { dispensable: headings, ..self }
    }

    /// Where there is no room for all columns, write the cells of these under their row, before the whole table becomes
    /// blocks. For columns that few rows have a cell for.
    pub(super) fn under(self, headings: &'static [&'static str]) -> Self {
        Self { under: headings, ..self }
    }

    /// Where columns were left out, name them in a line below the table.
    pub(super) fn naming_left_out(self) -> Self {
        Self { names_left_out: true, ..self }
    }

    /// Adds a row, with a cell for each column.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| isolated(&clean(&cell))).collect());
    }

    /// Whether no row was added.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, each line with a newline. If it is too wide even without the dispensable columns, each row
    /// becomes a block of lines, one for each of its cells, those of the dispensable columns too.
    pub(super) fn render(&self, width: Width) -> String {
        let filled: Vec<usize> = (0..self.headings.len())
            .filter(|column| {
                self.rows.is_empty()
                    || self.rows.iter().any(|row| row.get(*column).is_some_and(|it| !it.is_empty()))
            })
            .collect();
        let mut shown = filled.clone();
        let mut dispensable = self.dispensable.iter();
        loop {
            if let Some(lines) = self.lines(&shown, &[], width) {
                return lines + &self.left_out(&filled, &shown, width);
            }
            match dispensable.next() {
                Some(name) => {
                    shown.retain(|column| self.headings.get(*column).is_none_or(|(it, _)| it != name))
                }
                None => break,
            }
        }
        let is_under = |column: &usize| {
            self.headings.get(*column).is_some_and(|(it, _)| self.under.contains(&it.as_str()))
        };
        let (under, beside): (Vec<usize>, Vec<usize>) = shown.iter().partition(|column| is_under(column));
        match self.lines(&beside, &under, width) {
            Some(lines) => lines + &self.left_out(&filled, &shown, width),
            None => self.blocks(&filled, width),
        }
    }

    /// The line that names the columns with content that are not shown; empty if all are shown, or if the caller does not want the line.
    fn left_out(&self, filled: &[usize], shown: &[usize], width: Width) -> String {
        let missing = filled.iter().filter(|column| !shown.contains(column));
        let names: Vec<&str> =
            missing.filter_map(|column| self.headings.get(*column)).map(|(name, _)| name.as_str()).collect();
        if names.is_empty() || !self.names_left_out {
            return String::new();
        }
        wrap(&format!("columns left out: {}", names.join(", ")), width, "  ", 2)
    }

    /// The width of a column.
    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width());
        let heading = self.headings.get(column).map_or(0, |(heading, _)| heading.width());
        cells.fold(heading, usize::max)
    }

    /// A line for each row, with the cells of `under` below it. `None` if the lines do not fit.
    fn lines(&self, shown: &[usize], under: &[usize], room: Width) -> Option<String> {
        let widths: Vec<usize> = shown.iter().map(|column| self.width(*column)).collect();
        if widths.iter().map(|width| width + GAP).sum::<usize>() > room.0 {
            return None;
        }
        let headings: Vec<String> = self.headings.iter().map(|(heading, _)| heading.clone()).collect();
        let mut text = String::new();
        for (number, row) in std::iter::once(&headings).chain(&self.rows).enumerate() {
            let mut line = String::new();
            for (column, width) in shown.iter().zip(&widths) {
                let cell = row.get(*column).map_or("", String::as_str);
                // The width of a format counts characters, and some characters take two columns. So the
                // padding is added here.
                let padding = " ".repeat(width - cell.width());
                line.push_str(&" ".repeat(GAP));
                match self.headings.get(*column) {
                    Some((_, Align::Right)) => line.extend([padding.as_str(), cell]),
                    _ => line.extend([cell, &padding]),
                }
            }
            let line = line.trim_end();
            text.push_str(&if number == 0 { styled(line, HEADING) } else { line.to_owned() });
            text.push('\n');
            if number > 0 {
                text.push_str(&self.cells(row, under, room, 2 * GAP));
            }
        }
        Some(text)
    }

    /// A line for each of these cells of a row that has a content, indented by `indent`.
    fn cells(&self, row: &[String], columns: &[usize], width: Width, indent: usize) -> String {
        let cells =
            columns.iter().filter_map(|column| Some((self.headings.get(*column)?, row.get(*column)?)));
        let lines = cells.filter(|(_, cell)| !cell.is_empty()).map(|((heading, _), cell)| {
            let heading = if heading.is_empty() { String::new() } else { format!("{heading}: ") };
            wrap(cell, width, &format!("{}{heading}", " ".repeat(indent)), indent + GAP)
        });
        lines.collect()
    }

    fn blocks(&self, shown: &[usize], width: Width) -> String {
        let blocks = self.rows.iter().map(|row| self.cells(row, shown, width, GAP));
        blocks.collect::<Vec<_>>().join("\n")
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
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text that goes from right to left, between marks that keep the rest of its line from left to right. They take no
/// columns. Other texts stay as they are.
pub(super) fn isolated(text: &str) -> String {
    if text.chars().any(is_right_to_left) { format!("\u{2068}{text}\u{2069}") } else { text.to_owned() }
}

/// Letters of the scripts that are written from right to left, such as Hebrew and Arabic.
fn is_right_to_left(character: char) -> bool {
    matches!(character,
        '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}' | '\u{10800}'..='\u{10fff}'
        | '\u{1e800}'..='\u{1efff}')
}

/// A time for a table, to the second; empty if there is none.
pub(super) fn time(time: Option<DateTime<Utc>>) -> String {
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::terminal::plain, *};

    fn rendered(table: &Table, width: usize) -> String {
        plain(&table.render(Width(width)))
    }

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let mut table = Table::new(&[("name", Align::Left), ("count", Align::Right), ("", Align::Left)]);
        table.row(["größe".to_owned(), "7".to_owned(), String::new()]);
        table.row(["x".to_owned(), "1234567".to_owned(), "new".to_owned()]);
        assert_eq!(rendered(&table, 80), "  name     count\n  größe        7\n  x      1234567  new\n");
    }

    #[test]
    fn a_character_that_takes_two_columns_counts_as_two() {
        let mut table = Table::new(&[("name", Align::Left), ("slug", Align::Left)]);
        table.row(["東京".to_owned(), "tokyo".to_owned()]);
        table.row(["x".to_owned(), "y".to_owned()]);
        assert_eq!(rendered(&table, 80), "  name  slug\n  東京  tokyo\n  x     y\n");
    }

    #[test]
    fn a_name_from_right_to_left_does_not_turn_its_row_around() {
        let mut table = Table::new(&[("name", Align::Left), ("slug", Align::Left)]);
        table.row(["שלום".to_owned(), "shalom".to_owned()]);
        table.row(["x".to_owned(), "y".to_owned()]);
        assert_eq!(rendered(&table, 80), "  name  slug\n  \u{2068}שלום\u{2069}  shalom\n  x     y\n");
    }

    #[test]
    fn an_empty_column_is_left_out() {
        let mut table = Table::new(&[("name", Align::Left), ("address", Align::Left), ("id", Align::Right)]);
        assert_eq!(rendered(&table, 80), "  name  address  id\n");
        table.row(["x".to_owned(), String::new(), "1".to_owned()]);
        assert_eq!(rendered(&table, 80), "  name  id\n  x      1\n");
    }

    #[test]
    fn a_cell_that_few_rows_have_goes_under_its_row_before_the_table_becomes_blocks() {
        let columns =
            [("slug", Align::Left), ("region", Align::Left), ("operation", Align::Left), ("", Align::Left)];
        let mut table = Table::new(&columns).under(&["operation", ""]);
        table.row(["acme", "us", "0d6a5a3e-8d1f", "by hand"].map(str::to_owned));
        table.row(["support", "us", "", ""].map(str::to_owned));
        assert_eq!(
            rendered(&table, 30),
            "  slug     region\n  acme     us\n    operation: 0d6a5a3e-8d1f\n    by hand\n  support  us\n"
        );
        assert_eq!(rendered(&table, 80).lines().count(), 3);
        assert!(rendered(&table, 16).starts_with("  slug: acme\n  region: us\n"));
    }

    #[test]
    fn a_table_that_is_too_wide_loses_columns_and_then_becomes_blocks() {
        let columns = [("slug", Align::Left), ("bytes", Align::Right), ("region", Align::Left)];
        let mut table = Table::new(&columns).dispensable(&["bytes"]);
        table.row(["acme".to_owned(), "123456".to_owned(), "us-east".to_owned()]);
        table.row(["a-long-slug-of-someone".to_owned(), "1".to_owned(), String::new()]);
        assert!(rendered(&table, 41).starts_with("  slug                     bytes  region\n"));
        assert!(
            rendered(&table, 40).starts_with("  slug                    region\n"),
            "{}",
            rendered(&table, 40)
        );
        assert_eq!(
            rendered(&table, 20),
            "  slug: acme\n  bytes: 123456\n  region: us-east\n\n  slug: a-long-slug-of-someone\n  bytes: 1\n"
        );
        let named = table.naming_left_out();
        assert!(rendered(&named, 40).ends_with("\n  columns left out: bytes\n"), "{}", rendered(&named, 40));
        assert!(!rendered(&named, 41).contains("left out"));
    }

    #[test]
    fn an_export_cannot_paint_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
        assert_eq!(clean("größe"), "größe");
    }
}
