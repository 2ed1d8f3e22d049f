//! Reads the records of one model again, wherever they lie in the file, once the file has been planned.

use std::io::{self, BufReader};

use super::runs::Run;
use crate::{
    catalog::{Model, Silo},
    export::{Decoder, ExportError, Limits, Part, RawRecord, Scanner, Source},
    value::Value,
};

/// A record, decoded.
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
    /// Its values, by column.
    pub values: Vec<Value>,
    /// The actor that a field of older releases names; see [`Model::names_actor`].
    pub actor: Option<i64>,
    /// The text of its fields, for models of the control silo, to which it goes as it is but for its references.
    pub fields: Option<String>,
}

/// Reads records of one model in the order of the file.
pub struct ModelReader<'a> {
    source: Source,
    runs: Box<dyn Iterator<Item = io::Result<Run>> + Send>,
    scanner: Option<Scanner<BufReader<Part>>>,
    model: &'a Model,
    decoder: Decoder<'a>,
    limits: Limits,
    ordinal: i64,
    /// Records before this one are passed over without being decoded.
    from: i64,
}

impl<'a> ModelReader<'a> {
    pub(super) fn new(
        source: Source,
        runs: Box<dyn Iterator<Item = io::Result<Run>> + Send>,
        model: &'a Model,
        decoder: Decoder<'a>,
        limits: Limits,
        from: i64,
    ) -> Self {
        Self { source, runs, scanner: None, model, decoder, limits, ordinal: 0, from }
    }

    /// The next record, or `None` after the last one.
    ///
    /// # Errors
    /// If the file cannot be read, or is not what it was when it was planned.
    pub fn next_record(&mut self) -> Result<Option<Record>, ExportError> {
        loop {
            let Some(scanner) = &mut self.scanner else {
                let Some(run) = self.runs.next().transpose()? else { return Ok(None) };
                let records = i64::try_from(run.records).unwrap_or(i64::MAX);
                if self.ordinal.saturating_add(records) < self.from {
                    self.ordinal += records;
                    continue;
                }
                let part = self.source.part(run.offset..run.offset + run.length);
                let stretch = BufReader::with_capacity(64 * 1024, part);
                self.scanner = Some(Scanner::stretch(stretch, run.offset, self.limits));
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
            let decoded = self.decoder.decode(self.model, raw.fields).map_err(|finding| {
                finding.model(&self.model.name).record(self.ordinal, raw.pk).at(scanned.offset)
            })?;
            return Ok(Some(Record {
                ordinal: self.ordinal,
                source_pk: raw.pk,
                offset: scanned.offset,
                length: scanned.length,
                values: decoded.values,
                actor: decoded.actor,
                fields: (self.model.silo == Silo::Control).then(|| raw.fields.get().to_owned()),
            }));
        }
    }
}
