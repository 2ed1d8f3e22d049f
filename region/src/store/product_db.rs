//! The product's own tables in a region. In a database of the product, its workers carry each change that
//! `sentry_regionoutbox` names into control: which region an organization is in, who its members are, its teams. The
//! region writes there in the transactions that make organizations visible, rename them or take them back.

use std::collections::BTreeMap;

use causeway_relocation::{
    catalog::{ORGANIZATION, ORGANIZATION_MEMBER},
    schema::is_of_product,
};
use causeway_silo::db::{Column, Db, DbError, Dialect, Row, Statement, Tx, digest_of};
use uuid::Uuid;

use super::compared::{ProductState, Rows};

/// A time that has passed: the workers take a message at once.
const AT_ONCE: &str = "CAST('2016-08-01T00:00:00Z' AS timestamp with time zone)";
/// The product's name for its only region, where control and region are one database.
const MONOLITH: &str = "--monolith--";
/// Tables with a column `organization_id` that the workers fill.
const WORKER_TABLES: [&str; 2] = [SLUG_COPIES, TOKEN_COPIES];
/// Copies of control's auth tokens.
const TOKEN_COPIES: &str = "hybridcloud_orgauthtokenreplica";
/// Copies of control's slug reservations.
const SLUG_COPIES: &str = "hybridcloud_organizationslugreservationreplica";

/// Rows that are announced to the workers.
struct Announced {
    model: &'static str,
    /// The category of the messages.
    category: &'static str,
    /// The tables that the rows come from, each with its alias, as SQL.
    from: &'static str,
    /// The id of the organization, as SQL over these tables.
    organization: &'static str,
    /// The id of the row.
    id: &'static str,
    /// Further content of a message, as JSON.
    payload: Option<&'static str>,
    /// Whether the workers keep a copy of the row at control.
    is_copied: bool,
}

const ALL: [Announced; 5] = [
    Announced {
        model: ORGANIZATION,
        category: "2",
        from: "sentry_organization o",
        organization: "o.id",
        id: "o.id",
        payload: None,
        is_copied: true,
    },
    Announced {
        model: ORGANIZATION_MEMBER,
        category: "3",
        from: "sentry_organizationmember m",
        organization: "m.organization_id",
        id: "m.id",
        payload: Some(
            "CASE WHEN m.user_id IS NULL THEN NULL ELSE json_build_object('user_id', m.user_id) END",
        ),
        is_copied: true,
    },
    Announced {
        model: "sentry.team",
        category: "11",
        from: "sentry_team t",
        organization: "t.organization_id",
        id: "t.id",
        payload: None,
        is_copied: true,
    },
    Announced {
        model: "sentry.organizationmemberteam",
        category: "26",
        from: "sentry_organizationmember_teams x JOIN sentry_organizationmember m ON m.id = x.organizationmember_id",
        organization: "m.organization_id",
        id: "x.id",
        payload: None,
        is_copied: true,
    },
    Announced {
        model: "sentry.project",
        category: "8",
        from: "sentry_project p",
        organization: "p.organization_id",
        id: "p.id",
        payload: None,
        is_copied: false,
    },
];

/// Rows of an organization that are compared with those of control.
#[derive(Debug, Clone, Copy)]
struct Compared {
    name: &'static str,
    from: &'static str,
    /// The id of the organization.
    organization: &'static str,
    /// The columns that are compared, in the order in which control compares its own.
    columns: &'static [&'static str],
}

/// The copies of auth tokens among those.
const TOKENS: &str = "tokens";

const COMPARED: [Compared; 4] = [
    Compared {
        name: "members",
        from: "sentry_organizationmember m",
        organization: "m.organization_id",
        columns: &["m.id", "m.user_id", "m.role"],
    },
    Compared {
        name: "teams",
        from: "sentry_team t",
        organization: "t.organization_id",
        columns: &["t.id", "t.slug"],
    },
    Compared {
        name: "team_members",
        from: "sentry_organizationmember_teams x JOIN sentry_organizationmember m ON m.id = x.organizationmember_id",
        organization: "m.organization_id",
        columns: &["x.id", "x.team_id", "x.organizationmember_id", "x.is_active", "x.role"],
    },
    Compared {
        name: TOKENS,
        from: TOKEN_COPIES,
        organization: "organization_id",
        columns: &["orgauthtoken_id", "token_hashed"],
    },
];

/// The product's own tables in a database that is the product's. It remembers nothing of them: an upgrade of the product
/// may alter them at any time.
#[derive(Debug, Clone)]
pub(crate) struct ProductDb(());

impl ProductDb {
    /// The product's own tables, if the database is the product's. That it has those that are written was checked at the
    /// start, and is checked again when an import begins.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn find(db: &Db) -> Result<Option<Self>, DbError> {
        Ok(is_of_product(db).await?.then_some(Self(())))
    }

    /// Announces organizations of an import: those with ids above `after`, up to `last`.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn announce_import(
        &self,
        tx: &mut Tx,
        import_id: Uuid,
        after: i64,
        last: i64,
    ) -> Result<(), DbError> {
        let Some(rows) = ALL.iter().find(|rows| rows.model == ORGANIZATION) else { return Ok(()) };
        let statement = announce(rows, rows.organization)
            .push(" IN (SELECT organization_id FROM causeway_import_organization WHERE import_id = ")
            .arg(import_id)
            .push(" AND organization_id > ")
            .arg(after)
            .push(" AND organization_id <= ")
            .arg(last)
            .push(")");
        tx.execute(statement).await?;
        Ok(())
    }

    /// The models that belong to organizations and that the workers look after.
    pub(crate) fn models_of_organizations() -> Vec<String> {
        ALL.iter().map(|rows| rows.model).filter(|model| *model != ORGANIZATION).map(str::to_owned).collect()
    }

    /// Announces rows of a model that were changed, or are about to be deleted. Nothing happens if the
    /// workers do not process the model.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn announce_rows(&self, tx: &mut Tx, model: &str, ids: Vec<i64>) -> Result<(), DbError> {
        let dialect = tx.dialect();
        let Some(rows) = ALL.iter().find(|rows| rows.model == model) else { return Ok(()) };
        let statement = announce(rows, rows.id)
            .push(" IN (SELECT r.id FROM ")
            .rows(dialect, "r", [("id", Column::Ints(ids))])
            .push(")");
        tx.execute(statement).await.map(|_| ())
    }

    /// The models whose rows the workers copy to control, that of organizations first.
    pub(crate) fn copied_models() -> impl Iterator<Item = &'static str> {
        ALL.iter().filter(|rows| rows.is_copied).map(|rows| rows.model)
    }

    /// The ids of a model's rows that belong to these organizations.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn rows_of(
        &self,
        db: &Db,
        model: &str,
        organization_ids: &[i64],
    ) -> Result<Vec<i64>, DbError> {
        let Some(rows) = ALL.iter().find(|rows| rows.model == model) else { return Ok(Vec::new()) };
        let statement = Statement::new("SELECT ")
            .push(&format!(
                "CAST({} AS bigint) AS id FROM {} WHERE {} IN (SELECT r.id FROM ",
                rows.id, rows.from, rows.organization
            ))
            .rows(db.dialect(), "r", [("id", Column::Ints(organization_ids.to_vec()))])
            .push(")");
        db.fetch_all(statement).await?.iter().map(|row| row.int("id")).collect()
    }

    /// What the product has of organizations here.
    ///
    /// # Errors
    /// If the database cannot be queried.
    pub(crate) async fn state(
        &self,
        db: &Db,
        organization_ids: Vec<i64>,
    ) -> Result<BTreeMap<i64, ProductState>, DbError> {
        let worker_tables = existing(&db.fetch_all(worker_tables()).await?)?;
        let copies = worker_tables.contains(&SLUG_COPIES);
        let mut compared = COMPARED.to_vec();
        compared.retain(|compared| compared.name != TOKENS || worker_tables.contains(&TOKEN_COPIES));
        let mut statement = Statement::new(
            "SELECT r.id, \
             EXISTS (SELECT 1 FROM sentry_regionoutbox o WHERE o.shard_scope = 0 AND o.shard_identifier = r.id) AS waiting, ",
        );
        for Compared { name, .. } in &compared {
            statement =
                statement.push(&format!("{name}.count AS {name}_count, {name}.digest AS {name}_digest, "));
        }
        let mut statement = statement
            .push(if copies { "COALESCE(c.slug, '')" } else { "CAST(NULL AS text)" })
            .push(" AS slug FROM ")
            .rows(db.dialect(), "r", [("id", Column::Ints(organization_ids))])
            .push(if copies {
                " LEFT JOIN hybridcloud_organizationslugreservationreplica c ON c.organization_id = r.id \
             AND c.reservation_type = 0"
            } else {
                ""
            });
        for Compared { name, from, columns, organization } in &compared {
            statement = statement.push(&format!(
                " CROSS JOIN LATERAL (SELECT {} FROM {from} WHERE {organization} = r.id) {name}",
                digest_of(columns)
            ));
        }
        let rows = |row: &Row, name: &str| {
            let (count, digest) = (row.int(&format!("{name}_count"))?, row.text(&format!("{name}_digest"))?);
            Ok::<_, DbError>(Rows { count, digest })
        };
        let has_tokens = compared.iter().any(|compared| compared.name == TOKENS);
        let state = |row: &Row| {
            let state = ProductState {
                members: rows(row, "members")?,
                teams: rows(row, "teams")?,
                team_members: rows(row, "team_members")?,
                tokens: has_tokens.then(|| rows(row, TOKENS)).transpose()?,
                waiting: row.bool("waiting")?,
                slug: row.opt_text("slug")?,
            };
            Ok((row.int("id")?, state))
        };
        db.fetch_all(statement).await?.iter().map(state).collect()
    }

    /// Deletes what the workers have made of organizations that are about to be deleted.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn forget(&self, tx: &mut Tx, organization_ids: &[i64]) -> Result<(), DbError> {
        let dialect = tx.dialect();
        for table in existing(&tx.fetch_all(worker_tables()).await?)? {
            let ids = [("organization_id", Column::Ints(organization_ids.to_vec()))];
            let statement = Statement::new("DELETE FROM ")
                .push(table)
                .push(" WHERE organization_id IN (SELECT r.organization_id FROM ")
                .rows(dialect, "r", ids)
                .push(")");
            tx.execute(statement).await?;
        }
        Ok(())
    }
}

/// A statement that announces the rows with the given column in a set, which is still to be appended. A payload becomes
/// what its column is, which depends on the release: `text`, `json` or `jsonb`.
fn announce(rows: &Announced, column: &str) -> Statement {
    Statement::new(
        "INSERT INTO sentry_regionoutbox (shard_scope, shard_identifier, object_identifier, category, scheduled_from, \
         scheduled_for, payload) SELECT 0, ",
    )
    .push(rows.organization)
    .push(", ")
    .push(rows.id)
    .push(", ")
    .push(rows.category)
    .push(", ")
    .push(AT_ONCE)
    .push(", ")
    .push(AT_ONCE)
    .push(", ")
    .push(rows.payload.unwrap_or("NULL"))
    .push(" FROM ")
    .push(rows.from)
    .push(" WHERE ")
    .push(column)
}

/// The query for those of [`WORKER_TABLES`] that the database has. [`existing`] reads its rows.
fn worker_tables() -> Statement {
    let names = WORKER_TABLES.map(str::to_owned).to_vec();
    Statement::new("SELECT t.name AS name FROM ")
        .rows(Dialect::Postgres, "t", [("name", Column::Texts(names))])
        .push(" WHERE to_regclass(t.name) IS NOT NULL")
}

fn existing(rows: &[Row]) -> Result<Vec<&'static str>, DbError> {
    let found: Vec<String> = rows.iter().map(|row| row.text("name")).collect::<Result<_, _>>()?;
    Ok(WORKER_TABLES.into_iter().filter(|name| found.iter().any(|it| it == name)).collect())
}

/// What the product calls the region of this database if no other name is set: its name for a single region
/// if control has the same database.
///
/// # Errors
/// If the database cannot be queried.
pub(crate) async fn name_of_region(db: &Db, region: &str) -> Result<String, DbError> {
    // The schema may be another user's: its name in the catalog is all that is needed.
    let shared = Statement::new(
        "SELECT 1 AS one FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'causeway_control' AND c.relname = 'causeway_migration'",
    );
    let is_shared = db.fetch_optional(shared).await?.is_some();
    Ok(if is_shared { MONOLITH.to_owned() } else { region.to_owned() })
}
