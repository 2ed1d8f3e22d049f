//! New primary keys of a chunk: assigns those of the silo itself, and advances the sequence beyond leased ones.

use causeway_silo::db::{self, DbError, Statement, Tx};

use crate::catalog::Model;

/// Takes `count` new primary keys of a model, in ascending order, for rows that are written in the same transaction.
///
/// On PostgreSQL they come from the table's own sequence, so that an application can insert at the same time
/// as Causeway. They are used up even if the transaction is not committed. On SQLite they come from a counter
/// that is never below the table's ids.
///
/// # Errors
/// If the database refuses, or the table has no sequence.
pub(super) async fn own(tx: &mut Tx, model: &Model, count: usize) -> Result<Vec<i64>, DbError> {
    let count = db::count(count)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let quoted = format!("\"{}\"", model.table);
    match tx {
        Tx::Postgres(_) => {
            // In a subquery of its own, the sequence is looked up once, and not for each id.
            let statement = Statement::new("SELECT nextval((SELECT pg_get_serial_sequence(")
                .arg(quoted)
                .push(", 'id')::regclass)) AS id FROM generate_series(1, ")
                .arg(count)
                .push(")");
            let rows = tx.fetch_all(statement).await?;
            let mut ids = rows.iter().map(|row| row.int("id")).collect::<Result<Vec<i64>, _>>()?;
            ids.sort_unstable();
            Ok(ids)
        }
        Tx::Sqlite(_) => {
            let highest = format!("(SELECT COALESCE(MAX(id), 0) + 1 FROM {quoted})");
            let statement = Statement::new("INSERT INTO causeway_id_counter (model, next) VALUES (")
                .arg(&model.name)
                .push(", ")
                .push(&highest)
                .push(" + ")
                .arg(count)
                .push(") ON CONFLICT (model) DO UPDATE SET next = MAX(causeway_id_counter.next, ")
                .push(&highest)
                .push(") + ")
                .arg(count)
                .push(" RETURNING next");
            let next = tx.fetch_one(statement).await?.int("next")?;
            Ok((next - count..next).collect())
        }
    }
}

/// How far a sequence is advanced by taking values from it. A chunk has at most half as many rows.
const STEPS: i64 = 10_000;
/// The first key of the advisory locks under which a sequence is set. The second one is a hash of the sequence's name.
const SEQUENCE_LOCK: i64 = 0x0c57_5ea1;

/// Advances the table's own sequence to `highest`, so that the application's next insert gets an id above all written
/// ones, even if those are leased. The sequence is never set back. A table without a sequence needs nothing.
///
/// Setting a sequence is not transactional: values that the application takes between the read and the
/// setting could be given out twice. So the last steps are done with `nextval`, which only goes forward. The
/// sequence is set only if it is further below than the application can advance it between two steps of one
/// statement. The lock keeps other imports from setting it at the same time.
///
/// SQLite itself counts from the highest row of a table, also if the application has inserted that row.
///
/// # Errors
/// If the database refuses.
pub(super) async fn advance_sequence(tx: &mut Tx, model: &Model, highest: i64) -> Result<(), DbError> {
    let Tx::Postgres(_) = tx else { return Ok(()) };
    let statement =
        Statement::new("SELECT o.name AS name, s.seqmax AS most FROM (SELECT pg_get_serial_sequence(")
            .arg(format!("\"{}\"", model.table))
            .push(", 'id') AS name) o JOIN pg_sequence s ON s.seqrelid = CAST(o.name AS regclass)");
    let Some(row) = tx.fetch_optional(statement).await? else { return Ok(()) };
    let name = row.text("name")?;
    let highest = highest.min(row.int("most")?);
    let mut behind = how_far_behind(tx, &name, highest).await?;
    if behind > STEPS {
        let lock = Statement::new("SELECT pg_advisory_xact_lock(CAST(")
            .arg(SEQUENCE_LOCK)
            .push(" AS integer), hashtext(CAST(")
            .arg(&name)
            .push(" AS text)))");
        tx.fetch_optional(lock).await?;
        let set = Statement::new("SELECT setval(CAST(CAST(")
            .arg(&name)
            .push(" AS text) AS regclass), ")
            .arg(highest)
            .push(&format!(") FROM {name} WHERE last_value < "))
            .arg(highest - STEPS);
        tx.fetch_optional(set).await?;
        behind = how_far_behind(tx, &name, highest).await?;
    }
    if behind > 0 {
        let take = Statement::new("SELECT MAX(nextval(CAST(CAST(")
            .arg(&name)
            .push(" AS text) AS regclass))) FROM generate_series(1, ")
            .arg(behind)
            .push(")");
        tx.fetch_optional(take).await?;
    }
    Ok(())
}

/// By how many values a sequence is below `highest`.
async fn how_far_behind(tx: &mut Tx, sequence: &str, highest: i64) -> Result<i64, DbError> {
    let look = Statement::new("SELECT ")
        .arg(highest)
        .push(" - CASE WHEN is_called THEN last_value ELSE last_value - 1 END AS behind FROM ")
        .push(sequence);
    tx.fetch_one(look).await?.int("behind")
}
