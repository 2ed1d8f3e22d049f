//! Primary keys in the text of a search, as `project.id:5` or `!project.id:[5, 6]`.

use std::collections::BTreeMap;

use super::{LostId, Outcome, json::JsonLocation};
use crate::catalog::PROJECT;

/// Why a term stays although it may name a record of the export.
const NOT_UNDERSTOOD: &str = "is a term of a search that may name a record by its id, in a form that this release does not know; it is kept as it is";

/// Words that begin or are the name of a term for records of the product which no search of a known release names by id.
/// Customers may have typed them nevertheless, or a newer release knows them.
const RECORDS: [&str; 8] =
    ["project", "team", "monitor", "detector", "dashboard", "workflow", "alert_rule", "issue"];

/// The most digits of a primary key.
const MOST_DIGITS: usize = 18;

/// What is found in the terms of a search.
pub(super) struct Found<'f> {
    /// Primary keys without a new one.
    pub(super) lost: &'f mut Vec<LostId>,
    /// Terms that are not understood, each place once, and why.
    pub(super) other: &'f mut Vec<(String, &'static str)>,
}

/// What a term names.
enum Named<'t> {
    /// A record of this model.
    Model(&'t str),
    /// Perhaps a record of whatever model.
    Perhaps,
    /// No record.
    Nothing,
}

/// Replaces the primary keys in a search. `terms` has the model of each term that names a record. What is in quotes is no
/// term, and a quote that is never closed ends with the search.
pub(super) fn rewrite(
    text: &str,
    terms: &BTreeMap<String, String>,
    place: &JsonLocation,
    found: &mut Found<'_>,
    outcome: &mut dyn FnMut(&str, i64) -> Outcome,
) -> Option<String> {
    // Most searches have no number.
    if !text.contains(':') || !text.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
        return None;
    }
    let mut new = String::with_capacity(text.len());
    let (mut written, mut changed) = (0, false);
    let mut scanner = Scanner { text, at: 0, has_bracket: true };
    while let Some(name) = scanner.next_name() {
        let named = named(name, terms);
        let in_value = match named {
            Named::Nothing => continue,
            Named::Model(_) | Named::Perhaps => scanner.value(),
        };
        let Some(value) = in_value else { continue };
        let mut term = Term { name, target: None, place, found: &mut *found };
        match (named, value.is_list) {
            (Named::Model(target), is_list) => {
                term.target = Some(target);
                let is_plain = is_list || value.text.split(',').all(|element| key_in(element).is_some());
                if !is_plain {
                    term.complain_of(value.text);
                    continue;
                }
            }
            (Named::Perhaps | Named::Nothing, _) => {
                term.complain_of(value.text);
                continue;
            }
        }
        new.push_str(text.get(written..value.start).unwrap_or_default());
        written = value.start + value.text.len();
        for element in value.text.split_inclusive(',') {
            match term.mapped(element, outcome) {
                Some(mapped) => {
                    changed = true;
                    new.push_str(&mapped);
                }
                None => new.push_str(element),
            }
        }
    }
    new.push_str(text.get(written..).unwrap_or_default());
    changed.then_some(new)
}

/// What a term of this name stands for.
fn named<'t>(name: &str, terms: &'t BTreeMap<String, String>) -> Named<'t> {
    if let Some(target) = terms.get(name) {
        return Named::Model(target);
    }
    let lower = name.to_ascii_lowercase();
    let word = lower.strip_suffix(".id").or_else(|| lower.strip_suffix("_id")).unwrap_or(&lower);
    let one = word.strip_suffix('s').unwrap_or(word);
    match RECORDS.contains(&one) || terms.contains_key(&lower) {
        // `issue:ABC-1` is a name that people see.
        true if lower == "issue" => Named::Nothing,
        true => Named::Perhaps,
        false => Named::Nothing,
    }
}

/// The primary key that an element of a list is, or a value: digits, perhaps in quotes.
fn key_in(element: &str) -> Option<&str> {
    let element = element.trim();
    let digits = element.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(element);
    let is_key =
        (1..=MOST_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_key.then_some(digits)
}

/// A term that names a record, or may do so.
struct Term<'t, 'f> {
    name: &'t str,
    /// The model of the record, if it is known.
    target: Option<&'t str>,
    place: &'t JsonLocation,
    found: &'t mut Found<'f>,
}

impl Term<'_, '_> {
    /// The element with the new key in place of the old one; `None` if it stays.
    fn mapped(&mut self, element: &str, outcome: &mut dyn FnMut(&str, i64) -> Outcome) -> Option<String> {
        let alone = element.strip_suffix(',').unwrap_or(element);
        let Some(digits) = key_in(alone) else {
            self.complain_of(alone);
            return None;
        };
        let target = self.target?;
        let pk: i64 = digits.parse().ok().filter(|pk| *pk > 0)?;
        let new = match outcome(target, pk) {
            Outcome::Keep => return None,
            Outcome::Mapped(new) => new.to_string(),
            Outcome::Lost => {
                // The value of a term whose name does not end in `id` may be a slug, and old slugs may be numbers.
                let stays = !self.name.ends_with("id");
                let [place, path] = [&self.place.exact, &self.place.path].map(|place| self.at(place));
                self.found.lost.push(LostId { place, path, target: target.to_owned(), pk, stays });
                if stays {
                    return None;
                }
                "0".to_owned()
            }
        };
        Some(element.replacen(digits, &new, 1))
    }

    /// Notes the term if its value may be a primary key in another form. A slug has letters.
    fn complain_of(&mut self, value: &str) {
        let value = value.trim();
        let has_digits = value.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
        let is_all = value.trim_matches('"') == "-1" && self.target == Some(PROJECT);
        let may_be_slug =
            !self.name.to_ascii_lowercase().ends_with("id") && value.chars().any(char::is_alphabetic);
        if !has_digits || is_all || may_be_slug {
            return;
        }
        let place = self.at(&self.place.path);
        if !self.found.other.iter().any(|(known, _)| *known == place) {
            self.found.other.push((place, NOT_UNDERSTOOD));
        }
    }

    fn at(&self, place: &str) -> String {
        if place.is_empty() { self.name.to_owned() } else { format!("{place}: {}", self.name) }
    }
}

/// The value of a term.
struct TermValue<'t> {
    /// Where it begins in the search.
    start: usize,
    /// It, without brackets.
    text: &'t str,
    is_list: bool,
}

/// Reads a search once from left to right.
struct Scanner<'t> {
    text: &'t str,
    at: usize,
    /// Whether there may be a closing bracket in what was not read yet.
    has_bracket: bool,
}

impl<'t> Scanner<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, is_skipped: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(is_skipped).len();
    }

    /// Goes on after the next name of a term and its colon.
    fn next_name(&mut self) -> Option<&'t str> {
        loop {
            let next = self.rest().chars().next()?;
            let before = self.text.get(..self.at)?.chars().next_back();
            let begins = before.is_none_or(|it| it.is_whitespace() || matches!(it, '(' | '!' | '[' | ','));
            if next == '"' {
                self.at += quoted(self.rest());
            } else if begins && next.is_ascii_alphabetic() {
                let start = self.at;
                self.skip(|it| it.is_ascii_alphabetic() || matches!(it, '.' | '_'));
                let name = self.text.get(start..self.at)?;
                if self.rest().starts_with(':') {
                    self.at += 1;
                    return Some(name);
                }
            } else {
                self.at += next.len_utf8();
            }
        }
    }

    /// Goes on after the value of the term. `None` if nothing follows the colon: what stands after blanks is its value only
    /// if it is a number or a list.
    fn value(&mut self) -> Option<TermValue<'t>> {
        let colon = self.at;
        self.skip(char::is_whitespace);
        let is_apart = self.at > colon;
        let first = self.at;
        let operator =
            self.rest().bytes().take(2).take_while(|byte| matches!(byte, b'!' | b'<' | b'>' | b'=')).count();
        self.at += operator;
        let start = self.at;
        if self.has_bracket && self.rest().starts_with('[') {
            if let Some(end) = self.rest().find(']') {
                let text = self.rest().get(1..end)?;
                self.at += end + 1;
                return Some(TermValue { start: start + 1, text, is_list: true });
            }
            self.has_bracket = false;
        }
        while let Some(next) = self.rest().chars().next().filter(|next| !next.is_whitespace() && *next != ')')
        {
            self.at += if next == '"' { quoted(self.rest()) } else { next.len_utf8() };
        }
        let text = self.text.get(start..self.at)?;
        if is_apart && !text.split(',').all(|element| key_in(element).is_some()) {
            self.at = first;
            return None;
        }
        Some(TermValue { start, text, is_list: false })
    }
}

/// How long a text is that begins with a quote, up to and with the quote that closes it.
fn quoted(text: &str) -> usize {
    let mut is_escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> (String, Vec<(String, i64, bool)>) {
        let (new, lost, _) = applied(text);
        (new, lost)
    }

    fn applied(text: &str) -> (String, Vec<(String, i64, bool)>, Vec<String>) {
        let terms = ["project", "project.id", "project_id"];
        let terms = terms.map(|name| (name.to_owned(), PROJECT.to_owned())).into_iter().collect();
        let (mut lost, mut other) = (Vec::new(), Vec::new());
        let mut found = Found { lost: &mut lost, other: &mut other };
        let new = rewrite(text, &terms, &JsonLocation::default(), &mut found, &mut |target, pk| {
            assert_eq!(target, PROJECT);
            if pk < 100 { Outcome::Mapped(pk + 1_000) } else { Outcome::Lost }
        });
        let lost = lost.into_iter().map(|it| (it.place, it.pk, it.stays)).collect();
        let other = other.into_iter().map(|(place, _)| place).collect();
        (new.unwrap_or_else(|| text.to_owned()), lost, other)
    }

    #[test]
    fn terms_that_name_a_record_get_its_new_key() {
        for (text, expected) in [
            ("project.id:21", "project.id:1021"),
            ("level:error project.id:21 assigned:me", "level:error project.id:1021 assigned:me"),
            ("!project.id:21 (project_id:3)", "!project.id:1021 (project_id:1003)"),
            ("project:21 project:4", "project:1021 project:1004"),
            ("project.id: 21", "project.id: 1021"),
            ("project.id:[21, 22,23] x", "project.id:[1021, 1022,1023] x"),
            ("project.id:\"21\"", "project.id:\"1021\""),
            ("project:[\"21\", web-3, 4]", "project:[\"1021\", web-3, 1004]"),
            ("project.id:21,22", "project.id:1021,1022"),
            ("(project.id:\"21\",22)", "(project.id:\"1021\",1022)"),
            ("project.id:!21", "project.id:!1021"),
            ("project.id:>21 project.id:<=22", "project.id:>1021 project.id:<=1022"),
            ("project.id:=21", "project.id:=1021"),
            ("project.id:![21,22]", "project.id:![1021,1022]"),
            ("assigned:[me, #ops] project.id:21", "assigned:[me, #ops] project.id:1021"),
            ("a:\"b c\" project.id:21", "a:\"b c\" project.id:1021"),
        ] {
            assert_eq!(applied(text), (expected.to_owned(), vec![], vec![]), "{text}");
        }
    }

    #[test]
    fn what_is_no_such_term_stays() {
        for text in [
            "",
            "project.id:",
            "project:web-21",
            "project:21-web",
            "my_project.id:21",
            "x.project.id:21",
            "project.id:-1",
            "project.id:0",
            "\"project.id:21\"",
            "message:\"see project.id:21 please\"",
            "project.identity:21",
            "project:[web, 21-web, -1]",
            "project.id: level:5",
            "user.id:21 order_id:7 issue:ABC-21",
            "team:ops-2 !team:web",
            "\"an open quote project.id:21",
            "ünder project.ïd:21 \"",
        ] {
            assert_eq!(applied(text), (text.to_owned(), vec![], vec![]), "{text}");
        }
    }

    /// They may be ids of another organization's records here.
    #[test]
    fn what_may_be_an_id_in_another_form_stays_and_is_told() {
        for (text, name) in [
            ("project.id:21*", "project.id"),
            ("project:21*", "project"),
            ("project.id:(21)", "project.id"),
            ("project.id:\"21,22\"", "project.id"),
            ("project.id:[21", "project.id"),
            ("project.id:21]", "project.id"),
            ("project.id:'21'", "project.id"),
            ("project.id:-5", "project.id"),
            ("project.id:99999999999999999999", "project.id"),
            ("project.id:21; level:error", "project.id"),
            ("Project:21", "Project"),
            ("PROJECT.ID:21", "PROJECT.ID"),
            ("projects:21", "projects"),
            ("team:21", "team"),
            ("assigned_or_suggested:[me, team:21]", "team"),
            ("assigned:[team:21]", "team"),
            ("monitor.id:5", "monitor.id"),
            ("dashboard:1 !dashboard:2", "dashboard"),
        ] {
            assert_eq!(applied(text), (text.to_owned(), vec![], vec![name.to_owned()]), "{text}");
        }
        let some = applied("project:[21, -3, 1.5] project.id:22");
        assert_eq!(
            some,
            ("project:[1021, -3, 1.5] project.id:1022".to_owned(), vec![], vec!["project".to_owned()])
        );
    }

    /// However the quotes are: each character is read once.
    #[test]
    fn a_search_of_a_million_characters_is_read_in_one_pass() {
        for part in [r#"\" project:5 "#, "project:[5 ", "team:[5 (", "project.id:\"5 ", "a:\"5 "] {
            let text = part.repeat(1_000_000 / part.len());
            let (new, lost) = rewritten(&text);
            assert_eq!((new.len(), lost.len()), (text.len(), 0), "{part}");
        }
    }

    #[test]
    fn a_key_of_nothing_imported_becomes_one_that_nothing_has_unless_it_may_be_a_slug() {
        let lost = |name: &str, stays| (name.to_owned(), 500, stays);
        assert_eq!(
            rewritten("project.id:500 a"),
            ("project.id:0 a".to_owned(), vec![lost("project.id", false)])
        );
        assert_eq!(
            rewritten("project.id:[500,1]"),
            ("project.id:[0,1001]".to_owned(), vec![lost("project.id", false)])
        );
        assert_eq!(rewritten("project:500"), ("project:500".to_owned(), vec![lost("project", true)]));
    }
}
