//! What people look up: slugs by their beginning, all that control knows of an organization, and what is stuck.

use causeway_silo::db::DbError;
use chrono::TimeDelta;

use super::reservations::SlugReservations;
use crate::{
    Error, Page, PageRequest,
    model::{
        lookup::{KnownOrganization, StuckOperation, StuckPosition},
        reservation::Reservation,
    },
    store::{directory, slug_lookup as store},
};

/// After this time, a reservation that is neither confirmed nor released counts as stuck. An import confirms within
/// seconds, unless it waits for something.
pub const STUCK_AFTER: TimeDelta = TimeDelta::minutes(10);

/// The most reservations and renames of one organization that are shown. An organization has at most 102 reservations.
const SHOWN: i64 = 200;

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
        Ok(KnownOrganization {
            reservations: store::of_organization(&self.db, organization_id, SHOWN).await?,
            renames: store::renames(&self.db, organization_id, SHOWN).await?,
            entry: directory::get(&self.db, organization_id).await?,
        })
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
