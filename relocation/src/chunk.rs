//! Chunk entries: each records that a chunk has been written. They make an import resumable, and a repeated call
//! harmless. Both kinds of silo have a table of the same form for them, and insert an entry in the same transaction as
//! the rows.

use causeway_silo::db::{Column, Db, DbError, Row, Statement, Tx, count};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    finding::Finding,
    keys::{BadKeys, ChunkKeys},
};

/// The entry of a chunk that has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The name of the importing region.
    pub region: String,
    /// The import that the chunk belongs to.
    pub import_id: Uuid,
    /// The name of the model.
    pub model: String,
    /// The model's position in the order of writing.
    pub position: i64,
    /// The first ordinal that the chunk covers.
    pub min_ordinal: i64,
    /// The last ordinal that the chunk covers.
    pub max_ordinal: i64,
    /// The old and new primary keys of its records.
    pub keys: ChunkKeys,
    /// How many records were dropped, each with a finding.
    pub dropped: i64,
    /// The digest of the request that wrote the chunk, if the request may be repeated; otherwise empty.
    pub digest: Vec<u8>,
    /// The findings, if a repeated request must return them again; otherwise empty.
    pub findings: Vec<Finding>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// The result of reverting the chunk; `None` if it was not reverted.
    pub reverted: Option<Reverted>,
}

/// The result of reverting a chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reverted {
    /// How many rows were deleted.
    pub deleted: i64,
    /// How many rows of the chunk were left in place, each with a finding.
    pub kept: i64,
    /// The findings, if a repeated request must return them again; otherwise empty.
    pub findings: Vec<Finding>,
}

/// What a list shows of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedChunk {
    /// The name of the model.
    pub model: String,
    /// The model's position in the order of writing.
    pub position: i64,
    /// The first ordinal that the chunk covers.
    pub min_ordinal: i64,
    /// The last ordinal that the chunk covers.
    pub max_ordinal: i64,
    /// How many rows it inserted.
    pub inserted: i64,
    /// How many records it mapped to rows that were there before.
    pub existing: i64,
    /// How many records were dropped.
    pub dropped: i64,
    /// The old and new primary keys of its records; `None` if nobody asked for them.
    pub keys: Option<ChunkKeys>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// Whether it has been reverted.
    pub reverted: bool,
}

/// Whose chunks are meant.
#[derive(Debug, Clone, Copy)]
pub enum Others<'a> {
    /// Those of all imports but this one.
    Imports {
        /// The import's region.
        region: &'a str,
        /// Its id.
        import_id: Uuid,
    },
    /// Those of imports of all regions but this one.
    Regions {
        /// The region.
        region: &'a str,
    },
}

/// The keys of a chunk that an import mapped to rows that were there before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedChunk {
    /// The name of the importing region.
    pub region: String,
    /// The import that the chunk belongs to.
    pub import_id: Uuid,
    /// The first ordinal that the chunk covers.
    pub min_ordinal: i64,
    /// The old and new primary keys of its records.
    pub keys: ChunkKeys,
}

fn unreadable(error: impl std::fmt::Display) -> DbError {
    DbError::inconsistent(format!("a row of causeway_import_chunk: {error}"))
}

impl From<BadKeys> for DbError {
    fn from(error: BadKeys) -> Self {
        unreadable(error)
    }
}

impl Chunk {
    /// Inserts the entry. Returns `false`, and changes nothing, if there is an entry with the same import, model and
    /// first ordinal.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn insert(&self, tx: &mut Tx) -> Result<bool, DbError> {
        let findings = serde_json::to_string(&self.findings).map_err(unreadable)?;
        let statement = Statement::new(
            "INSERT INTO causeway_import_chunk (region, import_id, model, position, min_ordinal, max_ordinal, inserted, existing, \
             overwritten, filtered, out_of_scope, dropped, digest, keys, findings, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT DO NOTHING",
        )
        .with(&self.region)
        .with(self.import_id)
        .with(&self.model)
        .with(self.position)
        .with(self.min_ordinal)
        .with(self.max_ordinal)
        .with(count(self.keys.inserted.len())?)
        .with(count(self.keys.existing.len())?)
        .with(count(self.keys.filtered.len())?)
        .with(count(self.keys.out_of_scope.len())?)
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
            reverted: match row.opt_time("reverted_at")? {
                None => None,
                Some(_) => Some(Reverted {
                    deleted: row.int("deleted")?,
                    kept: row.int("kept")?,
                    findings: serde_json::from_str(&row.text("revert_findings")?).map_err(unreadable)?,
                }),
            },
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

    /// The chunks of an import in the order of writing, after the one with this position and first ordinal.
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

    /// What a list shows of the chunks of an import, in the order of writing, after the one with this position and
    /// first ordinal. Keys are read only if asked for: a chunk may have some hundred kilobytes of them.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn list_summaries(
        db: &Db,
        region: &str,
        import_id: Uuid,
        after: (i64, i64),
        with_keys: bool,
        limit: i64,
    ) -> Result<Vec<ListedChunk>, DbError> {
        let statement = Statement::new(
            "SELECT model, position, min_ordinal, max_ordinal, inserted, existing, dropped, created_at, \
             reverted_at IS NOT NULL AS is_reverted",
        )
        .push(if with_keys { ", keys" } else { "" })
        .push(" FROM causeway_import_chunk WHERE region = ")
        .arg(region)
        .push(" AND import_id = ")
        .arg(import_id)
        .push(" AND (position, min_ordinal) > (")
        .arg(after.0)
        .push(", ")
        .arg(after.1)
        .push(") ORDER BY position, min_ordinal LIMIT ")
        .arg(limit);
        let read = |row: &Row| {
            Ok(ListedChunk {
                model: row.text("model")?,
                position: row.int("position")?,
                min_ordinal: row.int("min_ordinal")?,
                max_ordinal: row.int("max_ordinal")?,
                inserted: row.int("inserted")?,
                existing: row.int("existing")?,
                dropped: row.int("dropped")?,
                keys: match with_keys {
                    true => Some(ChunkKeys::unpack(&row.bytes("keys")?)?),
                    false => None,
                },
                created_at: row.time("created_at")?,
                reverted: row.bool("is_reverted")?,
            })
        };
        db.fetch_all(statement).await?.iter().map(read).collect()
    }

    /// The keys of those chunks of an import that are of one of these models and have not been reverted, each with its
    /// model, position and first ordinal, in the order of writing after the one with this position and first ordinal.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn keys_of(
        db: &Db,
        region: &str,
        import_id: Uuid,
        models: Vec<String>,
        after: (i64, i64),
        limit: i64,
    ) -> Result<Vec<(String, i64, i64, ChunkKeys)>, DbError> {
        let statement = Statement::new(
            "SELECT c.model, c.position, c.min_ordinal, c.keys FROM causeway_import_chunk c JOIN ",
        )
        .rows(db.dialect(), "r", [("model", Column::Texts(models))])
        .push(" ON r.model = c.model WHERE c.region = ")
        .arg(region)
        .push(" AND c.import_id = ")
        .arg(import_id)
        .push(" AND c.reverted_at IS NULL AND (c.position, c.min_ordinal) > (")
        .arg(after.0)
        .push(", ")
        .arg(after.1)
        .push(") ORDER BY c.position, c.min_ordinal LIMIT ")
        .arg(limit);
        let read = |row: &Row| {
            let keys = ChunkKeys::unpack(&row.bytes("keys")?)?;
            Ok((row.text("model")?, row.int("position")?, row.int("min_ordinal")?, keys))
        };
        db.fetch_all(statement).await?.iter().map(read).collect()
    }

    /// When the first chunk of an import was written, whichever records it covers; `None` if none has been.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn first_written(
        db: &Db,
        region: &str,
        import_id: Uuid,
    ) -> Result<Option<DateTime<Utc>>, DbError> {
        let statement = Statement::new(
            "SELECT created_at FROM causeway_import_chunk WHERE region = $1 AND import_id = $2 ORDER BY created_at LIMIT 1",
        )
        .with(region)
        .with(import_id);
        db.fetch_optional(statement).await?.map(|row| row.time("created_at")).transpose()
    }

    /// The last chunk of an import, in the order of writing, that is of one of these models and has not been reverted.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn last_to_revert(
        db: &Db,
        region: &str,
        import_id: Uuid,
        models: Vec<String>,
    ) -> Result<Option<Self>, DbError> {
        let statement = Statement::new("SELECT c.* FROM causeway_import_chunk c JOIN ")
            .rows(db.dialect(), "r", [("model", Column::Texts(models))])
            .push(" ON r.model = c.model WHERE c.region = ")
            .arg(region)
            .push(" AND c.import_id = ")
            .arg(import_id)
            .push(" AND c.reverted_at IS NULL ORDER BY c.position DESC, c.min_ordinal DESC LIMIT 1");
        db.fetch_optional(statement).await?.as_ref().map(Self::read).transpose()
    }

    /// Chunks that mapped records of a model to existing rows, and have not been reverted; by region, import and first
    /// ordinal, after the one with these.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn on_existing(
        tx: &mut Tx,
        of: Others<'_>,
        model: &str,
        after: Option<(&str, Uuid, i64)>,
        limit: i64,
    ) -> Result<Vec<SharedChunk>, DbError> {
        let (after_region, after_import, after_ordinal) = after.unwrap_or(("", Uuid::nil(), 0));
        let statement = Statement::new(
            "SELECT region, import_id, min_ordinal, keys FROM causeway_import_chunk WHERE existing > 0 \
             AND reverted_at IS NULL AND model = ",
        )
        .arg(model);
        let statement = match of {
            Others::Imports { region, import_id } => statement
                .push(" AND NOT (region = ")
                .arg(region)
                .push(" AND import_id = ")
                .arg(import_id)
                .push(")"),
            Others::Regions { region } => statement.push(" AND region <> ").arg(region),
        };
        let statement = statement
            .push(" AND (region, import_id, min_ordinal) > (")
            .arg(after_region)
            .push(", ")
            .arg(after_import)
            .push(", ")
            .arg(after_ordinal)
            .push(") ORDER BY region, import_id, min_ordinal LIMIT ")
            .arg(limit);
        let read = |row: &Row| {
            Ok(SharedChunk {
                region: row.text("region")?,
                import_id: row.uuid("import_id")?,
                min_ordinal: row.int("min_ordinal")?,
                keys: ChunkKeys::unpack(&row.bytes("keys")?)?,
            })
        };
        tx.fetch_all(statement).await?.iter().map(read).collect()
    }

    /// Records that the chunk was reverted, in the transaction that reverts it. Returns `false` if it had been reverted
    /// before.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn set_reverted(
        &self,
        tx: &mut Tx,
        reverted: &Reverted,
        now: DateTime<Utc>,
    ) -> Result<bool, DbError> {
        let findings = serde_json::to_string(&reverted.findings).map_err(unreadable)?;
        let statement = Statement::new(
            "UPDATE causeway_import_chunk SET reverted_at = $5, deleted = $6, kept = $7, revert_findings = $8 \
             WHERE region = $1 AND import_id = $2 AND model = $3 AND min_ordinal = $4 AND reverted_at IS NULL",
        )
        .with(&self.region)
        .with(self.import_id)
        .with(&self.model)
        .with(self.min_ordinal)
        .with(now)
        .with(reverted.deleted)
        .with(reverted.kept)
        .with(findings);
        Ok(tx.execute(statement).await? == 1)
    }
}
