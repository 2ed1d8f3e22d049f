//! The table `causeway_import_plan`: the imports that regions plan.

use causeway_silo::db::{Db, DbError, Statement, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Notes that a region plans an import. Returns whether that was not known.
pub(crate) async fn note(
    tx: &mut Tx,
    region: &str,
    import_id: Uuid,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let known =
        Statement::new("SELECT 1 AS one FROM causeway_import_plan WHERE region = $1 AND import_id = $2")
            .with(region)
            .with(import_id);
    let is_new = tx.fetch_optional(known).await?.is_none();
    let statement = Statement::new(
        "INSERT INTO causeway_import_plan (region, import_id, planned_at) VALUES ($1, $2, $3) \
         ON CONFLICT (region, import_id) DO UPDATE SET planned_at = excluded.planned_at",
    )
    .with(region)
    .with(import_id)
    .with(now);
    tx.execute(statement).await?;
    Ok(is_new)
}

/// Forgets what a region said before `horizon`, and all but the last `most` imports.
pub(crate) async fn forget(
    tx: &mut Tx,
    region: &str,
    horizon: DateTime<Utc>,
    most: i64,
) -> Result<(), DbError> {
    let statement = Statement::new(
        "DELETE FROM causeway_import_plan WHERE region = $1 AND (planned_at < $2 OR import_id NOT IN \
         (SELECT p.import_id FROM causeway_import_plan p WHERE p.region = $1 \
         ORDER BY p.planned_at DESC, p.import_id LIMIT $3))",
    )
    .with(region)
    .with(horizon)
    .with(most);
    tx.execute(statement).await?;
    Ok(())
}

/// Whether a region has said at `horizon` or later that it plans an import for which control has written nothing, and
/// which it has not closed.
pub(crate) async fn is_planned(
    db: &Db,
    region: &str,
    import_id: Uuid,
    horizon: DateTime<Utc>,
) -> Result<bool, DbError> {
    let statement = Statement::new(
        "SELECT 1 AS one FROM causeway_import_plan p WHERE p.region = $1 AND p.import_id = $2 AND p.planned_at >= $3 \
         AND NOT EXISTS (SELECT 1 FROM causeway_import i WHERE i.region = p.region AND i.import_id = p.import_id)",
    )
    .with(region)
    .with(import_id)
    .with(horizon);
    Ok(db.fetch_optional(statement).await?.is_some())
}
