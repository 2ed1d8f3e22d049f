//! What the terminal can show: its width, and whether it gets colors.

use std::io::{self, IsTerminal as _};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use console::Term;

/// When to use colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    Always,
    Never,
}

impl Color {
    /// From now on, all output follows this choice.
    pub(crate) fn apply(self) {
        match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        }
        .write_global();
    }
}

/// Whether stderr gets colors.
pub(crate) fn stderr_has_color() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// How wide reports are without a terminal, and the widest that a paragraph is read well.
const REPORT: usize = 80;
const WIDEST_REPORT: usize = 110;
/// The narrowest width that is laid out for; a narrower terminal breaks lines itself.
const NARROWEST: usize = 20;

/// How many columns a text may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Width(pub(crate) usize);

impl Width {
    /// Nothing is broken or left out.
    pub(crate) const UNLIMITED: Self = Self(usize::MAX);

    /// The width of a report on stdout: that of the terminal within limits, 80 columns without one.
    pub(crate) fn of_report() -> Self {
        Self(stdout_columns().map_or(REPORT, |columns| columns.clamp(NARROWEST, WIDEST_REPORT)))
    }

    /// The width of a list on stdout: that of the terminal. Without one, a program reads the list, and each of its rows
    /// is one line.
    pub(crate) fn of_list() -> Self {
        stdout_columns().map_or(Self::UNLIMITED, |columns| Self(columns.max(NARROWEST)))
    }

    /// The columns of the terminal that stderr is; `None` if it is not a terminal.
    pub(crate) fn of_stderr() -> Option<Self> {
        let columns = io::stderr().is_terminal().then(|| Term::stderr().size_checked()).flatten();
        columns.map(|(_, columns)| Self(usize::from(columns).max(NARROWEST)))
    }
}

/// The columns of the terminal that stdout is; `None` if it is not a terminal, or one that does not know its size.
fn stdout_columns() -> Option<usize> {
    let size = io::stdout().is_terminal().then(|| Term::stdout().size_checked()).flatten();
    size.map(|(_, columns)| usize::from(columns)).filter(|columns| *columns > 0)
}

const fn color(color: AnsiColor) -> Style {
    Style::new().fg_color(Some(anstyle::Color::Ansi(color)))
}

/// What is good: an import that succeeded.
pub(super) const GOOD: Style = color(AnsiColor::Green);
/// What went wrong.
pub(super) const BAD: Style = color(AnsiColor::Red).bold();
/// What a person should look at.
pub(super) const ATTENTION: Style = color(AnsiColor::Yellow);
/// Headings.
pub(super) const HEADING: Style = Style::new().bold();

/// `text` in a style. Whatever prints it removes the style where nobody would see it.
pub(super) fn styled(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

/// `text` without styles.
#[cfg(test)]
pub(super) fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}
