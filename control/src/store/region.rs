//! The table `causeway_region`.

use causeway_silo::db::{Db, DbError, Dialect, Row, Statement, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::model::region::Region;

fn region(row: &Row) -> Result<Region, DbError> {
    Ok(Region {
        name: row.text("name")?,
        address: row.text("address")?,
        created_at: row.time("created_at")?,
        last_seen_at: row.time("last_seen_at")?,
    })
}

/// Inserts or updates a region. `None` if the name belongs to another instance, and this one may not take it over.
pub(crate) async fn upsert(
    tx: &mut Tx,
    name: &str,
    address: &str,
    instance_id: Uuid,
    product_name: &str,
    now: DateTime<Utc>,
) -> Result<Option<Region>, DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_region (name, address, instance_id, product_name, created_at, last_seen_at) \
         VALUES ($1, $2, $3, NULLIF($6, ''), $4, $4) \
         ON CONFLICT (name) DO UPDATE SET address = excluded.address, last_seen_at = excluded.last_seen_at, \
         instance_id = excluded.instance_id, \
         product_name = COALESCE(excluded.product_name, causeway_region.product_name), \
         taken_over_by = CASE WHEN causeway_region.instance_id = excluded.instance_id \
         THEN causeway_region.taken_over_by END \
         WHERE causeway_region.instance_id = excluded.instance_id OR causeway_region.taken_over_by IN ('*', $5) \
         RETURNING name, address, created_at, last_seen_at",
    )
    .with(name)
    .with(address)
    .with(instance_id)
    .with(now)
    .with(instance_id.to_string())
    .with(product_name);
    tx.fetch_optional(statement).await?.as_ref().map(region).transpose()
}

/// What a region is known by: address, instance, name in the product, and who may take it over. `None` if there is no
/// region of that name. Until the transaction ends, nobody changes it.
pub(crate) async fn identity(tx: &mut Tx, name: &str) -> Result<Option<[Option<String>; 4]>, DbError> {
    let mut statement = Statement::new(
        "SELECT address, CAST(instance_id AS text) AS instance, product_name, taken_over_by FROM causeway_region \
         WHERE name = $1",
    )
    .with(name);
    if tx.dialect() == Dialect::Postgres {
        statement = statement.push(" FOR UPDATE");
    }
    let Some(row) = tx.fetch_optional(statement).await? else { return Ok(None) };
    let [address, instance, product, next] =
        ["address", "instance", "product_name", "taken_over_by"].map(|column| row.opt_text(column));
    Ok(Some([address?, instance?, product?, next?]))
}

/// Lets another instance take over the name of a region: `instance_id`, or if that is `None`, the first one that
/// registers. Returns `None` if there is no region of that name.
pub(crate) async fn allow_take_over(
    tx: &mut Tx,
    name: &str,
    instance_id: Option<Uuid>,
) -> Result<Option<Region>, DbError> {
    let statement = Statement::new(
        "UPDATE causeway_region SET taken_over_by = $2 WHERE name = $1 \
         RETURNING name, address, created_at, last_seen_at",
    )
    .with(name)
    .with(instance_id.map_or_else(|| "*".to_owned(), |id| id.to_string()));
    tx.fetch_optional(statement).await?.as_ref().map(region).transpose()
}

/// Reads one region; `None` if there is none of that name.
pub(crate) async fn get(db: &Db, name: &str) -> Result<Option<Region>, DbError> {
    let statement =
        Statement::new("SELECT name, address, created_at, last_seen_at FROM causeway_region WHERE name = $1")
            .with(name);
    db.fetch_optional(statement).await?.as_ref().map(region).transpose()
}

/// Whether the database of a region has this instance id; `None` if there is no such region.
pub(crate) async fn is_instance(db: &Db, name: &str, instance_id: Uuid) -> Result<Option<bool>, DbError> {
    let statement = Statement::new("SELECT instance_id FROM causeway_region WHERE name = $1").with(name);
    let Some(row) = db.fetch_optional(statement).await? else { return Ok(None) };
    Ok(Some(row.uuid("instance_id")? == instance_id))
}

/// Regions after `after`, sorted by name.
pub(crate) async fn list(db: &Db, after: Option<&str>, rows: i64) -> Result<Vec<Region>, DbError> {
    let statement = Statement::new(
        "SELECT name, address, created_at, last_seen_at FROM causeway_region WHERE name > $1 \
         ORDER BY name LIMIT $2",
    )
    .with(after.unwrap_or_default())
    .with(rows);
    db.fetch_all(statement).await?.iter().map(region).collect()
}
