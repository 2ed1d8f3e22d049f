//! The table `causeway_organization_slug_reservation`. A change of many reservations is one statement for each part of
//! them.

use std::collections::HashMap;

use causeway_silo::db::{Column, Db, DbError, Dialect, Row, Statement, Tx, count};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    EQUALS_WITHOUT_REGION_INDEX, feed::reservation_type, feed_transaction::FeedTransaction, product_db,
    product_tables::ProductDb, slug_operation::OperationKey,
};
use crate::model::reservation::{Candidates, ListFilter, Owner, Reservation, ReservationType, Selection};

/// An organization that has a reservation from another operation.
#[derive(Debug)]
pub(crate) struct Conflict {
    pub(crate) organization_id: i64,
    /// Its primary or temporary slug.
    pub(crate) slug: String,
    /// The other operation, which reserved that slug.
    pub(crate) operation_id: Uuid,
}

/// The next organizations of an operation with ids above `after`, at most `most`: the last id, and how many there are.
/// `None` if there are none.
pub(crate) async fn page_end(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    after: i64,
    most: i64,
) -> Result<Option<(i64, i64)>, DbError> {
    let statement = Statement::new(
        "SELECT MAX(p.organization_id) AS last, count(*) AS count FROM \
         (SELECT organization_id FROM causeway_organization_slug_reservation WHERE region = $1 AND operation_id = $2 \
         AND organization_id > $3 ORDER BY organization_id LIMIT $4) p",
    )
    .with(feed.region())
    .with(operation_id)
    .with(after)
    .with(most);
    let row = feed.fetch_one(statement).await?;
    let count = row.int("count")?;
    Ok(row.opt_int("last")?.map(|last| (last, count)))
}

/// The slugs that an operation has reserved so far, for the next organizations with ids above `after`; at most `most`,
/// sorted by organization.
pub(crate) async fn slugs_of_operation(
    db: &Db,
    key: OperationKey<'_>,
    after: i64,
    most: i64,
) -> Result<Vec<(i64, String)>, DbError> {
    let statement = Statement::new(
        "SELECT organization_id, slug FROM causeway_organization_slug_reservation WHERE region = $1 \
         AND operation_id = $2 AND organization_id > $3 ORDER BY organization_id LIMIT $4",
    )
    .with(key.region)
    .with(key.operation_id)
    .with(after)
    .with(most);
    let given = |row: Row| Ok((row.int("organization_id")?, row.text("slug")?));
    db.fetch_all(statement).await?.into_iter().map(given).collect()
}

fn owners_of(dialect: Dialect, slugs: Vec<String>) -> Statement {
    Statement::new("SELECT s.slug, s.region, s.organization_id FROM ")
        .rows(dialect, "r", [("slug", Column::Texts(slugs))])
        .push(" JOIN causeway_organization_slug_reservation s ON s.slug = r.slug")
}

fn owner(row: &Row) -> Result<(String, Owner), DbError> {
    let owner = Owner { region: row.text("region")?, organization_id: row.int("organization_id")? };
    Ok((row.text("slug")?, owner))
}

/// The owners of these slugs, in the product as well. Free slugs are left out.
pub(crate) async fn owners(
    feed: &mut FeedTransaction<'_>,
    slugs: Vec<String>,
) -> Result<HashMap<String, Owner>, DbError> {
    if slugs.is_empty() {
        return Ok(HashMap::new());
    }
    let dialect = feed.dialect();
    let statement = owners_of(dialect, slugs.clone());
    let mut owners = feed.fetch_all(statement).await?.iter().map(owner).collect::<Result<_, _>>()?;
    if feed.product_db().is_some() {
        product_db::add_owners(&mut owners, &feed.fetch_all(product_db::owners_of(dialect, slugs)).await?)?;
    }
    Ok(owners)
}

/// The same, outside of a transaction.
pub(crate) async fn owners_now(
    db: &Db,
    product_db: Option<&ProductDb>,
    slugs: Vec<String>,
) -> Result<HashMap<String, Owner>, DbError> {
    let statement = owners_of(db.dialect(), slugs.clone());
    let mut owners = db.fetch_all(statement).await?.iter().map(owner).collect::<Result<_, _>>()?;
    if product_db.is_some() {
        product_db::add_owners(
            &mut owners,
            &db.fetch_all(product_db::owners_of(db.dialect(), slugs)).await?,
        )?;
    }
    Ok(owners)
}

fn conflicts(dialect: Dialect, key: OperationKey<'_>, organization_ids: Vec<i64>) -> Statement {
    Statement::new("SELECT s.organization_id, s.slug, s.operation_id FROM ")
        .rows(dialect, "r", [("organization_id", Column::Ints(organization_ids))])
        .push(" JOIN causeway_organization_slug_reservation s ON s.organization_id = r.organization_id")
        .push(" WHERE s.type IN ('primary', 'temporary_rename_alias') AND s.region")
        .push(EQUALS_WITHOUT_REGION_INDEX)
        .arg(key.region)
        .push(" AND s.operation_id <> ")
        .arg(key.operation_id)
        .push(" ORDER BY s.organization_id LIMIT 1")
}

fn conflict_of(row: &Row) -> Result<Conflict, DbError> {
    Ok(Conflict {
        organization_id: row.int("organization_id")?,
        slug: row.text("slug")?,
        operation_id: row.uuid("operation_id")?,
    })
}

/// The first of these organizations of the region that has a slug from another operation, if any has. The transaction
/// must hold the lock of the region's feed. Every transaction that gives an organization of the region a slug holds it,
/// so the result stays true.
pub(crate) async fn conflict(
    tx: &mut Tx,
    key: OperationKey<'_>,
    organization_ids: Vec<i64>,
) -> Result<Option<Conflict>, DbError> {
    let statement = conflicts(tx.dialect(), key, organization_ids);
    tx.fetch_optional(statement).await?.as_ref().map(conflict_of).transpose()
}

/// The same, outside of a transaction.
pub(crate) async fn conflict_now(
    db: &Db,
    key: OperationKey<'_>,
    organization_ids: Vec<i64>,
) -> Result<Option<Conflict>, DbError> {
    let statement = conflicts(db.dialect(), key, organization_ids);
    db.fetch_optional(statement).await?.as_ref().map(conflict_of).transpose()
}

/// The slugs that this operation has reserved for these organizations.
pub(crate) async fn own(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    organization_ids: Vec<i64>,
) -> Result<Vec<(i64, String)>, DbError> {
    let dialect = feed.dialect();
    let statement = Statement::new("SELECT s.organization_id, s.slug FROM ")
        .rows(dialect, "r", [("organization_id", Column::Ints(organization_ids))])
        .push(" JOIN causeway_organization_slug_reservation s ON s.organization_id = r.organization_id WHERE s.region")
        .push(EQUALS_WITHOUT_REGION_INDEX)
        .arg(feed.region())
        .push(" AND s.operation_id = ")
        .arg(operation_id);
    let own = |row: Row| Ok((row.int("organization_id")?, row.text("slug")?));
    feed.fetch_all(statement).await?.into_iter().map(own).collect()
}

/// Reserves those slugs that are free, and returns which organization got which. Inserts in the order of the slugs, so
/// that two transactions that want the same slugs wait for each other in one direction only.
pub(crate) async fn take_free(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    candidates: Candidates,
    now: DateTime<Utc>,
) -> Result<Vec<(i64, String)>, DbError> {
    let Some(product_db) = feed.product_db() else { return take(feed, operation_id, candidates, now).await };
    let reserved = product_db.hold(feed, candidates, now).await?;
    let taken = take(feed, operation_id, reserved.free.clone(), now).await?;
    product_db.give_back(feed, reserved, &taken).await?;
    Ok(taken)
}

/// Reserves those slugs that are free among control's own reservations.
async fn take(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    candidates: Candidates,
    now: DateTime<Utc>,
) -> Result<Vec<(i64, String)>, DbError> {
    let dialect = feed.dialect();
    let statement = Statement::new(
        "INSERT INTO causeway_organization_slug_reservation \
         (slug, organization_id, region, wanted_slug, type, operation_id, created_at) \
         SELECT r.slug, r.organization_id, $1, r.wanted_slug, 'temporary_rename_alias', $2, $3 FROM ",
    )
    .with(feed.region())
    .with(operation_id)
    .with(now)
    .rows(
        dialect,
        "r",
        [
            ("organization_id", Column::Ints(candidates.organization_ids)),
            ("slug", Column::Texts(candidates.slugs)),
            ("wanted_slug", Column::Texts(candidates.wanted_slugs)),
        ],
    )
    // SQLite needs the WHERE: without it, ON could begin a join.
    .push(" WHERE true ORDER BY r.slug ON CONFLICT (slug) DO NOTHING RETURNING organization_id, slug");
    let taken = |row: Row| Ok((row.int("organization_id")?, row.text("slug")?));
    feed.fetch_all(statement).await?.into_iter().map(taken).collect()
}

/// Reserves an alias in the product as well, which knows no aliases, before it may become the primary slug.
/// Returns `false` if the product has given it to somebody else.
pub(crate) async fn reserve_alias(
    feed: &mut FeedTransaction<'_>,
    organization_id: i64,
    slug: &str,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let Some(product_db) = feed.product_db() else { return Ok(true) };
    Ok(!product_db.hold(feed, Candidates::one(organization_id, slug), now).await?.free.slugs.is_empty())
}

/// Gives an alias back to the product.
pub(crate) async fn release_alias_of(feed: &mut FeedTransaction<'_>, slug: &str) -> Result<(), DbError> {
    match feed.product_db() {
        Some(product_db) => product_db.free(feed, &Selection::Slug(slug)).await,
        None => Ok(()),
    }
}

/// Makes temporary reservations of an operation primary, and returns how many: those of organizations with ids above
/// `after`, up to `last`.
pub(crate) async fn make_primary(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    after: i64,
    last: i64,
    now: DateTime<Utc>,
) -> Result<i64, DbError> {
    let statement = Statement::new(
        "UPDATE causeway_organization_slug_reservation SET type = 'primary', confirmed_at = $3 \
         WHERE region = $1 AND operation_id = $2 AND type = 'temporary_rename_alias' \
         AND organization_id > $4 AND organization_id <= $5",
    )
    .with(feed.region())
    .with(operation_id)
    .with(now)
    .with(after)
    .with(last);
    let made = feed.execute(statement).await?;
    if let Some(product_db) = feed.product_db() {
        product_db.settle(feed, &Selection::Operation(operation_id, after, last), now).await?;
    }
    Ok(made.cast_signed())
}

/// Frees slugs of an operation, and returns how many: those of organizations with ids up to `last`.
pub(crate) async fn delete(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    last: i64,
) -> Result<i64, DbError> {
    if let Some(product_db) = feed.product_db() {
        product_db.free(feed, &Selection::Operation(operation_id, 0, last)).await?;
    }
    let statement = Statement::new(
        "DELETE FROM causeway_organization_slug_reservation WHERE region = $1 AND operation_id = $2 AND organization_id <= $3",
    )
    .with(feed.region())
    .with(operation_id)
    .with(last);
    feed.execute(statement).await.map(u64::cast_signed)
}

/// Deletes at most `most` rows of what the product's workers have made of organizations that are gone from their region,
/// and returns how many.
pub(crate) async fn delete_worker_rows(
    feed: &mut FeedTransaction<'_>,
    organization_ids: &[i64],
    most: i64,
) -> Result<u64, DbError> {
    match feed.product_db() {
        Some(product_db) => product_db.delete_worker_rows(feed, organization_ids, most).await,
        None => Ok(0),
    }
}

/// Frees all slugs of these organizations, and returns how many. They are gone from their region.
pub(crate) async fn delete_of_organizations(
    feed: &mut FeedTransaction<'_>,
    organization_ids: &[i64],
) -> Result<u64, DbError> {
    let dialect = feed.dialect();
    if let Some(product_db) = feed.product_db() {
        product_db.forget(feed, organization_ids).await?;
    }
    let statement =
        Statement::new("DELETE FROM causeway_organization_slug_reservation WHERE organization_id IN (SELECT organization_id FROM ")
            .rows(dialect, "r", [("organization_id", Column::Ints(organization_ids.to_vec()))])
            .push(") AND region")
            .push(EQUALS_WITHOUT_REGION_INDEX)
            .arg(feed.region());
    feed.execute(statement).await
}

/// Frees one slug of a region.
///
/// # Errors
/// If the database refuses.
pub async fn delete_slug(feed: &mut FeedTransaction<'_>, slug: &str) -> Result<(), DbError> {
    if let Some(product_db) = feed.product_db() {
        product_db.free(feed, &Selection::Slug(slug)).await?;
    }
    let statement =
        Statement::new("DELETE FROM causeway_organization_slug_reservation WHERE region = $1 AND slug = $2")
            .with(feed.region())
            .with(slug);
    feed.execute(statement).await.map(|_| ())
}

/// Gives an organization another primary slug than `slug` for as long as it makes room for others, here and
/// not in the product's tables. Returns `false`, and changes nothing, if it has another one by now or another
/// organization has the other one.
pub(crate) async fn step_aside(
    feed: &mut FeedTransaction<'_>,
    organization_id: i64,
    slug: &str,
    aside: &str,
) -> Result<bool, DbError> {
    let statement = Statement::new(
        "UPDATE causeway_organization_slug_reservation SET slug = $4 \
         WHERE region = $1 AND organization_id = $2 AND slug = $3 AND type = 'primary' \
         AND NOT EXISTS (SELECT 1 FROM causeway_organization_slug_reservation o WHERE o.slug = $4)",
    )
    .with(feed.region())
    .with(organization_id)
    .with(slug)
    .with(aside);
    Ok(feed.execute(statement).await? == 1)
}

/// Changes the type of the reservation of a slug.
pub(crate) async fn set_type(
    feed: &mut FeedTransaction<'_>,
    slug: &str,
    kind: ReservationType,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_organization_slug_reservation SET type = $3, confirmed_at = $4 \
         WHERE region = $1 AND slug = $2",
    )
    .with(feed.region())
    .with(slug)
    .with(kind.name())
    .with(now);
    feed.execute(statement).await?;
    let Some(product_db) = feed.product_db() else { return Ok(()) };
    match kind {
        ReservationType::Primary => product_db.settle(feed, &Selection::Slug(slug), now).await,
        ReservationType::VanityAlias => product_db.free(feed, &Selection::Slug(slug)).await,
        ReservationType::TemporaryRenameAlias => Ok(()),
    }
}

/// Reads reservations with all columns; a caller appends the condition.
pub(super) const SELECT: &str = "SELECT slug, region, organization_id, type, operation_id, created_at \
                      FROM causeway_organization_slug_reservation";

pub(super) fn read(row: &Row) -> Result<Reservation, DbError> {
    Ok(Reservation {
        slug: row.text("slug")?,
        region: row.text("region")?,
        organization_id: row.int("organization_id")?,
        kind: reservation_type(&row.text("type")?)?,
        operation_id: row.uuid("operation_id")?,
        created_at: row.time("created_at")?,
    })
}

/// The primary reservation of an organization, of any region.
pub(crate) async fn primary(db: &Db, organization_id: i64) -> Result<Option<Reservation>, DbError> {
    let statement = Statement::new(SELECT)
        .push(" WHERE organization_id = ")
        .arg(organization_id)
        .push(" AND type = 'primary'");
    db.fetch_optional(statement).await?.as_ref().map(read).transpose()
}

/// The region that has reserved slugs for an organization, of whatever type; `None` if none has.
pub(crate) async fn region_of(db: &Db, organization_id: i64) -> Result<Option<String>, DbError> {
    let statement = Statement::new(
        "SELECT region FROM causeway_organization_slug_reservation WHERE organization_id = $1 LIMIT 1",
    )
    .with(organization_id);
    db.fetch_optional(statement).await?.map(|row| row.text("region")).transpose()
}

/// All reservations of an organization of the feed's region, sorted by slug.
pub(crate) async fn of_organization(
    feed: &mut FeedTransaction<'_>,
    organization_id: i64,
) -> Result<Vec<Reservation>, DbError> {
    let statement = Statement::new(SELECT)
        .push(" WHERE organization_id = ")
        .arg(organization_id)
        .push(" AND region = ")
        .arg(feed.region())
        .push(" ORDER BY slug");
    feed.fetch_all(statement).await?.iter().map(read).collect()
}

/// The reservations of these organizations, sorted by organization and slug; at most `most`.
pub(crate) async fn of_organizations(
    db: &Db,
    region: &str,
    organization_ids: Vec<i64>,
    most: usize,
) -> Result<Vec<Reservation>, DbError> {
    let statement = Statement::new(
        "SELECT s.slug, s.region, s.organization_id, s.type, s.operation_id, s.created_at FROM ",
    )
    .rows(db.dialect(), "r", [("organization_id", Column::Ints(organization_ids))])
    .push(" JOIN causeway_organization_slug_reservation s ON s.organization_id = r.organization_id")
    .push(" WHERE s.region")
    .push(EQUALS_WITHOUT_REGION_INDEX)
    .arg(region)
    .push(" ORDER BY s.organization_id, s.slug LIMIT ")
    .arg(count(most)?);
    db.fetch_all(statement).await?.iter().map(read).collect()
}

/// Reservations after `after`, sorted by slug.
pub(crate) async fn list(
    db: &Db,
    filter: &ListFilter,
    after: Option<&str>,
    rows: i64,
) -> Result<Vec<Reservation>, DbError> {
    let mut statement = Statement::new(SELECT).push(" WHERE slug > ").arg(after.unwrap_or_default());
    if let Some(region) = &filter.region {
        statement = statement.push(" AND region = ").arg(region);
    }
    if let Some(kind) = filter.kind {
        statement = statement.push(" AND type = ").arg(kind.name());
    }
    let statement = statement.push(" ORDER BY slug LIMIT ").arg(rows);
    db.fetch_all(statement).await?.iter().map(read).collect()
}

/// The primary and temporary slugs of a region's organizations, with their types.
pub(crate) async fn slugs_of(
    db: &Db,
    region: &str,
    organization_ids: Vec<i64>,
) -> Result<Vec<(i64, ReservationType, String)>, DbError> {
    let statement = Statement::new("SELECT s.organization_id, s.type, s.slug FROM ")
        .rows(db.dialect(), "r", [("organization_id", Column::Ints(organization_ids))])
        .push(" JOIN causeway_organization_slug_reservation s ON s.organization_id = r.organization_id")
        .push(" WHERE s.type IN ('primary', 'temporary_rename_alias') AND s.region")
        .push(EQUALS_WITHOUT_REGION_INDEX)
        .arg(region);
    let slug = |row: Row| {
        Ok((row.int("organization_id")?, reservation_type(&row.text("type")?)?, row.text("slug")?))
    };
    db.fetch_all(statement).await?.into_iter().map(slug).collect()
}
