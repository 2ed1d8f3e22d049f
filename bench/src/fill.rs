//! Fills the databases before a measurement: many organizations, and many slugs.

use causeway_silo::db::{Db, Dialect, Options, Statement};

use crate::rig::Databases;

/// Puts `count` organizations into the region, and as many primary reservations, by another region, into control.
///
/// # Errors
/// If a database refuses.
pub(crate) async fn organizations(databases: &Databases, count: u64) -> anyhow::Result<()> {
    let region = Db::connect(&databases.region, &Options::default()).await?;
    let count = i64::try_from(count)?;
    execute(
        &region,
        numbers(&region, count)
            .push(
                " INSERT INTO sentry_organization (id, name, slug, status, date_added, default_role, is_test, flags) \
                 SELECT n, 'Before', 'before-' || n, 0, ",
            )
            .push(now(&region))
            .push(", 'member', ")
            .push(if region.dialect() == Dialect::Postgres { "false" } else { "0" })
            .push(", 1 FROM numbers"),
    )
    .await?;
    region.close().await;
    let control = Db::connect(&databases.control, &Options::default()).await?;
    reservations(&control, "elsewhere", count).await?;
    control.close().await;
    Ok(())
}

/// Reserves `count` slugs for organizations of a region.
///
/// # Errors
/// If the database refuses.
pub(crate) async fn reservations(control: &Db, region: &str, count: i64) -> anyhow::Result<()> {
    let operation = uuid::Uuid::from_u128(1);
    execute(
        control,
        numbers(control, count)
            .push(
                " INSERT INTO causeway_organization_slug_reservation \
                 (slug, organization_id, region, wanted_slug, type, operation_id, created_at, confirmed_at) \
                 SELECT 'elsewhere-' || n, n, ",
            )
            .arg(region)
            .push(", 'elsewhere', 'primary', ")
            .arg(operation)
            .push(", ")
            .push(now(control))
            .push(", ")
            .push(now(control))
            .push(" FROM numbers"),
    )
    .await
}

fn numbers(db: &Db, count: i64) -> Statement {
    match db.dialect() {
        Dialect::Postgres => {
            Statement::new("WITH numbers AS (SELECT generate_series(1, ").arg(count).push("::bigint) AS n)")
        }
        Dialect::Sqlite => Statement::new(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ",
        )
        .arg(count)
        .push(")"),
    }
}

fn now(db: &Db) -> &'static str {
    match db.dialect() {
        Dialect::Postgres => "now()",
        Dialect::Sqlite => "'2026-01-01T00:00:00.000000Z'",
    }
}

async fn execute(db: &Db, statement: Statement) -> anyhow::Result<()> {
    let mut tx = db.begin().await?;
    tx.execute(statement).await?;
    tx.commit().await?;
    if db.dialect() == Dialect::Postgres {
        // In production, autovacuum would have done this before anybody uses the rows.
        db.fetch_all(Statement::new("ANALYZE")).await?;
    }
    Ok(())
}
