//! `causeway_import_organization` and `causeway_import_carried`: the organizations of an import, and the returned
//! columns that it needs until it has finished.

use std::collections::{HashMap, HashSet};

use causeway_proto::{control::v1::SlugVerdict, limits::MAX_NAMES_PER_CALL, organization_status::HIDDEN};
use causeway_relocation::{
    catalog::{Model, NeedsOne},
    writer::PLACEHOLDER_PREFIX,
};
use causeway_silo::db::{Column, Db, DbError, Dialect, Row, Statement};
use uuid::Uuid;

use super::lease_transaction::LeaseTransaction;
use super::organization::{self, Organization};
use crate::import::{ImportedOrganization, SlugPlan};

/// Adds organizations that were just written, hidden and without a slug.
pub(crate) async fn insert_organizations(
    lease: &mut LeaseTransaction<'_>,
    organizations: &[ImportedOrganization],
) -> Result<(), DbError> {
    let int =
        |field: fn(&ImportedOrganization) -> i64| Column::Ints(organizations.iter().map(field).collect());
    let opt_int = |field: fn(&ImportedOrganization) -> Option<i64>| {
        Column::OptInts(organizations.iter().map(field).collect())
    };
    let statement =
        Statement::new("INSERT INTO causeway_import_organization (import_id, organization_id, source_id, ordinal, byte_offset, wanted_slug, name, status, changed, taken_in_region) SELECT ")
            .arg(lease.import_id())
            .push(", r.organization_id, r.source_id, r.ordinal, r.byte_offset, r.wanted_slug, r.name, r.status, r.changed, ")
            .arg(false)
            .push(" FROM ")
            .rows(
                lease.dialect(),
                "r",
                [
                    ("organization_id", int(|organization| organization.id)),
                    ("source_id", int(|organization| organization.source_id)),
                    ("ordinal", opt_int(|organization| organization.ordinal)),
                    ("byte_offset", opt_int(|organization| organization.byte_offset)),
                    ("wanted_slug", Column::Texts(organizations.iter().map(|organization| organization.wanted_slug.clone()).collect())),
                    ("name", Column::Texts(organizations.iter().map(|organization| organization.name.clone()).collect())),
                    ("status", int(|organization| organization.status)),
                    ("changed", Column::Bools(organizations.iter().map(|organization| organization.changed).collect())),
                ],
            );
    lease.execute(statement).await?;
    Ok(())
}

/// How many organizations are read at once, and how many one message to control has, which the contract limits. A row
/// from the database takes some 2 KB until it has been read.
pub(crate) const PAGE: i64 = MAX_NAMES_PER_CALL as i64;

fn read(row: &Row) -> Result<ImportedOrganization, DbError> {
    Ok(ImportedOrganization {
        id: row.int("organization_id")?,
        source_id: row.int("source_id")?,
        ordinal: row.opt_int("ordinal")?,
        byte_offset: row.opt_int("byte_offset")?,
        wanted_slug: row.text("wanted_slug")?,
        name: row.text("name")?,
        status: row.int("status")?,
        taken_in_region: row.bool("taken_in_region")?,
        changed: row.bool("changed")?,
        taken_from_attempt: row.opt_int("taken_from_attempt")?,
        slug_refused_by: row.opt_text("slug_refused_by")?,
        slug_refusals: row.int("slug_refusals")?,
        slug: row.opt_text("slug")?,
        slug_plan: match row.opt_text("slug_verdict")? {
            None => None,
            Some(name) => Some(SlugPlan {
                verdict: SlugVerdict::from_str_name(&name).ok_or_else(|| {
                    DbError::inconsistent(format!(
                        "a row of causeway_import_organization: unknown verdict {name}"
                    ))
                })?,
                taken_by: row.opt_text("taken_by_region")?.zip(row.opt_int("taken_by_organization")?),
            }),
        },
    })
}

/// Deletes the organizations of a dry run that starts over: those with ids above `after`, up to `last`.
pub(crate) async fn forget_organizations(
    lease: &mut LeaseTransaction<'_>,
    after: i64,
    last: i64,
) -> Result<(), DbError> {
    let statement =
        Statement::new(
            "DELETE FROM causeway_import_organization WHERE import_id = $1 AND organization_id > $2 AND organization_id <= $3",
        )
        .with(lease.import_id())
        .with(after)
        .with(last);
    lease.execute(statement).await?;
    Ok(())
}

/// Stores the slug that each organization got, or would get, and why.
pub(crate) async fn set_slug_plans(
    lease: &mut LeaseTransaction<'_>,
    organizations: &[ImportedOrganization],
    plans: &[(String, SlugPlan)],
) -> Result<(), DbError> {
    let owner = |plan: &SlugPlan| plan.taken_by.clone().unzip();
    let statement = Statement::new(
        "UPDATE causeway_import_organization SET slug = r.slug, slug_verdict = r.verdict, taken_by_region = r.region, \
         taken_by_organization = r.owner FROM ",
    )
    .rows(
        lease.dialect(),
        "r",
        [
            ("id", Column::Ints(organizations.iter().map(|organization| organization.id).collect())),
            ("slug", Column::Texts(plans.iter().map(|(slug, _)| slug.clone()).collect())),
            (
                "verdict",
                Column::Texts(plans.iter().map(|(_, plan)| plan.verdict.as_str_name().to_owned()).collect()),
            ),
            ("region", Column::OptTexts(plans.iter().map(|(_, plan)| owner(plan).0).collect())),
            ("owner", Column::OptInts(plans.iter().map(|(_, plan)| owner(plan).1).collect())),
        ],
    )
    .push(" WHERE organization_id = r.id AND import_id = ")
    .arg(lease.import_id());
    lease.execute(statement).await?;
    Ok(())
}

/// The wanted slugs of all organizations of an import.
pub(crate) async fn wanted_slugs(db: &Db, import_id: Uuid) -> Result<HashSet<String>, DbError> {
    let mut wanted = HashSet::new();
    let mut after = 0;
    loop {
        let page = organizations(db, import_id, after).await?;
        let Some(last) = page.last() else { return Ok(wanted) };
        after = last.id;
        wanted.extend(page.into_iter().map(|organization| organization.wanted_slug));
    }
}

fn page(import_id: Uuid, after: i64) -> Statement {
    Statement::new(
        "SELECT * FROM causeway_import_organization WHERE import_id = $1 AND organization_id > $2 \
         ORDER BY organization_id LIMIT $3",
    )
    .with(import_id)
    .with(after)
    .with(PAGE)
}

/// The next [`PAGE`] organizations of an import after an id, ordered by id.
pub(crate) async fn organizations(
    db: &Db,
    import_id: Uuid,
    after: i64,
) -> Result<Vec<ImportedOrganization>, DbError> {
    db.fetch_all(page(import_id, after)).await?.iter().map(read).collect()
}

/// The id of the last of the next `most` organizations of an import after an id, and how many these are; `None` if
/// there are none.
pub(crate) async fn page_end(
    db: &Db,
    import_id: Uuid,
    after: i64,
    most: i64,
) -> Result<Option<(i64, i64)>, DbError> {
    let statement = Statement::new(
        "SELECT MAX(p.organization_id) AS last, count(*) AS count FROM (SELECT organization_id FROM causeway_import_organization \
         WHERE import_id = $1 AND organization_id > $2 ORDER BY organization_id LIMIT $3) p",
    )
    .with(import_id)
    .with(after)
    .with(most);
    let Some(row) = db.fetch_optional(statement).await? else { return Ok(None) };
    let count = row.int("count")?;
    Ok(row.opt_int("last")?.map(|last| (last, count)))
}

/// Those of these organizations for which the model has no row that meets `needs`.
pub(crate) async fn without_required_row(
    db: &Db,
    model: &Model,
    needs: &NeedsOne,
    organizations: Vec<i64>,
) -> Result<HashSet<i64>, DbError> {
    let name = |column: usize| {
        let column = model.columns.get(column).map(|column| column.column.as_str());
        column.ok_or_else(|| {
            DbError::inconsistent(format!("a rule of {} is about a column that there is not", model.name))
        })
    };
    let statement = Statement::new("SELECT r.id AS id FROM ")
        .rows(db.dialect(), "r", [("id", Column::Ints(organizations))])
        .push(&format!(
            " WHERE NOT EXISTS (SELECT 1 FROM \"{}\" t WHERE t.\"{}\" = r.id AND t.\"{}\" IS NOT NULL AND t.\"{}\" = ",
            model.table,
            name(needs.of)?,
            name(needs.set)?,
            name(needs.column)?,
        ))
        .arg(needs.equals.as_str())
        .push(")");
    db.fetch_all(statement).await?.iter().map(|row| row.int("id")).collect()
}

fn with_ids(dialect: Dialect, import_id: Uuid, ids: Vec<i64>) -> Statement {
    Statement::new("SELECT o.* FROM causeway_import_organization o JOIN ")
        .rows(dialect, "r", [("id", Column::Ints(ids))])
        .push(" ON r.id = o.organization_id WHERE o.import_id = ")
        .arg(import_id)
}

fn by_id(rows: &[Row]) -> Result<HashMap<i64, ImportedOrganization>, DbError> {
    rows.iter().map(|row| read(row).map(|organization| (organization.id, organization))).collect()
}

/// The organizations of an import that have one of these ids, by id.
pub(crate) async fn organizations_by_id(
    db: &Db,
    import_id: Uuid,
    ids: Vec<i64>,
) -> Result<HashMap<i64, ImportedOrganization>, DbError> {
    by_id(&db.fetch_all(with_ids(db.dialect(), import_id, ids)).await?)
}

/// The same, in a transaction of the import.
pub(crate) async fn own_organizations_by_id(
    lease: &mut LeaseTransaction<'_>,
    ids: Vec<i64>,
) -> Result<HashMap<i64, ImportedOrganization>, DbError> {
    let statement = with_ids(lease.dialect(), lease.import_id(), ids);
    by_id(&lease.fetch_all(statement).await?)
}

/// Notes that the database refuses the status of these organizations of an import. Returns those of which that was not
/// noted before.
pub(crate) async fn note_status_refused(
    lease: &mut LeaseTransaction<'_>,
    ids: Vec<i64>,
) -> Result<HashSet<i64>, DbError> {
    let statement = Statement::new("UPDATE causeway_import_organization SET status_refused = ")
        .arg(true)
        .push(" WHERE NOT status_refused AND import_id = ")
        .arg(lease.import_id())
        .push(" AND organization_id IN (SELECT r.id FROM ")
        .rows(lease.dialect(), "r", [("id", Column::Ints(ids))])
        .push(") RETURNING organization_id");
    lease.fetch_all(statement).await?.iter().map(|row| row.int("organization_id")).collect()
}

/// Notes which organizations of an import want a slug that another organization of this region has; only those with ids
/// above `after`, up to `last`.
pub(crate) async fn find_taken_in_region(
    lease: &mut LeaseTransaction<'_>,
    after: i64,
    last: i64,
) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_import_organization SET taken_in_region = $2 WHERE import_id = $1 \
         AND organization_id > $3 AND organization_id <= $4 AND EXISTS (\
         SELECT 1 FROM sentry_organization o WHERE o.slug = causeway_import_organization.wanted_slug \
         AND NOT EXISTS (SELECT 1 FROM causeway_import_organization i \
         WHERE i.organization_id = o.id AND i.import_id = $1))",
    )
    .with(lease.import_id())
    .with(true)
    .with(after)
    .with(last);
    lease.execute(statement).await?;
    Ok(())
}

/// Notes the first attempt in which the slugs of these organizations are requested as taken in this region, and what of
/// their table refuses the slug that they were given, if that is why.
pub(crate) async fn set_taken_from(
    lease: &mut LeaseTransaction<'_>,
    attempt: i64,
    organizations: Vec<(i64, Option<String>)>,
) -> Result<(), DbError> {
    let (ids, refused_by): (Vec<i64>, Vec<Option<String>>) = organizations.into_iter().unzip();
    let statement = Statement::new("UPDATE causeway_import_organization SET slug_refused_by = r.refused_by, slug_refusals = slug_refusals + CASE WHEN r.refused_by IS NULL THEN 0 ELSE 1 END, taken_from_attempt = COALESCE(taken_from_attempt, ")
        .arg(attempt)
        .push(") FROM ")
        .rows(
            lease.dialect(),
            "r",
            [("id", Column::Ints(ids)), ("refused_by", Column::OptTexts(refused_by))],
        )
        .push(" WHERE organization_id = r.id AND import_id = ")
        .arg(lease.import_id());
    lease.execute(statement).await?;
    Ok(())
}

/// Whether [`set_taken_from`] has noted this attempt for any organization.
pub(crate) async fn is_any_taken(db: &Db, import_id: Uuid, attempt: i64) -> Result<bool, DbError> {
    let statement = Statement::new(
        "SELECT organization_id FROM causeway_import_organization WHERE import_id = $1 AND taken_from_attempt = $2 LIMIT 1",
    )
    .with(import_id)
    .with(attempt);
    Ok(db.fetch_optional(statement).await?.is_some())
}

/// How many organizations with ids above `after`, up to `last`, got another slug than they wanted, and were not changed
/// before that.
pub(crate) async fn changed_by_slugs(
    lease: &mut LeaseTransaction<'_>,
    after: i64,
    last: i64,
) -> Result<i64, DbError> {
    let statement = Statement::new(
        "SELECT count(*) AS changed FROM causeway_import_organization WHERE import_id = $1 AND organization_id > $2 \
         AND organization_id <= $3 AND slug_verdict <> $4 AND changed = $5",
    )
    .with(lease.import_id())
    .with(after)
    .with(last)
    .with(SlugVerdict::Free.as_str_name())
    .with(false);
    lease.fetch_one(statement).await?.int("changed")
}

/// Removes the slugs that control gave to organizations with ids above `after`, up to `last`.
pub(crate) async fn forget_slugs(
    lease: &mut LeaseTransaction<'_>,
    after: i64,
    last: i64,
) -> Result<(), DbError> {
    let rows = Statement::new(
        "UPDATE sentry_organization SET slug = CAST($4 AS text) || CAST(id AS text) WHERE id IN \
         (SELECT organization_id FROM causeway_import_organization WHERE import_id = $1 AND organization_id > $2 \
         AND organization_id <= $3 AND slug IS NOT NULL)",
    );
    let rows = rows.with(lease.import_id()).with(after).with(last).with(PLACEHOLDER_PREFIX);
    lease.execute(rows).await?;
    let entries = Statement::new(
        "UPDATE causeway_import_organization SET slug = NULL, slug_verdict = NULL, taken_by_region = NULL, \
         taken_by_organization = NULL WHERE import_id = $1 AND organization_id > $2 AND organization_id <= $3",
    );
    let entries = entries.with(lease.import_id()).with(after).with(last);
    lease.execute(entries).await?;
    Ok(())
}

/// Stores returned columns of rows of control, as JSON objects by primary key.
pub(crate) async fn insert_returned(
    lease: &mut LeaseTransaction<'_>,
    model: &str,
    returned: &[(i64, String)],
) -> Result<(), DbError> {
    if returned.is_empty() {
        return Ok(());
    }
    let statement =
        Statement::new("INSERT INTO causeway_import_carried (import_id, model, new_pk, fields) SELECT ")
            .arg(lease.import_id())
            .push(", ")
            .arg(model)
            .push(", r.new_pk, r.fields FROM ")
            .rows(
                lease.dialect(),
                "r",
                [
                    ("new_pk", Column::Ints(returned.iter().map(|(new_pk, _)| *new_pk).collect())),
                    ("fields", Column::Texts(returned.iter().map(|(_, fields)| fields.clone()).collect())),
                ],
            )
            // Without a WHERE before it, SQLite reads the ON as part of a join.
            .push(" WHERE true ON CONFLICT (import_id, model, new_pk) DO NOTHING");
    lease.execute(statement).await?;
    Ok(())
}

/// The returned columns of rows of control, by primary key.
pub(crate) async fn returned(
    db: &Db,
    import_id: Uuid,
    model: &str,
    new_pks: Vec<i64>,
) -> Result<HashMap<i64, String>, DbError> {
    // One lookup for each row, whatever the database thinks of the table's size: a join may read all values of the
    // import for every chunk.
    let statement = Statement::new(
        "SELECT r.id AS new_pk, (SELECT c.fields FROM causeway_import_carried c WHERE c.import_id = ",
    )
    .arg(import_id)
    .push(" AND c.model = ")
    .arg(model)
    .push(" AND c.new_pk = r.id) AS fields FROM ")
    .rows(db.dialect(), "r", [("id", Column::Ints(new_pks))]);
    let mut returned = HashMap::new();
    for row in db.fetch_many(statement, ["new_pk", "fields"]).await? {
        if let [serde_json::Value::Number(new_pk), serde_json::Value::String(fields)] = row
            && let Some(new_pk) = new_pk.as_i64()
        {
            returned.insert(new_pk, fields);
        }
    }
    Ok(returned)
}

/// Deletes returned columns, which nothing needs any more. Deletes at most `most`, and returns how many.
pub(crate) async fn forget_returned(lease: &mut LeaseTransaction<'_>, most: i64) -> Result<u64, DbError> {
    let statement = Statement::new(
        "DELETE FROM causeway_import_carried WHERE import_id = $1 AND (model, new_pk) IN (SELECT model, new_pk \
         FROM causeway_import_carried WHERE import_id = $1 ORDER BY model, new_pk LIMIT $2)",
    )
    .with(lease.import_id())
    .with(most);
    lease.execute(statement).await
}

/// How many organizations of an import are hidden.
pub(crate) async fn hidden(db: &Db, import_id: Uuid) -> Result<i64, DbError> {
    let statement = Statement::new(
        "SELECT count(*) AS hidden FROM causeway_import_organization i JOIN sentry_organization o ON o.id = i.organization_id \
         WHERE i.import_id = $1 AND o.status = $2",
    )
    .with(import_id)
    .with(HIDDEN);
    match db.fetch_optional(statement).await? {
        Some(row) => row.int("hidden"),
        None => Ok(0),
    }
}

/// The ids of the next `most` organizations of an import after an id whose rows no longer exist, ordered by id.
pub(crate) async fn gone(db: &Db, import_id: Uuid, after: i64, most: i64) -> Result<Vec<i64>, DbError> {
    let statement = Statement::new(
        "SELECT i.organization_id FROM causeway_import_organization i WHERE i.import_id = $1 AND i.organization_id > $2 \
         AND NOT EXISTS (SELECT 1 FROM sentry_organization o WHERE o.id = i.organization_id) ORDER BY i.organization_id LIMIT $3",
    )
    .with(import_id)
    .with(after)
    .with(most);
    db.fetch_all(statement).await?.iter().map(|row| row.int("organization_id")).collect()
}

/// The rows of the next [`PAGE`] organizations of an import after an id that still exist, ordered by id.
pub(crate) async fn still_there(db: &Db, import_id: Uuid, after: i64) -> Result<Vec<Organization>, DbError> {
    let statement = Statement::new(
        "SELECT o.id, o.slug, o.name, CAST(o.status AS bigint) AS status, o.date_added FROM causeway_import_organization i \
         JOIN sentry_organization o ON o.id = i.organization_id WHERE i.import_id = $1 AND i.organization_id > $2 \
         ORDER BY i.organization_id LIMIT $3",
    )
    .with(import_id)
    .with(after)
    .with(PAGE);
    db.fetch_all(statement).await?.iter().map(organization::read).collect()
}
