//! Queries on `causeway_feed` and `causeway_feed_event` for readers. The changes are in
//! [`feed_transaction`](super::feed_transaction).

use std::collections::HashMap;

use causeway_silo::db::{Db, DbError, Row, Statement, Tx};

use super::era::EMPTY_FEED_VERSION;
use crate::model::{
    feed::{Event, FeedReservation},
    reservation::ReservationType,
};

/// The position of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The version of the last event, or that with which feeds of the era begin. A reader that has nothing has version 0.
    pub(crate) version: i64,
    /// Events above this version are stored.
    pub(crate) oldest: i64,
}

/// Creates the feed of a region if it does not exist, so that readers of all feeds see the region soon.
pub(crate) async fn begin(tx: &mut Tx, region: &str) -> Result<(), DbError> {
    let statement = Statement::new("INSERT INTO causeway_feed (region, version, oldest) VALUES (")
        .arg(region)
        .push(", ")
        .push(EMPTY_FEED_VERSION)
        .push(", ")
        .push(EMPTY_FEED_VERSION)
        .push(") ON CONFLICT (region) DO NOTHING");
    tx.execute(statement).await.map(|_| ())
}

/// What a feed contains about reservations `s` in addition to slug and organization: `type`,
/// `canonical_slug`, `operation_id`, `wanted`. Most reservations are primary, and need no subquery.
pub(super) const FEED_COLUMNS: &str = "s.type AS type, \
    CASE WHEN s.type = 'primary' THEN s.slug ELSE \
    (SELECT p.slug FROM causeway_organization_slug_reservation p WHERE p.region = s.region \
    AND p.organization_id = s.organization_id AND p.type = 'primary') END AS canonical_slug, \
    CASE WHEN s.type = 'primary' THEN s.operation_id ELSE COALESCE( \
    (SELECT n.operation_id FROM causeway_slug_rename n WHERE n.region = s.region \
    AND n.organization_id = s.organization_id AND n.slug = s.slug AND n.state = 'pending'), s.operation_id) END \
    AS operation_id, \
    CASE WHEN s.type = 'primary' THEN 1 = 0 ELSE EXISTS \
    (SELECT 1 FROM causeway_slug_rename n WHERE n.region = s.region \
    AND n.organization_id = s.organization_id AND n.slug = s.slug AND n.state = 'pending') END AS wanted";

/// Decodes the type of a reservation from its row.
pub(super) fn reservation_type(name: &str) -> Result<ReservationType, DbError> {
    ReservationType::from_name(name)
        .ok_or_else(|| DbError::inconsistent("a slug reservation is of an unknown type"))
}

fn reservation(row: &Row) -> Result<FeedReservation, DbError> {
    Ok(FeedReservation {
        slug: row.text("slug")?,
        organization_id: row.int("organization_id")?,
        kind: row.opt_text("type")?.as_deref().map(reservation_type).transpose()?,
        canonical_slug: row.opt_text("canonical_slug")?,
        operation_id: row.uuid("operation_id")?,
        wanted: row.bool("wanted")?,
    })
}

/// The version of each region's feed. A feed that is missing in the result has not begun.
pub(crate) async fn versions(db: &Db) -> Result<HashMap<String, i64>, DbError> {
    let rows = db.fetch_all(Statement::new("SELECT region, version FROM causeway_feed")).await?;
    rows.iter().map(|row| Ok((row.text("region")?, row.int("version")?))).collect()
}

/// The position of each region's feed. A feed that is missing in the result has not begun.
pub(crate) async fn positions(db: &Db) -> Result<HashMap<String, Position>, DbError> {
    let rows = db.fetch_all(Statement::new("SELECT region, version, oldest FROM causeway_feed")).await?;
    let position = |row: &Row| {
        Ok((row.text("region")?, Position { version: row.int("version")?, oldest: row.int("oldest")? }))
    };
    rows.iter().map(position).collect()
}

/// The position of a region's feed.
pub(crate) async fn position(db: &Db, region: &str) -> Result<Position, DbError> {
    let statement =
        Statement::new("SELECT version, oldest FROM causeway_feed WHERE region = $1").with(region);
    match db.fetch_optional(statement).await? {
        Some(row) => Ok(Position { version: row.int("version")?, oldest: row.int("oldest")? }),
        None => beginning(db).await,
    }
}

/// The version of a region's feed within a transaction; `None` if the feed has not begun.
pub(crate) async fn version_in(tx: &mut Tx, region: &str) -> Result<Option<i64>, DbError> {
    let statement = Statement::new("SELECT version FROM causeway_feed WHERE region = $1").with(region);
    tx.fetch_optional(statement).await?.map(|row| row.int("version")).transpose()
}

/// The position of a feed that has not begun.
pub(crate) async fn beginning(db: &Db) -> Result<Position, DbError> {
    let statement = Statement::new("SELECT ").push(EMPTY_FEED_VERSION).push(" AS version");
    let row = db.fetch_optional(statement).await?;
    let version = row.ok_or_else(|| DbError::inconsistent("causeway_era has no row"))?.int("version")?;
    Ok(Position { version, oldest: version })
}

/// Events of a region after version `after`, in order; at most `limit`.
pub(crate) async fn events(db: &Db, region: &str, after: i64, limit: i64) -> Result<Vec<Event>, DbError> {
    let statement = Statement::new(
        "SELECT version, slug, organization_id, type, canonical_slug, operation_id, wanted \
         FROM causeway_feed_event WHERE region = $1 AND version > $2 ORDER BY version LIMIT $3",
    )
    .with(region)
    .with(after)
    .with(limit);
    let event = |row: &Row| Ok(Event { version: row.int("version")?, reservation: reservation(row)? });
    db.fetch_all(statement).await?.iter().map(event).collect()
}

/// Reservations of a region for a snapshot, after slug `after`, sorted by slug. Those that an import has not confirmed
/// yet are left out.
pub(crate) async fn snapshot(
    db: &Db,
    region: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<FeedReservation>, DbError> {
    let statement = Statement::new("SELECT s.slug, s.organization_id, ")
        .push(FEED_COLUMNS)
        .push(" FROM causeway_organization_slug_reservation s WHERE s.region = ")
        .arg(region)
        .push(" AND s.slug > ")
        .arg(after)
        .push(
            " AND (s.type <> 'temporary_rename_alias' OR s.operation_id IN (SELECT n.operation_id FROM \
         causeway_slug_rename n WHERE n.region = s.region AND n.state = 'pending')) ORDER BY s.slug LIMIT ",
        )
        .arg(limit);
    db.fetch_all(statement).await?.iter().map(reservation).collect()
}

/// The regions whose feed has more than `keep` stored events.
pub(crate) async fn to_prune(db: &Db, keep: i64) -> Result<Vec<String>, DbError> {
    let statement =
        Statement::new("SELECT region FROM causeway_feed WHERE version - oldest > $1 ORDER BY region")
            .with(keep);
    db.fetch_all(statement).await?.iter().map(|row| row.text("region")).collect()
}
