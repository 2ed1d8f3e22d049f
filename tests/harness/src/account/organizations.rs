//! Checks slugs: each organization has one reservation, the import keeps a slug where it can, and a finding reports
//! every change.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use causeway_proto::{
    control::v1::{ReservationType, SlugReservation},
    relocation::v1::{FindingKind, KeyKind},
};
use causeway_relocation::catalog::reserved_organization_slugs;

use super::{Outcome, case::AuditCase, file::FileRecord};

const ORGANIZATION: &str = "sentry.organization";
/// The most organizations that the import message itself lists.
const NAMED: usize = 1_000;

/// Whether a text is a valid slug.
fn is_slug(text: &str) -> bool {
    (1..=50).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && text.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// The common form of slugs that differ only in case, spaces, underscores and hyphens.
fn folded(text: &str) -> String {
    text.to_lowercase().replace([' ', '_'], "-")
}

impl AuditCase<'_> {
    /// Checks the slugs of the organizations that the import inserted.
    pub(super) fn check_organizations(&mut self) {
        let organizations: Vec<(Arc<FileRecord>, i64, String)> = self
            .records_of(ORGANIZATION)
            .into_iter()
            .filter_map(|record| match self.outcome(ORGANIZATION, record.pk)? {
                Outcome::Inserted(id) => {
                    let slug = self.after.row(ORGANIZATION, id)?.get("slug")?.as_text()?.to_owned();
                    Some((record, id, slug))
                }
                _ => None,
            })
            .collect();
        self.check_reservations(&organizations);
        self.check_slugs(&organizations);
        self.check_named(&organizations);
    }

    fn check_reservations(&mut self, organizations: &[(Arc<FileRecord>, i64, String)]) {
        let region = self.import.region.clone();
        let mut of: BTreeMap<i64, Vec<&SlugReservation>> = BTreeMap::new();
        let after = self.after;
        for reservation in after.reservations().iter().filter(|reservation| reservation.region == region) {
            of.entry(reservation.organization_id).or_default().push(reservation);
        }
        for (record, id, slug) in organizations {
            let reservations = of.get(id).map(Vec::as_slice).unwrap_or_default();
            let right = matches!(reservations, [one] if one.slug == *slug && one.r#type() == ReservationType::Primary);
            if !right {
                self.mismatch(format!(
                    "organization {} is `{slug}` and has reserved {reservations:?}",
                    record.pk
                ));
            }
        }
        for reservation in after.reservations() {
            if reservation.r#type() != ReservationType::Primary {
                self.mismatch(format!("`{}` is reserved as {:?}", reservation.slug, reservation.r#type()));
            }
        }
        for reservation in self.before.reservations() {
            if !after.reservations().contains(reservation) {
                self.mismatch(format!("the reservation of `{}` has changed", reservation.slug));
            }
        }
        let others = self.others.iter().filter(|(model, _)| model == ORGANIZATION).count();
        let expected = self.before.reservations().len() + organizations.len() + others;
        if after.reservations().len() != expected {
            self.mismatch(format!(
                "there are {} reservations and not {expected}",
                after.reservations().len()
            ));
        }
    }

    fn check_slugs(&mut self, organizations: &[(Arc<FileRecord>, i64, String)]) {
        let reserved: HashSet<&str> = reserved_organization_slugs().collect();
        // The slugs that control has for other organizations, and those that the region had before it asked
        // control.
        let here = self.before.rows(ORGANIZATION).values().filter_map(|row| row.get("slug")?.as_text());
        let reserved_before = self.before.reservations().iter().map(|reservation| reservation.slug.as_str());
        let before: HashSet<&str> = reserved_before.chain(here).collect();
        let ours: HashSet<&str> = organizations.iter().map(|(_, _, slug)| slug.as_str()).collect();
        let others: HashSet<&str> = self
            .after
            .reservations()
            .iter()
            .map(|reservation| reservation.slug.as_str())
            .filter(|slug| !before.contains(slug) && !ours.contains(slug))
            .collect();
        let mut problems = Vec::new();
        for (record, _, slug) in organizations {
            let wanted_slug = record.text("slug").unwrap_or_default();
            if !is_slug(slug) || reserved.contains(slug.as_str()) {
                problems.push(format!("organization {} got `{slug}`", record.pk));
            }
            let could_be =
                is_slug(wanted_slug) && !reserved.contains(wanted_slug) && !before.contains(wanted_slug);
            match (could_be, wanted_slug == slug) {
                (true, true) => {}
                (true, false) if ours.contains(wanted_slug) || others.contains(wanted_slug) => {
                    let front = slug.rsplit_once('-').map_or("", |(front, _)| front);
                    if !wanted_slug.starts_with(front) || front.is_empty() {
                        problems.push(format!("`{wanted_slug}` became `{slug}`"));
                    }
                }
                (true, false) => problems.push(format!("`{wanted_slug}` was free and became `{slug}`")),
                (false, true) => problems.push(format!("`{wanted_slug}` could not be given and was")),
                // A repaired slug still resembles the invalid one, unless none of its characters is left.
                (false, false) => {
                    let front: String = folded(wanted_slug).chars().take(3).collect();
                    if is_slug(&front) && !slug.starts_with(&front) {
                        problems.push(format!("`{wanted_slug}` became `{slug}`"));
                    }
                }
            }
            if wanted_slug != slug {
                self.expect(record, &[FindingKind::SlugChanged], &["slug"]);
            }
        }
        for problem in problems {
            self.mismatch(problem);
        }
    }

    /// Checks that the import and the primary key map list the same organizations as the table.
    fn check_named(&mut self, organizations: &[(Arc<FileRecord>, i64, String)]) {
        let mut named: Vec<(i64, i64, &str, &str)> = organizations
            .iter()
            .map(|(record, id, slug)| {
                (*id, record.pk, record.text("slug").unwrap_or_default(), slug.as_str())
            })
            .collect();
        named.sort_unstable();
        let keys =
            self.keys.iter().filter(|key| key.model == ORGANIZATION && key.kind() == KeyKind::Inserted);
        let mut mapped: Vec<(i64, i64, &str, &str)> = keys
            .map(|key| (key.new_pk, key.source_pk, key.wanted_slug.as_str(), key.slug.as_str()))
            .collect();
        mapped.sort_unstable();
        let import = self.import;
        let shown: Vec<(i64, i64, &str, &str)> = import
            .organizations
            .iter()
            .map(|it| (it.id, it.source_id, it.wanted_slug.as_str(), it.slug.as_str()))
            .collect();
        let mut problems = Vec::new();
        if mapped != named {
            problems.push(format!("the key map has the organizations {mapped:?} and not {named:?}"));
        }
        if usize::try_from(import.organization_count).ok() != Some(named.len()) {
            problems.push(format!("the import counts {} organizations", import.organization_count));
        }
        named.truncate(NAMED);
        if shown != named {
            problems.push(format!("the import names the organizations {shown:?} and not {named:?}"));
        }
        if self
            .keys
            .iter()
            .any(|key| key.model != ORGANIZATION && !(key.slug.is_empty() && key.wanted_slug.is_empty()))
        {
            problems.push("the key map has slugs of what is not an organization".to_owned());
        }
        for problem in problems {
            self.mismatch(problem);
        }
    }
}
