//! Lookup of slugs, and the table `causeway_organization`.

use std::collections::HashSet;

use causeway_silo::db::{Column, Db, DbError, Row, Statement};
use chrono::{DateTime, Utc};

use uuid::Uuid;

use super::{EQUALS_WITHOUT_REGION_INDEX, feed::reservation_type, feed_transaction::FeedTransaction};
use crate::model::{
    directory::{DirectoryOrganization, ReportedOrganization, ResolvedOrganization},
    reservation::ReservationType,
};

/// The owners of these slugs, each with the type of the reservation, sorted by slug. `slugs` must have no duplicates.
pub(crate) async fn find(
    db: &Db,
    slugs: Vec<String>,
) -> Result<Vec<(ReservationType, ResolvedOrganization)>, DbError> {
    let statement = Statement::new(
        "SELECT s.slug, s.organization_id, s.region, s.type, g.address, COALESCE(p.slug, s.slug) AS canonical_slug FROM ",
    )
    .rows(db.dialect(), "r", [("slug", Column::Texts(slugs))])
    .push(" JOIN causeway_organization_slug_reservation s ON s.slug = r.slug")
    .push(" JOIN causeway_region g ON g.name = s.region")
    .push(" LEFT JOIN causeway_organization_slug_reservation p")
    .push(" ON p.region = s.region AND p.organization_id = s.organization_id AND p.type = 'primary'")
    .push(" ORDER BY s.slug");
    let found = |row: Row| {
        let organization = ResolvedOrganization {
            slug: row.text("slug")?,
            canonical_slug: row.text("canonical_slug")?,
            organization_id: row.int("organization_id")?,
            region: row.text("region")?,
            region_address: row.text("address")?,
        };
        Ok((reservation_type(&row.text("type")?)?, organization))
    };
    db.fetch_all(statement).await?.into_iter().map(found).collect()
}

/// Whether a report arrives after one of the same region that was made later.
const IS_LATE: &str = "excluded.report_number > 0 AND excluded.report_number < causeway_organization.report_number \
    AND excluded.region = causeway_organization.region";

/// Writes what a region reports about its organizations, and returns which ones were written: those for which it has a
/// primary reservation. What a report with a larger number has said stays.
pub(crate) async fn upsert(
    feed: &mut FeedTransaction<'_>,
    number: i64,
    organizations: &[ReportedOrganization],
    now: DateTime<Utc>,
) -> Result<HashSet<i64>, DbError> {
    let dialect = feed.dialect();
    let statement = Statement::new(
        "INSERT INTO causeway_organization (organization_id, region, name, status, reported_at, report_number) \
         SELECT r.organization_id, $1, r.name, r.status, $2, $3 FROM ",
    )
    .with(feed.region())
    .with(now)
    .with(number)
    .rows(
        dialect,
        "r",
        [
            ("organization_id", Column::Ints(organizations.iter().map(|o| o.organization_id).collect())),
            ("name", Column::Texts(organizations.iter().map(|o| o.name.clone()).collect())),
            ("status", Column::Ints(organizations.iter().map(|o| o.status).collect())),
        ],
    )
    .push(
        " JOIN causeway_organization_slug_reservation p \
         ON p.organization_id = r.organization_id AND p.type = 'primary' WHERE p.region",
    )
    .push(EQUALS_WITHOUT_REGION_INDEX)
    .push("$1")
    // Always in the same order, so that two transactions wait for each other in one direction only.
    .push(
        " ORDER BY r.organization_id ON CONFLICT (organization_id) DO UPDATE SET region = excluded.region",
    );
    let mut statement = statement;
    for column in ["name", "status", "reported_at", "report_number"] {
        statement = statement
            .push(&format!(", {column} = CASE WHEN "))
            .push(IS_LATE)
            .push(&format!(" THEN causeway_organization.{column} ELSE excluded.{column} END"));
    }
    let statement = statement.push(" RETURNING organization_id");
    feed.fetch_all(statement).await?.iter().map(|row| row.int("organization_id")).collect()
}

/// Deletes the directory entries of organizations with ids up to `last` whose primary slug is from this operation.
pub(crate) async fn delete_of_operation(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    last: i64,
) -> Result<(), DbError> {
    let statement = Statement::new(
        "DELETE FROM causeway_organization WHERE region = $1 AND organization_id IN (\
         SELECT organization_id FROM causeway_organization_slug_reservation \
         WHERE region = $1 AND operation_id = $2 AND type = 'primary' AND organization_id <= $3)",
    )
    .with(feed.region())
    .with(operation_id)
    .with(last);
    feed.execute(statement).await.map(|_| ())
}

/// Deletes directory entries of organizations of a region.
pub(crate) async fn delete(feed: &mut FeedTransaction<'_>, organization_ids: &[i64]) -> Result<u64, DbError> {
    let dialect = feed.dialect();
    let statement = Statement::new(
        "DELETE FROM causeway_organization WHERE organization_id IN (SELECT organization_id FROM ",
    )
    .rows(dialect, "r", [("organization_id", Column::Ints(organization_ids.to_vec()))])
    .push(") AND region")
    .push(EQUALS_WITHOUT_REGION_INDEX)
    .arg(feed.region());
    feed.execute(statement).await
}

/// The directory entries: each organization with the slug of its primary reservation.
const SELECT: &str = "SELECT o.organization_id, o.region, p.slug, o.name, o.status, o.reported_at \
                      FROM causeway_organization o JOIN causeway_organization_slug_reservation p \
                      ON p.organization_id = o.organization_id AND p.region = o.region AND p.type = 'primary'";

/// Directory entries after `after`, sorted by organization id; of all regions if `region` is `None`.
pub(crate) async fn list(
    db: &Db,
    region: Option<&str>,
    after: Option<i64>,
    rows: i64,
) -> Result<Vec<DirectoryOrganization>, DbError> {
    let mut statement =
        Statement::new(SELECT).push(" WHERE o.organization_id > ").arg(after.unwrap_or_default());
    if let Some(region) = region {
        statement = statement.push(" AND o.region = ").arg(region);
    }
    let statement = statement.push(" ORDER BY o.organization_id LIMIT ").arg(rows);
    db.fetch_all(statement).await?.iter().map(organization).collect()
}

/// The directory entry of an organization, whichever region reported it.
pub(crate) async fn get(db: &Db, organization_id: i64) -> Result<Option<DirectoryOrganization>, DbError> {
    let statement = Statement::new(SELECT).push(" WHERE o.organization_id = ").arg(organization_id);
    db.fetch_optional(statement).await?.as_ref().map(organization).transpose()
}

/// The directory entries of those of these organizations that the region has reported.
pub(crate) async fn of(
    db: &Db,
    region: &str,
    organization_ids: Vec<i64>,
) -> Result<Vec<DirectoryOrganization>, DbError> {
    let statement = Statement::new(SELECT)
        .push(" JOIN ")
        .rows(db.dialect(), "r", [("organization_id", Column::Ints(organization_ids))])
        .push(" ON r.organization_id = o.organization_id WHERE o.region")
        .push(EQUALS_WITHOUT_REGION_INDEX)
        .arg(region);
    db.fetch_all(statement).await?.iter().map(organization).collect()
}

fn organization(row: &Row) -> Result<DirectoryOrganization, DbError> {
    Ok(DirectoryOrganization {
        organization_id: row.int("organization_id")?,
        slug: row.text("slug")?,
        name: row.text("name")?,
        status: row.int("status")?,
        region: row.text("region")?,
        reported_at: row.time("reported_at")?,
    })
}
