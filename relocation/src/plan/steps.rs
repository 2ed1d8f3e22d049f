//! The steps of planning, as they are logged: plain data, and nothing that is done with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{entry::Entry, runs::Run};
use crate::finding::{Finding, FindingKind};

/// The first note of each kind, model and field, and how many there are.
pub(super) type Notes = BTreeMap<NoteKey, (Finding, u64)>;
/// Kind, model and field of a note.
pub(super) type NoteKey = (FindingKind, String, String);

/// What was learned of one model in a segment.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) seen: i64,
    /// Stretches. None goes on in the next segment, so that a reader can pass over what it does not need.
    pub(super) runs: Vec<Run>,
    /// Where records begin that break a rule. There are some under a filter only, which may leave them out.
    pub(super) defective: Vec<u64>,
}

/// What was learned of a segment of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Segment {
    pub(super) records: i64,
    /// Where it ends, in bytes.
    pub(super) end: u64,
    /// Whether the file ends there too.
    pub(super) last: bool,
    pub(super) models: BTreeMap<usize, Part>,
    /// Whether it ends where the file cannot be read further. Such a one is never logged.
    #[serde(skip)]
    pub(super) is_torn: bool,
    /// Logged beside the rest.
    #[serde(skip)]
    pub(super) keys: Vec<Entry>,
    /// What actors stand for.
    pub(super) actors: Vec<Entry>,
    /// Actors that stand for what a record refers to.
    pub(super) named_actors: Vec<u64>,
    pub(super) notes: Vec<(NoteKey, (Finding, u64))>,
    pub(super) passed_over: BTreeMap<String, i64>,
    /// Primary keys and slugs of organizations that the filter takes.
    pub(super) organizations: Vec<(i64, String)>,
}

/// One step of planning that need not be done again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Step {
    /// A segment of the file was read.
    Segment(Segment),
    /// Records that agree in a hash were compared.
    Compared {
        /// The last entry that was compared.
        last: Entry,
        /// Models and places of records that a rule keeps out, since the frame before.
        repeated: Vec<(usize, u64)>,
        /// The same of records that contradict an earlier one and that the filter leaves out.
        contradicting: Vec<(usize, u64)>,
    },
    /// A filter has looked at some records.
    Selected(Selected),
}

/// How far selecting is, and what was added since the frame before.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Selected {
    pub(super) stage: usize,
    /// The last record of the stage's model that was looked at.
    pub(super) ordinal: i64,
    pub(super) users: Vec<u64>,
    pub(super) emails: Vec<u64>,
}
