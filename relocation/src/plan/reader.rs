//! Reads the records of one model of a planned file, wherever they are in it.

use std::io::{self, BufReader};

use roaring::RoaringTreemap;

use super::{
    AddedFor, Plan, extents::Extent, no_model, record_ownership::unsigned, segment::too_large_for_control,
};
use crate::{
    catalog::{Model, Silo},
    export::{Decoder, ExportError, ExportRange, Limits, RawRecord, Scanner, Source},
    finding::Finding,
    value::Value,
};

/// A decoded record, as the plan hands it to the writer.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its number among the records of its model in the file, from 1.
    pub ordinal: i64,
    /// Its primary key in the export.
    pub source_pk: i64,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// How many bytes it has in the file.
    pub length: usize,
    /// Whether decoding alone has changed the record, e.g. because a field is unknown.
    pub changed: bool,
    /// Its values, by column.
    pub values: Vec<Value>,
    /// The actor that a field of older releases names; see [`Model::names_actor`].
    pub actor: Option<i64>,
    /// The text of its fields, if the model is of control and the record has no defect: control receives the text
    /// itself, with rewritten references.
    pub fields: Option<String>,
    /// The rule that it breaks, if the file is imported without it: the filter excludes it, or its user exists. Then
    /// `values` has what could be read.
    pub defect: Option<Box<Finding>>,
    /// The record that this row is added for, if the file has no record for it. Its primary key is made up then, and
    /// negative.
    pub added_for: Option<AddedFor>,
}

/// Reads records of one model in the order of the file.
pub struct ModelReader<'a> {
    source: Source,
    runs: Box<dyn Iterator<Item = io::Result<Extent>> + Send>,
    scanner: Option<Scanner<BufReader<ExportRange>>>,
    model: &'a Model,
    decoder: Decoder<'a>,
    limits: Limits,
    ordinal: i64,
    /// The first ordinal to return. Earlier records are passed over without being decoded.
    from: i64,
    /// The offsets of records that break a rule, and that the file is imported without.
    defective: RoaringTreemap,
    /// The primary keys of the records to return, with their text; all records if `None`.
    only: Option<RoaringTreemap>,
}

impl<'a> ModelReader<'a> {
    pub(super) fn new(
        source: Source,
        runs: Box<dyn Iterator<Item = io::Result<Extent>> + Send>,
        model: &'a Model,
        decoder: Decoder<'a>,
        limits: Limits,
        from: i64,
        defective: RoaringTreemap,
    ) -> Self {
        Self { source, runs, scanner: None, model, decoder, limits, ordinal: 0, from, defective, only: None }
    }

    /// Returns only the records with these primary keys, each with the text of its fields.
    pub(super) fn only(self, pks: RoaringTreemap) -> Self {
        Self { only: Some(pks), ..self }
    }

    /// The next record, or `None` after the last one.
    ///
    /// # Errors
    /// If the file cannot be read, or has changed since it was planned.
    pub fn next_record(&mut self) -> Result<Option<Record>, ExportError> {
        loop {
            let Some(scanner) = &mut self.scanner else {
                let Some(run) = self.runs.next().transpose()? else { return Ok(None) };
                let records = i64::try_from(run.records).map_err(io::Error::other)?;
                let last = self.ordinal.checked_add(records);
                let last = last.ok_or_else(|| ExportError::inconsistent("the plan has too many records"))?;
                if last < self.from {
                    self.ordinal = last;
                    continue;
                }
                let part = self.source.part(run.offset..run.offset + run.length);
                let extent = BufReader::with_capacity(64 * 1024, part);
                self.scanner = Some(Scanner::extent(extent, run.offset, self.limits));
                continue;
            };
            let Some((scanned, bytes)) = scanner.next_record()? else {
                self.scanner = None;
                continue;
            };
            self.ordinal += 1;
            if self.ordinal < self.from {
                continue;
            }
            let raw = RawRecord::parse(bytes, scanned.offset)?;
            if self.only.as_ref().is_some_and(|only| !only.contains(unsigned(raw.pk))) {
                continue;
            }
            let decoded = match too_large_for_control(self.model, scanned.length) {
                Some(finding) if self.defective.contains(scanned.offset) => Err(finding),
                _ => self
                    .decoder
                    .decode(self.model, raw.fields)
                    .map(|it| (it.is_changed(), it.values, it.actor)),
            };
            let (changed, values, actor, defect) = match decoded {
                Ok((changed, values, actor)) => (changed, values, actor, None),
                Err(finding) => {
                    let finding =
                        finding.model(&self.model.name).record(self.ordinal, raw.pk).at(scanned.offset);
                    if !self.defective.contains(scanned.offset) {
                        return Err(finding.into());
                    }
                    let values = self.decoder.salvage(self.model, raw.fields, |_| true);
                    (false, values, None, Some(Box::new(finding)))
                }
            };
            let is_sent = (self.model.silo == Silo::Control || self.only.is_some()) && defect.is_none();
            return Ok(Some(Record {
                ordinal: self.ordinal,
                source_pk: raw.pk,
                offset: scanned.offset,
                length: scanned.length,
                changed,
                values,
                actor,
                fields: is_sent.then(|| raw.fields.get().to_owned()),
                defect,
                added_for: None,
            }));
        }
    }
}

impl Plan {
    /// Calls `take` with ordinal, offset and text of each record of a model, whatever its fields contain.
    pub(super) fn each_raw(
        &self,
        model: &Model,
        mut take: impl FnMut(i64, u64, RawRecord<'_>) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let plan = self.models.get(model.position).ok_or_else(no_model)?;
        let mut ordinal = 0;
        for run in plan.runs.iter()? {
            let run = run?;
            let part = self.source.part(run.offset..run.offset + run.length);
            let extent = BufReader::with_capacity(64 * 1024, part);
            let mut scanner = Scanner::extent(extent, run.offset, self.limits);
            while let Some((scanned, bytes)) = scanner.next_record()? {
                ordinal += 1;
                take(ordinal, scanned.offset, RawRecord::parse(bytes, scanned.offset)?)?;
            }
        }
        Ok(())
    }
}
