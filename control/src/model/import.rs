//! What regions have control write, and keep.

use causeway_relocation::{finding::Finding, keys::ChunkKeys};
use uuid::Uuid;

/// A chunk to write.
#[derive(Debug, Clone)]
pub struct ImportModels {
    /// The region that imports.
    pub region: String,
    /// The import.
    pub import_id: Uuid,
    /// The model.
    pub model: String,
    /// A user whose name is taken is the one who has it.
    pub merge_users: bool,
    /// The first ordinal that the chunk covers.
    pub min_ordinal: i64,
    /// The last ordinal that the chunk covers.
    pub max_ordinal: i64,
    /// The records.
    pub records: Vec<ImportRecord>,
}

/// A record to write. Its references lead to rows already.
#[derive(Debug, Clone)]
pub struct ImportRecord {
    /// Its number among those of its model.
    pub ordinal: i64,
    /// Its primary key in the export.
    pub source_pk: i64,
    /// Where it begins in the file.
    pub byte_offset: i64,
    /// Its fields, a JSON object.
    pub fields_json: String,
}

/// What became of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedModels {
    /// The new primary keys.
    pub keys: ChunkKeys,
    /// What there is to know.
    pub findings: Vec<Finding>,
    /// Values that the region needs: primary key and a JSON object.
    pub returned: Vec<(i64, String)>,
}

/// A row of an import that something in its region needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededRow {
    /// Its model.
    pub model: String,
    /// Its id.
    pub id: i64,
    /// What needs it, for people.
    pub needed_by: String,
}
