//! Primary keys in the text of a search, as `project.id:5` or `!project.id:[5, 6]`.

use std::ops::Range;

use super::{LostId, Outcome, json::JsonLocation};
use crate::{catalog::SearchTerms, export::ExportError};

/// The part of a search in a range that its pattern has found.
fn part(text: &str, range: Range<usize>) -> Result<&str, ExportError> {
    text.get(range).ok_or_else(|| ExportError::inconsistent("a term of a search is outside the search"))
}

/// Replaces the primary keys in a search. Returns `None` if nothing changes.
///
/// # Errors
/// If the pattern finds something outside the text.
pub(super) fn rewrite(
    text: &str,
    terms: &SearchTerms,
    place: &JsonLocation,
    lost: &mut Vec<LostId>,
    outcome: &mut dyn FnMut(&str, i64) -> Outcome,
) -> Result<Option<String>, ExportError> {
    // Most searches name no record.
    if !terms.models.keys().any(|name| text.contains(name.as_str())) {
        return Ok(None);
    }
    let (mut new, mut from, mut changed) = (String::with_capacity(text.len()), 0, false);
    while let Some(found) = terms.pattern.captures_at(text, from) {
        let Some(whole) = found.get(0) else { break };
        let end = found.name("after").map_or(whole.end(), |after| after.start());
        let name = found.name("name").map_or("", |name| name.as_str());
        let mut map = |digits: &str| -> Option<String> {
            let target = terms.models.get(name)?;
            let pk: i64 = digits.parse().ok().filter(|pk| *pk > 0)?;
            match outcome(target, pk) {
                Outcome::Keep => None,
                Outcome::Mapped(new) => Some(new.to_string()),
                Outcome::Lost => {
                    // The value of a term whose name does not end in `id` may be a slug, and old slugs may be
                    // numbers.
                    let stays = !name.ends_with("id");
                    let [place, path] = [&place.exact, &place.path].map(|place| match place.is_empty() {
                        true => name.to_owned(),
                        false => format!("{place}: {name}"),
                    });
                    lost.push(LostId { place, path, target: target.clone(), pk, stays });
                    (!stays).then(|| "0".to_owned())
                }
            }
        };
        let value = found.name("number").or_else(|| found.name("list"));
        new.push_str(part(text, from..value.map_or(end, |value| value.start()))?);
        if let Some(value) = value {
            // One number, or the elements of a list, some of which may be slugs.
            for element in value.as_str().split_inclusive(',') {
                let digits = element.trim_matches(|character: char| {
                    character.is_whitespace() || matches!(character, ',' | '"')
                });
                match Some(digits)
                    .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                    .and_then(&mut map)
                {
                    Some(mapped) => {
                        changed = true;
                        new.push_str(&element.replacen(digits, &mapped, 1));
                    }
                    None => new.push_str(element),
                }
            }
            new.push_str(part(text, value.end()..end)?);
        }
        // An empty match cannot be: each has a quote or a colon.
        from = end;
    }
    new.push_str(part(text, from..text.len())?);
    Ok(changed.then_some(new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> (String, Vec<(String, i64, bool)>) {
        let terms = ["project", "project.id", "project_id"];
        let terms = terms.map(|name| (name.to_owned(), "p".to_owned())).into_iter().collect();
        let terms = SearchTerms::new(terms).unwrap();
        let mut lost = Vec::new();
        let new = rewrite(text, &terms, &JsonLocation::default(), &mut lost, &mut |target, pk| {
            assert_eq!(target, "p");
            if pk < 100 { Outcome::Mapped(pk + 1_000) } else { Outcome::Lost }
        })
        .unwrap();
        let lost = lost.into_iter().map(|it| (it.place, it.pk, it.stays)).collect();
        (new.unwrap_or_else(|| text.to_owned()), lost)
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
        ] {
            assert_eq!(rewritten(text), (expected.to_owned(), vec![]), "{text}");
        }
    }

    #[test]
    fn what_is_no_such_term_stays() {
        for text in [
            "",
            "project.id:",
            "project:web-21",
            "project:21-web",
            "project:21*",
            "my_project.id:21",
            "x.project.id:21",
            "project.id:>21",
            "project.id:-1",
            "project.id:0",
            "\"project.id:21\"",
            "message:\"see project.id:21 please\"",
            "project.identity:21",
            "project.id:99999999999999999999",
            "project:[web, 21-web, -3, 1.5]",
            "\"an open quote project.id:21",
            "ünder project.ïd:21 \"",
        ] {
            assert_eq!(rewritten(text), (text.to_owned(), vec![]), "{text}");
        }
    }

    /// However the quotes are: each character is read once.
    #[test]
    fn a_search_of_a_million_characters_is_read_in_one_pass() {
        let text = r#"\" project:5 "#.repeat(80_000);
        let (new, lost) = rewritten(&text);
        assert_eq!((new.len(), lost.len()), (text.len(), 0));
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
