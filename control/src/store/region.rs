//! `causeway_region`.

use causeway_relocation::db::{Db, DbError, Row, Statement, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::regions::Region;

fn region(row: &Row) -> Result<Region, DbError> {
    Ok(Region {
        name: row.text("name")?,
        address: row.text("address")?,
        created_at: row.time("created_at")?,
        last_seen_at: row.time("last_seen_at")?,
    })
}

/// Inserts or renews a region. `None` if the name belongs to another instance.
pub(crate) async fn upsert(
    tx: &mut Tx,
    name: &str,
    address: &str,
    instance_id: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<Region>, DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_region (name, address, instance_id, created_at, last_seen_at) \
         VALUES ($1, $2, $3, $4, $4) \
         ON CONFLICT (name) DO UPDATE SET address = excluded.address, last_seen_at = excluded.last_seen_at \
         WHERE causeway_region.instance_id = excluded.instance_id \
         RETURNING name, address, created_at, last_seen_at",
    )
    .with(name)
    .with(address)
    .with(instance_id)
    .with(now);
    tx.fetch_optional(statement).await?.as_ref().map(region).transpose()
}

/// One region.
pub(crate) async fn get(db: &Db, name: &str) -> Result<Option<Region>, DbError> {
    let statement =
        Statement::new("SELECT name, address, created_at, last_seen_at FROM causeway_region WHERE name = $1")
            .with(name);
    db.fetch_optional(statement).await?.as_ref().map(region).transpose()
}

/// Regions by name, those after `after`.
pub(crate) async fn list(db: &Db, after: Option<&str>, rows: i64) -> Result<Vec<Region>, DbError> {
    let statement = Statement::new(
        "SELECT name, address, created_at, last_seen_at FROM causeway_region WHERE name > $1 \
         ORDER BY name LIMIT $2",
    )
    .with(after.unwrap_or_default())
    .with(rows);
    db.fetch_all(statement).await?.iter().map(region).collect()
}
