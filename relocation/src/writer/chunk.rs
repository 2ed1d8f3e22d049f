//! Writes one chunk, from its records to the commit, in the same way in both silos.

use causeway_silo::{
    db::{Db, DbError, DbErrorKind, HasDbError, Tx},
    transact,
};

use super::{Mode, Row, WriteError, Writer, Written, ids};
use crate::{catalog::Model, plan::Record};

/// How often a chunk is tried if other writers insert the same values at the same time.
const ATTEMPTS: usize = 8;

/// What a silo adds to writing a chunk.
pub trait ChunkSilo: Sync {
    /// The error of its methods.
    type Error: From<WriteError> + From<DbError> + HasDbError + HasWriteError + Send;

    /// Primary keys for a model that are leased, `count` of them in ascending order; `None` if the silo assigns them
    /// itself.
    fn leased_ids(
        &self,
        model: &Model,
        count: usize,
    ) -> impl Future<Output = Result<Option<Vec<i64>>, Self::Error>> + Send;

    /// Writes what is committed together with the rows: the chunk entry, and everything that belongs to it.
    fn record(
        &self,
        tx: &mut Tx,
        model: &Model,
        rows: &[Row],
        written: &Written,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// An error that may contain a [`WriteError`].
pub trait HasWriteError {
    /// The [`WriteError`], if it contains one.
    fn write_error(&self) -> Option<&WriteError>;
}

/// Writes the records of one chunk and what the silo records with them, in one transaction.
///
/// # Errors
/// The error of writing, or of the silo's methods. Then nothing of the chunk is written.
pub async fn write_chunk<S: ChunkSilo>(
    db: &Db,
    writer: &Writer<'_>,
    model: &Model,
    records: Vec<Record>,
    silo: &S,
) -> Result<Written, S::Error> {
    let mut rows = writer.prepare(model, records)?;
    let mut leased = silo.leased_ids(model, rows.len()).await?;
    let mut mode = Writer::first_mode(model);
    let mut attempt = 0;
    loop {
        let outcome = transact!(S::Error, db, |tx| {
            let ids = match &leased {
                Some(ids) => ids.clone(),
                None => ids::own(tx, model, rows.len()).await?,
            };
            // Before the rows are inserted: another process that inserts at the same time must not get one of their
            // ids.
            if let (Some(_), Some(highest)) = (&leased, ids.iter().max()) {
                ids::advance_sequence(tx, model, *highest).await?;
            }
            writer.give_ids(model, &mut rows, ids)?;
            let written = writer.write(tx, model, &rows, mode).await?;
            silo.record(tx, model, &rows, &written).await?;
            written
        });
        let error = match outcome {
            Ok(written) => return Ok(written),
            Err(error) => error,
        };
        attempt += 1;
        let kind = error.db_error().map(DbError::kind);
        match error.write_error() {
            _ if attempt >= ATTEMPTS => return Err(error),
            Some(WriteError::IdsTaken { .. }) => {
                leased = silo.leased_ids(model, rows.len()).await?;
            }
            Some(WriteError::UniqueConflict { .. }) => {}
            _ if kind == Some(DbErrorKind::Unique) => mode = Mode::ResolveConflicts,
            // If a row breaks a check, the conflict path leaves it out.
            _ if kind == Some(DbErrorKind::Check) && mode == Mode::Optimistic => {
                mode = Mode::ResolveConflicts;
            }
            _ => return Err(error),
        }
        tracing::debug!(
            model = model.name,
            attempt,
            ?mode,
            "a chunk conflicts with existing rows or breaks a check, and is written again"
        );
    }
}
