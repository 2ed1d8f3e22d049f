//! Checks the counts and the primary key map that the import reports.

use std::collections::{BTreeMap, BTreeSet};

use causeway_proto::relocation::v1::{FindingKind, KeyKind, ModelCounts};
use causeway_relocation::catalog::Column;

use super::{
    Outcome,
    case::AuditCase,
    cell,
    findings::{holds_something, is_no_loss},
};

impl AuditCase<'_> {
    /// Checks that the primary key map lists exactly the records that are rows now.
    pub(super) fn check_keys(&mut self) {
        let mut problems = Vec::new();
        let known: BTreeMap<(&str, i64), Option<Outcome>> = self
            .records
            .iter()
            .map(|record| ((record.model.as_str(), record.pk), self.outcome(&record.model, record.pk)))
            .collect();
        for key in self.keys {
            let outcome = known.get(&(key.model.as_str(), key.source_pk)).copied().flatten();
            let right = match key.kind() {
                KeyKind::Inserted => outcome == Some(Outcome::Inserted(key.new_pk)),
                KeyKind::Existing => outcome == Some(Outcome::Existing(key.new_pk)),
                KeyKind::Unspecified => false,
            };
            if !right {
                problems.push(format!("the key map has {key:?}, and the record is {outcome:?}"));
            }
        }
        let mapped = known
            .values()
            .filter(|it| matches!(it, Some(Outcome::Inserted(_) | Outcome::Existing(_))))
            .count();
        if mapped != self.keys.len() {
            problems.push(format!("the key map has {} lines and not {mapped}", self.keys.len()));
        }
        for problem in problems {
            self.mismatch(problem);
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
                    | FindingKind::RowAdded
            )
        });
        let by_finding = by_finding.map(|finding| (finding.model.as_str(), finding.source_pk));
        let by_field = self.records.iter().filter(|record| {
            self.catalog.model(&record.model).is_some_and(|model| {
                record.fields.iter().any(|(field, value)| match model.column(field) {
                    None => {
                        let is_no_loss = model.is_removed_field(field)
                            && (is_no_loss(&model.name, field, value)
                                || self.is_elsewhere(&model.name, field, value));
                        !is_no_loss && !self.after.has_older_field(&model.name, field)
                    }
                    Some(index) => {
                        let lost = |column: &Column| {
                            !self.after.has_column(&model.name, &column.column)
                                && holds_something(column, value)
                                && !self.is_elsewhere(&model.name, field, value)
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
            let outcome = self.outcome(&record.model, record.pk);
            if matches!(outcome, Some(Outcome::Inserted(_) | Outcome::Existing(_)))
                && changed.contains(&(record.model.as_str(), record.pk))
            {
                counts.changed += 1;
            }
            match outcome {
                Some(Outcome::Inserted(_)) => counts.inserted += 1,
                Some(Outcome::Existing(_)) => counts.existing += 1,
                Some(Outcome::OutOfScope) if self.catalog.model(&record.model).is_none() => {
                    counts.passed_over += 1;
                }
                Some(Outcome::OutOfScope) => counts.out_of_scope += 1,
                Some(Outcome::Filtered) => counts.filtered += 1,
                Some(Outcome::Dropped) => counts.dropped += 1,
                None => {}
            }
        }
        for (model, _) in &self.added {
            let counts = expected
                .entry(model.clone())
                .or_insert_with(|| ModelCounts { model: model.clone(), ..ModelCounts::default() });
            counts.added += 1;
        }
        let mut problems = Vec::new();
        for counts in &self.import.models {
            // Rows that may have been added, and then were not needed.
            if *counts == (ModelCounts { model: counts.model.clone(), ..ModelCounts::default() }) {
                continue;
            }
            let wanted = expected.remove(&counts.model);
            if wanted.as_ref() != Some(counts) {
                problems.push(format!("the import counts {counts:?}; it should be {wanted:?}"));
            }
        }
        problems.extend(expected.into_values().map(|counts| format!("the import does not count {counts:?}")));
        let position = |counts: &ModelCounts| self.catalog.position(&counts.model).unwrap_or(usize::MAX);
        if !self.import.models.is_sorted_by_key(position) {
            problems.push("the counts are not in the order of writing".to_owned());
        }
        for problem in problems {
            self.mismatch(problem);
        }
    }
}
