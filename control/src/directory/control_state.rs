//! All that control stores for the organizations of a region. The region compares it with its own tables.

use std::collections::BTreeMap;

use causeway_proto::limits::MAX_NAMES_PER_CALL;
use causeway_silo::db::DbError;

use super::Directory;
use crate::{
    Error, Page, PageRequest,
    model::{directory::HeldOrganization, reservation::Reservation},
    regions,
    store::{self, feed},
};

/// The most reservations in a page. No single organization has that many.
const MAX_RESERVATIONS: usize = 10_000;

/// What control stores for a page of organizations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredState {
    /// The organizations, sorted by id.
    pub page: Page<HeldOrganization, i64>,
    /// The version of the region's feed before control read them.
    pub feed_version: i64,
}

impl Directory {
    /// A page of what control stores for organizations of a region, sorted by id: for those in `ids`, or for all if
    /// `ids` is empty.
    ///
    /// # Errors
    /// If the region has not registered, or there are too many ids.
    pub async fn held_organizations(
        &self,
        region: &str,
        mut ids: Vec<i64>,
        request: &PageRequest<i64>,
    ) -> Result<StoredState, Error> {
        if ids.len() > MAX_NAMES_PER_CALL {
            return Err(Error::invalid(
                "organization_ids",
                format!("at most {MAX_NAMES_PER_CALL} in one call"),
            ));
        }
        let region = regions::registered(&self.db, "region", region).await?.name;
        // Read the version first, so that what is read after it is at least as new.
        let feed_version = feed::position(&self.db, &region).await?.version;
        if ids.is_empty() {
            ids = store::control_state::ids(&self.db, &region, request.after, request.rows()).await?;
        } else {
            ids.retain(|id| request.after.is_none_or(|after| *id > after));
            ids.sort_unstable();
            ids.dedup();
        }
        let mut page = Page::cut(ids, request, |id| *id);
        // One query for each table. If something changes in between, a second comparison shows it.
        let renames = store::rename::pending(&self.db, &region, page.items.clone()).await?;
        let reservations = self.some_reservations(&region, &mut page).await?;
        let listed = store::directory::of(&self.db, &region, page.items).await?;
        let mut by_id: BTreeMap<i64, HeldOrganization> = BTreeMap::new();
        let nothing = |organization_id| HeldOrganization {
            organization_id,
            reservations: Vec::new(),
            listed: None,
            rename: None,
            product: None,
        };
        for reservation in reservations {
            let id = reservation.organization_id;
            by_id.entry(id).or_insert_with(|| nothing(id)).reservations.push(reservation);
        }
        for organization in listed {
            let id = organization.organization_id;
            by_id.entry(id).or_insert_with(|| nothing(id)).listed = Some(organization);
        }
        // An organization that is being renamed also has a reservation.
        for (id, rename) in renames {
            by_id.entry(id).or_insert_with(|| nothing(id)).rename = Some(rename);
        }
        if let Some(product_db) = self.feeds.product_db() {
            for (id, state) in product_db.state(&self.db, &region, by_id.keys().copied().collect()).await? {
                by_id.entry(id).or_insert_with(|| nothing(id)).product = Some(state);
            }
        }
        Ok(StoredState { page: Page { items: by_id.into_values().collect(), next: page.next }, feed_version })
    }

    /// All reservations of the organizations of a page. If there are too many, shortens the page.
    async fn some_reservations(
        &self,
        region: &str,
        page: &mut Page<i64, i64>,
    ) -> Result<Vec<Reservation>, Error> {
        let ids = page.items.clone();
        let mut reservations =
            store::slug_reservation::of_organizations(&self.db, region, ids, MAX_RESERVATIONS + 1).await?;
        if reservations.len() > MAX_RESERVATIONS
            && let Some(cut) = reservations.last().map(|last| last.organization_id)
        {
            // Some reservations of the last organization may be missing.
            page.items.retain(|id| *id < cut);
            match page.items.last() {
                Some(last) => {
                    page.next = Some(*last);
                    reservations.retain(|reservation| reservation.organization_id < cut);
                }
                None => {
                    return Err(DbError::inconsistent(format!(
                        "organization {cut} has more than {MAX_RESERVATIONS} reservations"
                    ))
                    .into());
                }
            }
        }
        Ok(reservations)
    }
}
