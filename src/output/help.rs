//! Breaks the help of clap into lines that fit the terminal.

use super::{
    terminal::Width,
    wrap::{columns, wrap, wrap_lines},
};

/// A help with lines of at most `width` columns. Names of subcommands and short options keep their column: what is
/// said of them goes on below where it began. Commands of the examples stay whole.
pub(super) fn fitted(help: &str, width: Width) -> String {
    help.lines().map(|line| fitted_line(line, width)).collect()
}

fn fitted_line(line: &str, width: Width) -> String {
    if columns(line) <= width.0 {
        return format!("{line}\n");
    }
    match named(line) {
        Some((name, text)) if columns(name).saturating_mul(2) <= width.0 => {
            wrap(text, width, name, columns(name))
        }
        // There is no room beside the name.
        Some((name, text)) => format!("{}\n{}", name.trim_end(), wrap(text, width, "    ", 4)),
        None => wrap_lines(line, width),
    }
}

/// The indented name at the beginning of a line, with the spaces after it, and the text about it.
fn named(line: &str) -> Option<(&str, &str)> {
    let begin = line.find(|character| character != ' ').filter(|begin| *begin > 0)?;
    let gap = begin + line.get(begin..)?.find("  ")?;
    let text = line.get(gap..)?.trim_start();
    line.split_at_checked(line.len() - text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "\
Checks what a server needs, and says what to do

Commands:
  resolve  Show which organization each slug belongs to
  list     List them

Options:
      --control <URL>
          The control to ask; of several, the first one

Examples:
  causeway slugs resolve acme --control http://127.0.0.1:50051
";

    #[test]
    fn a_help_fits_the_terminal_and_keeps_its_columns_and_commands() {
        assert_eq!(
            fitted(HELP, Width(40)),
            "\
Checks what a server needs, and says
what to do

Commands:
  resolve  Show which organization each
           slug belongs to
  list     List them

Options:
      --control <URL>
          The control to ask; of
          several, the first one

Examples:
  causeway slugs resolve acme --control http://127.0.0.1:50051
"
        );
        assert_eq!(fitted(HELP, Width::UNLIMITED), HELP);
        assert!(fitted(HELP, Width(20)).contains("\n  resolve\n    Show which\n    organization\n"));
    }
}
