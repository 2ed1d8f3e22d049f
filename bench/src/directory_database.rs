//! The database of a control with many slugs in many regions, and how large its tables are.

use causeway_silo::{
    db::{self, Db, Statement, Tx},
    env::Environment,
};

use crate::directory::Options;

/// Fills the empty database of a control with regions and slugs, with an event of a feed for each, and returns the sizes
/// of the tables in bytes, with their indexes.
///
/// # Errors
/// If the database refuses.
pub(crate) async fn fill(url: &str, options: &Options) -> anyhow::Result<Vec<(&'static str, u64)>> {
    let control = Db::connect(url, &db::Options::default()).await?;
    let (slugs, regions) = (i64::try_from(options.slugs)?, i64::try_from(options.regions)?);
    let env = Environment::system();
    let mut tx = control.begin().await?;
    let added = Statement::new(
        "INSERT INTO causeway_added_region (name, added_at) \
         SELECT 'region-' || lpad(n::text, 6, '0'), now() FROM generate_series(0, ",
    );
    tx.execute(added.arg(regions - 1).push("::bigint) AS n")).await?;
    let registered = Statement::new(
        "INSERT INTO causeway_region (name, address, instance_id, created_at, last_seen_at) \
         SELECT name, 'http://' || name || '.example.com', gen_random_uuid(), now(), now() \
         FROM causeway_added_region",
    );
    tx.execute(registered).await?;
    // In no order, as slugs come in production: an index that grows in order is smaller.
    let numbers = Statement::new(
        "CREATE TEMPORARY TABLE numbers ON COMMIT DROP AS SELECT n, 'organization-' || n AS slug, \
         'region-' || lpad((n % ",
    )
    .arg(regions)
    .push("::bigint)::text, 6, '0') AS region FROM generate_series(0, ")
    .arg(slugs - 1)
    .push("::bigint) AS n ORDER BY hashint8(n)");
    tx.execute(numbers).await?;
    let reservations = Statement::new(
        "INSERT INTO causeway_organization_slug_reservation \
         (slug, organization_id, region, wanted_slug, type, operation_id, created_at, confirmed_at) \
         SELECT slug, n + 1, region, slug, 'primary', ",
    );
    tx.execute(reservations.arg(env.uuid()).push(", now(), now() FROM numbers")).await?;
    tx.execute(Statement::new(
        "INSERT INTO causeway_organization (organization_id, region, name, status, reported_at) \
         SELECT n + 1, region, 'Organization ' || n, 0, now() FROM numbers",
    ))
    .await?;
    let events = Statement::new(
        "INSERT INTO causeway_feed_event \
         (region, version, slug, organization_id, type, canonical_slug, operation_id, wanted) \
         SELECT region, n / ",
    )
    .arg(regions)
    .push("::bigint + 2, slug, n + 1, 'primary', slug, ")
    .arg(env.uuid())
    .push(", false FROM numbers");
    tx.execute(events).await?;
    tx.execute(Statement::new(
        "INSERT INTO causeway_feed (region, version, oldest) \
         SELECT region, max(version), 1 FROM causeway_feed_event GROUP BY region",
    ))
    .await?;
    let sizes = vec![
        (
            "control's reservations, with their indexes",
            bytes_of(&mut tx, "causeway_organization_slug_reservation").await?,
        ),
        ("control's directory, with its indexes", bytes_of(&mut tx, "causeway_organization").await?),
        ("an event of a feed for each slug, with its index", bytes_of(&mut tx, "causeway_feed_event").await?),
    ];
    tx.commit().await?;
    // In production, autovacuum would have done this before anybody uses the rows.
    control.fetch_all(Statement::new("ANALYZE")).await?;
    control.close().await;
    Ok(sizes)
}

/// Bytes of a table with its indexes.
async fn bytes_of(tx: &mut Tx, table: &'static str) -> anyhow::Result<u64> {
    let size = Statement::new("SELECT pg_total_relation_size(").arg(table).push("::regclass) AS bytes");
    Ok(u64::try_from(tx.fetch_one(size).await?.int("bytes")?)?)
}
