//! Rules for slugs, and how an invalid one is repaired. Pure: other modules know which slugs are taken.

use std::{collections::HashSet, sync::LazyLock};

use causeway_proto::limits::MAX_SLUG;
use causeway_relocation::{catalog::reserved_organization_slugs, slug::normalize};

/// The length of a random suffix in its first round. It grows by one in each round that follows.
pub const FIRST_SUFFIX: usize = 2;

/// The longest suffix: 36^24 of them are never all taken.
const LONGEST_SUFFIX: usize = 24;

/// The base of a slug if normalization leaves nothing of the wanted slug, or of the name if no slug is wanted.
const FALLBACK: &str = "organization";

static RESERVED: LazyLock<HashSet<&'static str>> = LazyLock::new(|| reserved_organization_slugs().collect());

/// Why a slug cannot be given without a suffix, even if it is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuffixReason {
    /// It is a reserved word.
    Reserved,
    /// It has no letter, so it could be mistaken for an id.
    NoLetter,
    /// Normalization leaves nothing of it.
    Empty,
}

/// What control can give for a wanted slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The wanted slug, unchanged.
    Exact(&'a str),
    /// This slug, normalized from the wanted one.
    Normalized(String),
    /// Only `base` with a suffix; [`with_suffix`] adds it.
    NeedsSuffix {
        /// The part before the suffix.
        base: String,
        /// Why a suffix is needed.
        why: SuffixReason,
    },
}

/// In which form control can give a wanted slug if it is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlugForm {
    /// Exactly as it is wanted.
    Exact,
    /// In its normalized form, because it is not a valid slug itself.
    Normalized,
    /// Only with a suffix: it is a reserved word.
    ReservedWord,
    /// Only with a suffix: it has no letter, or normalization leaves nothing of it.
    Invalid,
}

impl Outcome<'_> {
    /// In which form control can give it.
    #[must_use]
    pub fn fit(&self) -> SlugForm {
        match self {
            Self::Exact(_) => SlugForm::Exact,
            Self::Normalized(_) => SlugForm::Normalized,
            Self::NeedsSuffix { why: SuffixReason::Reserved, .. } => SlugForm::ReservedWord,
            Self::NeedsSuffix { why: SuffixReason::NoLetter | SuffixReason::Empty, .. } => SlugForm::Invalid,
        }
    }

    /// The slug without a suffix.
    #[must_use]
    pub fn base(&self) -> &str {
        match self {
            Self::Exact(slug) => slug,
            Self::Normalized(slug) | Self::NeedsSuffix { base: slug, .. } => slug,
        }
    }
}

/// Whether a text is a slug: 1 to 50 lowercase letters, digits and hyphens, no hyphen at either end, and a letter.
#[must_use]
pub fn is_valid(slug: &str) -> bool {
    (1..=MAX_SLUG).contains(&slug.len())
        && slug.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !slug.starts_with('-')
        && !slug.ends_with('-')
        && has_letter(slug)
}

/// Whether a slug is a reserved word, which no organization may have.
#[must_use]
pub fn is_reserved(slug: &str) -> bool {
    RESERVED.contains(slug)
}

/// Works out what control can give for `wanted_slug`, or for `name` if `wanted_slug` is empty.
#[must_use]
pub fn plan<'a>(wanted_slug: &'a str, name: &str) -> Outcome<'a> {
    if is_valid(wanted_slug) && !is_reserved(wanted_slug) {
        return Outcome::Exact(wanted_slug);
    }
    let base = if is_valid(wanted_slug) {
        wanted_slug.to_owned()
    } else {
        normalize(if wanted_slug.is_empty() { name } else { wanted_slug }, MAX_SLUG)
    };
    if base.is_empty() {
        Outcome::NeedsSuffix { base: FALLBACK.to_owned(), why: SuffixReason::Empty }
    } else if !has_letter(&base) {
        Outcome::NeedsSuffix { base, why: SuffixReason::NoLetter }
    } else if is_reserved(&base) {
        Outcome::NeedsSuffix { base, why: SuffixReason::Reserved }
    } else {
        Outcome::Normalized(base)
    }
}

/// Adds a random suffix of `length` characters to `base`, and shortens `base` if the whole would be too long. `random`
/// returns that many lowercase letters and digits. It is called again until the whole is a valid slug and not a
/// reserved word.
#[must_use]
pub fn with_suffix(base: &str, length: usize, mut random: impl FnMut(usize) -> String) -> String {
    let length = length.clamp(1, LONGEST_SUFFIX);
    let front = front(base, length);
    loop {
        let slug = format!("{front}-{}", random(length));
        if is_valid(&slug) && !is_reserved(&slug) {
            return slug;
        }
    }
}

/// `base` with `-?` in place of a suffix that is not known yet, for people.
#[must_use]
pub fn preview(base: &str) -> String {
    format!("{}-?", front(base, FIRST_SUFFIX))
}

fn has_letter(slug: &str) -> bool {
    slug.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// As much of `base` as leaves room for a hyphen and a suffix of `length` characters.
fn front(base: &str, length: usize) -> &str {
    base.get(..MAX_SLUG - 1 - length).unwrap_or(base).trim_end_matches('-')
}

#[cfg(test)]
mod tests {
    use causeway_silo::env::{BASE36, Environment};
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;

    fn random(seed: u64) -> impl FnMut(usize) -> String {
        let env = Environment::fixed(DateTime::UNIX_EPOCH, seed);
        move |length| env.characters(BASE36, length)
    }

    fn needs_suffix(base: &str, why: SuffixReason) -> Outcome<'_> {
        Outcome::NeedsSuffix { base: base.to_owned(), why }
    }

    #[test]
    fn a_valid_slug_is_kept() {
        let longest = "a".repeat(50);
        for slug in ["acme", "a", "4chan", "a--b", "2-b-or-not-2-b", longest.as_str()] {
            assert_eq!(plan(slug, "Another Name"), Outcome::Exact(slug));
        }
    }

    #[test]
    fn what_is_not_valid_is_normalized() {
        let too_long = "ab-".repeat(20);
        for (wanted_slug, name, expected) in [
            ("Acme", "", "acme"),
            ("-acme-", "", "acme"),
            ("acme_corp", "", "acme-corp"),
            ("acme  corp\t inc", "", "acme-corp-inc"),
            ("acme_-_corp", "", "acme-corp"),
            ("acme.corp!", "", "acmecorp"),
            ("Zażółć Gęślą", "", "zazolc-gesla"),
            ("北京", "", "bei-jing"),
            ("Straße", "", "strasse"),
            ("", "Jane's Bakery", "janes-bakery"),
            ("", "acme", "acme"),
            (too_long.as_str(), "", "ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab"),
        ] {
            assert_eq!(
                plan(wanted_slug, name),
                Outcome::Normalized(expected.to_owned()),
                "{wanted_slug:?} {name:?}"
            );
        }
    }

    #[test]
    fn what_must_not_stand_alone_needs_a_suffix() {
        assert_eq!(plan("settings", ""), needs_suffix("settings", SuffixReason::Reserved));
        assert_eq!(plan("Settings", ""), needs_suffix("settings", SuffixReason::Reserved));
        assert_eq!(plan("_admin", ""), needs_suffix("admin", SuffixReason::Reserved));
        assert_eq!(plan("", "Settings"), needs_suffix("settings", SuffixReason::Reserved));
        assert_eq!(plan("404", ""), needs_suffix("404", SuffixReason::NoLetter));
        assert_eq!(plan("12-34", ""), needs_suffix("12-34", SuffixReason::NoLetter));
        assert_eq!(plan("", ""), needs_suffix("organization", SuffixReason::Empty));
        assert_eq!(plan("---", "Acme"), needs_suffix("organization", SuffixReason::Empty));
        assert_eq!(plan("!?", "Acme"), needs_suffix("organization", SuffixReason::Empty));
    }

    #[test]
    fn a_suffix_shortens_what_stands_in_front_of_it() {
        let mut draws = ["x7"].into_iter().map(str::to_owned);
        assert_eq!(with_suffix("acme", 2, |_| draws.next().expect("one is enough")), "acme-x7");
        let slug = with_suffix(&"a".repeat(50), 2, random(1));
        assert_eq!(slug.len(), 50);
        assert!(slug.starts_with(&format!("{}-", "a".repeat(47))));
        // The cut falls after a hyphen, which must not be doubled.
        let slug = with_suffix(&format!("{}-bcd", "a".repeat(46)), 2, random(1));
        assert!(slug.starts_with(&format!("{}-", "a".repeat(46))) && !slug.contains("--"), "{slug}");
    }

    #[test]
    fn a_suffix_is_drawn_again_if_the_whole_has_no_letter_or_is_a_reserved_word() {
        let mut draws = ["12", "99", "a1"].into_iter().map(str::to_owned);
        assert_eq!(with_suffix("404", 2, |_| draws.next().expect("three are enough")), "404-a1");
        let mut draws = ["apps", "appz"].into_iter().map(str::to_owned);
        assert_eq!(with_suffix("sentry", 4, |_| draws.next().expect("two are enough")), "sentry-appz");
    }

    #[test]
    fn a_preview_shows_the_suffix_as_a_question_mark() {
        assert_eq!(preview("settings"), "settings-?");
        assert_eq!(preview(&"a".repeat(50)), format!("{}-?", "a".repeat(47)));
    }

    #[test]
    fn reserved_words_are_known() {
        assert!(RESERVED.len() > 100);
        assert!(is_reserved("404") && is_reserved("welcome") && !is_reserved("acme") && !is_reserved(""));
    }

    proptest! {
        #[test]
        fn whatever_comes_in_a_slug_comes_out(
            wanted_slug in "\\PC{0,80}|[a-z0-9-]{0,60}|[-_ ]{0,5}|[0-9]{0,60}",
            name in "\\PC{0,80}",
            rounds in 0_usize..60,
            seed: u64,
        ) {
            let base = match plan(&wanted_slug, &name) {
                Outcome::Exact(slug) => {
                    prop_assert!(is_valid(slug) && !is_reserved(slug));
                    prop_assert_eq!(slug, wanted_slug.as_str());
                    slug.to_owned()
                }
                Outcome::Normalized(slug) => {
                    prop_assert!(is_valid(&slug) && !is_reserved(&slug), "{}", slug);
                    // Control accepts a slug that it gave once, unchanged.
                    prop_assert_eq!(plan(&slug, ""), Outcome::Exact(&slug));
                    slug
                }
                Outcome::NeedsSuffix { base, .. } => base,
            };
            let slug = with_suffix(&base, FIRST_SUFFIX + rounds, random(seed));
            prop_assert!(is_valid(&slug) && !is_reserved(&slug), "{}", slug);
            prop_assert_eq!(plan(&slug, ""), Outcome::Exact(&slug));
        }
    }
}
