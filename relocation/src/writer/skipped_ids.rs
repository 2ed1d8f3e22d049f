//! Passes over ids that a table may have given out before its database was put back from an old copy.

use causeway_silo::db::{DbError, Statement, Tx};

use crate::catalog::Model;

/// Passes over `most` ids of a model's table: those that it gives out from now on are that much higher. Passes over fewer
/// if the ids of the table's own sequence would run out, but never over none of many: each time at most a sixteenth of
/// those that are left. A table that does not exist, or that has no sequence, is left as it is.
///
/// # Errors
/// If the database refuses.
pub async fn skip_own_ids(tx: &mut Tx, model: &Model, most: i64) -> Result<(), DbError> {
    let quoted = format!("\"{}\"", model.table);
    match tx {
        Tx::Postgres(_) => {
            let statement =
                Statement::new("SELECT o.name AS name, s.seqmax AS last FROM (SELECT CASE WHEN to_regclass(")
                    .arg(&quoted)
                    .push(") IS NULL THEN NULL ELSE pg_get_serial_sequence(")
                    .arg(&quoted)
                    .push(
                        ", 'id') END AS name) o JOIN pg_sequence s ON s.seqrelid = CAST(o.name AS regclass)",
                    );
            let Some(row) = tx.fetch_optional(statement).await? else { return Ok(()) };
            let (name, last) = (row.text("name")?, row.int("last")?);
            let skip = Statement::new("SELECT setval(CAST(CAST(")
                .arg(&name)
                .push(" AS text) AS regclass), last_value + LEAST(")
                .arg(most)
                .push(", (")
                .arg(last)
                .push(&format!(" - last_value) / 16)) FROM {name}"));
            tx.fetch_optional(skip).await.map(drop)
        }
        Tx::Sqlite(_) => {
            let exists = Statement::new("SELECT name FROM sqlite_master WHERE type = 'table' AND name = $1")
                .with(&model.table);
            if tx.fetch_optional(exists).await?.is_none() {
                return Ok(());
            }
            let highest = format!("(SELECT COALESCE(MAX(id), 0) + 1 FROM {quoted})");
            let statement = Statement::new("INSERT INTO causeway_id_counter (model, next) VALUES (")
                .arg(&model.name)
                .push(", ")
                .push(&highest)
                .push(" + ")
                .arg(most)
                .push(") ON CONFLICT (model) DO UPDATE SET next = MAX(causeway_id_counter.next, ")
                .push(&highest)
                .push(") + ")
                .arg(most);
            tx.execute(statement).await.map(drop)
        }
    }
}
