//! Checks the counts and the primary key map that the import reports.

use std::collections::{BTreeMap, BTreeSet};

use causeway_proto::relocation::v1::{FindingKind, KeyKind, ModelCounts};
use causeway_relocation::catalog::Column;

use super::{
    Fate,
    case::AuditCase,
    cell,
    findings::{holds_something, is_no_loss},
};

impl AuditCase<'_> {
    /// Checks that the primary key map lists exactly the records that are rows now.
    pub(super) fn check_keys(&mut self) {
        let mut complaints = Vec::new();
        let known: BTreeMap<(&str, i64), Option<Fate>> = self
            .records
            .iter()
            .map(|record| ((record.model.as_str(), record.pk), self.fate(&record.model, record.pk)))
            .collect();
        for key in self.keys {
            let fate = known.get(&(key.model.as_str(), key.source_pk)).copied().flatten();
            let right = match key.kind() {
                KeyKind::Inserted => fate == Some(Fate::Inserted(key.new_pk)),
                KeyKind::Existing => fate == Some(Fate::Existing(key.new_pk)),
                KeyKind::Unspecified => false,
            };
            if !right {
                complaints.push(format!("the key map has {key:?}, and the record is {fate:?}"));
            }
        }
        let mapped =
            known.values().filter(|it| matches!(it, Some(Fate::Inserted(_) | Fate::Existing(_)))).count();
        if mapped != self.keys.len() {
            complaints.push(format!("the key map has {} lines and not {mapped}", self.keys.len()));
        }
        for complaint in complaints {
            self.mismatch(complaint);
        }
    }

    /// The records that the import changes if it writes them: those with a finding (the findings are checked
    /// separately), and those with a field that was left out or cleaned.
    fn changed(&self) -> BTreeSet<(&str, i64)> {
        let by_finding = self.findings.iter().filter(|finding| {
            !matches!(
                finding.kind(),
                FindingKind::DroppedReference
                    | FindingKind::SkippedByRule
                    | FindingKind::DuplicateDropped
                    | FindingKind::UnknownChoice
                    | FindingKind::RowKept
                    | FindingKind::OrganizationWithoutOwner
                    | FindingKind::UsernameIsAddress
                    | FindingKind::DefectFiltered
                    | FindingKind::OptionLeftOut
                    | FindingKind::TwoOrganizations
                    | FindingKind::OutOfScope
                    | FindingKind::NotInDirectory
                    | FindingKind::IdNotMapped
            )
        });
        let by_finding = by_finding.map(|finding| (finding.model.as_str(), finding.source_pk));
        let by_field = self.records.iter().filter(|record| {
            self.catalog.model(&record.model).is_some_and(|model| {
                record.fields.iter().any(|(field, value)| match model.column(field) {
                    None => !(model.is_removed_field(field) && is_no_loss(&model.name, field, value)),
                    Some(index) => {
                        let lost = |column: &Column| {
                            !self.after.has_column(&model.name, &column.column)
                                && holds_something(column, value)
                        };
                        let column = model.columns.get(index);
                        column.is_some_and(|column| cell::is_cleaned(column, value) || lost(column))
                    }
                })
            })
        });
        by_finding.chain(by_field.map(|record| (record.model.as_str(), record.pk))).collect()
    }

    /// Checks that the counts of each model match its records, in the order in which models are written.
    pub(super) fn check_counts(&mut self) {
        let changed = self.changed();
        let mut expected: BTreeMap<String, ModelCounts> = BTreeMap::new();
        for record in &self.records {
            let counts = expected
                .entry(record.model.clone())
                .or_insert_with(|| ModelCounts { model: record.model.clone(), ..ModelCounts::default() });
            counts.seen += 1;
            let fate = self.fate(&record.model, record.pk);
            if matches!(fate, Some(Fate::Inserted(_) | Fate::Existing(_)))
                && changed.contains(&(record.model.as_str(), record.pk))
            {
                counts.changed += 1;
            }
            match fate {
                Some(Fate::Inserted(_)) => counts.inserted += 1,
                Some(Fate::Existing(_)) => counts.existing += 1,
                Some(Fate::OutOfScope) if self.catalog.model(&record.model).is_none() => {
                    counts.passed_over += 1;
                }
                Some(Fate::OutOfScope) => counts.out_of_scope += 1,
                Some(Fate::Filtered) => counts.filtered += 1,
                Some(Fate::Dropped) => counts.dropped += 1,
                None => {}
            }
        }
        let mut complaints = Vec::new();
        for counts in &self.import.models {
            let wanted = expected.remove(&counts.model);
            if wanted.as_ref() != Some(counts) {
                complaints.push(format!("the import counts {counts:?}; it should be {wanted:?}"));
            }
        }
        complaints
            .extend(expected.into_values().map(|counts| format!("the import does not count {counts:?}")));
        let position = |counts: &ModelCounts| self.catalog.position(&counts.model).unwrap_or(usize::MAX);
        if !self.import.models.is_sorted_by_key(position) {
            complaints.push("the counts are not in the order of writing".to_owned());
        }
        for complaint in complaints {
            self.mismatch(complaint);
        }
    }
}
