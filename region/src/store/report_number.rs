//! `causeway_report_number`: the number of the last report about organizations. Control uses it to tell a report that
//! arrives late from a newer one.

use causeway_silo::{
    db::{Db, DbError, Dialect, Statement},
    transact,
};
use chrono::{DateTime, Utc};

/// The number of the next report: larger than all before, also than those that an older copy of this database does not
/// know, because it is never below the time in microseconds.
pub(crate) async fn next(db: &Db, now: DateTime<Utc>) -> Result<i64, DbError> {
    let greatest = match db.dialect() {
        Dialect::Postgres => "GREATEST",
        Dialect::Sqlite => "MAX",
    };
    transact!(DbError, db, |tx| {
        let statement = Statement::new("UPDATE causeway_report_number SET number = ")
            .push(greatest)
            .push("(number + 1, ")
            .arg(now.timestamp_micros())
            .push(") RETURNING number");
        tx.fetch_one(statement).await?.int("number")?
    })
}
