//! The tables `causeway_region_report`, `causeway_reported_version`, `causeway_reported_import` and
//! `causeway_region_comparison`.

use causeway_silo::db::{Column, Db, DbError, Dialect, Row, Statement, Tx, time_text};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::model::report::{
    Comparison, ImportDetails, ImportFilter, ImportPosition, ImportReport, RegionReport, ReportedImport,
};

fn unreadable(error: impl std::fmt::Display) -> DbError {
    DbError::inconsistent(format!("a reported row: {error}"))
}

/// The most versions that are stored of a region: a region that made up a new one for each report would add rows for ever.
const MOST_VERSIONS: i64 = 100;

/// Notes that a region has reported, as which version. Returns whether it has never reported with that version before; of
/// more than [`MOST_VERSIONS`], none counts as new.
pub(crate) async fn note(tx: &mut Tx, report: &ImportReport, now: DateTime<Utc>) -> Result<bool, DbError> {
    let ImportReport { region, version, feed_version, .. } = report;
    let statement = Statement::new(
        "INSERT INTO causeway_region_report (region, version, feed_version, reported_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (region) DO UPDATE SET version = excluded.version, feed_version = excluded.feed_version, \
         reported_at = excluded.reported_at",
    )
    .with(region)
    .with(version)
    .with(*feed_version)
    .with(now);
    tx.execute(statement).await?;
    let first = Statement::new(
        "INSERT INTO causeway_reported_version (region, version) SELECT $1, $2 \
         WHERE (SELECT count(*) FROM causeway_reported_version WHERE region = $1) < $3 \
         ON CONFLICT (region, version) DO NOTHING",
    );
    // The row of the region is locked by the statement before, so nobody else adds a version meanwhile.
    Ok(tx.execute(first.with(region).with(version).with(MOST_VERSIONS)).await? == 1)
}

/// Stores imports in place of the former reports about them.
pub(crate) async fn upsert(tx: &mut Tx, report: &ImportReport, now: DateTime<Utc>) -> Result<(), DbError> {
    let imports = &report.imports;
    let text =
        |of: fn(&ReportedImport) -> String| Column::Texts(imports.iter().map(of).collect::<Vec<String>>());
    let json = |of: fn(&ReportedImport) -> serde_json::Result<String>| {
        imports.iter().map(of).collect::<Result<Vec<_>, _>>().map(Column::Texts).map_err(unreadable)
    };
    let dialect = tx.dialect();
    // Times and ids come as text, and SQLite stores them so.
    let [id, created_at, updated_at] = match dialect {
        Dialect::Postgres => [
            "CAST(r.import_id AS uuid)",
            "CAST(r.created_at AS timestamptz)",
            "CAST(r.updated_at AS timestamptz)",
        ],
        Dialect::Sqlite => ["r.import_id", "r.created_at", "r.updated_at"],
    };
    let statement = Statement::new(
        "INSERT INTO causeway_reported_import (region, import_id, state, ended, dry_run, created_at, updated_at, \
         reported_at, size_bytes, organization_count, summary, details) SELECT ",
    )
    .arg(report.region.as_str())
    .push(&format!(", {id}, r.state, r.ended, r.dry_run, {created_at}, {updated_at}, "))
    .arg(now)
    .push(", r.size_bytes, r.organization_count, r.summary, r.details FROM ")
    .rows(
        dialect,
        "r",
        [
            ("import_id", text(|import| import.import_id.to_string())),
            ("state", text(|import| import.state.clone())),
            ("ended", Column::Bools(imports.iter().map(|import| import.ended).collect())),
            ("dry_run", Column::Bools(imports.iter().map(|import| import.dry_run).collect())),
            ("created_at", text(|import| time_text(import.created_at))),
            ("updated_at", text(|import| time_text(import.updated_at))),
            ("size_bytes", Column::Ints(imports.iter().map(|import| import.size_bytes).collect())),
            (
                "organization_count",
                Column::Ints(imports.iter().map(|import| import.organization_count).collect()),
            ),
            ("summary", json(|import| serde_json::to_string(&import.summary))?),
            ("details", json(|import| serde_json::to_string(&import.details))?),
        ],
    )
    // Always in the same order. SQLite needs the WHERE: without it, ON could begin a join.
    .push(
        " WHERE true ORDER BY r.import_id ON CONFLICT (region, import_id) DO UPDATE SET state = excluded.state, \
         ended = excluded.ended, dry_run = excluded.dry_run, created_at = excluded.created_at, \
         updated_at = excluded.updated_at, reported_at = excluded.reported_at, size_bytes = excluded.size_bytes, \
         organization_count = excluded.organization_count, summary = excluded.summary, details = excluded.details",
    );
    tx.execute(statement).await.map(|_| ())
}

/// Deletes imports of a region that have ended and not changed since `horizon`, and all but the last `most`.
pub(crate) async fn forget(
    tx: &mut Tx,
    region: &str,
    horizon: DateTime<Utc>,
    most: i64,
) -> Result<(), DbError> {
    let old = Statement::new(
        "DELETE FROM causeway_reported_import WHERE region = $1 AND ended AND updated_at < $2",
    );
    tx.execute(old.with(region).with(horizon)).await?;
    let too_many = Statement::new(
        "DELETE FROM causeway_reported_import WHERE region = $1 AND import_id IN \
         (SELECT i.import_id FROM causeway_reported_import i WHERE i.region = $1 \
         ORDER BY i.created_at DESC, i.import_id DESC LIMIT $3 OFFSET $2)",
    );
    tx.execute(too_many.with(region).with(most).with(i64::MAX)).await.map(|_| ())
}

/// When each region has last reported, sorted by region.
pub(crate) async fn regions(db: &Db) -> Result<Vec<RegionReport>, DbError> {
    let statement = Statement::new(
        "SELECT region, version, feed_version, reported_at FROM causeway_region_report ORDER BY region",
    );
    let report = |row: &Row| {
        Ok(RegionReport {
            region: row.text("region")?,
            version: row.text("version")?,
            feed_version: row.int("feed_version")?,
            reported_at: row.time("reported_at")?,
        })
    };
    db.fetch_all(statement).await?.iter().map(report).collect()
}

/// The import of a region that has asked for slugs with this operation; `None` if none that was reported has.
pub(crate) async fn import_of(db: &Db, region: &str, operation: Uuid) -> Result<Option<Uuid>, DbError> {
    // A region has at most 1,000 rows here, so no index is needed.
    let statement = Statement::new(
        "SELECT import_id FROM causeway_reported_import WHERE region = $1 AND summary LIKE $2 LIMIT 1",
    )
    .with(region)
    .with(format!("%\"slug_operation\":\"{operation}\"%"));
    db.fetch_optional(statement).await?.map(|row| row.uuid("import_id")).transpose()
}

const COLUMNS: &str = "region, import_id, state, ended, dry_run, created_at, updated_at, size_bytes, \
                       organization_count, summary";

fn import(row: &Row) -> Result<(String, ReportedImport), DbError> {
    let import = ReportedImport {
        import_id: row.uuid("import_id")?,
        state: row.text("state")?,
        ended: row.bool("ended")?,
        dry_run: row.bool("dry_run")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        size_bytes: row.int("size_bytes")?,
        organization_count: row.int("organization_count")?,
        summary: serde_json::from_str(&row.text("summary")?).map_err(unreadable)?,
        details: ImportDetails::default(),
    };
    Ok((row.text("region")?, import))
}

/// Imports without their details, each with its region, the newest first.
pub(crate) async fn imports(
    db: &Db,
    filter: &ImportFilter,
    after: Option<&ImportPosition>,
    rows: i64,
) -> Result<Vec<(String, ReportedImport)>, DbError> {
    db.fetch_all(imports_query(filter, after, rows)).await?.iter().map(import).collect()
}

pub(super) fn imports_query(filter: &ImportFilter, after: Option<&ImportPosition>, rows: i64) -> Statement {
    let mut statement =
        Statement::new("SELECT ").push(COLUMNS).push(" FROM causeway_reported_import WHERE true");
    if let Some(region) = &filter.region {
        statement = statement.push(" AND region = ").arg(region);
    }
    if let Some(state) = &filter.state {
        statement = statement.push(" AND state = ").arg(state);
    }
    if filter.in_progress {
        statement = statement.push(" AND NOT ended");
    }
    if let Some(dry_run) = filter.dry_run {
        statement = statement.push(" AND dry_run = ").arg(dry_run);
    }
    if let Some(after) = after {
        statement = statement
            .push(" AND (created_at, region, import_id) < (")
            .arg(after.created_at)
            .push(", ")
            .arg(after.region.as_str())
            .push(", ")
            .arg(after.import_id)
            .push(")");
    }
    statement.push(" ORDER BY created_at DESC, region DESC, import_id DESC LIMIT ").arg(rows)
}

/// One import with its details.
pub(crate) async fn get(db: &Db, region: &str, import_id: Uuid) -> Result<Option<ReportedImport>, DbError> {
    let statement = Statement::new("SELECT ")
        .push(COLUMNS)
        .push(", details FROM causeway_reported_import WHERE region = ")
        .arg(region)
        .push(" AND import_id = ")
        .arg(import_id);
    let Some(row) = db.fetch_optional(statement).await? else { return Ok(None) };
    let (_, import) = import(&row)?;
    Ok(Some(ReportedImport {
        details: serde_json::from_str(&row.text("details")?).map_err(unreadable)?,
        ..import
    }))
}

/// Stores the result of a comparison in place of the former one of the region, unless that is later.
pub(crate) async fn set_comparison(tx: &mut Tx, comparison: &Comparison) -> Result<bool, DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_region_comparison (region, compared_at, compared, difference_count, repaired_count, \
         moving_count, differences) VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (region) DO UPDATE SET compared_at = excluded.compared_at, compared = excluded.compared, \
         difference_count = excluded.difference_count, repaired_count = excluded.repaired_count, \
         moving_count = excluded.moving_count, differences = excluded.differences \
         WHERE causeway_region_comparison.compared_at < excluded.compared_at",
    )
    .with(comparison.region.as_str())
    .with(comparison.compared_at)
    .with(comparison.compared)
    .with(comparison.difference_count)
    .with(comparison.repaired_count)
    .with(comparison.moving_count)
    .with(serde_json::to_string(&comparison.differences).map_err(unreadable)?);
    Ok(tx.execute(statement).await? == 1)
}

/// The last comparisons of the regions after `after`, sorted by region.
pub(crate) async fn comparisons(db: &Db, after: Option<&str>, rows: i64) -> Result<Vec<Comparison>, DbError> {
    let mut statement = Statement::new(
        "SELECT region, compared_at, compared, difference_count, repaired_count, moving_count, differences \
         FROM causeway_region_comparison",
    );
    if let Some(after) = after {
        statement = statement.push(" WHERE region > ").arg(after);
    }
    let statement = statement.push(" ORDER BY region LIMIT ").arg(rows);
    let comparison = |row: &Row| {
        Ok(Comparison {
            region: row.text("region")?,
            compared_at: row.time("compared_at")?,
            compared: row.int("compared")?,
            difference_count: row.int("difference_count")?,
            repaired_count: row.int("repaired_count")?,
            moving_count: row.int("moving_count")?,
            differences: serde_json::from_str(&row.text("differences")?).map_err(unreadable)?,
        })
    };
    db.fetch_all(statement).await?.iter().map(comparison).collect()
}

/// How many regions had differences left after their last comparison.
pub(crate) async fn differing(db: &Db) -> Result<i64, DbError> {
    let statement = Statement::new(
        "SELECT count(*) AS differing FROM causeway_region_comparison WHERE difference_count > repaired_count",
    );
    let rows = db.fetch_all(statement).await?;
    rows.first().ok_or_else(|| DbError::inconsistent("a count without a row"))?.int("differing")
}
