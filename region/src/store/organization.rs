//! `sentry_organization`: the organizations themselves.

use std::collections::{BTreeSet, HashMap};

use causeway_proto::organization_status::HIDDEN;
use causeway_relocation::finding::only_here;
use causeway_silo::{
    db::{Column, Db, DbError, Refused, Row, Statement, Tx},
    page::PageRequest,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::lease_transaction::LeaseTransaction;
use crate::import::{Approved, ImportState};

/// A row of an organization in this region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Organization {
    pub(crate) id: i64,
    pub(crate) slug: String,
    pub(crate) name: String,
    /// As stored; [`HIDDEN`] if the organization is not visible.
    pub(crate) status: i64,
    /// When the organization was created.
    pub(crate) date_added: DateTime<Utc>,
}

const SELECT: &str =
    "SELECT id, slug, name, CAST(status AS bigint) AS status, date_added FROM sentry_organization";

pub(super) fn read(row: &Row) -> Result<Organization, DbError> {
    Ok(Organization {
        id: row.int("id")?,
        slug: row.text("slug")?,
        name: row.text("name")?,
        status: row.int("status")?,
        date_added: row.time("date_added")?,
    })
}

/// The visible organization with this id.
pub(crate) async fn by_id(db: &Db, id: i64) -> Result<Option<Organization>, DbError> {
    let statement = Statement::new(SELECT).push(" WHERE id = ").arg(id).push(" AND status <> ").arg(HIDDEN);
    db.fetch_optional(statement).await?.as_ref().map(read).transpose()
}

/// The visible organization with this slug.
pub(crate) async fn by_slug(db: &Db, slug: &str) -> Result<Option<Organization>, DbError> {
    let statement =
        Statement::new(SELECT).push(" WHERE slug = ").arg(slug).push(" AND status <> ").arg(HIDDEN);
    db.fetch_optional(statement).await?.as_ref().map(read).transpose()
}

/// A page of visible organizations, ordered by id.
pub(crate) async fn list(db: &Db, page: &PageRequest<i64>) -> Result<Vec<Organization>, DbError> {
    let statement = Statement::new(SELECT)
        .push(" WHERE id > ")
        .arg(page.after.unwrap_or(0))
        .push(" AND status <> ")
        .arg(HIDDEN)
        .push(" ORDER BY id LIMIT ")
        .arg(page.rows());
    db.fetch_all(statement).await?.iter().map(read).collect()
}

/// Those of these organizations that exist, visible or not, ordered by id.
pub(crate) async fn by_ids(db: &Db, ids: Vec<i64>) -> Result<Vec<Organization>, DbError> {
    let statement = Statement::new(SELECT)
        .push(" WHERE id IN (SELECT r.id FROM ")
        .rows(db.dialect(), "r", [("id", Column::Ints(ids))])
        .push(") ORDER BY id");
    db.fetch_all(statement).await?.iter().map(read).collect()
}

/// The ids of the organizations with these slugs, visible or not, by slug.
pub(crate) async fn by_slugs(db: &Db, slugs: Vec<String>) -> Result<HashMap<String, i64>, DbError> {
    let statement = Statement::new("SELECT o.slug AS slug, o.id AS id FROM ")
        .rows(db.dialect(), "r", [("slug", Column::Texts(slugs))])
        .push(" JOIN sentry_organization o ON o.slug = r.slug");
    db.fetch_all(statement).await?.iter().map(|row| Ok((row.text("slug")?, row.int("id")?))).collect()
}

/// Those of these slugs that belong to organizations outside this import.
pub(crate) async fn taken_by_others(
    lease: &mut LeaseTransaction<'_>,
    slugs: Vec<String>,
) -> Result<Vec<String>, DbError> {
    let statement = Statement::new("SELECT DISTINCT r.slug AS slug FROM ")
        .rows(lease.dialect(), "r", [("slug", Column::Texts(slugs))])
        .push(
            " JOIN sentry_organization o ON o.slug = r.slug WHERE NOT EXISTS (SELECT 1 FROM causeway_import_organization i \
             WHERE i.organization_id = o.id AND i.import_id = ",
        )
        .arg(lease.import_id())
        .push(")");
    lease.fetch_all(statement).await?.iter().map(|row| row.text("slug")).collect()
}

/// Which of these organizations exist, and whether each may get another slug. It may not as long as its import has not
/// succeeded.
pub(crate) async fn ready(tx: &mut Tx, ids: Vec<i64>) -> Result<HashMap<i64, bool>, DbError> {
    let statement = Statement::new(
        "SELECT o.id AS id, (SELECT count(*) FROM causeway_import_organization i \
         JOIN causeway_import m ON m.import_id = i.import_id \
         WHERE i.organization_id = o.id AND m.state <> ",
    )
    .arg(ImportState::Succeeded.name())
    .push(") AS unfinished FROM ")
    .rows(tx.dialect(), "r", [("id", Column::Ints(ids))])
    .push(" JOIN sentry_organization o ON o.id = r.id");
    let rows = tx.fetch_all(statement).await?;
    rows.iter().map(|row| Ok((row.int("id")?, row.int("unfinished")? == 0))).collect()
}

/// The ids of the organizations with these slugs, visible or not, by slug.
pub(crate) async fn owners(tx: &mut Tx, slugs: Vec<String>) -> Result<HashMap<String, i64>, DbError> {
    let statement = Statement::new("SELECT o.slug AS slug, o.id AS id FROM ")
        .rows(tx.dialect(), "r", [("slug", Column::Texts(slugs))])
        .push(" JOIN sentry_organization o ON o.slug = r.slug");
    let rows = tx.fetch_all(statement).await?;
    rows.iter().map(|row| Ok((row.text("slug")?, row.int("id")?))).collect()
}

/// The slugs of these organizations, visible or not, by id.
pub(crate) async fn slugs(tx: &mut Tx, ids: Vec<i64>) -> Result<HashMap<i64, String>, DbError> {
    let statement = Statement::new("SELECT o.id AS id, o.slug AS slug FROM ")
        .rows(tx.dialect(), "r", [("id", Column::Ints(ids))])
        .push(" JOIN sentry_organization o ON o.id = r.id");
    let rows = tx.fetch_all(statement).await?;
    rows.iter().map(|row| Ok((row.int("id")?, row.text("slug")?))).collect()
}

/// What of the table refuses a new value, for messages.
pub(crate) fn constraint(refused: &Refused) -> String {
    only_here("sentry_organization", refused.kind, refused.constraint.as_deref())
}

/// Sets the slugs of organizations, by their ids. Those whose slug the database refuses keep the one that they have, and
/// are returned with the refused one.
pub(crate) async fn set_slugs(
    tx: &mut Tx,
    slugs: &[(i64, String)],
) -> Result<Vec<(i64, String, Refused)>, DbError> {
    let dialect = tx.dialect();
    let set = |part: &[(i64, String)]| {
        let (ids, slugs) = part.iter().cloned().unzip();
        Statement::new("UPDATE sentry_organization SET slug = r.slug FROM ")
            .rows(dialect, "r", [("id", Column::Ints(ids)), ("slug", Column::Texts(slugs))])
            .push(" WHERE sentry_organization.id = r.id")
    };
    let refused = tx.execute_bisecting(slugs, set).await?;
    Ok(refused.into_iter().map(|((id, slug), why)| (*id, slug.clone(), why)).collect())
}

/// Hides the organizations of an import with ids above `after`, up to `last`. Returns those that were visible.
pub(crate) async fn hide(
    lease: &mut LeaseTransaction<'_>,
    after: i64,
    last: i64,
) -> Result<Vec<i64>, DbError> {
    let import_id = lease.import_id();
    hide_in(lease, import_id, after, last).await
}

/// The same for a request to revert the import, which has no lease. Call it after [`begin_revert`], in its transaction or
/// after its commit: then the state is REVERTING, and no holder of the lease shows the organizations again.
///
/// [`begin_revert`]: super::import::begin_revert
pub(crate) async fn hide_for_request(
    tx: &mut Tx,
    import_id: Uuid,
    after: i64,
    last: i64,
) -> Result<Vec<i64>, DbError> {
    hide_in(tx, import_id, after, last).await
}

async fn hide_in(tx: &mut Tx, import_id: Uuid, after: i64, last: i64) -> Result<Vec<i64>, DbError> {
    let statement = Statement::new(
        "UPDATE sentry_organization SET status = $2 WHERE status <> $2 AND id IN (SELECT organization_id \
         FROM causeway_import_organization WHERE import_id = $1 AND organization_id > $3 AND organization_id <= $4) \
         RETURNING id",
    )
    .with(import_id)
    .with(HIDDEN)
    .with(after)
    .with(last);
    tx.fetch_all(statement).await?.iter().map(|row| row.int("id")).collect()
}

/// Makes organizations visible that imports have left hidden. Each gets its status from the export, or that of an
/// active organization if it is hidden there too. Returns those that were hidden; an error if the database refuses the
/// status of one.
pub(crate) async fn show(
    tx: &mut Tx,
    of: &Approved,
    within: Option<(i64, i64)>,
) -> Result<Vec<i64>, DbError> {
    let statement = Statement::new("UPDATE sentry_organization SET status = CASE WHEN i.status = ")
        .arg(HIDDEN)
        .push(
            " THEN 0 ELSE i.status END FROM causeway_import_organization i \
             JOIN causeway_import m ON m.import_id = i.import_id \
             WHERE i.organization_id = sentry_organization.id AND m.state = ",
        )
        .arg(ImportState::Succeeded.name())
        .push(" AND sentry_organization.status = ")
        .arg(HIDDEN);
    let statement = match of {
        Approved::Import(id) => statement.push(" AND i.import_id = ").arg(*id),
        Approved::Organizations(ids) => statement
            .push(" AND i.organization_id IN (SELECT r.id FROM ")
            .rows(tx.dialect(), "r", [("id", Column::Ints(ids.iter().copied().collect()))])
            .push(")"),
    };
    let statement = match within {
        Some((after, last)) => statement
            .push(" AND i.organization_id > ")
            .arg(after)
            .push(" AND i.organization_id <= ")
            .arg(last),
        None => statement,
    };
    let statement = statement.push(" RETURNING sentry_organization.id AS id");
    tx.fetch_all(statement).await?.iter().map(|row| row.int("id")).collect()
}

/// Those of these organizations that are visible.
pub(crate) async fn visible(tx: &mut Tx, ids: &BTreeSet<i64>) -> Result<BTreeSet<i64>, DbError> {
    let statement = Statement::new("SELECT o.id AS id FROM ")
        .rows(tx.dialect(), "r", [("id", Column::Ints(ids.iter().copied().collect()))])
        .push(" JOIN sentry_organization o ON o.id = r.id WHERE o.status <> ")
        .arg(HIDDEN);
    tx.fetch_all(statement).await?.iter().map(|row| row.int("id")).collect()
}

/// Gives hidden organizations of an import their own status back: those with ids above `after`, up to `last`. An
/// organization that is visible already may have been changed since, and stays as it is. Those whose status the database
/// refuses stay hidden, and are returned.
pub(crate) async fn restore_status(
    lease: &mut LeaseTransaction<'_>,
    after: i64,
    last: i64,
) -> Result<Vec<(i64, Refused)>, DbError> {
    let import_id = lease.import_id();
    let hidden = Statement::new(
        "SELECT o.id AS id FROM causeway_import_organization i JOIN sentry_organization o ON o.id = i.organization_id \
         WHERE i.import_id = $1 AND o.status = $2 AND i.organization_id > $3 AND i.organization_id <= $4 \
         ORDER BY i.organization_id",
    );
    let hidden = hidden.with(import_id).with(HIDDEN).with(after).with(last);
    let rows = lease.fetch_all(hidden).await?;
    let ids = rows.iter().map(|row| row.int("id")).collect::<Result<Vec<_>, _>>()?;
    let restore = |part: &[i64]| {
        Statement::new(
            "UPDATE sentry_organization SET status = i.status FROM causeway_import_organization i \
             WHERE i.organization_id = sentry_organization.id AND sentry_organization.status = $2 AND i.import_id = $1 \
             AND i.organization_id >= $3 AND i.organization_id <= $4",
        )
        .with(import_id)
        .with(HIDDEN)
        .with(part.first().copied())
        .with(part.last().copied())
    };
    let refused = lease.execute_bisecting(&ids, restore).await?;
    Ok(refused.into_iter().map(|(id, refused)| (*id, refused)).collect())
}
