//! Decides what happens to a record, as far as the file, the plan and the primary key map determine it, and rewrites
//! its references.

mod added;
mod values;

use std::fmt::Write as _;

use values::Nested;

use crate::{
    catalog::{Catalog, ColumnType, FromActor, Known, Lack, Model, SkipWhen, USER},
    export::{ExportError, decode_literal, each_field, unknown_option},
    finding::{Finding, FindingKind, Tense},
    keys::{KeyKind, KeyMap, Lookup},
    plan::{Plan, Record},
    value::Value,
};

/// What happens to a record.
#[derive(Debug)]
pub enum Decision {
    /// It is written; its references are rewritten.
    Write(Box<Record>),
    /// The filter excludes it.
    Filtered,
    /// It is out of scope.
    OutOfScope,
    /// It is not written; the finding says why.
    Dropped(Finding),
    /// It is not written; a finding of the plan contains the reason, for all records of its kind.
    NotInDatabase,
    /// It is no record but a row that would have been added, and is not needed or cannot be written.
    NotAdded,
}

/// Maps the records of one import.
#[derive(Debug)]
pub struct Mapping<'a> {
    /// The catalog, with the rules of all models.
    pub catalog: &'a Catalog,
    /// The plan of the file.
    pub plan: &'a Plan,
    /// The primary key map of everything that has been imported so far.
    pub keys: &'a KeyMap,
    /// Whether the records are written, or would be after a dry run. Decides the wording of findings.
    pub tense: Tense,
    /// The byte offset of the first record of the chunk. The writer reports what concerns two records of the same
    /// chunk.
    pub chunk_begins: u64,
}

/// A reference to a record that was not imported.
struct UnmappedReference<'a> {
    field: &'a str,
    target: &'a str,
    pk: i64,
    lookup: Lookup,
}

/// A reference that was set because the record names an actor.
#[derive(Debug, Clone, Copy)]
struct ByActor<'m> {
    /// The column of the reference, as a position in [`Model::columns`].
    column: usize,
    /// The removed field that names the actor.
    field: &'m str,
    /// The primary key of the actor.
    actor: i64,
}

/// The reason of a finding about a name that is also the address of another record of the file.
pub(crate) fn is_address_of(source_pk: i64) -> String {
    format!("is the e-mail address of the record with pk {source_pk} as well")
}

/// The name of a field in the export, by its column, which a rule of the catalog is about.
fn field_of(model: &Model, column: usize) -> Result<&str, ExportError> {
    let column = model.columns.get(column);
    column
        .map(|column| column.field.as_str())
        .ok_or_else(|| ExportError::inconsistent("a rule of the catalog is about a column that there is not"))
}

impl Mapping<'_> {
    /// Decides about a record. Findings that do not change the decision (cleared references) go to `notes`.
    ///
    /// # Errors
    /// If the catalog or the plan contradicts itself.
    pub fn map(
        &self,
        model: &Model,
        mut record: Record,
        notes: &mut Vec<Finding>,
    ) -> Result<Decision, ExportError> {
        if let Some(added_for) = record.added_for {
            return self.map_added(model, record, added_for, notes);
        }
        if let Some(defect) = record.defect.take() {
            let reason = if self.plan.is_undecided(model, record.offset) {
                // The users were looked up before anything was written. One who is gone since then would lose this.
                if !self.is_of_existing(model, &record) {
                    let reason = format!(
                        "{}; its user was here when the file was planned, and is gone",
                        defect.reason
                    );
                    return Err(Finding { reason, ..*defect }.into());
                }
                let keeps = self.tense.words(
                    "was here already and keeps what it has",
                    "is here already and would keep what it has",
                );
                format!("{}; the record is left out, because its user {keeps}", defect.reason)
            } else {
                format!("{}; the filter leaves the record out", defect.reason)
            };
            notes.push(Finding { kind: FindingKind::DefectFiltered, reason, ..*defect });
            return Ok(Decision::Filtered);
        }
        let (ordinal, source_pk, offset) = (record.ordinal, record.source_pk, record.offset);
        let decision = self.decide(model, record, notes)?;
        if matches!(decision, Decision::Filtered) && self.plan.is_contradicting(model, offset) {
            let reason = "has the primary key of an earlier record of the file, or agrees with one where it must not; the filter leaves both out";
            let finding = Finding::new(FindingKind::DefectFiltered, reason);
            notes.push(finding.model(&model.name).record(ordinal, source_pk).at(offset));
        }
        Ok(decision)
    }

    /// Whether the record belongs to a row that was there before the import and keeps what it has.
    fn is_of_existing(&self, model: &Model, record: &Record) -> bool {
        model.rules.skip_when_existing.iter().any(|reference| {
            let position = model.columns.get(*reference).and_then(|column| column.target);
            let pk = record.values.get(*reference).and_then(Value::as_int);
            position.zip(pk).is_some_and(|(position, pk)| {
                matches!(self.keys.get(position, pk), Lookup::Mapped(_, KeyKind::Existing))
            })
        })
    }

    /// Decides about a record that breaks no rule by itself.
    fn decide(
        &self,
        model: &Model,
        mut record: Record,
        notes: &mut Vec<Finding>,
    ) -> Result<Decision, ExportError> {
        if self.is_out_of_scope(model, &record) {
            return Ok(Decision::OutOfScope);
        }
        if let Some(selection) = &self.plan.selection {
            let email =
                model.column("email").and_then(|column| record.values.get(column)).and_then(Value::as_text);
            if !selection.takes(model, record.source_pk, email) {
                return Ok(Decision::Filtered);
            }
        }
        if model.not_importable.is_some() || self.plan.is_lacking(model, record.offset) {
            let lost = self.rewrite(model, &mut record, None, &mut Vec::new())?;
            return Ok(lost
                .filter(|lost| matches!(lost, Decision::Filtered))
                .unwrap_or(Decision::NotInDatabase));
        }
        if self.plan.is_useless(model, record.source_pk) {
            let reason = "nothing refers to the record that is imported, and by itself it is of no use";
            let finding = Finding::new(FindingKind::SkippedByRule, reason).model(&model.name);
            let finding = finding.record(record.ordinal, record.source_pk).at(record.offset);
            return Ok(Decision::Dropped(finding));
        }
        let of_two = self.of_two(model, &record);
        let mut cleared = Vec::new();
        let by_actor = self.resolve_actor(model, &mut record, &mut cleared);
        if let Some(lost) = self.rewrite(model, &mut record, by_actor, &mut cleared)? {
            return Ok(lost);
        }
        if let Some(lost) = self.rewrite_by_type(model, &mut record)? {
            return Ok(lost);
        }
        let nested = match self.rewrite_nested(model, &mut record, &mut cleared)? {
            Nested::Lost(lost) => return Ok(lost),
            Nested::Changed(columns) => columns,
        };
        let place = |finding: Finding| {
            finding.model(&model.name).record(record.ordinal, record.source_pk).at(record.offset)
        };
        for SkipWhen { column, equals } in &model.rules.skip_when {
            let field = field_of(model, *column)?;
            let value = model.columns.get(*column).and_then(|column| decode_literal(column, equals).ok());
            let value = value.ok_or_else(|| {
                ExportError::inconsistent("a rule of the catalog has a value that its column cannot take")
            })?;
            if record.values.get(*column) == Some(&value) {
                let reason = format!("records with {equals} here are not imported");
                let finding = Finding::new(FindingKind::SkippedByRule, reason);
                return Ok(Decision::Dropped(place(finding.field(field))));
            }
        }
        if let Some((column, reason)) = unknown_option(model, &record.values) {
            let finding = Finding::new(FindingKind::OptionLeftOut, reason).field(field_of(model, column)?);
            return Ok(Decision::Dropped(place(finding)));
        }
        if self.plan.is_repeated(model, record.offset) {
            let finding = Finding::new(
                FindingKind::DuplicateDropped,
                format!(
                    "an earlier record of the file is the same to the application; that one {}",
                    self.tense.words("was kept", "would be kept")
                ),
            );
            return Ok(Decision::Dropped(place(finding)));
        }
        if let Some((column, slug)) = self.plan.generated_slug(model, &record)? {
            let field = field_of(model, column)?;
            let Some(slot) = record.values.get_mut(column) else {
                return Err(ExportError::inconsistent("a record has no value for its slug"));
            };
            let reason = match self.tense {
                Tense::Happened => format!("there was none; `{slug}` was made of the name"),
                Tense::Would => format!("there is none; `{slug}` would be made of the name"),
            };
            cleared.push(place(Finding::new(FindingKind::SlugMade, reason).field(field)));
            *slot = Value::Text(slug);
        }
        if let Some(Lack { column, why }) = model.lacks_value(&record.values) {
            let written = self.tense.words("was not written", "would not be written");
            let reason = format!("{why}; so the record {written}");
            let finding = Finding::new(FindingKind::NotInDatabase, reason).field(&column.field);
            return Ok(Decision::Dropped(place(finding)));
        }
        if let Some(fields) = record.fields.take() {
            record.fields = Some(rewrite_fields(model, &fields, &record.values, &nested)?);
        }
        if let Some(holder) = self.plan.earlier_holder(model, record.offset)
            && holder.offset < self.chunk_begins
            && let Some((column, _)) = model.rules.warn_of_address
        {
            let reason = is_address_of(holder.source_pk);
            let finding = Finding::new(FindingKind::UsernameIsAddress, reason);
            cleared.push(place(finding.field(field_of(model, column)?)));
        }
        // Cleared references matter only if the record is written.
        notes.append(&mut cleared);
        if let Some((field, reason)) = of_two {
            let finding = Finding::new(
                FindingKind::TwoOrganizations,
                format!("{reason}; it {} so", self.tense.words("was written", "would be written")),
            );
            notes.push(place(finding.field(field)));
        }
        Ok(Decision::Write(Box::new(record)))
    }

    fn is_out_of_scope(&self, model: &Model, record: &Record) -> bool {
        let follows = model.rules.scope_follows.is_some_and(|reference| {
            let position = model.columns.get(reference).and_then(|column| column.target);
            let pk = record.values.get(reference).and_then(Value::as_int);
            position.zip(pk).is_some_and(|(position, pk)| self.keys.get(position, pk) == Lookup::OutOfScope)
        });
        follows || model.rules.is_of_another_scope(&record.values)
    }

    /// If no reference is set and a removed field names an actor, sets the reference to the record that the actor
    /// stands for according to the export. Returns that reference.
    fn resolve_actor<'m>(
        &self,
        model: &'m Model,
        record: &mut Record,
        notes: &mut Vec<Finding>,
    ) -> Option<ByActor<'m>> {
        let (FromActor { field, columns }, actor) = (model.rules.from_actor.as_ref()?, record.actor?);
        let is_set = |column: &usize| record.values.get(*column).is_some_and(|value| !value.is_null());
        if columns.iter().any(is_set) {
            return None;
        }
        let found = self.plan.actor(actor).and_then(|(position, pk)| {
            let leads = |column: &&usize| {
                let column = model.columns.get(**column).filter(|column| column.is_stored);
                column.and_then(|column| column.target) == Some(position)
            };
            columns.iter().find(leads).map(|column| (*column, pk))
        });
        match found {
            Some((column, pk)) => {
                if let Some(slot) = record.values.get_mut(column) {
                    *slot = Value::Int(pk);
                }
                Some(ByActor { column, field, actor })
            }
            None => {
                let reason = match self.tense {
                    Tense::Happened => format!(
                        "named actor {actor}, of which the export does not say what it stands for; the record has none now"
                    ),
                    Tense::Would => format!(
                        "names actor {actor}, of which the export does not say what it stands for; the record would have none"
                    ),
                };
                let finding = Finding::new(FindingKind::ClearedReference, reason).field(field);
                notes.push(
                    finding.model(&model.name).record(record.ordinal, record.source_pk).at(record.offset),
                );
                None
            }
        }
    }

    /// Replaces every reference by its new pk. Returns the decision if a reference has none and the record cannot be
    /// written.
    fn rewrite(
        &self,
        model: &Model,
        record: &mut Record,
        by_actor: Option<ByActor<'_>>,
        notes: &mut Vec<Finding>,
    ) -> Result<Option<Decision>, ExportError> {
        let mut lost = Vec::new();
        let mut existing = Vec::new();
        let (ordinal, source_pk, offset) = (record.ordinal, record.source_pk, record.offset);
        let place = |finding: Finding| finding.model(&model.name).record(ordinal, source_pk).at(offset);
        let of_two = self.of_two(model, record);
        let mut hangs_here = false;
        for (index, (column, value)) in model.columns.iter().zip(record.values.iter_mut()).enumerate() {
            let (Some(target), Some(pk)) = (column.references.as_deref(), value.as_int()) else { continue };
            if !column.is_stored {
                *value = Value::Null;
                continue;
            }
            let lookup = column.target.map_or(Lookup::Absent, |position| self.keys.get(position, pk));
            match (lookup, by_actor.filter(|by_actor| by_actor.column == index)) {
                (Lookup::Mapped(new, kind), _) => {
                    *value = Value::Int(new);
                    hangs_here |= target != USER;
                    if kind == KeyKind::Existing {
                        existing.push((index, target, pk));
                    }
                }
                _ if model.rules.clear_if_unmapped.contains(&index) => {
                    *value = Value::Null;
                    let reason = match self.tense {
                        Tense::Happened => {
                            format!("led to {target} {pk}, which was not imported, and was cleared")
                        }
                        Tense::Would => {
                            format!(
                                "leads to {target} {pk}, which would not be imported, and would be cleared"
                            )
                        }
                    };
                    notes.push(place(
                        Finding::new(FindingKind::ClearedReference, reason).field(&column.field),
                    ));
                }
                (_, Some(ByActor { field, actor, .. })) => {
                    *value = Value::Null;
                    let reason = match self.tense {
                        Tense::Happened => format!(
                            "named actor {actor}, which stands for {target} {pk}, which was not imported; the record has none now"
                        ),
                        Tense::Would => format!(
                            "names actor {actor}, which stands for {target} {pk}, which would not be imported; the record would have none"
                        ),
                    };
                    notes.push(place(Finding::new(FindingKind::ClearedReference, reason).field(field)));
                }
                (lookup, None) => lost.push(UnmappedReference { field: &column.field, target, pk, lookup }),
            }
        }
        if let Some(first) = lost.first() {
            // Under a filter, a record that belongs to another organization is simply filtered. A record of a selected
            // organization that needs a user who is not selected is lost, and gets a finding.
            let elsewhere = lost.iter().any(|lost| {
                lost.lookup == Lookup::Filtered && (lost.target != USER || model.is_user_scoped())
            });
            match of_two.filter(|_| elsewhere && hangs_here) {
                Some((field, reason)) => {
                    let written = self.tense.words("was not written", "would not be written");
                    let reason =
                        format!("{reason}, of which the filter takes only one; so the record {written}");
                    let finding = Finding::new(FindingKind::TwoOrganizations, reason);
                    return Ok(Some(Decision::Dropped(place(finding.field(field)))));
                }
                None if elsewhere => return Ok(Some(Decision::Filtered)),
                None => {}
            }
            let why = self.why_not(first);
            let written = self.tense.words("was not written", "would not be written");
            let reason = format!("leads to {} {}, {why}; so the record {written}", first.target, first.pk);
            let finding = Finding::new(FindingKind::DroppedReference, reason).field(first.field);
            return Ok(Some(Decision::Dropped(place(finding))));
        }
        for columns in &model.rules.at_most_one {
            let is_set = |index: &&usize| record.values.get(**index).is_some_and(|value| !value.is_null());
            let mut set: Vec<usize> = columns.iter().filter(is_set).copied().collect();
            let others = set.split_off(set.len().min(1));
            let Some(stays) = set.first() else { continue };
            let stays = field_of(model, *stays)?;
            for index in others {
                if let Some(slot) = record.values.get_mut(index) {
                    *slot = Value::Null;
                }
                let reason = match self.tense {
                    Tense::Happened => {
                        format!(
                            "was set together with {stays}, and a row can have only one of them; it was cleared"
                        )
                    }
                    Tense::Would => {
                        format!(
                            "is set together with {stays}, and a row can have only one of them; it would be cleared"
                        )
                    }
                };
                let finding = Finding::new(FindingKind::ClearedReference, reason);
                notes.push(place(finding.field(field_of(model, index)?)));
            }
        }
        for reference in &model.rules.skip_when_existing {
            if let Some((_, target, pk)) = existing.iter().find(|(index, ..)| index == reference) {
                let reason = match self.tense {
                    Tense::Happened => {
                        format!("belongs to {target} {pk}, which was here already and keeps what it has")
                    }
                    Tense::Would => {
                        format!("belongs to {target} {pk}, which is here already and would keep what it has")
                    }
                };
                let finding = Finding::new(FindingKind::SkippedByRule, reason);
                return Ok(Some(Decision::Dropped(place(finding.field(field_of(model, *reference)?)))));
            }
        }
        Ok(None)
    }

    /// The field and the reason for a finding, if a record belongs to two organizations.
    fn of_two<'m>(&self, model: &'m Model, record: &Record) -> Option<(&'m str, String)> {
        if !self.plan.is_in_two_organizations(model, record.offset) {
            return None;
        }
        let fields: Vec<&str> = model
            .columns
            .iter()
            .zip(&record.values)
            .filter(|(column, value)| {
                let target = column.references.as_deref();
                target.is_some_and(|target| target != USER) && !value.is_null()
            })
            .map(|(column, _)| column.field.as_str())
            .collect();
        Some((fields.last()?, format!("{} lead to two organizations", fields.join(" and "))))
    }

    fn why_not(&self, lost: &UnmappedReference<'_>) -> &'static str {
        match (lost.lookup, self.catalog.known(lost.target)) {
            (Lookup::Filtered, _) => "which the filter leaves out",
            (Lookup::OutOfScope, _) => "which is of another scope",
            (_, Known::Model(target)) if !target.in_organization_scope() => "a model of another scope",
            (_, Known::Model(_)) => self.tense.words(
                "which was dropped or is not in the export",
                "which would be dropped or is not in the export",
            ),
            _ => "a model that is never imported",
        }
    }
}

/// The text of a record's fields with rewritten references, with rewritten values in the `nested` columns, and without
/// the fields that the catalog does not know.
fn rewrite_fields(
    model: &Model,
    fields: &str,
    values: &[Value],
    nested: &[usize],
) -> Result<String, ExportError> {
    let mut text = String::with_capacity(fields.len() + 64);
    text.push('{');
    each_field(fields, |name, raw| {
        let Some((index, column)) =
            model.column(name).and_then(|index| Some((index, model.columns.get(index)?)))
        else {
            return Ok(());
        };
        if text.len() > 1 {
            text.push(',');
        }
        // Names of fields are identifiers: nothing in them needs an escape.
        text.push('"');
        text.push_str(&column.field);
        text.push_str("\":");
        match values.get(index).filter(|_| column.references.is_some() || nested.contains(&index)) {
            Some(Value::Int(new)) => {
                let _infallible = write!(text, "{new}");
            }
            Some(Value::Null) => text.push_str("null"),
            // The value of a JSON column is its text, and stands for that JSON.
            Some(Value::Text(new)) if column.kind == ColumnType::Json => text.push_str(new),
            Some(Value::Text(new)) => text.push_str(&serde_json::Value::from(new.as_str()).to_string()),
            _ => text.push_str(raw.get()),
        }
        Ok(())
    })
    .map_err(|_| ExportError::inconsistent("the fields of a record have been decoded and are not JSON"))?;
    text.push('}');
    Ok(text)
}
