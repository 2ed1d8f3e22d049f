//! The steps of planning, as they are logged: plain data without behaviour.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{entry::Entry, extents::Extent};
use crate::finding::{Finding, FindingKind};

/// The first finding of each kind, model and field, and how many records it is about.
pub(super) type Notes = BTreeMap<NoteKey, (Finding, u64)>;
/// Kind, model and field of a note.
pub(super) type NoteKey = (FindingKind, String, String);

/// The result of checking the records of one model in a segment.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ModelPart {
    pub(super) seen: i64,
    /// Extents of the segment. None of them extends into the next segment, so that a reader can skip those
    /// that it does not need.
    pub(super) runs: Vec<Extent>,
    /// The offsets of records that break a rule. Without a filter, only those of records that are left out if their user
    /// exists; any other one ends planning.
    pub(super) defective: Vec<u64>,
    /// Primary keys of records that these records refer to, if rows of their model are added for those that none refers
    /// to.
    pub(super) referred: Vec<u64>,
    /// The position of each model of which rows may be added for a record, and the primary key of that record.
    pub(super) may_get_rows: Vec<(usize, u64)>,
}

/// The result of checking a segment of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Segment {
    pub(super) records: i64,
    /// Where it ends, in bytes.
    pub(super) end: u64,
    /// Whether the file ends there too.
    pub(super) last: bool,
    pub(super) models: BTreeMap<usize, ModelPart>,
    /// Whether it ends where the file cannot be read further. Such a segment is never logged.
    #[serde(skip)]
    pub(super) is_torn: bool,
    /// Logged in a frame of their own.
    #[serde(skip)]
    pub(super) keys: Vec<Entry>,
    /// What actors stand for.
    pub(super) actors: Vec<Entry>,
    /// The actors that records name in place of a reference, by primary key.
    pub(super) named_actors: Vec<u64>,
    pub(super) notes: Vec<(NoteKey, (Finding, u64))>,
    pub(super) passed_over: BTreeMap<String, i64>,
    /// Primary keys and slugs of organizations that the filter selects.
    pub(super) organizations: Vec<(i64, String)>,
}

/// One step of planning, which a resumed process need not repeat.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum PlanningStep {
    /// A segment of the file was read.
    Segment(Segment),
    /// Records with the same hash were compared.
    Compared {
        /// The last entry that was compared.
        last: Entry,
        /// The position of the model and the offset of each record that a rule drops, since the previous frame.
        repeated: Vec<(usize, u64)>,
        /// The same for records that contradict an earlier one and that the filter excludes.
        contradicting: Vec<(usize, u64)>,
    },
    /// The filter has read some records.
    Selected(Selected),
}

/// The progress of selecting, and what was added since the previous frame.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Selected {
    pub(super) round: usize,
    /// The ordinal of the last record of the round's model that was read.
    pub(super) ordinal: i64,
    pub(super) users: Vec<u64>,
    pub(super) emails: Vec<u64>,
}
