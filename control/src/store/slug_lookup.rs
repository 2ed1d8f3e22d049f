//! Who has slugs, who had them, and which reservations are stuck: what people look up.

use std::collections::HashMap;

use causeway_silo::db::{Column, Db, DbError, Row, Statement};
use chrono::{DateTime, Utc};

use super::{
    rename,
    slug_reservation::{SELECT, read},
};
use crate::model::{
    lookup::{PastRename, StuckOperation, StuckPosition},
    reservation::Reservation,
};

/// Reservations whose slug begins with `prefix`, after `after`, sorted by slug. `prefix` must consist of characters that
/// slugs have.
pub(crate) async fn with_prefix(
    db: &Db,
    prefix: &str,
    after: Option<&str>,
    rows: i64,
) -> Result<Vec<Reservation>, DbError> {
    db.fetch_all(with_prefix_query(prefix, after, rows)).await?.iter().map(read).collect()
}

fn with_prefix_query(prefix: &str, after: Option<&str>, rows: i64) -> Statement {
    // All characters of slugs sort before this one, by their bytes.
    let end = format!("{prefix}{{");
    Statement::new(SELECT)
        .push(" WHERE slug >= ")
        .arg(prefix)
        .push(" AND slug < ")
        .arg(end)
        .push(" AND slug > ")
        .arg(after.unwrap_or_default())
        .push(" ORDER BY slug LIMIT ")
        .arg(rows)
}

/// All reservations of an organization, the primary one first; at most `rows`.
pub(crate) async fn of_organization(
    db: &Db,
    organization_id: i64,
    rows: i64,
) -> Result<Vec<Reservation>, DbError> {
    let statement = Statement::new(SELECT)
        .push(" WHERE organization_id = ")
        .arg(organization_id)
        .push(" ORDER BY CASE type WHEN 'primary' THEN 0 WHEN 'temporary_rename_alias' THEN 1 ELSE 2 END, slug LIMIT ")
        .arg(rows);
    db.fetch_all(statement).await?.iter().map(read).collect()
}

/// The slugs that were wanted for the reservations of an organization, by what it got; at most `rows`.
pub(crate) async fn wanted(
    db: &Db,
    organization_id: i64,
    rows: i64,
) -> Result<HashMap<String, String>, DbError> {
    let statement = Statement::new(
        "SELECT slug, wanted_slug FROM causeway_organization_slug_reservation WHERE organization_id = $1 \
         ORDER BY CASE type WHEN 'primary' THEN 0 WHEN 'temporary_rename_alias' THEN 1 ELSE 2 END, slug LIMIT $2",
    );
    let found = db.fetch_all(statement.with(organization_id).with(rows)).await?;
    found.iter().map(|row| Ok((row.text("slug")?, row.text("wanted_slug")?))).collect()
}

/// The reservations of these slugs.
pub(crate) async fn with_slugs(db: &Db, slugs: Vec<String>) -> Result<Vec<Reservation>, DbError> {
    let statement = Statement::new(SELECT)
        .push(" WHERE slug IN (SELECT r.slug FROM ")
        .rows(db.dialect(), "r", [("slug", Column::Texts(slugs))])
        .push(")");
    db.fetch_all(statement).await?.iter().map(read).collect()
}

/// The last renames of an organization, the newest first; at most `rows`.
pub(crate) async fn renames(db: &Db, organization_id: i64, rows: i64) -> Result<Vec<PastRename>, DbError> {
    let statement = Statement::new(rename::SELECT_DATED)
        .push(" WHERE organization_id = ")
        .arg(organization_id)
        .push(" ORDER BY created_at DESC, operation_id LIMIT ")
        .arg(rows);
    let renamed = |row: &Row| {
        Ok(PastRename {
            rename: rename::read(row)?,
            begun_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
        })
    };
    db.fetch_all(statement).await?.iter().map(renamed).collect()
}

/// Operations that have reserved slugs before `horizon` and have neither been confirmed nor released, and renames that
/// were begun before it and are in flight; the oldest first.
pub(crate) async fn stuck(
    db: &Db,
    horizon: DateTime<Utc>,
    after: Option<&StuckPosition>,
    rows: i64,
) -> Result<Vec<StuckOperation>, DbError> {
    db.fetch_all(stuck_query(horizon, after, rows)).await?.iter().map(operation).collect()
}

fn stuck_query(horizon: DateTime<Utc>, after: Option<&StuckPosition>, rows: i64) -> Statement {
    // Grouped by an expression: in the order of the index of operations, SQLite would read all reservations.
    let mut statement = Statement::new(
        "SELECT g.region, g.operation_id, g.since, g.count, g.slug, g.organization_id, n.previous_slug FROM (\
         SELECT min(region) AS region, operation_id, min(created_at) AS since, count(*) AS count, min(slug) AS slug, \
         min(organization_id) AS organization_id FROM causeway_organization_slug_reservation \
         WHERE type = 'temporary_rename_alias' AND created_at < $1 GROUP BY region || '', operation_id \
         UNION ALL SELECT r.region, r.operation_id, r.created_at, 1, r.slug, r.organization_id \
         FROM causeway_slug_rename r WHERE r.state = 'pending' AND r.created_at < $1 AND NOT EXISTS (\
         SELECT 1 FROM causeway_organization_slug_reservation s WHERE s.region = r.region \
         AND s.operation_id = r.operation_id AND s.type = 'temporary_rename_alias')) g \
         LEFT JOIN causeway_slug_rename n ON n.operation_id = g.operation_id AND n.region = g.region WHERE true",
    )
    .with(horizon);
    if let Some((since, operation_id)) = after {
        statement = statement
            .push(" AND (g.since, g.operation_id) > (")
            .arg(*since)
            .push(", ")
            .arg(*operation_id)
            .push(")");
    }
    statement.push(" ORDER BY g.since, g.operation_id LIMIT ").arg(rows)
}

fn operation(row: &Row) -> Result<StuckOperation, DbError> {
    Ok(StuckOperation {
        region: row.text("region")?,
        operation_id: row.uuid("operation_id")?,
        since: row.time("since")?,
        count: row.int("count")?,
        slug: row.text("slug")?,
        organization_id: row.int("organization_id")?,
        renamed_from: row.opt_text("previous_slug")?,
    })
}

#[cfg(test)]
mod tests {
    use causeway_relocation::{catalog::Catalog, schema};
    use causeway_silo::db::Options;

    use super::*;
    use crate::store::MIGRATIONS;

    /// Each step of the plan in which SQLite answers a query.
    async fn plan(db: &Db, query: Statement) -> Vec<String> {
        let steps = db.fetch_all(query.within("EXPLAIN QUERY PLAN ", "")).await.expect("a plan");
        steps.iter().map(|step| step.text("detail").expect("a step")).collect()
    }

    #[tokio::test]
    async fn people_look_slugs_up_without_reading_all_of_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", directory.path().join("control.db").display());
        let db = Db::connect(&url, &Options::default()).await.expect("a database");
        let catalog = Catalog::load().expect("a catalog");
        let db = schema::prepare(db, &catalog, MIGRATIONS).await.expect("a schema");
        let at: StuckPosition = (DateTime::UNIX_EPOCH, uuid::Uuid::nil());
        for (query, index) in [
            (
                with_prefix_query("a", Some("ab"), 50),
                "sqlite_autoindex_causeway_organization_slug_reservation_1",
            ),
            (
                stuck_query(DateTime::UNIX_EPOCH, None, 50),
                "causeway_organization_slug_reservation_temporary_idx",
            ),
            (
                stuck_query(DateTime::UNIX_EPOCH, Some(&at), 50),
                "causeway_organization_slug_reservation_temporary_idx",
            ),
        ] {
            let steps = plan(&db, query).await;
            assert!(steps.iter().any(|step| step.contains(index)), "{steps:#?}");
            let reads_all =
                steps.iter().find(|step| step.starts_with("SCAN causeway_organization_slug_reservation"));
            assert_eq!(reads_all, None, "{steps:#?}");
        }
        db.close().await;
    }
}
