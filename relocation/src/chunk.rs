//! The record of a chunk that has been written: what makes an import resumable, and a repeated call harmless. Both
//! silos keep theirs in a table of the same form, in the same transaction as the rows.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    db::{Db, DbError, Row, Statement, Tx},
    finding::Finding,
    keys::{BadKeys, ChunkKeys},
};

/// A chunk that has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The region that imports.
    pub region: String,
    /// The import.
    pub import_id: Uuid,
    /// The model.
    pub model: String,
    /// The model's place in the order of writing.
    pub position: i64,
    /// The first ordinal that the chunk covers.
    pub min_ordinal: i64,
    /// The last ordinal that the chunk covers.
    pub max_ordinal: i64,
    /// What became of the primary keys.
    pub keys: ChunkKeys,
    /// Records that were not written, each with a finding.
    pub dropped: i64,
    /// The digest of what was asked for, where it may be asked for again.
    pub digest: Vec<u8>,
    /// The findings, where they must be answered again.
    pub findings: Vec<Finding>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
}

fn unreadable(error: impl std::fmt::Display) -> DbError {
    DbError::inconsistent(format!("a row of causeway_import_chunk: {error}"))
}

impl From<BadKeys> for DbError {
    fn from(error: BadKeys) -> Self {
        unreadable(error)
    }
}

fn length(list: &[impl Sized]) -> i64 {
    i64::try_from(list.len()).unwrap_or(i64::MAX)
}

impl Chunk {
    /// Records the chunk. `false` if one with the same import, model and first ordinal is there: then nothing changed.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn insert(&self, tx: &mut Tx) -> Result<bool, DbError> {
        let findings = serde_json::to_string(&self.findings).map_err(unreadable)?;
        let statement = Statement::new(
            "INSERT INTO causeway_import_chunk (region, import_id, model, position, min_ordinal, max_ordinal, inserted, existing, \
             overwritten, filtered, out_of_scope, dropped, digest, keys, findings, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT DO NOTHING",
        )
        .with(&self.region)
        .with(self.import_id)
        .with(&self.model)
        .with(self.position)
        .with(self.min_ordinal)
        .with(self.max_ordinal)
        .with(length(&self.keys.inserted))
        .with(length(&self.keys.existing))
        .with(length(&self.keys.overwritten))
        .with(length(&self.keys.filtered))
        .with(length(&self.keys.out_of_scope))
        .with(self.dropped)
        .with(self.digest.clone())
        .with(self.keys.pack()?)
        .with(findings)
        .with(self.created_at);
        Ok(tx.execute(statement).await? == 1)
    }

    fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            region: row.text("region")?,
            import_id: row.uuid("import_id")?,
            model: row.text("model")?,
            position: row.int("position")?,
            min_ordinal: row.int("min_ordinal")?,
            max_ordinal: row.int("max_ordinal")?,
            keys: ChunkKeys::unpack(&row.bytes("keys")?)?,
            dropped: row.int("dropped")?,
            digest: row.bytes("digest")?,
            findings: serde_json::from_str(&row.text("findings")?).map_err(unreadable)?,
            created_at: row.time("created_at")?,
        })
    }

    /// The chunk of an import and model that begins at an ordinal.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn find(
        db: &Db,
        region: &str,
        import_id: Uuid,
        model: &str,
        min_ordinal: i64,
    ) -> Result<Option<Self>, DbError> {
        let statement = Statement::new("SELECT * FROM causeway_import_chunk WHERE region = $1 AND import_id = $2 AND model = $3 AND min_ordinal = $4")
            .with(region)
            .with(import_id)
            .with(model)
            .with(min_ordinal);
        db.fetch_optional(statement).await?.as_ref().map(Self::read).transpose()
    }

    /// The chunks of an import in the order of writing, behind the one with this position and first ordinal.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn list(
        db: &Db,
        region: &str,
        import_id: Uuid,
        after: (i64, i64),
        limit: i64,
    ) -> Result<Vec<Self>, DbError> {
        let statement = Statement::new(
            "SELECT * FROM causeway_import_chunk WHERE region = $1 AND import_id = $2 \
             AND (position > $3 OR (position = $3 AND min_ordinal > $4)) ORDER BY position, min_ordinal LIMIT $5",
        )
        .with(region)
        .with(import_id)
        .with(after.0)
        .with(after.1)
        .with(limit);
        db.fetch_all(statement).await?.iter().map(Self::read).collect()
    }
}
