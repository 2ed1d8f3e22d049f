//! The table `causeway_slug_rename`.

use causeway_proto::relocation::v1::ErrorReason;
use causeway_silo::db::{Column, Db, DbError, Row, Statement, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::feed_transaction::FeedTransaction;
use crate::model::rename::{Refusal, Rename, RenameState};

fn unreadable(what: &str) -> DbError {
    DbError::inconsistent(format!("a row of causeway_slug_rename: {what}"))
}

const SELECT: &str = "SELECT operation_id, region, organization_id, desired_slug, require_exact, keep_alias, slug, \
                      previous_slug, state, refusal_reason, refusal_message FROM causeway_slug_rename";

/// The same with the times of the rename.
pub(super) const SELECT_DATED: &str = "SELECT operation_id, region, organization_id, desired_slug, require_exact, \
                                       keep_alias, slug, previous_slug, state, refusal_reason, refusal_message, \
                                       created_at, updated_at FROM causeway_slug_rename";

pub(super) fn read(row: &Row) -> Result<Rename, DbError> {
    let state = match row.text("state")?.as_str() {
        "pending" => RenameState::Pending,
        "confirmed" => RenameState::Confirmed,
        "refused" => RenameState::Refused(Refusal {
            reason: ErrorReason::from_str_name(&row.text("refusal_reason")?)
                .ok_or_else(|| unreadable("unknown reason"))?,
            message: row.text("refusal_message")?,
        }),
        _ => return Err(unreadable("unknown state")),
    };
    Ok(Rename {
        operation_id: row.uuid("operation_id")?,
        region: row.text("region")?,
        organization_id: row.int("organization_id")?,
        desired_slug: row.text("desired_slug")?,
        require_exact: row.bool("require_exact")?,
        keep_alias: row.bool("keep_alias")?,
        slug: row.text("slug")?,
        previous_slug: row.text("previous_slug")?,
        state,
    })
}

/// The rename of an operation, of any region.
pub(crate) async fn get(db: &Db, operation_id: Uuid) -> Result<Option<Rename>, DbError> {
    let statement = Statement::new(SELECT).push(" WHERE operation_id = ").arg(operation_id);
    db.fetch_optional(statement).await?.as_ref().map(read).transpose()
}

/// The same within a transaction.
pub(crate) async fn find(tx: &mut Tx, operation_id: Uuid) -> Result<Option<Rename>, DbError> {
    let statement = Statement::new(SELECT).push(" WHERE operation_id = ").arg(operation_id);
    tx.fetch_optional(statement).await?.as_ref().map(read).transpose()
}

/// The rename of an operation of the feed's region; `None` if the operation is not a rename.
pub(crate) async fn of_operation(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
) -> Result<Option<Rename>, DbError> {
    let rename = find(feed, operation_id).await?;
    Ok(rename.filter(|rename| rename.region == feed.region()))
}

/// The rename of an organization that is in flight, if there is one.
pub(crate) async fn in_flight(
    feed: &mut FeedTransaction<'_>,
    organization_id: i64,
) -> Result<Option<Rename>, DbError> {
    let statement = Statement::new(SELECT)
        .push(" WHERE region = ")
        .arg(feed.region())
        .push(" AND organization_id = ")
        .arg(organization_id)
        .push(" AND state = 'pending'");
    feed.fetch_optional(statement).await?.as_ref().map(read).transpose()
}

/// The organizations among these that are being renamed, each with the operation of its rename.
pub(crate) async fn pending(
    db: &Db,
    region: &str,
    organization_ids: Vec<i64>,
) -> Result<Vec<(i64, Uuid)>, DbError> {
    let statement = Statement::new("SELECT n.organization_id, n.operation_id FROM ")
        .rows(db.dialect(), "r", [("organization_id", Column::Ints(organization_ids))])
        .push(" JOIN causeway_slug_rename n ON n.organization_id = r.organization_id")
        .push(" WHERE n.state = 'pending' AND n.region = ")
        .arg(region);
    let pending = |row: &Row| Ok((row.int("organization_id")?, row.uuid("operation_id")?));
    db.fetch_all(statement).await?.iter().map(pending).collect()
}

/// Records a rename. `false` if its operation has one already.
pub(crate) async fn insert(
    feed: &mut FeedTransaction<'_>,
    rename: &Rename,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_slug_rename (operation_id, region, organization_id, desired_slug, require_exact, \
         keep_alias, slug, previous_slug, state, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10) ON CONFLICT (operation_id) DO NOTHING",
    )
    .with(rename.operation_id)
    .with(rename.region.as_str())
    .with(rename.organization_id)
    .with(rename.desired_slug.as_str())
    .with(rename.require_exact)
    .with(rename.keep_alias)
    .with(rename.slug.as_str())
    .with(rename.previous_slug.as_str())
    .with(if rename.state == RenameState::Pending { "pending" } else { "confirmed" })
    .with(now);
    Ok(feed.execute(statement).await? == 1)
}

/// Records that a rename is confirmed.
pub(crate) async fn confirm(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_slug_rename SET state = 'confirmed', updated_at = $2 WHERE operation_id = $1",
    )
    .with(operation_id)
    .with(now);
    feed.execute(statement).await.map(|_| ())
}

/// Records that a rename is refused, and why.
pub(crate) async fn refuse(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    refusal: &Refusal,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_slug_rename SET state = 'refused', refusal_reason = $2, refusal_message = $3, \
         updated_at = $4 WHERE operation_id = $1",
    )
    .with(operation_id)
    .with(refusal.reason.as_str_name())
    .with(refusal.message.as_str())
    .with(now);
    feed.execute(statement).await.map(|_| ())
}

/// Refuses all renames of these organizations that are in flight, and releases their operations. Returns the
/// operations.
pub(crate) async fn refuse_all(
    feed: &mut FeedTransaction<'_>,
    organization_ids: &[i64],
    refusal: &Refusal,
    now: DateTime<Utc>,
) -> Result<Vec<Uuid>, DbError> {
    let dialect = feed.dialect();
    let statement = Statement::new("UPDATE causeway_slug_rename SET state = 'refused', refusal_reason = ")
        .arg(refusal.reason.as_str_name())
        .push(", refusal_message = ")
        .arg(refusal.message.as_str())
        .push(", updated_at = ")
        .arg(now)
        .push(" WHERE state = 'pending' AND region = ")
        .arg(feed.region())
        .push(" AND organization_id IN (SELECT organization_id FROM ")
        .rows(dialect, "r", [("organization_id", Column::Ints(organization_ids.to_vec()))])
        .push(") RETURNING operation_id");
    let refused = feed.fetch_all(statement).await?;
    let refused = refused.iter().map(|row| row.uuid("operation_id")).collect::<Result<Vec<_>, _>>()?;
    if refused.is_empty() {
        return Ok(refused);
    }
    let statement = Statement::new("UPDATE causeway_slug_operation SET state = 'released', updated_at = ")
        .arg(now)
        .push(" WHERE state = 'reserved' AND region = ")
        .arg(feed.region())
        .push(
            " AND operation_id IN (SELECT n.operation_id FROM causeway_slug_rename n WHERE n.state = 'refused' \
             AND n.region = ",
        )
        .arg(feed.region())
        .push(" AND n.organization_id IN (SELECT organization_id FROM ")
        .rows(dialect, "r", [("organization_id", Column::Ints(organization_ids.to_vec()))])
        .push("))");
    feed.execute(statement).await?;
    Ok(refused)
}
