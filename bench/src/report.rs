//! Results, as a table for people and as JSON for programs.

use std::{io::Write as _, path::Path};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::machine;

/// The results of one run.
#[derive(Debug)]
pub struct Report {
    title: String,
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
    values: Vec<Value>,
    notes: Vec<String>,
}

impl Report {
    /// A report without results yet.
    #[must_use]
    pub fn new(title: &str, columns: &'static [&'static str]) -> Self {
        Self { title: title.to_owned(), columns, rows: Vec::new(), values: Vec::new(), notes: Vec::new() }
    }

    /// Adds a row of the table for people, and the same figures with their units for programs.
    pub fn add(&mut self, row: Vec<String>, value: Value) {
        self.rows.push(row);
        self.values.push(value);
    }

    /// Adds a sentence under the table.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// The table, as Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|name| name.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let cells: Vec<String> =
                cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = format!("{}\n\n", self.title);
        text.push_str(&line(&mut self.columns.iter().copied()));
        let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        text.push_str(&line(&mut rules.iter().map(String::as_str)));
        for row in &self.rows {
            text.push_str(&line(&mut row.iter().map(String::as_str)));
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }

    /// Writes the table to standard output, and the JSON to `json` if that is given.
    ///
    /// # Errors
    /// If either cannot be written.
    pub fn show(&self, json: Option<&Path>) -> anyhow::Result<()> {
        writeln!(std::io::stdout(), "{}", self.table())?;
        if let Some(path) = json {
            let value = json!({
                "title": self.title, "machine": machine::describe(), "results": self.values, "notes": self.notes,
            });
            std::fs::write(path, format!("{value:#}\n"))
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(())
    }
}

/// The middle one of some figures; of an even number, the lower of the two middle ones. NaN if there are none.
#[must_use]
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// The figure that `percent` percent of the figures do not exceed. `sorted` must be in ascending order; NaN if it is
/// empty.
#[must_use]
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let index = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(index.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_summed_up() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 1.0);
        let figures: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert_eq!(percentile(&figures, 99.9), 999.0);
        assert_eq!(percentile(&figures, 50.0), 500.0);
        assert_eq!(percentile(&[7.0], 99.0), 7.0);
    }

    #[test]
    fn a_table_is_markdown() {
        let mut report = Report::new("T", &["a", "bc"]);
        report.add(vec!["long".to_owned(), "x".to_owned()], json!({}));
        assert_eq!(report.table(), "T\n\n| a    | bc |\n| ---- | -- |\n| long | x  |\n");
    }
}
