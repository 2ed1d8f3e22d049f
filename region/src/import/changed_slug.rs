//! The finding that an organization does not get its wanted slug, in an import and in a dry run.

use std::collections::HashSet;

use causeway_proto::{control::v1::SlugVerdict, limits::MAX_TEXT_BYTES};
use causeway_relocation::{
    catalog::ORGANIZATION,
    finding::{Finding, FindingKind, Tense},
};
use causeway_silo::db::{DbError, count};

use super::{ImportedOrganization, ModelCounts};

/// The slug that an organization would get without a suffix. Control leaves that empty if it is the wanted slug itself.
pub(super) fn candidate<'a>(given: &'a str, wanted_slug: &'a str) -> &'a str {
    if given.is_empty() { wanted_slug } else { given }
}

/// Why an organization cannot have its wanted slug; `None` if it can. `taken` says in words
/// who has the candidate, or what refuses it.
fn why(wanted_slug: &str, candidate: &str, verdict: SlugVerdict, taken: &str) -> Option<String> {
    let not_valid = || {
        if wanted_slug.is_empty() {
            "the organization has no slug".to_owned()
        } else {
            format!("`{wanted_slug}` is not a valid slug")
        }
    };
    let with_candidate = |what: &str| {
        if candidate == wanted_slug {
            format!("`{wanted_slug}` {what}")
        } else {
            format!("{}, and `{candidate}` {what}", not_valid())
        }
    };
    match verdict {
        SlugVerdict::Free => None,
        SlugVerdict::Taken => Some(with_candidate(taken)),
        SlugVerdict::ReservedWord => Some(with_candidate("is a reserved word")),
        SlugVerdict::Normalized | SlugVerdict::Invalid | SlugVerdict::Unspecified => Some(not_valid()),
    }
}

/// The finding that an organization got another slug than it wants or, in a dry run, would get one; then `-?` stands
/// for a random suffix. `taken` says in words who has the candidate, or what refuses it.
pub(super) fn slug_changed(
    organization: &ImportedOrganization,
    slug: &str,
    candidate: &str,
    verdict: SlugVerdict,
    taken: &str,
    tense: Tense,
) -> Option<Finding> {
    let why = why(&organization.wanted_slug, candidate, verdict, taken)?;
    let suffix = if slug.ends_with("-?") { ", with a random suffix" } else { "" };
    let becomes = match tense {
        Tense::Happened => format!("is `{slug}` now"),
        Tense::Would => format!("would become `{slug}`{suffix}"),
    };
    let reason = format!("{why}; the organization {becomes}");
    Some(organization.place(Finding::new(FindingKind::SlugChanged, reason).model(ORGANIZATION).field("slug")))
}

/// Counts the organizations that only these findings about their slugs have changed.
pub(super) fn changed_by_slugs(
    organizations: &[ImportedOrganization],
    findings: &[Finding],
) -> Result<ModelCounts, DbError> {
    let unchanged: HashSet<i64> = organizations
        .iter()
        .filter(|organization| !organization.changed)
        .map(|organization| organization.source_id)
        .collect();
    let fresh = |finding: &&Finding| finding.source_pk.is_some_and(|pk| unchanged.contains(&pk));
    Ok(ModelCounts {
        model: ORGANIZATION.to_owned(),
        changed: count(findings.iter().filter(fresh).count())?,
        ..ModelCounts::default()
    })
}

/// A name cut to the length that control accepts.
pub(super) fn name_for_control(name: &str) -> String {
    name[..name.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_of_a_changed_slug_is_distinguished() {
        let reported = |wanted_slug, candidate, verdict| {
            why(wanted_slug, candidate, verdict, "is taken by organization 7 of region us")
        };
        for (wanted_slug, candidate, verdict, expected) in [
            ("acme", "acme", SlugVerdict::Taken, "`acme` is taken by organization 7 of region us"),
            (
                "Acme",
                "acme",
                SlugVerdict::Taken,
                "`Acme` is not a valid slug, and `acme` is taken by organization 7 of region us",
            ),
            (
                "",
                "acme",
                SlugVerdict::Taken,
                "the organization has no slug, and `acme` is taken by organization 7 of region us",
            ),
            ("api", "api", SlugVerdict::ReservedWord, "`api` is a reserved word"),
            (
                "API",
                "api",
                SlugVerdict::ReservedWord,
                "`API` is not a valid slug, and `api` is a reserved word",
            ),
            ("Acme", "acme", SlugVerdict::Normalized, "`Acme` is not a valid slug"),
            ("42", "42", SlugVerdict::Invalid, "`42` is not a valid slug"),
            ("", "organization", SlugVerdict::Invalid, "the organization has no slug"),
        ] {
            assert_eq!(reported(wanted_slug, candidate, verdict).as_deref(), Some(expected));
        }
        assert_eq!(reported("acme", "acme", SlugVerdict::Free), None);
    }
}
