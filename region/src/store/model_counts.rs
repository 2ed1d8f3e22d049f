//! `causeway_import_model`: what happened to the records of an import, by model.

use causeway_silo::db::{Column, Db, DbError, Statement};
use uuid::Uuid;

use super::lease_transaction::LeaseTransaction;
use crate::import::ModelCounts;

/// Replaces all counts of an import by those that its plan knows.
pub(crate) async fn replace(lease: &mut LeaseTransaction<'_>, counts: &[ModelCounts]) -> Result<(), DbError> {
    let statement =
        Statement::new("DELETE FROM causeway_import_model WHERE import_id = $1").with(lease.import_id());
    lease.execute(statement).await?;
    let int = |field: fn(&ModelCounts) -> i64| Column::Ints(counts.iter().map(field).collect());
    let statement = Statement::new(
        "INSERT INTO causeway_import_model (import_id, model, position, seen, inserted, existing, overwritten, out_of_scope, filtered, dropped, passed_over) SELECT ",
    )
    .arg(lease.import_id())
    .push(", r.model, r.position, r.seen, r.inserted, r.existing, 0, r.out_of_scope, r.filtered, r.dropped, r.passed_over FROM ")
    .rows(
        lease.dialect(),
        "r",
        [
            ("model", Column::Texts(counts.iter().map(|counts| counts.model.clone()).collect())),
            ("position", int(|counts| counts.position)),
            ("seen", int(|counts| counts.seen)),
            ("inserted", int(|counts| counts.inserted)),
            ("existing", int(|counts| counts.existing)),
            ("out_of_scope", int(|counts| counts.out_of_scope)),
            ("filtered", int(|counts| counts.filtered)),
            ("dropped", int(|counts| counts.dropped)),
            ("passed_over", int(|counts| counts.passed_over)),
        ],
    );
    lease.execute(statement).await?;
    Ok(())
}

/// Makes sure that an import has counts of a model: an older release, which knew no rows that are added, has planned it
/// with those of its records only.
pub(crate) async fn ensure(
    lease: &mut LeaseTransaction<'_>,
    model: &str,
    position: i64,
) -> Result<(), DbError> {
    let statement = Statement::new(
        "INSERT INTO causeway_import_model (import_id, model, position, seen, inserted, existing, overwritten, out_of_scope, \
         filtered, dropped, passed_over) VALUES ($1, $2, $3, 0, 0, 0, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING",
    )
    .with(lease.import_id())
    .with(model)
    .with(position);
    lease.execute(statement).await?;
    Ok(())
}

/// Adds the counts of a chunk. `seen` stays as the plan has set it.
pub(crate) async fn add(lease: &mut LeaseTransaction<'_>, chunk: &ModelCounts) -> Result<(), DbError> {
    let statement = Statement::new(
        "UPDATE causeway_import_model SET inserted = inserted + $3, existing = existing + $4, \
         out_of_scope = out_of_scope + $5, filtered = filtered + $6, dropped = dropped + $7, deleted = deleted + $8, kept = kept + $9, \
         changed = changed + $10, added = added + $11 WHERE import_id = $1 AND model = $2",
    )
    .with(lease.import_id())
    .with(&chunk.model)
    .with(chunk.inserted)
    .with(chunk.existing)
    .with(chunk.out_of_scope)
    .with(chunk.filtered)
    .with(chunk.dropped)
    .with(chunk.deleted)
    .with(chunk.kept)
    .with(chunk.changed)
    .with(chunk.added);
    match lease.execute(statement).await? {
        1 => Ok(()),
        _ => Err(DbError::inconsistent(format!(
            "import {} has no counts of {}",
            lease.import_id(),
            chunk.model
        ))),
    }
}

/// All counts of an import, in the order in which models are written.
pub(crate) async fn list(db: &Db, import_id: Uuid) -> Result<Vec<ModelCounts>, DbError> {
    let statement =
        Statement::new("SELECT * FROM causeway_import_model WHERE import_id = $1 ORDER BY position, model")
            .with(import_id);
    let rows = db.fetch_all(statement).await?;
    rows.iter()
        .map(|row| {
            Ok(ModelCounts {
                model: row.text("model")?,
                position: row.int("position")?,
                seen: row.int("seen")?,
                inserted: row.int("inserted")?,
                existing: row.int("existing")?,
                out_of_scope: row.int("out_of_scope")?,
                filtered: row.int("filtered")?,
                dropped: row.int("dropped")?,
                deleted: row.int("deleted")?,
                kept: row.int("kept")?,
                passed_over: row.int("passed_over")?,
                changed: row.int("changed")?,
                added: row.int("added")?,
            })
        })
        .collect()
}
