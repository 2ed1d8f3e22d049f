//! What control writes for the imports of regions, and what it must keep.

use causeway_relocation::{finding::Finding, keys::ChunkKeys};
use uuid::Uuid;

/// A chunk to write.
#[derive(Debug, Clone)]
pub struct ImportModels {
    /// The name of the region that imports.
    pub region: String,
    /// The id of the import in that region.
    pub import_id: Uuid,
    /// The model of all records.
    pub model: String,
    /// A user whose name is taken is merged into the user who has it.
    pub merge_users: bool,
    /// The first ordinal that the chunk covers, from 1.
    pub min_ordinal: i64,
    /// The last ordinal that the chunk covers. Records in between that were filtered are missing.
    pub max_ordinal: i64,
    /// The records, by ascending ordinal; at most 2,500.
    pub records: Vec<ImportRecord>,
    /// The fingerprint of the model's table as the import was planned for it, or of all tables, if a region of an older
    /// release sends it; empty if it is not to be compared.
    pub tables_fingerprint: String,
}

/// A record to write. The region has already rewritten its references to new primary keys.
#[derive(Debug, Clone)]
pub struct ImportRecord {
    /// Its number among the records of its model in the file, from 1.
    pub ordinal: i64,
    /// Its primary key in the export, 1 to 2^53 - 1.
    pub source_pk: i64,
    /// Where it begins in the file, in bytes.
    pub byte_offset: i64,
    /// Its fields, a JSON object.
    pub fields_json: String,
}

/// The answer for a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedModels {
    /// The new primary keys of the records.
    pub keys: ChunkKeys,
    /// What a person should know, including each record that was dropped.
    pub findings: Vec<Finding>,
    /// Values that the region needs for rows of its own: the primary key, and a JSON object by field.
    pub returned: Vec<(i64, String)>,
}

/// A row of an import that something in its region needs, so that a revert keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededRow {
    /// The model of the row, by its catalog name.
    pub model: String,
    /// The primary key of the row at control.
    pub id: i64,
    /// What needs it, as text for people; at most 255 bytes.
    pub needed_by: String,
}
