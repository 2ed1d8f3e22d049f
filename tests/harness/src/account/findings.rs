//! Checks the findings: one for everything that a person should know, no others, at the right place, and without
//! secrets.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use causeway_proto::relocation::v1::{Finding, FindingCount, FindingKind, Severity};
use causeway_relocation::catalog::{Column, ColumnType, Default, Known};
use serde_json::Value;

use super::{
    Cell,
    case::{AuditCase, Note},
    cell,
    family::is_of_integration,
    nested::is_search,
    unmapped,
};

/// Fields whose values must never appear in a finding.
const SECRETS: &[&str] = &[
    "password",
    "session_nonce",
    "email",
    "user_email",
    "validation_hash",
    "token",
    "token_hashed",
    "public_key",
    "secret_key",
];

fn severity(kind: FindingKind) -> Severity {
    use FindingKind as K;
    match kind {
        K::UnknownModel
        | K::DroppedReference
        | K::UnknownField
        | K::DuplicateDropped
        | K::FilterSlugNotFound
        | K::UnknownChoice
        | K::OptionLeftOut
        | K::TwoOrganizations
        | K::OutOfScope
        | K::HiddenStatus
        | K::ClearedReference
        | K::RemovedField
        | K::RecordMerged
        | K::OrganizationWithoutOwner
        | K::UsernameIsAddress => Severity::Warning,
        K::UnexpectedModel
        | K::RemovedModel
        | K::SlugMade
        | K::RowAdded
        | K::SlugChanged
        | K::UsernameChanged
        | K::UserMerged
        | K::KeyRegenerated
        | K::TokenCleared
        | K::SkippedByRule
        | K::TextCleaned
        | K::DefectFiltered
        | K::FindingsNotStored => Severity::Info,
        K::RowKept | K::NotInDirectory | K::NotInDatabase | K::IdNotMapped | K::NothingToImport => {
            Severity::Warning
        }
        _ => Severity::Error,
    }
}

impl AuditCase<'_> {
    /// Checks all findings against those that the other checks expect.
    pub(super) fn check_findings(&mut self) {
        self.expect_of_the_file();
        self.check_places();
        self.check_secrets();
        let mut open: HashMap<(String, Option<i64>), Vec<&Finding>> = HashMap::new();
        for finding in self.findings {
            let of_record = !is_of_model(finding.kind());
            let key = (finding.model.clone(), of_record.then_some(finding.source_pk));
            open.entry(key).or_default().push(finding);
        }
        let mut missing: Vec<Note> = Vec::new();
        for note in std::mem::take(&mut self.notes) {
            let there = open.get_mut(&(note.model.clone(), note.pk)).and_then(|findings| {
                let at = findings.iter().position(|finding| fits(&note, finding))?;
                Some(findings.remove(at))
            });
            if there.is_none() {
                missing.push(note);
            }
        }
        for note in missing {
            self.mismatch(format!("there is no finding for {note:?}"));
        }
        for finding in open.into_values().flatten() {
            self.mismatch(format!("there is no cause for {finding:?}"));
        }
        self.check_finding_counts();
    }

    /// Expects the findings that follow from the file alone: one for each model or field that is unknown or otherwise
    /// not imported as it is.
    fn expect_of_the_file(&mut self) {
        let mut due: BTreeSet<(i32, String, Option<String>)> = BTreeSet::new();
        // One for each place in the values of a field.
        let mut not_mapped: BTreeSet<(String, String, String)> = BTreeSet::new();
        for record in &self.records {
            let name = &record.model;
            let mut add = |kind: FindingKind, field: Option<&str>| {
                due.insert((kind.into(), name.clone(), field.map(str::to_owned)));
            };
            let model = match self.catalog.known(name) {
                Known::Model(model) => model,
                Known::OutOfScope => {
                    add(FindingKind::OutOfScope, None);
                    continue;
                }
                Known::Excluded => {
                    add(FindingKind::UnexpectedModel, None);
                    continue;
                }
                Known::Removed => {
                    add(FindingKind::RemovedModel, None);
                    continue;
                }
                Known::Unknown => {
                    add(FindingKind::UnknownModel, None);
                    continue;
                }
            };
            // A record that is left out because of a defect gets no findings about its fields.
            let is_defective = self.defective.contains(&(name.clone(), record.ordinal));
            let is_outside = !model.in_organization_scope() || is_of_integration(record);
            if is_outside && self.belongs_to_what_is_here(model, record) {
                add(FindingKind::OutOfScope, None);
            }
            for (field, value) in record.fields.iter().filter(|_| !is_defective) {
                let kind = match model.column(field) {
                    None if model.is_removed_field(field) && is_no_loss(name, field, value) => continue,
                    None if self.after.has_older_field(name, field) => continue,
                    None if self.is_elsewhere(name, field, value) => continue,
                    None if model.is_removed_field(field) => FindingKind::RemovedField,
                    None => FindingKind::UnknownField,
                    Some(_) if !model.in_organization_scope() => continue,
                    Some(index) => {
                        let Some(column) = model.columns.get(index) else { continue };
                        if !self.after.has_column(name, &column.column)
                            && self.after.has_table(name)
                            && holds_something(column, value)
                            && !self.is_elsewhere(name, field, value)
                        {
                            add(FindingKind::NotInDatabase, Some(field));
                        }
                        if cell::is_cleaned(column, value) {
                            add(FindingKind::TextCleaned, Some(field));
                        }
                        if column.kind == ColumnType::Json
                            && !is_outside
                            && self.after.has_column(name, &column.column)
                            && let Ok(Cell::Json(value)) = cell::of_file(column, value)
                        {
                            let paths = unmapped::not_mapped(record, field, &value);
                            let paths = paths.into_iter().map(|path| (name.clone(), field.clone(), path));
                            not_mapped.extend(paths);
                        }
                        if is_search(name, field)
                            && !is_outside
                            && self.after.has_column(name, &column.column)
                            && let Some(text) = value.as_str()
                        {
                            let terms = unmapped::not_mapped_in_search(text).into_iter();
                            not_mapped.extend(terms.map(|term| (name.clone(), field.clone(), term)));
                        }
                        if is_unknown_choice(column, value) {
                            add(FindingKind::UnknownChoice, Some(field));
                        }
                        continue;
                    }
                };
                add(kind, Some(field));
            }
        }
        let taken =
            |model: &str| self.catalog.model(model).is_some_and(|model| model.in_organization_scope());
        if !self.records.iter().any(|record| taken(&record.model)) {
            self.expect_of_model(FindingKind::NothingToImport, "", None);
        }
        for ((model, field), count) in std::mem::take(&mut self.no_place) {
            self.expect_of_model(FindingKind::NotInDatabase, &model, field.as_deref());
            let ending =
                if count > 1 { format!("({count} records; this is the first)") } else { String::new() };
            let is_reported = self.findings.iter().any(|finding| {
                finding.kind() == FindingKind::NotInDatabase
                    && finding.model == model
                    && finding.field == field.as_deref().unwrap_or_default()
                    && finding.reason.ends_with(&ending)
            });
            if !is_reported {
                self.mismatch(format!("no finding says that {count} of {model} have no place ({field:?})"));
            }
        }
        for (model, field, _) in not_mapped {
            self.expect_of_model(FindingKind::IdNotMapped, &model, Some(&field));
        }
        for (kind, model, field) in due {
            let kind = FindingKind::try_from(kind).unwrap_or_default();
            self.expect_of_model(kind, &model, field.as_deref());
        }
    }

    /// Checks that every finding that names a record gives the right primary key and byte offset for it.
    fn check_places(&mut self) {
        let places: HashMap<(&str, i64), (i64, i64)> = self
            .records
            .iter()
            .map(|record| ((record.model.as_str(), record.ordinal), (record.pk, record.offset)))
            .collect();
        let mut problems = Vec::new();
        for finding in self.findings {
            let place = places.get(&(finding.model.as_str(), finding.ordinal)).copied();
            if finding.ordinal > 0 && place != Some((finding.source_pk, finding.byte_offset)) {
                problems.push(format!("at {place:?} there is no {finding:?}"));
            }
            if finding.severity() != severity(finding.kind()) || finding.reason.is_empty() {
                problems.push(format!("{finding:?} has the wrong severity, or no reason"));
            }
        }
        for problem in problems {
            self.mismatch(problem);
        }
    }

    /// Checks that no finding reveals a secret of its record. Findings about changed usernames are exempt:
    /// they quote the username, which may look like an address, so that people can search for it.
    fn check_secrets(&mut self) {
        let mut problems = Vec::new();
        for finding in self.findings.iter().filter(|finding| finding.kind() != FindingKind::UsernameChanged) {
            let records = self.records_of(&finding.model);
            let index = usize::try_from(finding.ordinal - 1).unwrap_or(usize::MAX);
            let Some(record) = records.get(index) else { continue };
            let mut secrets = SECRETS.iter().filter_map(|field| record.text(field));
            if secrets.any(|secret| secret.len() > 6 && finding.reason.contains(secret)) {
                problems
                    .push(format!("a finding about {} {} tells a secret", finding.model, finding.source_pk));
            }
        }
        for problem in problems {
            self.mismatch(problem);
        }
    }

    fn check_finding_counts(&mut self) {
        let mut counts: BTreeMap<i32, i64> = BTreeMap::new();
        for finding in self.findings {
            *counts.entry(finding.kind).or_default() += 1;
        }
        let of = |count: &FindingCount| (count.kind, count.count);
        let mut reported: Vec<(i32, i64)> = self.import.finding_counts.iter().map(of).collect();
        reported.sort_unstable();
        let severities =
            self.import.finding_counts.iter().all(|count| count.severity() == severity(count.kind()));
        if reported != counts.into_iter().collect::<Vec<_>>() || !severities {
            self.mismatch(format!("the import counts its findings as {:?}", self.import.finding_counts));
        }
    }
}

/// Whether a finding of this kind is about a model or field, however many records it has.
fn is_of_model(kind: FindingKind) -> bool {
    matches!(
        kind,
        FindingKind::UnknownModel
            | FindingKind::UnexpectedModel
            | FindingKind::RemovedModel
            | FindingKind::UnknownField
            | FindingKind::RemovedField
            | FindingKind::UnknownChoice
            | FindingKind::TextCleaned
            | FindingKind::IdNotMapped
            | FindingKind::NotInDatabase
            | FindingKind::FilterSlugNotFound
            | FindingKind::OutOfScope
            | FindingKind::NothingToImport
    )
}

/// Whether nothing is lost with a field of older releases: it is null or empty, or names an actor, which the import follows.
pub(super) fn is_no_loss(model: &str, field: &str, value: &Value) -> bool {
    let names_actor =
        matches!((model, field), ("sentry.team", "actor") | ("sentry.rule" | "sentry.alertrule", "owner"));
    value.is_null() || *value == Value::Array(vec![]) || value == "[]" || (names_actor && value.is_i64())
}

/// Whether something is lost if the value has no column.
pub(super) fn holds_something(column: &Column, value: &Value) -> bool {
    let is_default = match &column.default {
        Default::Literal(json) => serde_json::from_str(json).ok().as_ref() == Some(value),
        _ => false,
    };
    !value.is_null() && value.as_str() != Some("") && !is_default
}

fn fits(note: &Note, finding: &Finding) -> bool {
    let exact = is_of_model(finding.kind());
    let field = match note.fields.as_slice() {
        [] => !exact || finding.field.is_empty(),
        fields => fields.contains(&finding.field),
    };
    note.kinds.contains(&finding.kind()) && field
}

/// Whether a field has a value that the application does not know for its column.
fn is_unknown_choice(column: &Column, value: &Value) -> bool {
    let known: Vec<Value> =
        column.choices.iter().filter_map(|choice| serde_json::from_str(choice).ok()).collect();
    !value.is_null() && !known.is_empty() && !known.contains(value)
}
