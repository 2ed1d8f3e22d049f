//! `causeway_slug_replica`, `causeway_feed_cursor` and `causeway_rename`: what control's feed has reported, and the
//! answers that are due.

use std::collections::{BTreeMap, HashMap, HashSet};

use causeway_proto::{era::era_of, relocation::v1::ErrorReason};
use causeway_silo::db::{Column, Db, DbError, Dialect, Row, Statement, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::replica::{Answer, SlugChange};

/// How far the feed has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The version of the last event; 0 if nothing is known or a snapshot has not ended.
    pub(crate) version: i64,
    /// The number of the last snapshot.
    pub(crate) generation: i64,
    /// When control last reported that there is nothing more; `None` if it never did.
    pub(crate) heard_at: Option<DateTime<Utc>>,
    /// The era of the last snapshot that has ended.
    pub(crate) era: i64,
}

impl Cursor {
    /// Whether a snapshot of this version shows that control was put back from an old copy since the region last knew all.
    pub(crate) fn is_of_other_era(&self, version: i64) -> bool {
        self.heard_at.is_some() && self.era != era_of(version)
    }
}

/// The result of resolving a slug of this region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) organization_id: i64,
    /// The slug that was asked for.
    pub(crate) slug: String,
    /// The primary slug of the organization. It differs from `slug` if that is an alias.
    pub(crate) canonical_slug: String,
}

fn cursor_of(row: Option<Row>) -> Result<Cursor, DbError> {
    Ok(match row {
        Some(row) => Cursor {
            version: row.int("version")?,
            generation: row.int("generation")?,
            heard_at: row.opt_time("heard_at")?,
            era: row.int("era")?,
        },
        None => Cursor { version: 0, generation: 0, heard_at: None, era: 0 },
    })
}

/// Reads how far the feed has been read.
pub(crate) async fn cursor(db: &Db) -> Result<Cursor, DbError> {
    let statement = Statement::new("SELECT version, generation, heard_at, era FROM causeway_feed_cursor");
    cursor_of(db.fetch_optional(statement).await?)
}

/// Reads the cursor, and locks it until the transaction ends.
pub(crate) async fn lock_cursor(tx: &mut Tx) -> Result<Cursor, DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_feed_cursor (version, generation) VALUES (0, 0) \
         ON CONFLICT (singleton) DO UPDATE SET version = causeway_feed_cursor.version \
         RETURNING version, generation, heard_at, era",
    );
    cursor_of(tx.fetch_optional(statement).await?)
}

/// Stores how far the feed has been read, in the row that [`lock_cursor`] has locked.
pub(crate) async fn set_cursor(tx: &mut Tx, cursor: &Cursor) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_feed_cursor SET version = $1, generation = $2, heard_at = $3, era = $4",
    )
    .with(cursor.version)
    .with(cursor.generation)
    .with(cursor.heard_at)
    .with(cursor.era);
    tx.execute(statement).await.map(|_| ())
}

/// Writes the new state of reservations. No slug may occur twice.
pub(crate) async fn upsert(tx: &mut Tx, generation: i64, changes: &[&SlugChange]) -> Result<(), DbError> {
    if changes.is_empty() {
        return Ok(());
    }
    let dialect = tx.dialect();
    let texts = |text: fn(&SlugChange) -> String| Column::Texts(changes.iter().map(|it| text(it)).collect());
    let kinds = changes.iter().map(|it| it.kind.map(|kind| kind.name().to_owned()));
    let kinds = kinds
        .collect::<Option<Vec<String>>>()
        .ok_or_else(|| DbError::inconsistent("a slug that no organization has any more was to be stored"))?;
    let statement = Statement::new(
        "INSERT INTO causeway_slug_replica \
         (slug, organization_id, type, canonical_slug, operation_id, wanted, generation) \
         SELECT r.slug, r.organization_id, r.type, r.canonical_slug, ",
    )
    .push(operation_id(dialect))
    .push(", r.wanted = 1, ")
    .arg(generation)
    .push(" FROM ")
    .rows(
        dialect,
        "r",
        [
            ("slug", texts(|it| it.slug.clone())),
            ("organization_id", Column::Ints(changes.iter().map(|it| it.organization_id).collect())),
            ("type", Column::Texts(kinds)),
            (
                "canonical_slug",
                Column::OptTexts(changes.iter().map(|it| it.canonical_slug.clone()).collect()),
            ),
            ("operation_id", texts(|it| it.operation_id.to_string())),
            ("wanted", Column::Ints(changes.iter().map(|it| i64::from(it.wanted)).collect())),
        ],
    )
    // SQLite needs the WHERE: without it, ON could begin a join.
    .push(
        " WHERE true ON CONFLICT (slug) DO UPDATE SET organization_id = excluded.organization_id, \
         type = excluded.type, canonical_slug = excluded.canonical_slug, operation_id = excluded.operation_id, \
         wanted = excluded.wanted, generation = excluded.generation",
    );
    tx.execute(statement).await.map(|_| ())
}

/// Stores the primary slugs of organizations with their other slugs, which lead to them.
pub(crate) async fn set_canonical(
    tx: &mut Tx,
    known_by: &BTreeMap<i64, Option<String>>,
) -> Result<(), DbError> {
    if known_by.is_empty() {
        return Ok(());
    }
    let dialect = tx.dialect();
    let statement = Statement::new("UPDATE causeway_slug_replica SET canonical_slug = r.slug FROM ")
        .rows(
            dialect,
            "r",
            [
                ("organization_id", Column::Ints(known_by.keys().copied().collect())),
                ("slug", Column::OptTexts(known_by.values().cloned().collect())),
            ],
        )
        .push(
            " WHERE causeway_slug_replica.organization_id = r.organization_id AND causeway_slug_replica.type <> 'primary' \
             AND COALESCE(causeway_slug_replica.canonical_slug, '') <> COALESCE(r.slug, '')",
        );
    tx.execute(statement).await.map(|_| ())
}

/// Notes that these are no longer the primary slugs of the organizations.
pub(crate) async fn without_canonical(tx: &mut Tx, freed: &[(i64, String)]) -> Result<(), DbError> {
    if freed.is_empty() {
        return Ok(());
    }
    let (ids, slugs) = freed.iter().cloned().unzip();
    let dialect = tx.dialect();
    let statement = Statement::new("UPDATE causeway_slug_replica SET canonical_slug = NULL FROM ")
        .rows(dialect, "r", [("organization_id", Column::Ints(ids)), ("slug", Column::Texts(slugs))])
        .push(
            " WHERE causeway_slug_replica.organization_id = r.organization_id AND causeway_slug_replica.type <> 'primary' \
             AND causeway_slug_replica.canonical_slug = r.slug",
        );
    tx.execute(statement).await.map(|_| ())
}

/// Deletes slugs that no organization has any more.
pub(crate) async fn remove(tx: &mut Tx, slugs: Vec<String>) -> Result<(), DbError> {
    if slugs.is_empty() {
        return Ok(());
    }
    let dialect = tx.dialect();
    let statement = Statement::new("DELETE FROM causeway_slug_replica WHERE slug IN (SELECT slug FROM ")
        .rows(dialect, "r", [("slug", Column::Texts(slugs))])
        .push(")");
    tx.execute(statement).await.map(|_| ())
}

/// Deletes entries that only older snapshots had. Deletes at most `most`, and returns how many.
pub(crate) async fn sweep(tx: &mut Tx, generation: i64, most: i64) -> Result<u64, DbError> {
    let statement = Statement::new(
        "DELETE FROM causeway_slug_replica WHERE slug IN \
         (SELECT slug FROM causeway_slug_replica WHERE generation <> $1 LIMIT $2)",
    )
    .with(generation)
    .with(most);
    tx.execute(statement).await
}

/// Aliases that only older snapshots had, each with its organization, sorted by organization; at most `most`.
pub(crate) async fn lost_aliases(
    tx: &mut Tx,
    generation: i64,
    most: i64,
) -> Result<Vec<(i64, String)>, DbError> {
    let statement = Statement::new(
        "SELECT organization_id, slug FROM causeway_slug_replica WHERE generation <> $1 AND type = 'vanity_alias' \
         ORDER BY organization_id, slug LIMIT $2",
    )
    .with(generation)
    .with(most);
    let rows = tx.fetch_all(statement).await?;
    rows.iter().map(|row| Ok((row.int("organization_id")?, row.text("slug")?))).collect()
}

/// How many aliases only older snapshots had.
pub(crate) async fn count_lost_aliases(tx: &mut Tx, generation: i64) -> Result<i64, DbError> {
    let statement = Statement::new(
        "SELECT COUNT(*) AS aliases FROM causeway_slug_replica WHERE generation <> $1 AND type = 'vanity_alias'",
    );
    tx.fetch_one(statement.with(generation)).await?.int("aliases")
}

/// The organization of a slug. Either control has confirmed the slug, or the organization already has it here.
pub(crate) async fn resolve(db: &Db, slug: &str) -> Result<Option<Resolved>, DbError> {
    let statement = Statement::new(
        "SELECT c.organization_id AS organization_id, c.slug AS slug, COALESCE(c.canonical_slug, c.slug) AS canonical_slug \
         FROM causeway_slug_replica c WHERE c.slug = $1 AND (c.type <> 'temporary_rename_alias' OR EXISTS \
         (SELECT 1 FROM sentry_organization o WHERE o.id = c.organization_id AND o.slug = c.slug))",
    )
    .with(slug);
    let Some(row) = db.fetch_optional(statement).await? else { return Ok(None) };
    Ok(Some(Resolved {
        organization_id: row.int("organization_id")?,
        slug: row.text("slug")?,
        canonical_slug: row.text("canonical_slug")?,
    }))
}

/// Whether a slug is the organization's primary slug, or is requested for it, by another operation than this one.
pub(crate) async fn is_used_by_other_operation(
    tx: &mut Tx,
    slug: &str,
    organization_id: i64,
    operation_id: Uuid,
) -> Result<bool, DbError> {
    let statement = Statement::new(
        "SELECT slug FROM causeway_slug_replica WHERE slug = $1 AND organization_id = $2 AND operation_id <> $3 \
         AND (wanted OR type = 'primary')",
    )
    .with(slug)
    .with(organization_id)
    .with(operation_id);
    Ok(tx.fetch_optional(statement).await?.is_some())
}

/// The primary slugs of these organizations, as far as the feed has reported them.
pub(crate) async fn primaries(tx: &mut Tx, ids: Vec<i64>) -> Result<HashMap<i64, String>, DbError> {
    let statement = Statement::new("SELECT r.id AS id, s.slug AS slug FROM ")
        .rows(tx.dialect(), "r", [("id", Column::Ints(ids))])
        .push(" JOIN causeway_slug_replica s ON s.organization_id = r.id WHERE s.type = 'primary'");
    let rows = tx.fetch_all(statement).await?;
    rows.iter().map(|row| Ok((row.int("id")?, row.text("slug")?))).collect()
}

/// Stores answers for control. If there is one for an operation, it stays as it is.
pub(crate) async fn insert_answers(
    tx: &mut Tx,
    answers: &[Answer],
    now: DateTime<Utc>,
) -> Result<(), DbError> {
    if answers.is_empty() {
        return Ok(());
    }
    let dialect = tx.dialect();
    let refusals = || answers.iter().map(|answer| answer.refusal.clone().unzip());
    let statement = Statement::new(
        "INSERT INTO causeway_rename \
         (operation_id, organization_id, slug, previous_slug, refusal_reason, refusal_message, created_at) SELECT ",
    )
    .push(operation_id(dialect))
    .push(", r.organization_id, r.slug, r.previous_slug, r.refusal_reason, r.refusal_message, ")
    .arg(now)
    .push(" FROM ")
    .rows(
        dialect,
        "r",
        [
            (
                "operation_id",
                Column::Texts(answers.iter().map(|answer| answer.operation_id.to_string()).collect()),
            ),
            ("organization_id", Column::Ints(answers.iter().map(|answer| answer.organization_id).collect())),
            ("slug", Column::Texts(answers.iter().map(|answer| answer.slug.clone()).collect())),
            (
                "previous_slug",
                Column::OptTexts(answers.iter().map(|answer| answer.previous_slug.clone()).collect()),
            ),
            (
                "refusal_reason",
                Column::OptTexts(
                    refusals().map(|(reason, _)| reason.map(|it| it.as_str_name().to_owned())).collect(),
                ),
            ),
            ("refusal_message", Column::OptTexts(refusals().map(|(_, message)| message).collect())),
        ],
    )
    // SQLite needs the WHERE: without it, ON could begin a join.
    .push(" WHERE true ON CONFLICT (operation_id) DO NOTHING");
    tx.execute(statement).await.map(|_| ())
}

/// The operation id of a row of a set. It comes as text, and SQLite stores it so.
fn operation_id(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "CAST(r.operation_id AS uuid)",
        Dialect::Sqlite => "r.operation_id",
    }
}

/// Those of these operations that this region has decided about but not yet answered.
pub(crate) async fn decided(tx: &mut Tx, ids: Vec<Uuid>) -> Result<HashSet<Uuid>, DbError> {
    let dialect = tx.dialect();
    let ids = Column::Texts(ids.iter().map(Uuid::to_string).collect());
    let statement = Statement::new("SELECT operation_id FROM causeway_rename WHERE operation_id IN (SELECT ")
        .push(operation_id(dialect))
        .push(" FROM ")
        .rows(dialect, "r", [("operation_id", ids)])
        .push(")");
    let rows = tx.fetch_all(statement).await?;
    rows.iter().map(|row| row.uuid("operation_id")).collect()
}

/// The next `most` answers that are due, the oldest first.
pub(crate) async fn answers(db: &Db, most: i64) -> Result<Vec<Answer>, DbError> {
    let statement = Statement::new(
        "SELECT operation_id, organization_id, slug, previous_slug, refusal_reason, refusal_message \
         FROM causeway_rename ORDER BY created_at, operation_id LIMIT $1",
    )
    .with(most);
    let answer = |row: &Row| {
        let refusal = match row.opt_text("refusal_reason")? {
            None => None,
            Some(name) => {
                let reason = ErrorReason::from_str_name(&name)
                    .ok_or_else(|| DbError::inconsistent("causeway_rename: unknown reason"))?;
                Some((reason, row.text("refusal_message")?))
            }
        };
        Ok(Answer {
            operation_id: row.uuid("operation_id")?,
            organization_id: row.int("organization_id")?,
            slug: row.text("slug")?,
            previous_slug: row.opt_text("previous_slug")?,
            refusal,
        })
    };
    db.fetch_all(statement).await?.iter().map(answer).collect()
}

/// Deletes answers that control has received.
pub(crate) async fn forget_answers(tx: &mut Tx, ids: Vec<Uuid>) -> Result<(), DbError> {
    let dialect = tx.dialect();
    let ids = Column::Texts(ids.iter().map(Uuid::to_string).collect());
    let statement = Statement::new("DELETE FROM causeway_rename WHERE operation_id IN (SELECT ")
        .push(operation_id(dialect))
        .push(" FROM ")
        .rows(dialect, "r", [("operation_id", ids)])
        .push(")");
    tx.execute(statement).await.map(|_| ())
}
