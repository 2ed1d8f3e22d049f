//! The organizations for which control stores something.

use causeway_silo::db::{Db, DbError, Statement};

/// The ids of a region's organizations that have a reservation or a directory entry: those after `after`, ascending.
pub(crate) async fn ids(db: &Db, region: &str, after: Option<i64>, rows: i64) -> Result<Vec<i64>, DbError> {
    // Each side has its own limit, so it reads no further along its index than necessary.
    let side = |statement: Statement, table: &str| {
        statement
            .push("SELECT organization_id FROM (SELECT DISTINCT organization_id FROM ")
            .push(table)
            .push(" WHERE region = ")
            .arg(region)
            .push(" AND organization_id > ")
            .arg(after.unwrap_or_default())
            .push(" ORDER BY organization_id LIMIT ")
            .arg(rows)
            .push(") AS ")
            .push(table)
    };
    let statement = side(Statement::new(""), "causeway_organization_slug_reservation").push(" UNION ");
    let statement =
        side(statement, "causeway_organization").push(" ORDER BY organization_id LIMIT ").arg(rows);
    db.fetch_all(statement).await?.iter().map(|row| row.int("organization_id")).collect()
}
