//! The region's side of a comparison with control, and the only row of `causeway_reconciliation`.

use std::collections::BTreeMap;

use causeway_silo::db::{Column, Db, DbError, Refused, Row, Statement, Tx};
use chrono::{DateTime, Utc};

use super::{
    compared::{ComparedOrganization, RegionState, Replicated},
    lease::LENGTH,
    organization,
    product_db::ProductDb,
};
use crate::{holder::Holder, import::ImportState};

/// Of how many organizations one statement reads all members.
const COMPARED_AT_ONCE: usize = 100;

/// The ids above `after` of organizations that have a row or are in the replica; at most `rows`, in ascending order.
pub(crate) async fn ids(db: &Db, after: i64, rows: i64) -> Result<Vec<i64>, DbError> {
    // Each side stops after enough rows, along its index.
    let statement = Statement::new(
        "SELECT id FROM (SELECT id FROM sentry_organization WHERE id > $1 ORDER BY id LIMIT $2) AS o \
             UNION SELECT id FROM (SELECT DISTINCT organization_id AS id FROM causeway_slug_replica \
             WHERE organization_id > $1 ORDER BY organization_id LIMIT $2) AS c ORDER BY id LIMIT $2",
    )
    .with(after)
    .with(rows);
    db.fetch_all(statement).await?.iter().map(|row| row.int("id")).collect()
}

/// What the region stores for each of these organizations. The result has an entry for every id.
pub(crate) async fn region_state(
    db: &Db,
    product_db: Option<&ProductDb>,
    ids: Vec<i64>,
) -> Result<BTreeMap<i64, RegionState>, DbError> {
    let mut all: BTreeMap<i64, RegionState> = ids.iter().map(|id| (*id, RegionState::default())).collect();
    let given = || ("id", Column::Ints(ids.clone()));
    let statement = Statement::new("SELECT o.id, o.slug, o.name, CAST(o.status AS bigint) AS status FROM ")
        .rows(db.dialect(), "r", [given()])
        .push(" JOIN sentry_organization o ON o.id = r.id");
    for row in db.fetch_all(statement).await? {
        all.entry(row.int("id")?).or_default().organization = Some(ComparedOrganization {
            slug: row.text("slug")?,
            name: row.text("name")?,
            status: row.int("status")?,
        });
    }
    // A failed import may be resumed, and then uses what it has reserved.
    let statement = Statement::new("SELECT i.organization_id AS id FROM ")
        .rows(db.dialect(), "r", [given()])
        .push(
            " JOIN causeway_import_organization i ON i.organization_id = r.id \
             JOIN causeway_import m ON m.import_id = i.import_id WHERE NOT m.dry_run AND m.state <> ",
        )
        .arg(ImportState::Reverted.name())
        .push(" AND (m.state <> ")
        .arg(ImportState::Succeeded.name())
        .push(" OR NOT m.reported)");
    for row in db.fetch_all(statement).await? {
        all.entry(row.int("id")?).or_default().under_way = true;
    }
    let statement = Statement::new("SELECT n.organization_id AS id FROM ")
        .rows(db.dialect(), "r", [given()])
        .push(" JOIN causeway_rename n ON n.organization_id = r.id");
    for row in db.fetch_all(statement).await? {
        all.entry(row.int("id")?).or_default().under_way = true;
    }
    let statement = Statement::new("SELECT c.organization_id AS id, c.slug, c.type, c.canonical_slug FROM ")
        .rows(db.dialect(), "r", [given()])
        .push(" JOIN causeway_slug_replica c ON c.organization_id = r.id");
    for row in db.fetch_all(statement).await? {
        let replicated =
            Replicated { kind: row.text("type")?, canonical_slug: row.opt_text("canonical_slug")? };
        all.entry(row.int("id")?).or_default().replica.insert(row.text("slug")?, replicated);
    }
    if let Some(product_db) = product_db {
        for some in ids.chunks(COMPARED_AT_ONCE) {
            for (id, product) in product_db.state(db, some.to_vec()).await? {
                all.entry(id).or_default().product = Some(product);
            }
        }
    }
    Ok(all)
}

/// What became of slugs that organizations were to get.
#[derive(Debug, Default)]
pub(crate) struct Replaced {
    /// The ids of the organizations that have got theirs.
    pub(crate) changed: Vec<i64>,
    /// Those whose slug the database refuses.
    pub(crate) refused: Vec<(i64, Refused)>,
}

/// Gives organizations other slugs, each as id, old slug and new slug. It does not change an organization whose slug is
/// no longer the old one, which is being renamed, or whose new slug is taken or refused.
pub(crate) async fn replace_slugs(tx: &mut Tx, slugs: &[(i64, String, String)]) -> Result<Replaced, DbError> {
    let dialect = tx.dialect();
    let rows = |slugs: &[(i64, String, String)]| {
        let column = |of: fn(&(i64, String, String)) -> &String| {
            Column::Texts(slugs.iter().map(|slug| of(slug).clone()).collect())
        };
        [
            ("organization_id", Column::Ints(slugs.iter().map(|(id, ..)| *id).collect())),
            ("old", column(|(_, old, _)| old)),
            ("new", column(|(.., new)| new)),
        ]
    };
    let replace = |part: &[(i64, String, String)]| {
        Statement::new("UPDATE sentry_organization SET slug = r.new FROM ")
            .rows(dialect, "r", rows(part))
            .push(
                " WHERE sentry_organization.id = r.organization_id AND sentry_organization.slug = r.old \
                 AND NOT EXISTS (SELECT 1 FROM causeway_rename n WHERE n.organization_id = r.organization_id) \
                 AND NOT EXISTS (SELECT 1 FROM sentry_organization o WHERE o.slug = r.new)",
            )
    };
    let refused = tx.execute_bisecting(slugs, replace).await?;
    let refused = refused.into_iter().map(|((id, ..), refused)| (*id, refused)).collect();
    let now = organization::slugs(tx, slugs.iter().map(|(id, ..)| *id).collect()).await?;
    let changed = slugs.iter().filter(|(id, _, new)| now.get(id) == Some(new)).map(|(id, ..)| *id).collect();
    Ok(Replaced { changed, refused })
}

/// Slugs that several organizations have, ignoring case: the slug in lower case, the lowest and the highest of their
/// ids. Only those whose lowest id is above `after`, ordered by it.
pub(crate) async fn duplicate_slugs(
    db: &Db,
    after: i64,
    rows: i64,
) -> Result<Vec<(String, i64, i64)>, DbError> {
    let statement = Statement::new(
        "SELECT lower(slug) AS slug, min(id) AS one, max(id) AS other FROM sentry_organization \
         GROUP BY lower(slug) HAVING count(*) > 1 AND min(id) > $1 ORDER BY min(id) LIMIT $2",
    )
    .with(after)
    .with(rows);
    let duplicate_slugs = |row: &Row| Ok((row.text("slug")?, row.int("one")?, row.int("other")?));
    db.fetch_all(statement).await?.iter().map(duplicate_slugs).collect()
}

/// Takes the lease, or renews it. Returns the place of the process that has it, if that is another one.
pub(crate) async fn lease(
    tx: &mut Tx,
    holder: &Holder,
    now: DateTime<Utc>,
) -> Result<Option<String>, DbError> {
    let statement = Statement::new(
        "UPDATE causeway_reconciliation SET lease_holder = $1, lease_place = $2, lease_spool = $3, lease_until = $4 \
         WHERE lease_holder IS NULL OR lease_holder = $1 OR lease_spool = $3 OR lease_until <= $5",
    )
    .with(holder.id)
    .with(&holder.place)
    .with(holder.spool)
    .with(now + LENGTH)
    .with(now);
    if tx.execute(statement).await? == 1 {
        return Ok(None);
    }
    let row = tx.fetch_one(Statement::new("SELECT lease_place FROM causeway_reconciliation")).await?;
    Ok(Some(row.opt_text("lease_place")?.unwrap_or_default()))
}

/// Gives the lease back, if this process has it.
pub(crate) async fn give_back(tx: &mut Tx, holder: &Holder) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_reconciliation SET lease_holder = NULL, lease_place = NULL, lease_spool = NULL, lease_until = NULL \
         WHERE lease_holder = $1",
    )
    .with(holder.id);
    tx.execute(statement).await.map(|_| ())
}
