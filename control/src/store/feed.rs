//! `causeway_feed` and `causeway_feed_event`. Whatever is told of many reservations is one statement.

use std::collections::HashMap;

use causeway_relocation::db::{Column, Db, DbError, Row, Statement, Tx};
use uuid::Uuid;

use super::{IS_BY_ORGANIZATION, slug_reservation::reservation_type_of};
use crate::feed::{Event, FeedReservation};

/// The version of a feed to which nothing has happened yet. Readers that have nothing say 0.
pub(crate) const FIRST: i64 = 1;

/// Where a feed is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The version of the last change.
    pub(crate) version: i64,
    /// The events above this one are there.
    pub(crate) oldest: i64,
}

impl Position {
    /// Nothing has happened yet.
    pub(crate) const BEGINNING: Self = Self { version: FIRST, oldest: FIRST };
}

/// Which reservations of a region.
pub(crate) enum Of<'a> {
    /// Those of an operation, of organizations after an id, up to another one.
    Operation(Uuid, i64, i64),
    /// All of these organizations.
    Organizations(&'a [i64]),
    /// That of one slug.
    Slug(&'a str),
}

/// What has become of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// They are what their rows say.
    Upsert,
    /// They are about to be deleted.
    Remove,
}

/// Makes this transaction the only one that changes reservations of the region until it ends, and says how far the
/// feed is.
pub(crate) async fn lock(tx: &mut Tx, region: &str) -> Result<i64, DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_feed (region, version, oldest) VALUES ($1, $2, $2) \
         ON CONFLICT (region) DO UPDATE SET version = causeway_feed.version RETURNING version",
    )
    .with(region)
    .with(FIRST);
    tx.fetch_one(statement).await?.int("version")
}

/// Begins the feed of a region, unless it has begun: so that whoever follows all feeds sees the region soon.
pub(crate) async fn begin(tx: &mut Tx, region: &str) -> Result<(), DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_feed (region, version, oldest) VALUES ($1, $2, $2) ON CONFLICT (region) DO NOTHING",
    )
    .with(region)
    .with(FIRST);
    tx.execute(statement).await.map(|_| ())
}

/// Sets how far the feed is. The transaction holds its lock.
pub(crate) async fn advance(tx: &mut Tx, region: &str, version: i64) -> Result<(), DbError> {
    let statement =
        Statement::new("UPDATE causeway_feed SET version = $2 WHERE region = $1").with(region).with(version);
    tx.execute(statement).await.map(|_| ())
}

/// What a feed tells of reservations `s` beside their slug and organization: `type`, `canonical_slug`, `operation_id`,
/// `wanted`. Most are primary, and of those nothing must be looked up.
const TOLD: &str = "s.type AS type, \
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

/// Appends an event for each of the reservations, after version `after`, and says which version the last one has.
/// Primary ones come first, so that no reader ever sees an organization without one.
pub(crate) async fn append(
    tx: &mut Tx,
    region: &str,
    after: i64,
    of: Of<'_>,
    change: Change,
) -> Result<i64, DbError> {
    let dialect = tx.dialect();
    let statement = Statement::new(
        "INSERT INTO causeway_feed_event \
         (region, version, slug, organization_id, type, canonical_slug, operation_id, wanted) SELECT s.region, ",
    )
    .arg(after)
    .push(
        " + row_number() OVER (ORDER BY CASE s.type WHEN 'primary' THEN 0 ELSE 1 END, s.slug), \
         s.slug, s.organization_id, ",
    );
    let statement = match change {
        Change::Upsert => statement.push(TOLD),
        Change::Remove => {
            statement.push("CAST(NULL AS text), CAST(NULL AS text), s.operation_id, ").arg(false)
        }
    };
    let statement = statement.push(" FROM causeway_organization_slug_reservation s");
    let statement = match of {
        Of::Organizations(ids) => statement
            .push(" JOIN ")
            .rows(dialect, "r", [("organization_id", Column::Ints(ids.to_vec()))])
            .push(" ON r.organization_id = s.organization_id WHERE s.region")
            .push(IS_BY_ORGANIZATION)
            .arg(region),
        Of::Operation(operation_id, after, last) => statement
            .push(" WHERE s.region = ")
            .arg(region)
            .push(" AND s.operation_id = ")
            .arg(operation_id)
            .push(" AND s.organization_id > ")
            .arg(after)
            .push(" AND s.organization_id <= ")
            .arg(last),
        Of::Slug(slug) => statement.push(" WHERE s.region = ").arg(region).push(" AND s.slug = ").arg(slug),
    };
    let appended = tx.execute(statement).await?;
    Ok(after.saturating_add_unsigned(appended))
}

fn reservation(row: &Row) -> Result<FeedReservation, DbError> {
    Ok(FeedReservation {
        slug: row.text("slug")?,
        organization_id: row.int("organization_id")?,
        kind: row.opt_text("type")?.as_deref().map(reservation_type_of).transpose()?,
        canonical_slug: row.opt_text("canonical_slug")?,
        operation_id: row.uuid("operation_id")?,
        wanted: row.bool("wanted")?,
    })
}

/// Where the feeds of all regions are. One that is not in the answer is at [`FIRST`].
pub(crate) async fn versions(db: &Db) -> Result<HashMap<String, i64>, DbError> {
    let rows = db.fetch_all(Statement::new("SELECT region, version FROM causeway_feed")).await?;
    rows.iter().map(|row| Ok((row.text("region")?, row.int("version")?))).collect()
}

/// Where the feeds of all regions are. One that is not in the answer has not begun.
pub(crate) async fn positions(db: &Db) -> Result<HashMap<String, Position>, DbError> {
    let rows = db.fetch_all(Statement::new("SELECT region, version, oldest FROM causeway_feed")).await?;
    let position = |row: &Row| {
        Ok((row.text("region")?, Position { version: row.int("version")?, oldest: row.int("oldest")? }))
    };
    rows.iter().map(position).collect()
}

/// Where the feed of a region is.
pub(crate) async fn position(db: &Db, region: &str) -> Result<Position, DbError> {
    let statement =
        Statement::new("SELECT version, oldest FROM causeway_feed WHERE region = $1").with(region);
    Ok(match db.fetch_optional(statement).await? {
        Some(row) => Position { version: row.int("version")?, oldest: row.int("oldest")? },
        None => Position::BEGINNING,
    })
}

/// Events of a region after a version, in their order.
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

/// What a snapshot has of a region, by slug, after `after`: all but what an import has not confirmed yet.
pub(crate) async fn snapshot(
    db: &Db,
    region: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<FeedReservation>, DbError> {
    let statement = Statement::new("SELECT s.slug, s.organization_id, ")
        .push(TOLD)
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

/// Forgets events of a region up to a version: at most so many, the oldest ones, and says how many. Those above what the
/// feed says is its oldest are always there. The transaction holds the lock of the feed.
pub(crate) async fn prune(tx: &mut Tx, region: &str, up_to: i64, most: i64) -> Result<u64, DbError> {
    let statement = Statement::new(
        "UPDATE causeway_feed SET oldest = CASE WHEN oldest + $3 < $2 THEN oldest + $3 ELSE $2 END \
         WHERE region = $1 AND oldest < $2 RETURNING oldest",
    )
    .with(region)
    .with(up_to)
    .with(most);
    let Some(row) = tx.fetch_optional(statement).await? else { return Ok(0) };
    let statement = Statement::new("DELETE FROM causeway_feed_event WHERE region = $1 AND version <= $2")
        .with(region)
        .with(row.int("oldest")?);
    tx.execute(statement).await
}

/// The regions of whose feeds more than `keep` events are there.
pub(crate) async fn to_prune(db: &Db, keep: i64) -> Result<Vec<String>, DbError> {
    let statement =
        Statement::new("SELECT region FROM causeway_feed WHERE version - oldest > $1 ORDER BY region")
            .with(keep);
    db.fetch_all(statement).await?.iter().map(|row| row.text("region")).collect()
}
