//! Writes one chunk from its records to its commit, the same way in both silos.

use causeway_silo::{
    db::{Db, DbError, DbErrorKind, HasDbError, Tx},
    transact,
};

use super::{Mode, Row, WriteError, Writer, Written, ids};
use crate::{catalog::Model, plan::Record};

/// How often a chunk is begun again because somebody else wrote the same values meanwhile.
const ATTEMPTS: usize = 8;

/// What a silo adds to writing a chunk.
pub trait ChunkSilo: Sync {
    /// What its steps fail with.
    type Error: From<WriteError> + From<DbError> + HasDbError + HasWriteError + Send;

    /// New primary keys of a model that come from elsewhere, in ascending order, as many as asked for; `None` if the
    /// silo gives them out itself.
    fn leased_ids(
        &self,
        model: &Model,
        count: usize,
    ) -> impl Future<Output = Result<Option<Vec<i64>>, Self::Error>> + Send;

    /// What is to be committed together with the rows: the chunk's record, and all that goes with it.
    fn record(
        &self,
        tx: &mut Tx,
        model: &Model,
        rows: &[Row],
        written: &Written,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// An error that may hold one of writing.
pub trait HasWriteError {
    /// The error of writing, if that is what it is.
    fn write_error(&self) -> Option<&WriteError>;
}

/// Writes the records of one chunk and what the silo records with them, in one transaction.
///
/// # Errors
/// What the silo's steps fail with. Nothing of the chunk is written then.
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
            // Before the rows are there: who inserts beside us must not get an id that they have.
            if let (Some(_), Some(highest)) = (&leased, ids.iter().max()) {
                ids::raise(tx, model, *highest).await?;
            }
            writer.give_ids(model, &mut rows, ids);
            let written = writer.write(tx, model, &rows, mode).await?;
            silo.record(tx, model, &rows, &written).await?;
            written
        });
        let error = match outcome {
            Ok(written) => return Ok(written),
            Err(error) => error,
        };
        attempt += 1;
        let unique = error.db_error().is_some_and(|error| error.kind() == DbErrorKind::Unique);
        match error.write_error() {
            _ if attempt >= ATTEMPTS => return Err(error),
            Some(WriteError::IdsTaken { .. }) => {
                leased = silo.leased_ids(model, rows.len()).await?;
            }
            Some(WriteError::UniqueConflict { .. }) => {}
            _ if unique => mode = Mode::ResolveConflicts,
            _ => return Err(error),
        }
        tracing::debug!(
            model = model.name,
            attempt,
            ?mode,
            "a chunk met rows that are there already and is written again"
        );
    }
}
