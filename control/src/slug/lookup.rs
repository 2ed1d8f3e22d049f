//! What people look up: slugs by their beginning, all that control knows of an organization, and what is stuck.

use std::collections::HashMap;

use causeway_silo::db::DbError;
use chrono::TimeDelta;
use uuid::Uuid;

use super::{
    reservations::SlugReservations,
    rules::{Outcome, SuffixReason, plan},
};
use crate::{
    Error, Page, PageRequest,
    model::{
        lookup::{KnownOrganization, PastRename, SlugChange, SlugOrigin, StuckOperation, StuckPosition},
        reservation::Reservation,
    },
    store::{directory, report, slug_lookup as store},
};

/// After this time, a reservation that is neither confirmed nor released counts as stuck. An import confirms within
/// seconds, unless it waits for something.
pub const STUCK_AFTER: TimeDelta = TimeDelta::minutes(10);

/// The most reservations and renames of one organization that are shown. An organization has at most 102 reservations.
const SHOWN: i64 = 200;

/// How many operations are searched for the import that began them. One import has made an organization.
const IMPORTS: usize = 5;

/// What an organization gets if it wants this slug and nobody has it; `None` if it gets a suffix in any case.
fn candidate(wanted: &str) -> Option<String> {
    match plan(wanted, "") {
        Outcome::Exact(slug) => Some(slug.to_owned()),
        Outcome::Normalized(slug) => Some(slug),
        Outcome::NeedsSuffix { .. } => None,
    }
}

/// Why an organization that wanted a slug has another one, with the owners of what others have; `None` if it has the one
/// that it wanted, or wanted none.
fn change(wanted: &str, slug: &str, owners: &[Reservation]) -> Option<SlugChange> {
    if wanted == slug || wanted.is_empty() {
        return None;
    }
    let candidate = match plan(wanted, "") {
        Outcome::Normalized(normalized) if normalized == slug => return Some(SlugChange::Normalized),
        Outcome::NeedsSuffix { why: SuffixReason::Reserved, .. } => return Some(SlugChange::ReservedWord),
        Outcome::NeedsSuffix { .. } => return Some(SlugChange::Invalid),
        Outcome::Normalized(normalized) => normalized,
        Outcome::Exact(wanted) => wanted.to_owned(),
    };
    let owner = owners.iter().find(|owner| owner.slug == candidate);
    Some(owner.map_or(SlugChange::TakenThen, |owner| SlugChange::Taken(owner.clone())))
}

impl SlugReservations {
    /// A page of the reservations whose slug begins with `prefix`, without regard to case, sorted by slug. None if
    /// `prefix` has a character that no slug has.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn search(
        &self,
        prefix: &str,
        request: &PageRequest<String>,
    ) -> Result<Page<Reservation, String>, Error> {
        let prefix = prefix.to_ascii_lowercase();
        if !prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let found = store::with_prefix(&self.db, &prefix, request.after.as_deref(), request.rows()).await?;
        Ok(Page::cut(found, request, |reservation| reservation.slug.clone()))
    }

    /// All that control knows of an organization; empty lists if it knows nothing.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn known(&self, organization_id: i64) -> Result<KnownOrganization, Error> {
        let reservations = store::of_organization(&self.db, organization_id, SHOWN).await?;
        let renames = store::renames(&self.db, organization_id, SHOWN).await?;
        Ok(KnownOrganization {
            origins: self.origins(organization_id, &reservations, &renames).await?,
            reservations,
            renames,
            entry: directory::get(&self.db, organization_id).await?,
        })
    }

    /// Where the slugs of an organization come from, in the order of its reservations.
    async fn origins(
        &self,
        organization_id: i64,
        reservations: &[Reservation],
        renames: &[PastRename],
    ) -> Result<Vec<SlugOrigin>, Error> {
        let mut wanted = store::wanted(&self.db, organization_id, SHOWN).await?;
        let is_rename = |operation: Uuid| renames.iter().any(|it| it.rename.operation_id == operation);
        let mut asked: Vec<(&str, Uuid)> = reservations
            .iter()
            .filter(|it| !is_rename(it.operation_id))
            .map(|it| (it.region.as_str(), it.operation_id))
            .collect();
        asked.sort_unstable();
        asked.dedup();
        let mut imports = HashMap::new();
        for (region, operation) in asked.into_iter().take(IMPORTS) {
            imports.extend(report::import_of(&self.db, region, operation).await?.map(|id| (operation, id)));
        }
        let candidates = wanted.values().filter_map(|wanted| candidate(wanted)).collect();
        let mut owners = store::with_slugs(&self.db, candidates).await?;
        owners.retain(|owner| owner.organization_id != organization_id);
        let origin = |reservation: &Reservation| {
            let wanted_slug = wanted.remove(&reservation.slug)?;
            let changed = change(&wanted_slug, &reservation.slug, &owners);
            let import_id = imports.get(&reservation.operation_id).copied();
            Some(SlugOrigin { slug: reservation.slug.clone(), wanted_slug, changed, import_id })
        };
        // One that came between the two queries is shown the next time.
        Ok(reservations.iter().filter_map(origin).collect())
    }

    /// A page of the operations that have been neither confirmed nor released for [`STUCK_AFTER`], the oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn stuck(
        &self,
        request: &PageRequest<StuckPosition>,
    ) -> Result<Page<StuckOperation, StuckPosition>, Error> {
        let horizon = self.env.now().checked_sub_signed(STUCK_AFTER);
        let horizon =
            horizon.ok_or_else(|| DbError::inconsistent("the time of the clock is out of range"))?;
        let found = store::stuck(&self.db, horizon, request.after.as_ref(), request.rows()).await?;
        Ok(Page::cut(found, request, |operation| (operation.since, operation.operation_id)))
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::model::reservation::ReservationType;

    #[test]
    fn why_a_slug_was_changed_is_told_from_what_was_wanted() {
        let owner = Reservation {
            slug: "acme".to_owned(),
            region: "us".to_owned(),
            organization_id: 7,
            kind: ReservationType::Primary,
            operation_id: Uuid::nil(),
            created_at: DateTime::UNIX_EPOCH,
        };
        let owners = [owner.clone()];
        for (wanted, slug, expected) in [
            ("acme", "acme", None),
            ("", "acme-inc", None),
            ("Acme", "acme", Some(SlugChange::Normalized)),
            ("acme", "acme-x7", Some(SlugChange::Taken(owner.clone()))),
            ("Acme", "acme-x7", Some(SlugChange::Taken(owner))),
            ("elm", "elm-x7", Some(SlugChange::TakenThen)),
            ("api", "api-x7", Some(SlugChange::ReservedWord)),
            ("123", "123-x7", Some(SlugChange::Invalid)),
        ] {
            assert_eq!(change(wanted, slug, &owners), expected, "{wanted} {slug}");
        }
    }
}
