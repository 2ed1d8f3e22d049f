//! What metrics show of a region's own tables. Each query ends after the time that its caller gives it.

use std::{collections::HashMap, time::Duration};

use causeway_proto::relocation::v1::ErrorReason;
use causeway_silo::db::{Db, DbError, Statement};
use chrono::{DateTime, Utc};

/// How many imports there are in each state, by its name.
pub(crate) async fn states(db: &Db, limit: Duration) -> Result<HashMap<String, i64>, DbError> {
    let statement = Statement::new("SELECT state, COUNT(*) AS many FROM causeway_import GROUP BY state");
    let rows = db.fetch_within(limit, statement).await?;
    rows.iter().map(|row| Ok((row.text("state")?, row.int("many")?))).collect()
}

/// How many imports are paused.
pub(crate) async fn paused(db: &Db, limit: Duration) -> Result<i64, DbError> {
    let statement =
        Statement::new("SELECT COUNT(*) AS many FROM causeway_import WHERE paused_at IS NOT NULL");
    db.fetch_within(limit, statement).await?.first().map_or(Ok(0), |row| row.int("many"))
}

/// Imports that wait for the same reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitingImports {
    /// How many.
    pub(crate) count: i64,
    /// Since when the first of them has waited.
    pub(crate) since: DateTime<Utc>,
}

/// The imports that wait, by the reason. Reasons that only another release knows are together.
pub(crate) async fn waiting(
    db: &Db,
    limit: Duration,
) -> Result<HashMap<ErrorReason, WaitingImports>, DbError> {
    let statement = Statement::new(
        "SELECT waiting_reason, COUNT(*) AS many, MIN(waiting_since) AS since FROM causeway_import \
         WHERE waiting_reason IS NOT NULL GROUP BY waiting_reason",
    );
    let mut waiting: HashMap<ErrorReason, WaitingImports> = HashMap::new();
    for row in db.fetch_within(limit, statement).await? {
        let reason =
            ErrorReason::from_str_name(&row.text("waiting_reason")?).unwrap_or(ErrorReason::Unspecified);
        let (count, since) = (row.int("many")?, row.time("since")?);
        let all = waiting.entry(reason).or_insert(WaitingImports { count: 0, since });
        *all = WaitingImports { count: all.count + count, since: all.since.min(since) };
    }
    Ok(waiting)
}

/// How many ids are left of the last block of each model.
pub(crate) async fn ids_left(db: &Db, limit: Duration) -> Result<HashMap<String, i64>, DbError> {
    let statement = Statement::new("SELECT model, until - next AS left_over FROM causeway_id_block");
    let rows = db.fetch_within(limit, statement).await?;
    rows.iter().map(|row| Ok((row.text("model")?, row.int("left_over")?))).collect()
}

/// How far the replica has followed the feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StoredCursor {
    /// The version of the last event; 0 if nothing is known or a snapshot has not ended.
    pub(crate) version: i64,
    /// When control last reported that there is nothing more, to about a minute.
    pub(crate) heard_at: Option<DateTime<Utc>>,
}

/// Reads how far the replica is.
pub(crate) async fn cursor(db: &Db, limit: Duration) -> Result<StoredCursor, DbError> {
    let statement = Statement::new("SELECT version, heard_at FROM causeway_feed_cursor");
    match db.fetch_within(limit, statement).await?.first() {
        Some(row) => Ok(StoredCursor { version: row.int("version")?, heard_at: row.opt_time("heard_at")? }),
        None => Ok(StoredCursor::default()),
    }
}
