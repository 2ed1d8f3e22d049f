//! Breaks paragraphs into lines. A command that somebody may paste is never broken.

use anstream::adapter::strip_str;
use unicode_width::UnicodeWidthStr as _;

use super::{place::COMMAND, terminal::Width};

/// The columns that a text takes, without its styles.
pub(super) fn columns(text: &str) -> usize {
    strip_str(text).to_string().width()
}

/// The longest text in backticks that is not broken, unless it is a command.
const SPAN: usize = 60;

/// Where the text in backticks ends that begins at `at`, with its last backtick. `None` if it is no such text: nothing
/// closes it, or it is long and no command. Texts also quote what users wrote, with backticks of their own.
fn end_of_span(text: &str, at: usize) -> Option<usize> {
    let from = text.get(at..)?;
    let length = from.get(1..)?.find('`')? + 1;
    let is_command = from.starts_with(COMMAND);
    let closes = is_command || (length <= SPAN && !from.get(length..)?.starts_with(COMMAND));
    closes.then_some(at + length + 1)
}

/// The words of a text. A command in backticks is one, and so is any short text in backticks.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let mut end = 0;
        // The text in backticks may begin inside the word: after a bracket, or a style.
        while let Some(character) =
            rest.get(end..).and_then(|from| from.chars().next()).filter(|it| *it != ' ')
        {
            end = match character {
                '`' => end_of_span(rest, end).unwrap_or(end + 1),
                character => end + character.len_utf8(),
            };
        }
        let (word, after) = rest.split_at(end);
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// Breaks `text` into lines of at most `width` columns. The first begins with `first`, and the others are indented by
/// `indent`. A word that is longer than that gets a line to itself.
pub(super) fn wrap(text: &str, width: Width, first: &str, indent: usize) -> String {
    let mut out = String::new();
    for (number, paragraph) in text.split('\n').enumerate() {
        let margin = " ".repeat(indent);
        let mut line = if number == 0 { first.to_owned() } else { margin.clone() };
        let mut used = columns(&line);
        let mut is_empty = true;
        for word in words(paragraph) {
            let takes = columns(word);
            if !is_empty && used.saturating_add(1 + takes) > width.0 {
                out.push_str(line.trim_end());
                out.push('\n');
                line.clone_from(&margin);
                (used, is_empty) = (indent, true);
            }
            if !is_empty {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += takes;
            is_empty = false;
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// How the commands begin that stay whole on a line of their own.
const COMMANDS: [&str; 3] = ["causeway ", "openssl ", "man "];

/// Breaks a text of several lines. A line that is a command alone stays as it is; any other keeps its indentation.
pub(crate) fn wrap_lines(text: &str, width: Width) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        // A line that fits keeps the spaces between its parts.
        let fits = columns(line) <= width.0;
        let is_command = COMMANDS.iter().any(|command| line.trim_start().starts_with(command));
        if fits || (is_command && indent > 0) {
            out.push_str(line);
            out.push('\n');
        } else {
            out.push_str(&wrap(line, width, &" ".repeat(indent), indent));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        let text = "one two three four five";
        assert_eq!(wrap(text, Width(12), "- ", 2), "- one two\n  three four\n  five\n");
        assert_eq!(wrap(text, Width::UNLIMITED, "", 0), "one two three four five\n");
        assert_eq!(wrap("", Width(20), "  ", 2), "\n");
        assert_eq!(wrap("a\nb", Width(20), "- ", 2), "- a\n  b\n");
    }

    #[test]
    fn a_command_is_never_broken() {
        let text = "it waits (`causeway regions add us --control http://127.0.0.1:50051`), and `x y` too";
        assert_eq!(
            wrap(text, Width(20), "", 2),
            "it waits\n  (`causeway regions add us --control http://127.0.0.1:50051`),\n  and `x y` too\n"
        );
        let lines = "give it up, or look at it with\n  causeway imports show 1 --region http://127.0.0.1:1";
        assert_eq!(wrap_lines("a  b", Width(4)), "a  b\n");
        let openssl = "  openssl pkey -in private.pem -pubout -out public.pem\n";
        assert_eq!(wrap_lines(openssl, Width(20)), openssl);
        assert_eq!(
            wrap_lines(lines, Width(20)),
            "give it up, or look\nat it with\n  causeway imports show 1 --region http://127.0.0.1:1\n"
        );
    }

    /// Whoever reads a line sees which backtick begins a text.
    #[test]
    fn a_short_text_in_backticks_is_not_broken() {
        assert_eq!(wrap("it is `a b c` now", Width(12), "", 0), "it is\n`a b c` now\n");
        let text = "a ` b c `causeway slugs list` d";
        assert_eq!(wrap(text, Width(10), "", 0), "a ` b c\n`causeway slugs list`\nd\n");
        let long = format!("`{}`", "x ".repeat(40));
        assert!(wrap(&long, Width(20), "", 0).lines().count() > 3);
    }

    #[test]
    fn a_backtick_without_a_partner_ends_nothing() {
        assert_eq!(wrap("a `causeway slugs list b c", Width(20), "", 0), "a `causeway slugs\nlist b c\n");
    }

    #[test]
    fn wide_characters_count_as_two_columns() {
        assert_eq!(wrap("東京 東京 東京", Width(9), "", 0), "東京 東京\n東京\n");
    }
}
