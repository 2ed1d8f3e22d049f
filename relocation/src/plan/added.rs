//! Rows that are added although the file has no records for them: a key for a project that has none, an address for a
//! user who has none, and what older releases have elsewhere. The rule [`AddedFor`](crate::catalog::AddedFor) says of
//! which models.
//!
//! The pass notes which records may get such rows, and to which of them records refer. The rows come after the records
//! of their model: their ordinals go on from the last one in the file, and their primary keys are made up, -1, -2 and so
//! on. So they are written, continued and reverted like records, in chunks of their own.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use causeway_silo::env::Environment;
use roaring::RoaringTreemap;
use serde_json::value::RawValue;

use super::{
    ModelReader, Plan, PlanningProgress, Record, no_model, record_ownership::unsigned, steps::ModelPart,
    stopped,
};
use crate::{
    catalog::{AddedFor as Rule, Catalog, Model, Silo},
    export::{Decoder, ExportError, RawRecord, each_field, numbers},
    value::Value,
};

/// The record of the file that a row is added for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddedFor {
    /// The position of its model.
    pub position: usize,
    /// Its number among the records of its model, from 1.
    pub ordinal: i64,
    /// Its primary key in the export.
    pub source_pk: i64,
}

/// The rows of a model that are added.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// The primary keys of the records that they are added for.
    pub(super) of: RoaringTreemap,
    /// How many rows these are, if all these records are imported.
    pub(super) count: i64,
}

/// Which records may get rows, by the position of the rows' model.
#[derive(Debug, Default)]
pub(super) struct Candidates(BTreeMap<usize, Candidate>);

#[derive(Debug, Default)]
struct Candidate {
    may_get_rows: RoaringTreemap,
    referred: RoaringTreemap,
}

impl Candidates {
    /// Adds what a segment has noted about the records of the model at `position`.
    pub(super) fn add(&mut self, position: usize, referred: Vec<u64>, may_get_rows: Vec<(usize, u64)>) {
        if !referred.is_empty() {
            self.0.entry(position).or_default().referred.extend(referred);
        }
        for (model, pk) in may_get_rows {
            self.0.entry(model).or_default().may_get_rows.insert(pk);
        }
    }

    /// The records that get rows because no record refers to them, by the position of the rows' model.
    pub(super) fn end(self) -> impl Iterator<Item = (usize, RoaringTreemap)> {
        self.0.into_iter().map(|(position, of)| (position, of.may_get_rows - of.referred))
    }
}

/// Notes which record this one refers to, and of which models it may get rows.
///
/// # Errors
/// If the fields are not JSON, or the catalog contradicts itself.
pub(super) fn note(
    catalog: &Catalog,
    model: &Model,
    raw: &RawRecord<'_>,
    values: &[Value],
    part: Entry<'_, usize, ModelPart>,
) -> Result<(), ExportError> {
    let referred = model.rules.added_for.as_ref().and_then(|rule| values.get(rule.reference)?.as_int());
    if referred.is_none() && model.adds.is_empty() {
        return Ok(());
    }
    let part = part.or_default();
    part.referred.extend(referred.map(unsigned));
    for position in &model.adds {
        let rule = rule_of(catalog, *position)?;
        if !rows_for(rule, model, raw.fields.get())?.is_empty() {
            part.may_get_rows.push((*position, unsigned(raw.pk)));
        }
    }
    Ok(())
}

/// The rule by which rows of the model at `position` are added.
fn rule_of(catalog: &Catalog, position: usize) -> Result<&Rule, ExportError> {
    let rule = catalog.models().get(position).and_then(|model| model.rules.added_for.as_ref());
    rule.ok_or_else(no_model)
}

/// The model of the records that rows are added for.
fn target<'c>(catalog: &'c Catalog, model: &Model, rule: &Rule) -> Result<&'c Model, ExportError> {
    let position = model.columns.get(rule.reference).and_then(|column| column.target);
    position.and_then(|position| catalog.models().get(position)).ok_or_else(no_model)
}

/// The fields that differ from row to row.
type Fields = Vec<(String, Box<RawValue>)>;

/// The rows that are added for a record of the model `of` with these fields.
fn rows_for(rule: &Rule, of: &Model, fields: &str) -> Result<Vec<Fields>, ExportError> {
    let (mut copied, mut list): (Fields, _) = (Vec::new(), Vec::new());
    if rule.passed_on().next().is_none() {
        return Ok(vec![copied]);
    }
    each_field(fields, |name, raw| {
        let is = |field: &str| {
            field == name || of.column(field).is_some_and(|column| of.column(name) == Some(column))
        };
        for (to, _) in rule.copies.iter().filter(|(_, from)| is(from)) {
            if !matches!(raw.get(), "null" | "\"\"") {
                copied.push((to.clone(), raw.to_owned()));
            }
        }
        if rule.each_of.as_ref().is_some_and(|each| is(&each.list)) {
            list = numbers(raw);
        }
        Ok(())
    })?;
    if copied.len() < rule.copies.len() {
        return Ok(Vec::new());
    }
    let Some(each) = &rule.each_of else { return Ok(vec![copied]) };
    list.retain(|number| *number > 0);
    list.sort_unstable();
    list.dedup();
    let row = |number: i64| {
        let number = RawValue::from_string(number.to_string()).map_err(std::io::Error::from)?;
        Ok(copied.iter().cloned().chain([(each.to.clone(), number)]).collect())
    };
    list.into_iter().map(row).collect()
}

/// Reads the records of a model, and after them the rows that are added.
pub struct WrittenReader<'a> {
    records: ModelReader<'a>,
    added: Option<AddedReader<'a>>,
}

impl WrittenReader<'_> {
    /// The next record or row, or `None` after the last one.
    ///
    /// # Errors
    /// If the file cannot be read, or has changed since it was planned.
    pub fn next_record(&mut self) -> Result<Option<Record>, ExportError> {
        match self.records.next_record()? {
            Some(record) => Ok(Some(record)),
            None => self.added.as_mut().map_or(Ok(None), AddedReader::next_record),
        }
    }
}

/// Reads the rows of a model that are added.
struct AddedReader<'a> {
    /// The records that they are added for.
    records: ModelReader<'a>,
    /// The primary keys of those that have not been read yet.
    unread: RoaringTreemap,
    /// Rows for the record that was read last.
    rows: VecDeque<(Fields, u64, AddedFor)>,
    of: &'a Model,
    model: &'a Model,
    rule: &'a Rule,
    decoder: Decoder<'a>,
    /// How many records of the model the file has.
    seen: i64,
    /// The number of the last row, from 1.
    index: i64,
    /// The first ordinal to return.
    from: i64,
}

impl AddedReader<'_> {
    /// The fields of the next row, with the place and the record that it is added for.
    fn next_row(&mut self) -> Result<Option<(Fields, u64, AddedFor)>, ExportError> {
        loop {
            if let Some(row) = self.rows.pop_front() {
                return Ok(Some(row));
            }
            if self.unread.is_empty() {
                return Ok(None);
            }
            let Some(record) = self.records.next_record()? else {
                return Err(ExportError::inconsistent("a record that rows are added for is gone"));
            };
            let Record { ordinal, source_pk, offset, fields: Some(fields), .. } = record else { continue };
            // Of two records with one primary key, which the filter leaves out, the first one counts.
            if self.unread.remove(unsigned(source_pk)) {
                let added_for = AddedFor { position: self.of.position, ordinal, source_pk };
                let rows = rows_for(self.rule, self.of, &fields)?;
                self.rows.extend(rows.into_iter().map(|row| (row, offset, added_for)));
            }
        }
    }

    fn next_record(&mut self) -> Result<Option<Record>, ExportError> {
        loop {
            let Some((row, offset, added_for)) = self.next_row()? else { return Ok(None) };
            self.index += 1;
            let ordinal = self.seen + self.index;
            if ordinal < self.from {
                continue;
            }
            let fields = self.fields(row, added_for)?;
            let (values, defect) = match self.decoder.decode(self.model, &fields) {
                Ok(decoded) => (decoded.values, None),
                Err(finding) => (vec![Value::Null; self.model.columns.len()], Some(Box::new(finding))),
            };
            return Ok(Some(Record {
                ordinal,
                source_pk: -self.index,
                offset,
                length: fields.get().len(),
                changed: false,
                values,
                actor: None,
                fields: (self.model.silo == Silo::Control).then(|| fields.get().to_owned()),
                defect,
                added_for: Some(added_for),
            }));
        }
    }

    /// The fields of a row as an export would have them.
    fn fields(&self, row: Fields, added_for: AddedFor) -> Result<Box<RawValue>, ExportError> {
        let mut fields: BTreeMap<String, Box<RawValue>> = row.into_iter().collect();
        let reference = self.model.columns.get(self.rule.reference).ok_or_else(no_model)?;
        let raw = |json: String| RawValue::from_string(json).map_err(std::io::Error::from);
        fields.insert(reference.field.clone(), raw(added_for.source_pk.to_string())?);
        for (field, json) in &self.rule.set {
            fields.insert(field.clone(), raw(json.clone())?);
        }
        Ok(serde_json::value::to_raw_value(&fields).map_err(std::io::Error::from)?)
    }
}

impl Plan {
    /// How many rows of a model may be added after those of its records.
    #[must_use]
    pub fn added_count(&self, model: &Model) -> i64 {
        self.models.get(model.position).map_or(0, |plan| plan.added.count)
    }

    /// The last ordinal of a model: the number of its records and of the rows that may be added.
    #[must_use]
    pub fn last_ordinal(&self, model: &Model) -> i64 {
        self.record_count(model).saturating_add(self.added_count(model))
    }

    /// Reads the records of a model again, and the rows that are added, from the given ordinal on.
    ///
    /// # Errors
    /// If the stored positions of the records cannot be read.
    pub fn written<'a>(
        &self,
        catalog: &'a Catalog,
        model: &'a Model,
        env: &'a Environment,
        from: i64,
    ) -> Result<WrittenReader<'a>, ExportError> {
        let records = self.reader(model, env, from)?;
        Ok(WrittenReader { records, added: self.added(catalog, model, env, from)? })
    }

    fn added<'a>(
        &self,
        catalog: &'a Catalog,
        model: &'a Model,
        env: &'a Environment,
        from: i64,
    ) -> Result<Option<AddedReader<'a>>, ExportError> {
        let plan = self.models.get(model.position).ok_or_else(no_model)?;
        let Some(rule) = model.rules.added_for.as_ref().filter(|_| !plan.added.of.is_empty()) else {
            return Ok(None);
        };
        let of = target(catalog, model, rule)?;
        Ok(Some(AddedReader {
            records: self.reader(of, env, 1)?.only(plan.added.of.clone()),
            unread: plan.added.of.clone(),
            rows: VecDeque::new(),
            of,
            model,
            rule,
            decoder: Decoder::new(env, self.now),
            seen: plan.seen,
            index: 0,
            from,
        }))
    }

    /// Counts the rows that are added. Where there may be several for a record, those records are read again.
    pub(super) fn count_added(
        &mut self,
        catalog: &Catalog,
        env: &Environment,
        watch: &PlanningProgress,
    ) -> Result<(), ExportError> {
        for model in catalog.written() {
            let count = match self.added(catalog, model, env, i64::MAX)? {
                None => 0,
                Some(mut reader) if reader.rule.each_of.is_some() => {
                    while reader.next_row()?.is_some() {
                        stopped(watch)?;
                        reader.index += 1;
                    }
                    reader.index
                }
                Some(reader) => i64::try_from(reader.unread.len()).map_err(std::io::Error::other)?,
            };
            self.models.get_mut(model.position).ok_or_else(no_model)?.added.count = count;
        }
        Ok(())
    }
}
