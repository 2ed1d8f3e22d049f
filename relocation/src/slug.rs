//! Generates slugs from names, and distinguishes slugs that come from the same name by a suffix.

use deunicode::deunicode_with_tofu;
use sha2::{Digest as _, Sha256};

use crate::catalog::reserved_project_slugs;

/// The length of the suffix of each further candidate. Suffixes are computed from the record, so a longer one is needed
/// only for a file that was crafted to contain the shorter ones.
const SUFFIXES: [usize; 3] = [4, 8, 24];

/// The number of slug candidates of one record.
pub const CANDIDATES: usize = SUFFIXES.len() + 1;

/// The lowercase ASCII letters, digits and single hyphens of a text, at most `most` characters, with no hyphen at
/// either end. Empty if nothing is left.
#[must_use]
pub fn normalize(text: &str, most: usize) -> String {
    let mut slug = String::with_capacity(most);
    for character in deunicode_with_tofu(text, "").chars() {
        if slug.len() == most {
            break;
        }
        let character = character.to_ascii_lowercase();
        let separates = matches!(character, '-' | '_') || character.is_ascii_whitespace();
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if separates && !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

/// The slug of a record in the given attempt: the one from its name in attempt 0, then ones with a suffix. A record
/// always gets the same candidates. `model` is the name of its model, `name` the text that the slug is made from,
/// `most` the maximum length. `None` if there is no such attempt.
#[must_use]
pub fn candidate(model: &str, pk: i64, name: &str, most: usize, attempt: usize) -> Option<String> {
    let mut base = normalize(name, most);
    let is_number = base.bytes().all(|byte| byte.is_ascii_digit());
    if base.is_empty() {
        let kind = model.rsplit_once('.').map_or(model, |(_, kind)| kind);
        base = normalize(kind, most);
    }
    let is_reserved = model == "sentry.project" && reserved_project_slugs().any(|word| word == base);
    // A slug of digits alone could be mistaken for an id, a slug made from the model's name identifies nothing, and a
    // reserved word is a page of the application. These get a suffix.
    let suffix = match attempt.checked_sub(1) {
        None if !is_number && !is_reserved => return Some(base),
        None => SUFFIXES.first(),
        Some(further) => SUFFIXES.get(further),
    };
    let length = (*suffix?).min(most.saturating_sub(2));
    let digest = hex::encode(Sha256::digest(format!("{model} {pk} {attempt}")));
    let front = base.get(..most - 1 - length).unwrap_or(&base).trim_end_matches('-');
    Some(format!("{front}-{digest:.length$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, attempt: usize) -> String {
        candidate("sentry.project", 7, name, 50, attempt).unwrap()
    }

    #[test]
    fn the_first_candidate_is_the_name() {
        assert_eq!(of("Ticket Booth", 0), "ticket-booth");
        assert_eq!(of("Größe_2", 0), "grosse-2");
        assert_eq!(of(&"ab ".repeat(30), 0).len(), 50);
    }

    #[test]
    fn a_reserved_word_gets_a_suffix_if_it_is_for_a_project() {
        assert!(of("Settings", 0).starts_with("settings-"), "{}", of("Settings", 0));
        assert_eq!(of("Setting", 0), "setting");
        assert_eq!(candidate("sentry.team", 7, "Settings", 50, 0).unwrap(), "settings");
    }

    #[test]
    fn further_candidates_have_a_suffix_that_follows_from_the_record() {
        let all: Vec<String> = (0..CANDIDATES).map(|attempt| of("Ticket Booth", attempt)).collect();
        assert_eq!(all, (0..CANDIDATES).map(|attempt| of("Ticket Booth", attempt)).collect::<Vec<_>>());
        let lengths: Vec<usize> = all.iter().map(String::len).collect();
        assert_eq!(lengths, [12, 17, 21, 37]);
        assert!(all.iter().all(|slug| slug.starts_with("ticket-booth")));
        assert_ne!(all[1], candidate("sentry.project", 8, "Ticket Booth", 50, 1).unwrap());
        assert_eq!(candidate("sentry.project", 7, "Ticket Booth", 50, CANDIDATES), None);
        assert!((1..CANDIDATES).all(|attempt| of(&"long".repeat(20), attempt).len() == 50));
    }

    #[test]
    fn a_name_without_letters_is_never_the_slug_alone() {
        for (name, front) in [("404", "404-"), ("", "project-"), ("***", "project-")] {
            let slug = of(name, 0);
            assert!(slug.starts_with(front) && slug.len() == front.len() + 4, "{name:?}: {slug}");
        }
    }
}
