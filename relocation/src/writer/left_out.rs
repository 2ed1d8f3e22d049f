//! Rows that the database refuses and no rule can repair: each is dropped with a finding.

use std::collections::{HashMap, HashSet};

use super::{Row, Writer, Written, apart::Breaking};
use crate::{
    catalog::Model,
    finding::{Finding, FindingKind, shown},
};

/// Where a row was in the file.
pub(super) struct Place {
    ordinal: i64,
    source_pk: i64,
    offset: u64,
}

impl Place {
    pub(super) fn of(row: &Row) -> Self {
        Self { ordinal: row.ordinal, source_pk: row.source_pk, offset: row.offset }
    }
}

/// Drops the findings about values that a row got instead of those that others have: the row is not in the
/// table.
fn drop_changes(written: &mut Written, row: &Row) {
    let is_change = |finding: &Finding| {
        let kinds = [FindingKind::UsernameChanged, FindingKind::KeyRegenerated];
        kinds.contains(&finding.kind) && finding.source_pk == Some(row.source_pk)
    };
    written.findings.retain(|finding| !is_change(finding));
}

impl Writer<'_> {
    /// Drops the rows that break a check of the table. Returns the others.
    pub(super) fn drop_breaking(
        &self,
        model: &Model,
        rows: Vec<Row>,
        breaking: Vec<Breaking>,
        written: &mut Written,
        lost: &mut HashSet<i64>,
    ) -> Vec<Row> {
        if breaking.is_empty() {
            return rows;
        }
        let checks: HashMap<i64, Option<String>> =
            breaking.into_iter().map(|Breaking { id, check }| (id, check)).collect();
        let mut others = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(check) = checks.get(&row.id) else {
                others.push(row);
                continue;
            };
            let check = check.as_ref().map_or_else(String::new, |name| format!(" `{}`", shown(name)));
            let reason = format!(
                "breaks the check{check} of the table {}, which the catalog does not know; the record {}",
                model.table,
                self.tense.words("was not written", "would not be written")
            );
            drop_changes(written, &row);
            written.findings.push(row.place(model, Finding::new(FindingKind::NotInDatabase, reason)));
            written.dropped += 1;
            lost.insert(row.id);
        }
        others
    }

    /// Drops the rows that are the same as others, and that no rule can repair.
    pub(super) fn drop_duplicates(
        &self,
        model: &Model,
        rows: &[Row],
        written: &mut Written,
        lost: &mut HashSet<i64>,
    ) {
        for row in rows {
            let reason = format!(
                "another row is the same to a unique set of the table (as after a merge of users); the record {}",
                self.tense.words("was not written", "would not be written")
            );
            drop_changes(written, row);
            written.findings.push(row.place(model, Finding::new(FindingKind::DuplicateDropped, reason)));
            written.dropped += 1;
            lost.insert(row.id);
        }
    }

    /// Drops the records that were merged into a row of this chunk which was not written after all.
    pub(super) fn drop_followers(
        &self,
        model: &Model,
        places: &[Place],
        lost: &HashSet<i64>,
        written: &mut Written,
    ) {
        if lost.is_empty() {
            return;
        }
        let (followers, existing): (Vec<_>, Vec<_>) =
            std::mem::take(&mut written.keys.existing).into_iter().partition(|(_, id)| lost.contains(id));
        written.keys.existing = existing;
        for (source_pk, _) in followers {
            let of_merge = |finding: &Finding| {
                let kinds = [FindingKind::UserMerged, FindingKind::RecordMerged];
                kinds.contains(&finding.kind) && finding.source_pk == Some(source_pk)
            };
            written.findings.retain(|finding| !of_merge(finding));
            let reason = format!(
                "an earlier record of the file is the same and was left out; the record {}",
                self.tense.words("was not written", "would not be written")
            );
            let mut finding = Finding::new(FindingKind::DuplicateDropped, reason).model(&model.name);
            if let Some(place) = places.iter().find(|place| place.source_pk == source_pk) {
                finding = finding.record(place.ordinal, source_pk).at(place.offset);
            }
            written.findings.push(finding);
            written.dropped += 1;
        }
    }
}
