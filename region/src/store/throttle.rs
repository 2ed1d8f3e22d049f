//! `causeway_throttle`: one row with the limits on writing that operators have set.

use std::num::NonZeroU64;

use causeway_silo::db::{Db, DbError, Row, Statement, Tx};
use chrono::{DateTime, Utc};

use crate::throttle::{Change, Choice, Chosen};

const SELECT: &str =
    "SELECT rows_per_second, bytes_per_second, probe_latency_ms, set_at, set_by FROM causeway_throttle";

fn choice(row: &Row, column: &str) -> Result<Choice, DbError> {
    let Some(stored) = row.opt_int(column)? else { return Ok(Choice::AsStarted) };
    let value = u64::try_from(stored).map_err(|_| DbError::inconsistent(format!("{column} is {stored}")))?;
    Ok(NonZeroU64::new(value).map_or(Choice::Unlimited, Choice::Limit))
}

fn stored(choice: Choice) -> Result<Option<i64>, DbError> {
    match choice {
        Choice::AsStarted => Ok(None),
        Choice::Unlimited => Ok(Some(0)),
        Choice::Limit(limit) => i64::try_from(limit.get())
            .map(Some)
            .map_err(|_| DbError::inconsistent(format!("a limit of {limit}"))),
    }
}

fn read(row: &Row) -> Result<Chosen, DbError> {
    Ok(Chosen {
        rows: choice(row, "rows_per_second")?,
        bytes: choice(row, "bytes_per_second")?,
        latency: choice(row, "probe_latency_ms")?,
        at: row.opt_time("set_at")?,
        by: row.opt_text("set_by")?,
    })
}

/// What operators have set.
pub(crate) async fn get(db: &Db) -> Result<Chosen, DbError> {
    let row = db.fetch_optional(Statement::new(SELECT)).await?;
    read(&row.ok_or_else(|| DbError::inconsistent("causeway_throttle has no row"))?)
}

/// Sets what `change` names, and returns all that is set then.
pub(crate) async fn set(
    tx: &mut Tx,
    change: Change,
    by: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Chosen, DbError> {
    let mut statement =
        Statement::new("UPDATE causeway_throttle SET set_at = ").arg(now).push(", set_by = ").arg(by);
    let columns = [
        (", rows_per_second = ", change.rows),
        (", bytes_per_second = ", change.bytes),
        (", probe_latency_ms = ", change.latency),
    ];
    for (column, choice) in columns {
        if let Some(choice) = choice {
            statement = statement.push(column).arg(stored(choice)?);
        }
    }
    if tx.execute(statement).await? != 1 {
        return Err(DbError::inconsistent("causeway_throttle has no row"));
    }
    read(&tx.fetch_one(Statement::new(SELECT)).await?)
}
