//! Reverts an import again whose rows control has again, because its database was put back from an older copy.

use causeway_relocation::finding::FindingKind;
use causeway_silo::db::{Column, DbError, Statement, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::import::ImportState;

/// Moves a reverted import back to REVERTING, and takes the marks from its chunks of these models, the models of control.
/// What was counted and found about them is forgotten, because it will be again. `false` if the import is not reverted.
pub(crate) async fn begin(
    tx: &mut Tx,
    id: Uuid,
    models_of_control: &[String],
    now: DateTime<Utc>,
) -> Result<bool, DbError> {
    let moved = Statement::new(
        "UPDATE causeway_import SET state = $2, updated_at = $3, ended_at = NULL WHERE import_id = $1 AND state = $4",
    )
    .with(id)
    .with(ImportState::Reverting.name())
    .with(now)
    .with(ImportState::Reverted.name());
    if tx.execute(moved).await? == 0 {
        return Ok(false);
    }
    let dialect = tx.dialect();
    let of_control = |statement: Statement| {
        statement
            .push(" WHERE import_id = ")
            .arg(id)
            .push(" AND model IN (SELECT r.model FROM ")
            .rows(dialect, "r", [("model", Column::Texts(models_of_control.to_vec()))])
            .push(")")
    };
    let unmark = of_control(Statement::new(
        "UPDATE causeway_import_chunk SET reverted_at = NULL, deleted = 0, kept = 0, revert_findings = '[]'",
    ));
    tx.execute(unmark).await?;
    let uncount = of_control(Statement::new("UPDATE causeway_import_model SET deleted = 0, kept = 0"));
    tx.execute(uncount).await?;
    let uncounted_findings = of_control(Statement::new("DELETE FROM causeway_import_finding"))
        .push(" AND state = ")
        .arg(ImportState::Reverting.name())
        .push(" AND kind = ")
        .arg(FindingKind::RowKept.name());
    let uncounted_findings = i64::try_from(tx.execute(uncounted_findings).await?)
        .map_err(|_| DbError::inconsistent("an import has more findings than can be counted"))?;
    let fewer = Statement::new(
        "UPDATE causeway_import_finding_count SET made = made - $4, stored = stored - $4 \
         WHERE import_id = $1 AND state = $2 AND kind = $3",
    )
    .with(id)
    .with(ImportState::Reverting.name())
    .with(FindingKind::RowKept.name())
    .with(uncounted_findings);
    tx.execute(fewer).await?;
    Ok(true)
}
