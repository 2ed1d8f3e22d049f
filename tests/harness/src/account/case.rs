//! Everything that the audit compares an import with, and the mismatches that it finds.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use causeway_proto::{
    region::v1::Import,
    relocation::v1::{Finding, FindingKind, KeyKind, MappedKey},
};
use causeway_relocation::catalog::{Catalog, Model, Silo};
use chrono::{DateTime, Utc};

use super::{Outcome, Row, RowsSnapshot, file::FileRecord};
use crate::cluster::ImportOptions;

/// A finding that the audit expects.
#[derive(Debug)]
pub(super) struct Note {
    /// The finding has one of these kinds.
    pub(super) kinds: Vec<FindingKind>,
    pub(super) model: String,
    /// The source primary key of the record that the finding is about. `None` if it is about a model.
    pub(super) pk: Option<i64>,
    /// The finding names one of these fields. If the list is empty, any field will do.
    pub(super) fields: Vec<String>,
}

/// One audit: the import with its file and its parameters, the rows before and after it, and what the checks have
/// found.
#[derive(Debug)]
pub(super) struct AuditCase<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) records: Vec<Arc<FileRecord>>,
    by_model: HashMap<String, Vec<Arc<FileRecord>>>,
    pub(super) options: &'a ImportOptions,
    pub(super) import: &'a Import,
    pub(super) before: &'a RowsSnapshot,
    pub(super) after: &'a RowsSnapshot,
    pub(super) keys: &'a [MappedKey],
    pub(super) findings: &'a [Finding],
    /// Rows that concurrent imports inserted, by model and id.
    pub(super) others: &'a BTreeSet<(String, i64)>,
    /// The new primary key and its kind, by model and source primary key.
    pub(super) mapped: HashMap<(String, i64), (i64, KeyKind)>,
    pub(super) outcomes: HashMap<(String, i64), Outcome>,
    /// Users whose usernames the import had to change, by source primary key.
    pub(super) renamed: BTreeSet<i64>,
    /// Roles that a membership took over from memberships merged into it, by model and source primary key.
    pub(super) roles: HashMap<(String, i64), Option<String>>,
    /// Records that break a rule by themselves and are left out, by model and ordinal.
    pub(super) defective: BTreeSet<(String, i64)>,
    /// The source primary key of the organization that a record belongs to, by the record's model and source primary
    /// key.
    pub(super) organizations: HashMap<(String, i64), i64>,
    /// Rows that were added without records, by model and id.
    pub(super) added: BTreeSet<(String, i64)>,
    pub(super) notes: Vec<Note>,
    /// How many records the database has no place for, by model and the field that it needs, if it has the table.
    pub(super) no_place: BTreeMap<(String, Option<String>), u64>,
    problems: Vec<String>,
}

impl<'a> AuditCase<'a> {
    #[expect(clippy::too_many_arguments, reason = "the evidence, named in the one place that gathers it")]
    pub(super) fn new(
        catalog: &'a Catalog,
        records: Vec<FileRecord>,
        options: &'a ImportOptions,
        import: &'a Import,
        before: &'a RowsSnapshot,
        after: &'a RowsSnapshot,
        keys: &'a [MappedKey],
        findings: &'a [Finding],
        others: &'a BTreeSet<(String, i64)>,
    ) -> Self {
        let records: Vec<Arc<FileRecord>> = records.into_iter().map(Arc::new).collect();
        let mut by_model: HashMap<String, Vec<Arc<FileRecord>>> = HashMap::new();
        for record in &records {
            by_model.entry(record.model.clone()).or_default().push(Arc::clone(record));
        }
        let mut case = Self {
            catalog,
            records,
            by_model,
            options,
            import,
            before,
            after,
            keys,
            findings,
            others,
            mapped: HashMap::new(),
            outcomes: HashMap::new(),
            renamed: BTreeSet::new(),
            roles: HashMap::new(),
            defective: BTreeSet::new(),
            organizations: HashMap::new(),
            added: BTreeSet::new(),
            notes: Vec::new(),
            no_place: BTreeMap::new(),
            problems: Vec::new(),
        };
        for key in keys {
            let line = (key.model.clone(), key.source_pk);
            if case.mapped.insert(line, (key.new_pk, key.kind())).is_some() {
                case.mismatch(format!("{} {} is mapped twice", key.model, key.source_pk));
            }
        }
        case
    }

    pub(super) fn mismatch(&mut self, what: String) {
        self.problems.push(what);
    }

    pub(super) fn close(self) -> (HashMap<(String, i64), Outcome>, Vec<String>) {
        (self.outcomes, self.problems)
    }

    /// The records of a model in file order. They are shared, so that the caller can report mismatches while it
    /// iterates.
    pub(super) fn records_of(&self, model: &str) -> Vec<Arc<FileRecord>> {
        self.by_model.get(model).cloned().unwrap_or_default()
    }

    pub(super) fn outcome(&self, model: &str, pk: i64) -> Option<Outcome> {
        self.outcomes.get(&(model.to_owned(), pk)).copied()
    }

    /// The id of the row that a record was inserted as or mapped to. `None` if the record was not written.
    pub(super) fn new_pk(&self, model: &str, pk: i64) -> Option<i64> {
        match self.outcome(model, pk)? {
            Outcome::Inserted(id) | Outcome::Existing(id) => Some(id),
            _ => None,
        }
    }

    /// The rows of a model that the import inserted, by id.
    pub(super) fn inserted_rows(&self, model: &str) -> Vec<(i64, Row)> {
        let mut rows: Vec<(i64, Row)> = self
            .records_of(model)
            .iter()
            .filter_map(|record| match self.outcome(model, record.pk)? {
                Outcome::Inserted(id) => Some((id, self.after.row(model, id)?.clone())),
                _ => None,
            })
            .collect();
        rows.sort_by_key(|(id, _)| *id);
        rows
    }

    /// Expects a finding about a record.
    pub(super) fn expect(&mut self, record: &FileRecord, kinds: &[FindingKind], fields: &[&str]) {
        self.notes.push(Note {
            kinds: kinds.to_vec(),
            model: record.model.clone(),
            pk: Some(record.pk),
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        });
    }

    /// Expects a finding about a model, or a field of one.
    pub(super) fn expect_of_model(&mut self, kind: FindingKind, model: &str, field: Option<&str>) {
        self.notes.push(Note {
            kinds: vec![kind],
            model: model.to_owned(),
            pk: None,
            fields: field.map(str::to_owned).into_iter().collect(),
        });
    }

    /// Whether a time is a valid "now" for the rules of the import: in a region exactly the time at which the import
    /// began; at control, which has a clock of its own, any time while the import ran.
    pub(super) fn is_now(&self, model: &Model, time: DateTime<Utc>) -> bool {
        let read = |time: Option<prost_types::Timestamp>| {
            let time = time.unwrap_or_default();
            DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).unwrap_or(0)).unwrap_or_default()
        };
        let (begun, ended) = (read(self.import.create_time), read(self.import.end_time));
        match model.silo {
            Silo::Region => time == begun,
            Silo::Control => (begun..=ended).contains(&time),
        }
    }
}
