//! `causeway_import_finding` and `causeway_import_finding_count`.

use std::collections::{BTreeMap, HashMap};

use causeway_relocation::finding::{Finding, FindingKind, Severity, Tense};
use causeway_silo::{
    db::{Column, Db, DbError, Row, Statement, Tx},
    page::PageRequest,
};
use uuid::Uuid;

use super::lease_transaction::LeaseTransaction;
use crate::import::ImportState;

/// Numbers of findings of one import.
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    /// All findings, stored or not.
    pub(crate) made: i64,
    /// Findings in the database, which are bounded by [`Limits::findings`](crate::Limits::findings).
    pub(crate) stored: i64,
    /// Stored findings, by kind.
    pub(crate) stored_of: HashMap<FindingKind, i64>,
}

/// Reads the numbers of findings of the import.
pub(crate) async fn totals(lease: &mut LeaseTransaction<'_>) -> Result<Totals, DbError> {
    let statement = Statement::new(
        "SELECT kind, CAST(SUM(made) AS bigint) AS made, CAST(SUM(stored) AS bigint) AS stored \
         FROM causeway_import_finding_count WHERE import_id = $1 GROUP BY kind",
    )
    .with(lease.import_id());
    let mut totals = Totals::default();
    for row in lease.fetch_all(statement).await? {
        let stored = row.int("stored")?;
        totals.made += row.int("made")?;
        totals.stored += stored;
        totals.stored_of.insert(kind(&row.text("kind")?)?, stored);
    }
    Ok(totals)
}

/// Adds to the counts: `made` are all new findings, `stored` those among them that are stored.
pub(crate) async fn count(
    lease: &mut LeaseTransaction<'_>,
    state: ImportState,
    made: &[Finding],
    stored: &[Finding],
) -> Result<(), DbError> {
    let mut counts: BTreeMap<FindingKind, (i64, i64)> = BTreeMap::new();
    for finding in made {
        counts.entry(finding.kind).or_default().0 += 1;
    }
    for finding in stored {
        counts.entry(finding.kind).or_default().1 += 1;
    }
    let statement = Statement::new(
        "INSERT INTO causeway_import_finding_count (import_id, state, kind, made, stored) SELECT ",
    )
    .arg(lease.import_id())
    .push(", ")
    .arg(state.name())
    .push(", r.kind, r.made, r.stored FROM ")
    .rows(
        lease.dialect(),
        "r",
        [
            ("kind", Column::Texts(counts.keys().map(|kind| kind.name().to_owned()).collect())),
            ("made", Column::Ints(counts.values().map(|count| count.0).collect())),
            ("stored", Column::Ints(counts.values().map(|count| count.1).collect())),
        ],
    )
    // Without a WHERE before it, SQLite reads the ON as part of a join.
    .push(
        " WHERE true ON CONFLICT (import_id, state, kind) DO UPDATE \
         SET made = causeway_import_finding_count.made + excluded.made, \
         stored = causeway_import_finding_count.stored + excluded.stored",
    );
    lease.execute(statement).await?;
    Ok(())
}

/// Stores findings in their order.
pub(crate) async fn insert(
    lease: &mut LeaseTransaction<'_>,
    state: ImportState,
    findings: &[Finding],
) -> Result<(), DbError> {
    if findings.is_empty() {
        return Ok(());
    }
    let text = |field: fn(&Finding) -> Option<&String>| {
        Column::OptTexts(findings.iter().map(|finding| field(finding).cloned()).collect())
    };
    let int = |field: fn(&Finding) -> Option<i64>| Column::OptInts(findings.iter().map(field).collect());
    let statement = Statement::new(
        "INSERT INTO causeway_import_finding (import_id, state, kind, model, ordinal, source_pk, field, byte_offset, reason) SELECT ",
    )
    .arg(lease.import_id())
    .push(", ")
    .arg(state.name())
    .push(", r.kind, r.model, r.ordinal, r.source_pk, r.field, r.byte_offset, r.reason FROM ")
    .rows(
        lease.dialect(),
        "r",
        [
            ("kind", Column::Texts(findings.iter().map(|finding| finding.kind.name().to_owned()).collect())),
            ("model", text(|finding| finding.model.as_ref())),
            ("ordinal", int(|finding| finding.ordinal)),
            ("source_pk", int(|finding| finding.source_pk)),
            ("field", text(|finding| finding.field.as_ref())),
            ("byte_offset", int(|finding| finding.byte_offset)),
            ("reason", Column::Texts(findings.iter().map(|finding| finding.reason.clone()).collect())),
        ],
    );
    lease.execute(statement).await?;
    Ok(())
}

/// Deletes the findings that were made in a state, because the import goes through that state again.
pub(crate) async fn forget(lease: &mut LeaseTransaction<'_>, state: ImportState) -> Result<(), DbError> {
    let import_id = lease.import_id();
    delete(lease, import_id, state).await
}

/// Deletes the finding about the failure of an import, because the import is resumed. A call does that
/// without a lease.
pub(crate) async fn forget_failure(tx: &mut Tx, import_id: Uuid) -> Result<(), DbError> {
    delete(tx, import_id, ImportState::Failed).await
}

async fn delete(tx: &mut Tx, import_id: Uuid, state: ImportState) -> Result<(), DbError> {
    for delete in [
        "DELETE FROM causeway_import_finding WHERE import_id = $1 AND state = $2",
        "DELETE FROM causeway_import_finding_count WHERE import_id = $1 AND state = $2",
    ] {
        tx.execute(Statement::new(delete).with(import_id).with(state.name())).await?;
    }
    Ok(())
}

fn kind(name: &str) -> Result<FindingKind, DbError> {
    name.parse()
        .map_err(|_| DbError::inconsistent(format!("a row of causeway_import_finding: unknown kind {name}")))
}

fn read(row: &Row) -> Result<(i64, Finding), DbError> {
    let finding = Finding {
        kind: kind(&row.text("kind")?)?,
        model: row.opt_text("model")?,
        ordinal: row.opt_int("ordinal")?,
        source_pk: row.opt_int("source_pk")?,
        field: row.opt_text("field")?,
        byte_offset: row.opt_int("byte_offset")?,
        reason: row.text("reason")?,
    };
    Ok((row.int("id")?, finding))
}

/// Findings in the order in which they were made, each with its page key; only those of one kind and of one severity,
/// if given.
pub(crate) async fn list(
    db: &Db,
    import_id: Uuid,
    kind: Option<FindingKind>,
    severity: Option<(Severity, Tense)>,
    page: &PageRequest<i64>,
) -> Result<Vec<(i64, Finding)>, DbError> {
    let mut statement = Statement::new("SELECT * FROM causeway_import_finding WHERE import_id = ")
        .arg(import_id)
        .push(" AND id > ")
        .arg(page.after.unwrap_or(0));
    if let Some(kind) = kind {
        statement = statement.push(" AND kind = ").arg(kind.name());
    }
    if let Some((severity, tense)) = severity {
        let kinds = FindingKind::ALL.iter().filter(|kind| kind.severity_in(tense) == severity);
        let names = Column::Texts(kinds.map(|kind| kind.name().to_owned()).collect());
        statement = statement
            .push(" AND kind IN (SELECT r.kind FROM ")
            .rows(db.dialect(), "r", [("kind", names)])
            .push(")");
    }
    let statement = statement.push(" ORDER BY id LIMIT ").arg(page.rows());
    db.fetch_all(statement).await?.iter().map(read).collect()
}

/// How many findings of each kind were made, stored or not.
pub(crate) async fn counts(db: &Db, import_id: Uuid) -> Result<Vec<(FindingKind, i64)>, DbError> {
    let statement = Statement::new(
        "SELECT kind, CAST(SUM(made) AS bigint) AS made FROM causeway_import_finding_count WHERE import_id = $1 GROUP BY kind",
    )
    .with(import_id);
    let mut counts: Vec<(FindingKind, i64)> = db
        .fetch_all(statement)
        .await?
        .iter()
        .map(|row| Ok((kind(&row.text("kind")?)?, row.int("made")?)))
        .collect::<Result<_, DbError>>()?;
    counts.sort_unstable();
    Ok(counts)
}
