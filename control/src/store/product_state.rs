//! What the product's own tables have of organizations, for a comparison with what they should have; and how what is
//! missing is written again.

use std::collections::BTreeMap;

use causeway_silo::db::{Column, Db, DbError, Row, Statement};
use chrono::{DateTime, Utc};

use super::{
    books::{Books, SLUG_RESERVATION, messages, missing, region_name, selected},
    feed_transaction::{FeedTransaction, Selection},
};
use crate::model::directory::{ProductMapping, ProductState};

/// The tables that the workers keep up to date from messages of regions. Without them there is nothing to compare.
const MAPPINGS: [&str; 2] = ["sentry_organizationmapping", "sentry_organizationmembermapping"];

impl Books {
    /// What the product has of these organizations of a region; nothing if it is too old to have mappings.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn state(
        &self,
        db: &Db,
        region: &str,
        organization_ids: Vec<i64>,
    ) -> Result<BTreeMap<i64, ProductState>, DbError> {
        if !MAPPINGS.iter().all(|table| self.made_by_workers.contains(table)) {
            return Ok(BTreeMap::new());
        }
        let statement = region_name(Statement::new("SELECT r.organization_id, b.slug, COALESCE(b.region_name = "), region)
            .push(
                ", false) AS in_region, m.slug AS mapped_slug, m.name AS mapped_name, \
                 CAST(m.status AS bigint) AS mapped_status, EXISTS (SELECT 1 FROM sentry_controloutbox o \
                 WHERE o.shard_scope = 0 AND o.shard_identifier = r.organization_id) AS waiting, \
                 (SELECT count(*) FROM sentry_organizationmembermapping n WHERE n.organization_id = r.organization_id \
                 AND n.organizationmember_id IS NOT NULL) AS mapped_members FROM ",
            )
            .rows(db.dialect(), "r", [("organization_id", Column::Ints(organization_ids))])
            .push(
                " LEFT JOIN sentry_organizationslugreservation b ON b.organization_id = r.organization_id \
                 AND b.reservation_type = 0 \
                 LEFT JOIN sentry_organizationmapping m ON m.organization_id = r.organization_id",
            );
        let state = |row: &Row| {
            let mapping = row.opt_text("mapped_slug")?.map(|slug| -> Result<_, DbError> {
                Ok(ProductMapping {
                    slug,
                    name: row.text("mapped_name")?,
                    status: row.opt_int("mapped_status")?,
                })
            });
            let state = ProductState {
                slug: row.opt_text("slug")?,
                in_region: row.bool("in_region")?,
                waiting: row.bool("waiting")?,
                mapping: mapping.transpose()?,
                mapped_members: row.int("mapped_members")?,
            };
            Ok((row.int("organization_id")?, state))
        };
        db.fetch_all(statement).await?.iter().map(state).collect()
    }

    /// The slug to which the product itself is renaming an organization; `None` if it is not. The product allows one rename
    /// at a time.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn renaming(
        &self,
        feed: &mut FeedTransaction<'_>,
        organization_id: i64,
    ) -> Result<Option<String>, DbError> {
        let statement = Statement::new(
            "SELECT b.slug FROM sentry_organizationslugreservation b WHERE b.organization_id = $1 AND b.reservation_type = 1 \
             AND NOT EXISTS (SELECT 1 FROM causeway_organization_slug_reservation s \
             WHERE s.slug = b.slug AND s.organization_id = b.organization_id)",
        );
        let row = feed.fetch_optional(statement.with(organization_id)).await?;
        row.map(|row| row.text("slug")).transpose()
    }

    /// Writes the primary reservations of organizations where the product has none, or has Causeway's for another region,
    /// and announces all of them. Returns the organizations that the product still has no reservation of, because their
    /// slugs are others' there; what the product itself has reserved stays as it is.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn restore(
        &self,
        feed: &mut FeedTransaction<'_>,
        organization_ids: &[i64],
        now: DateTime<Utc>,
    ) -> Result<Vec<(i64, String)>, DbError> {
        let of = Selection::Organizations(organization_ids);
        let moved = Statement::new("UPDATE sentry_organizationslugreservation b SET region_name = ");
        let moved = region_name(moved, feed.region()).push(
            " FROM causeway_organization_slug_reservation s WHERE b.organization_id = s.organization_id \
             AND b.slug = s.slug AND b.user_id = -1 AND s.type = 'primary' AND b.region_name <> ",
        );
        let moved = region_name(moved, feed.region()).push(" AND ");
        let moved = selected(moved, feed, &of);
        feed.execute(moved).await?;
        let missing = missing(feed, &of, now);
        feed.execute(missing).await?;
        let announced = messages(Statement::new(""), SLUG_RESERVATION, feed.region()).push(
            "sentry_organizationslugreservation c JOIN causeway_organization_slug_reservation s \
             ON s.organization_id = c.organization_id AND s.slug = c.slug WHERE s.type = 'primary' AND ",
        );
        let announced = selected(announced, feed, &of);
        feed.execute(announced).await?;
        let left = Statement::new(
            "SELECT s.organization_id, s.slug FROM causeway_organization_slug_reservation s WHERE s.type = 'primary' \
             AND NOT EXISTS (SELECT 1 FROM sentry_organizationslugreservation b \
             WHERE b.organization_id = s.organization_id AND b.reservation_type = 0) AND ",
        );
        let left = selected(left, feed, &of);
        let rows = feed.fetch_all(left).await?;
        rows.iter().map(|row| Ok((row.int("organization_id")?, row.text("slug")?))).collect()
    }
}
