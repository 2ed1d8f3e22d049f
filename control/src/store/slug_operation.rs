//! The tables `causeway_slug_operation` and `causeway_slug_operation_answer`: the state of each operation, and its
//! answer.

use causeway_silo::db::{Column, Db, DbError, Row, Statement};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::feed_transaction::FeedTransaction;
use crate::model::operation::{OperationFilter, OperationPosition, OperationSummary, Progress};

/// How many parts of an answer one transaction deletes: each has those of 10,000 organizations.
const FORGOTTEN: i64 = 4;

/// The key of an operation. Each region has its own ids, so no region can hit an operation of another one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OperationKey<'a> {
    /// The name of the region that began it.
    pub(crate) region: &'a str,
    /// The id that the region chose.
    pub(crate) operation_id: Uuid,
}

/// The stored state of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum OperationState {
    /// Its reservations are temporary.
    Reserved,
    /// Its reservations are primary.
    Confirmed,
    /// Its reservations are gone.
    Released,
}

/// What is in progress for a large operation, part by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum InProgress {
    /// Control is reserving slugs for its organizations. It has not sent them to anybody yet.
    Reserving,
    /// One of its organizations already has a slug from another operation, or belongs to another region. Control frees
    /// what it has reserved, then deletes the operation.
    Withdrawing,
    /// Its reservations are becoming primary.
    Confirming,
    /// It is released, and its slugs are being freed.
    Releasing,
}

impl InProgress {
    fn name(self) -> &'static str {
        self.into()
    }
}

/// An operation on slugs as it is stored: a bulk creation, or a rename.
#[derive(Debug)]
pub(crate) struct Operation {
    /// SHA-256 of what was asked for; zeros for a rename.
    pub(crate) digest: Vec<u8>,
    pub(crate) state: OperationState,
    /// What is in progress; `None` if nothing is.
    pub(crate) in_progress: Option<InProgress>,
    /// The last organization whose slug is confirmed, while a confirmation is in progress; 0 before.
    pub(crate) done_through: i64,
    /// When it was begun. An operation that is withdrawn and begun again gets a new time.
    pub(crate) created_at: DateTime<Utc>,
    /// How many reservations its confirmation has made primary so far; 0 before.
    pub(crate) confirmed_count: i64,
    /// How many reservations its release has freed so far; 0 before.
    pub(crate) released_count: i64,
}

/// Records an operation. `false` if it exists already. Waits for a transaction that is recording the same one.
pub(crate) async fn insert(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    digest: [u8; 32],
    organization_count: i64,
    in_progress: Option<InProgress>,
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_slug_operation \
         (region, operation_id, content_digest, organization_count, state, created_at, updated_at, under_way) \
         VALUES ($1, $2, $3, $4, 'reserved', $5, $5, $6) ON CONFLICT (region, operation_id) DO NOTHING",
    )
    .with(feed.region())
    .with(operation_id)
    .with(digest.to_vec())
    .with(organization_count)
    .with(now)
    .with(in_progress.map(|it| it.name().to_owned()));
    Ok(feed.execute(statement).await? == 1)
}

/// Reads and locks an operation, if it exists. Until the transaction ends, other transactions wait here.
pub(crate) async fn lock(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
) -> Result<Option<Operation>, DbError> {
    // An update that changes nothing is a lock in both databases.
    let statement = Statement::new(
        "UPDATE causeway_slug_operation SET state = state WHERE region = $1 AND operation_id = $2 \
         RETURNING content_digest, state, confirmed_count, released_count, under_way, done_through, created_at",
    )
    .with(feed.region())
    .with(operation_id);
    let Some(row) = feed.fetch_optional(statement).await? else { return Ok(None) };
    let unknown = |_| DbError::inconsistent("a slug operation is in an unknown state");
    let state = row.text("state")?.parse().map_err(unknown)?;
    let in_progress = row.opt_text("under_way")?.map(|text| text.parse().map_err(unknown)).transpose()?;
    Ok(Some(Operation {
        digest: row.bytes("content_digest")?,
        in_progress,
        done_through: row.int("done_through")?,
        created_at: row.time("created_at")?,
        state,
        confirmed_count: row.int("confirmed_count")?,
        released_count: row.int("released_count")?,
    }))
}

const SUMMARY: &str = "SELECT region, operation_id, state, under_way, organization_count, confirmed_count, \
    released_count, created_at, updated_at FROM causeway_slug_operation";

/// The values of the columns `state` and `under_way` for a progress. An empty list means that `under_way` is null.
fn stored(progress: Progress) -> (&'static str, &'static [&'static str]) {
    match progress {
        Progress::Reserving => ("reserved", &["reserving", "withdrawing"]),
        Progress::Reserved => ("reserved", &[]),
        Progress::Confirming => ("reserved", &["confirming"]),
        Progress::Confirmed => ("confirmed", &[]),
        Progress::Releasing => ("released", &["releasing"]),
        Progress::Released => ("released", &[]),
    }
}

fn summary(row: &Row) -> Result<OperationSummary, DbError> {
    let (state, in_progress) = (row.text("state")?, row.opt_text("under_way")?);
    let progress = Progress::ALL.into_iter().find(|progress| {
        let (of_state, under_ways) = stored(*progress);
        of_state == state
            && in_progress
                .as_deref()
                .map_or(under_ways.is_empty(), |in_progress| under_ways.contains(&in_progress))
    });
    Ok(OperationSummary {
        region: row.text("region")?,
        operation_id: row.uuid("operation_id")?,
        progress: progress.ok_or_else(|| DbError::inconsistent("a slug operation is in an unknown state"))?,
        organization_count: row.int("organization_count")?,
        confirmed_count: row.int("confirmed_count")?,
        released_count: row.int("released_count")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

/// Reads an operation, if it exists.
pub(crate) async fn get(db: &Db, key: OperationKey<'_>) -> Result<Option<OperationSummary>, DbError> {
    let statement = Statement::new(SUMMARY)
        .push(" WHERE region = ")
        .arg(key.region)
        .push(" AND operation_id = ")
        .arg(key.operation_id);
    db.fetch_optional(statement).await?.as_ref().map(summary).transpose()
}

/// Operations after a position, sorted by region and id.
pub(crate) async fn list(
    db: &Db,
    filter: &OperationFilter,
    after: Option<&OperationPosition>,
    rows: i64,
) -> Result<Vec<OperationSummary>, DbError> {
    let mut statement = Statement::new(SUMMARY).push(" WHERE 1 = 1");
    if let Some(after) = after {
        statement = statement
            .push(" AND (region, operation_id) > (")
            .arg(&after.region)
            .push(", ")
            .arg(after.operation_id)
            .push(")");
    }
    if let Some(region) = &filter.region {
        statement = statement.push(" AND region = ").arg(region);
    }
    if let Some(progress) = filter.progress {
        let (state, under_ways) = stored(progress);
        statement = statement.push(" AND state = ").arg(state);
        statement = match under_ways {
            [] => statement.push(" AND under_way IS NULL"),
            [first, rest @ ..] => {
                let mut statement = statement.push(" AND under_way IN (").arg(*first);
                for in_progress in rest {
                    statement = statement.push(", ").arg(*in_progress);
                }
                statement.push(")")
            }
        };
    }
    let statement = statement.push(" ORDER BY region, operation_id LIMIT ").arg(rows);
    db.fetch_all(statement).await?.iter().map(summary).collect()
}

/// Whether the operation exists.
pub(crate) async fn exists(db: &Db, key: OperationKey<'_>) -> Result<bool, DbError> {
    let statement =
        Statement::new("SELECT state FROM causeway_slug_operation WHERE region = $1 AND operation_id = $2")
            .with(key.region)
            .with(key.operation_id);
    Ok(db.fetch_optional(statement).await?.is_some())
}

/// Records what is in progress for an operation; `None` if nothing is any more.
pub(crate) async fn set_under_way(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    in_progress: Option<InProgress>,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_slug_operation SET under_way = $3, updated_at = $4 \
         WHERE region = $1 AND operation_id = $2",
    )
    .with(feed.region())
    .with(operation_id)
    .with(in_progress.map(|it| it.name().to_owned()))
    .with(now);
    feed.execute(statement).await.map(|_| ())
}

/// Records that `count` further slugs of an operation are confirmed, up to organization `through`. There are more.
pub(crate) async fn set_confirming(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    through: i64,
    count: i64,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_slug_operation SET under_way = 'confirming', done_through = $3, \
         confirmed_count = confirmed_count + $4, updated_at = $5 WHERE region = $1 AND operation_id = $2",
    )
    .with(feed.region())
    .with(operation_id)
    .with(through)
    .with(count)
    .with(now);
    feed.execute(statement).await.map(|_| ())
}

/// Deletes an operation that was never answered. Call it when [`forget_answer`] has left nothing.
pub(crate) async fn delete(feed: &mut FeedTransaction<'_>, operation_id: Uuid) -> Result<(), DbError> {
    let delete = "DELETE FROM causeway_slug_operation WHERE region = $1 AND operation_id = $2";
    let statement = Statement::new(delete).with(feed.region()).with(operation_id);
    feed.execute(statement).await.map(|_| ())
}

/// Deletes some parts of the stored answer of an operation, which nobody needs any more. Returns whether none is left.
pub(crate) async fn forget_answer(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
) -> Result<bool, DbError> {
    let statement = Statement::new(
        "DELETE FROM causeway_slug_operation_answer WHERE region = $1 AND operation_id = $2 AND part IN \
         (SELECT part FROM causeway_slug_operation_answer WHERE region = $1 AND operation_id = $2 ORDER BY part LIMIT $3)",
    );
    let statement = statement.with(feed.region()).with(operation_id).with(FORGOTTEN);
    Ok(feed.execute(statement).await? < FORGOTTEN.unsigned_abs())
}

/// Records that an operation is confirmed, and adds `confirmed_count`, the slugs that were confirmed last.
pub(crate) async fn set_confirmed(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    confirmed_count: i64,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_slug_operation SET state = 'confirmed', under_way = NULL, \
         confirmed_count = confirmed_count + $3, updated_at = $4 \
         WHERE region = $1 AND operation_id = $2",
    )
    .with(feed.region())
    .with(operation_id)
    .with(confirmed_count)
    .with(now);
    feed.execute(statement).await.map(|_| ())
}

/// Records that an operation is released, adds `released_count`, the slugs that were freed last, and notes whether
/// there is more to do.
pub(crate) async fn set_released(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    released_count: i64,
    more: bool,
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_slug_operation SET state = 'released', released_count = released_count + $3, updated_at = $4, \
         under_way = $5 WHERE region = $1 AND operation_id = $2",
    )
    .with(feed.region())
    .with(operation_id)
    .with(released_count)
    .with(now)
    .with(more.then(|| InProgress::Releasing.name().to_owned()));
    feed.execute(statement).await.map(|_| ())
}

/// Stores parts of an operation's answer, numbered from `first` on. A part that is stored already does not change.
pub(crate) async fn store_answer(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
    first: i64,
    parts: Vec<String>,
) -> Result<(), DbError> {
    if parts.is_empty() {
        return Ok(());
    }
    let dialect = feed.dialect();
    let statement = Statement::new(
        "INSERT INTO causeway_slug_operation_answer (region, operation_id, part, answers) \
         SELECT $1, $2, r.part, r.answers FROM ",
    )
    .with(feed.region())
    .with(operation_id)
    .rows(
        dialect,
        "r",
        [("part", Column::Ints((first..).take(parts.len()).collect())), ("answers", Column::Texts(parts))],
    )
    // SQLite needs the WHERE: without it, ON could begin a join.
    .push(" WHERE true ON CONFLICT (region, operation_id, part) DO NOTHING");
    feed.execute(statement).await.map(|_| ())
}

/// The stored parts of an operation's answer, in order.
pub(crate) async fn stored_answer(
    feed: &mut FeedTransaction<'_>,
    operation_id: Uuid,
) -> Result<Vec<String>, DbError> {
    let statement = Statement::new(
        "SELECT answers FROM causeway_slug_operation_answer WHERE region = $1 AND operation_id = $2 ORDER BY part",
    )
    .with(feed.region())
    .with(operation_id);
    feed.fetch_all(statement).await?.iter().map(|row| row.text("answers")).collect()
}
