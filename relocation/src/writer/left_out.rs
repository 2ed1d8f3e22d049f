//! Rows that the database refuses and no rule can repair: each is dropped with a finding.

use std::collections::{HashMap, HashSet};

use causeway_silo::db::DbErrorKind;

use super::{Row, Writer, Written, bisect::CheckViolation};
use crate::{
    catalog::Model,
    finding::{Finding, FindingKind, only_here},
};

/// Where a row was in the file.
#[derive(Debug)]
pub(super) struct RecordPosition {
    ordinal: i64,
    source_pk: i64,
    offset: u64,
}

impl RecordPosition {
    pub(super) fn of(row: &Row) -> Self {
        Self { ordinal: row.ordinal, source_pk: row.source_pk, offset: row.offset }
    }

    pub(super) fn source_pk(&self) -> i64 {
        self.source_pk
    }

    /// Says of a finding that it is about this row.
    pub(super) fn name(&self, model: &Model, finding: Finding) -> Finding {
        finding.model(&model.name).record(self.ordinal, self.source_pk).at(self.offset)
    }
}

/// Drops the findings about values that rows got instead of those that others have: the rows are not in the table.
fn drop_changes(written: &mut Written, pks: &HashSet<i64>) {
    let is_change = |finding: &Finding| {
        let kinds = [FindingKind::UsernameChanged, FindingKind::KeyRegenerated, FindingKind::TokenCleared];
        kinds.contains(&finding.kind) && finding.source_pk.is_some_and(|pk| pks.contains(&pk))
    };
    written.findings.retain(|finding| !is_change(finding));
}

impl Writer<'_> {
    /// Drops the rows that break a check of the table. Returns the others.
    pub(super) fn drop_breaking(
        &self,
        model: &Model,
        rows: Vec<Row>,
        breaking: Vec<CheckViolation>,
        written: &mut Written,
        lost: &mut HashMap<i64, RecordPosition>,
    ) -> Vec<Row> {
        if breaking.is_empty() {
            return rows;
        }
        let checks: HashMap<i64, Option<String>> =
            breaking.into_iter().map(|CheckViolation { id, check }| (id, check)).collect();
        let dropped = rows.iter().filter(|row| checks.contains_key(&row.id));
        drop_changes(written, &dropped.map(|row| row.source_pk).collect());
        let mut others = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(check) = checks.get(&row.id) else {
                others.push(row);
                continue;
            };
            let reason = format!(
                "breaks {}; the record {}",
                only_here(&model.table, DbErrorKind::Check, check.as_deref()),
                self.tense.words("was not written", "would not be written")
            );
            written.findings.push(row.place(model, Finding::new(FindingKind::NotInDatabase, reason)));
            written.dropped += 1;
            lost.insert(row.id, RecordPosition::of(&row));
        }
        others
    }

    /// Drops the rows that are the same as others, and that no rule can repair.
    pub(super) fn drop_duplicates(
        &self,
        model: &Model,
        rows: &[Row],
        written: &mut Written,
        lost: &mut HashMap<i64, RecordPosition>,
    ) {
        drop_changes(written, &rows.iter().map(|row| row.source_pk).collect());
        for row in rows {
            let reason = format!(
                "another row is the same to a unique set of the table (as after a merge of users); the record {}",
                self.tense.words("was not written", "would not be written")
            );
            written.findings.push(row.place(model, Finding::new(FindingKind::DuplicateDropped, reason)));
            written.dropped += 1;
            lost.insert(row.id, RecordPosition::of(row));
        }
    }

    /// Maps each record that was left out to the row of the record that was written in its place.
    pub(super) fn map_replaced(&self, model: &Model, instead: Vec<Replaced>, written: &mut Written) {
        if instead.is_empty() {
            return;
        }
        let keys = written.keys.inserted.iter().chain(&written.keys.existing).copied();
        let ids: HashMap<i64, i64> = keys.collect();
        for Replaced { place, of } in instead {
            let Some(id) = of.iter().find_map(|source_pk| ids.get(source_pk)) else { continue };
            let is_of_record = |finding: &Finding| finding.source_pk == Some(place.source_pk);
            let is_why = |kind| matches!(kind, FindingKind::DuplicateDropped | FindingKind::NotInDatabase);
            let Some(at) = written.findings.iter().rposition(|it| is_of_record(it) && is_why(it.kind)) else {
                continue;
            };
            let why = written.findings.remove(at);
            let reason = format!(
                "{}; a later record of the file, which is the same, {} instead, and the record {} that one",
                why.reason,
                self.tense.words("was taken", "would be taken"),
                self.tense.words("became", "would become"),
            );
            let (kind, field) = match model
                .rules
                .taken_name
                .filter(|name| name.suffix_up_to.is_some())
                .and_then(|name| model.columns.get(name.column))
            {
                Some(column) => (FindingKind::UserMerged, Some(column.field.clone())),
                None => (FindingKind::RecordMerged, None),
            };
            written.findings.push(Finding { kind, reason, field, ..why });
            written.keys.existing.push((place.source_pk, *id));
            written.dropped -= 1;
        }
    }
}

/// A record that was left out, and the primary keys of those that were merged into it: one of them may be written instead.
pub(super) struct Replaced {
    place: RecordPosition,
    of: Vec<i64>,
}

impl Written {
    /// Takes back that rows were merged into one that was not written after all. Returns these rows: the first that the
    /// database takes is written in its place.
    pub(super) fn take_back_merges(
        &mut self,
        mut lost: HashMap<i64, RecordPosition>,
        instead: &mut Vec<Replaced>,
    ) -> Vec<Row> {
        let merged = std::mem::take(&mut self.merged);
        let taken_back: Vec<(i64, Row)> =
            merged.into_iter().filter(|(id, _)| lost.contains_key(id)).collect();
        let mut of: HashMap<i64, Vec<i64>> = HashMap::new();
        for (id, row) in &taken_back {
            of.entry(*id).or_default().push(row.source_pk);
        }
        let pks: HashSet<i64> = taken_back.iter().map(|(_, row)| row.source_pk).collect();
        let is_of_merge = |finding: &Finding| {
            // A row that was merged has not been dropped, so a finding that something is not in the database is about the
            // row that it was merged into.
            let kinds = [FindingKind::UserMerged, FindingKind::RecordMerged, FindingKind::NotInDatabase];
            kinds.contains(&finding.kind) && finding.source_pk.is_some_and(|pk| pks.contains(&pk))
        };
        if !pks.is_empty() {
            self.findings.retain(|finding| !is_of_merge(finding));
            self.keys.existing.retain(|(pk, _)| !pks.contains(pk));
        }
        for (id, of) in of {
            instead.extend(lost.remove(&id).map(|place| Replaced { place, of }));
        }
        instead.sort_by_key(|instead| instead.place.ordinal);
        taken_back.into_iter().map(|(_, row)| row).collect()
    }
}
