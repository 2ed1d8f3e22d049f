//! Usernames that are the e-mail address of an earlier user of the file. The writer of a chunk sees the users of the
//! chunk, and the names of earlier users. It would have to search for their addresses in a column without an index. So
//! planning finds such names, while the keys of the file pass in the order of their hashes, however far apart the two
//! users are. The writer reports users of the same chunk, and addresses that come after the name.

use std::{
    collections::BTreeMap,
    hash::{Hash as _, Hasher as _},
};

use causeway_silo::env::Environment;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::{Plan, Record, entry::Entry, read_raw_at};
use crate::{
    catalog::{Catalog, Model},
    export::{Decoder, ExportError},
    finding::{Finding, FindingKind},
    value::Value,
};

/// The bit in `set` that marks a name or an address. The bits below are the position of the model and the kind of the
/// entry.
const MARK: u32 = 1 << 30;
/// The kinds of entries, in the order in which they pass: an address, an address that is also the name of the same
/// record, and a name.
const ADDRESS: u32 = 0;
const BOTH: u32 = 1;
const NAME: u32 = 2;

/// For how many names the holder of the address is stored, 40 bytes each. Further names are only counted.
const MOST: usize = 100_000;

/// Why a name or an address cannot be read.
const NO_COLUMN: &str = "the rule about names and addresses is about columns that there are not";

/// The first record of the file with an address that is the name of a later record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its primary key in the export.
    pub source_pk: i64,
}

/// The name and the address of a record, in lower case.
struct Named {
    source_pk: i64,
    name: Option<String>,
    address: Option<String>,
}

/// Names that are an address of an earlier record: the offset of the record with the name, and the record with the
/// address.
pub(super) type Holders = BTreeMap<u64, Holder>;

/// A name or an address in lower case, as the application compares them; `None` if it is not an address.
fn folded(values: &[Value], column: usize) -> Option<String> {
    values.get(column)?.as_text().filter(|text| text.contains('@')).map(str::to_lowercase)
}

fn set(model: &Model, kind: u32) -> Result<u32, ExportError> {
    let position = u32::try_from(model.position).ok().filter(|position| *position < MARK >> 2);
    let position = position.ok_or_else(|| ExportError::inconsistent("the catalog has too many models"))?;
    Ok(MARK | (position << 2) | kind)
}

/// The position of the model and the kind of an entry, if it is a name or an address.
fn split(set: u32) -> Option<(u32, u32)> {
    let is_marked = set & (MARK | (1 << 31)) == MARK;
    is_marked.then_some(((set & !MARK) >> 2, set & 3))
}

/// The entries of a record's name and address.
pub(super) fn entries(model: &Model, record: &Record) -> Result<Vec<Entry>, ExportError> {
    let Some((name, address)) = model.rules.warn_of_address else { return Ok(Vec::new()) };
    let (name, address) = (folded(&record.values, name), folded(&record.values, address));
    let entry = |text: &str, kind: u32| -> Result<Entry, ExportError> {
        let mut hasher = SipHasher13::new();
        text.hash(&mut hasher);
        Ok(Entry { hash: hasher.finish(), set: set(model, kind)?, offset: record.offset })
    };
    match (name, address) {
        (Some(name), Some(address)) if name == address => Ok(vec![entry(&name, BOTH)?]),
        (name, address) => {
            let name = name.map(|name| entry(&name, NAME));
            name.into_iter().chain(address.map(|address| entry(&address, ADDRESS))).collect()
        }
    }
}

/// Whether an entry is a name or an address, not a key.
pub(super) fn is_one(entry: Entry) -> bool {
    split(entry.set).is_some()
}

/// Finds such names while entries pass in sorted order.
pub(super) struct Addresses<'a> {
    catalog: &'a Catalog,
    env: &'a Environment,
    plan: &'a Plan,
    /// The hash and the model of the current entries.
    at: (u64, usize),
    /// The offsets of the records with this address.
    having: RoaringTreemap,
    /// The first of them that is imported, and the address. Read when it is first needed.
    first: Option<(Holder, String)>,
    found: BTreeMap<usize, Holders>,
    most: usize,
    /// How many names are beyond the limit, and the first of them.
    more: u64,
    first_more: Option<Finding>,
}

impl<'a> Addresses<'a> {
    pub(super) fn new(catalog: &'a Catalog, env: &'a Environment, plan: &'a Plan) -> Self {
        Self::remembering(catalog, env, plan, MOST)
    }

    /// The same, but stores at most `most` names.
    pub(super) fn remembering(
        catalog: &'a Catalog,
        env: &'a Environment,
        plan: &'a Plan,
        most: usize,
    ) -> Self {
        Self {
            catalog,
            env,
            plan,
            at: (0, usize::MAX),
            having: RoaringTreemap::new(),
            first: None,
            found: BTreeMap::new(),
            most,
            more: 0,
            first_more: None,
        }
    }

    /// Takes the next entry.
    pub(super) fn see(&mut self, entry: Entry) -> Result<(), ExportError> {
        let Some((position, kind)) = split(entry.set) else { return Ok(()) };
        let position = usize::try_from(position).map_err(std::io::Error::other)?;
        let Some(model) = self.catalog.models().get(position) else {
            return Err(ExportError::inconsistent("a name or an address is of a model that there is not"));
        };
        if self.at != (entry.hash, position) {
            self.at = (entry.hash, position);
            self.having.clear();
            self.first = None;
        }
        if kind != ADDRESS {
            self.name(model, entry.offset)?;
        }
        if kind != NAME {
            self.having.insert(entry.offset);
            // Addresses that are a name too come after those that are not, wherever their records are in the file.
            self.first.take_if(|(holder, _)| entry.offset < holder.offset);
        }
        Ok(())
    }

    /// Searches for an earlier record with an address that is the name of this one.
    fn name(&mut self, model: &Model, offset: u64) -> Result<(), ExportError> {
        while self.first.is_none()
            && let Some(least) = self.having.min().filter(|least| *least < offset)
        {
            match self.read(model, least)? {
                Some(Named { source_pk, address: Some(address), .. }) => {
                    self.first = Some((Holder { offset: least, source_pk }, address));
                }
                // A record that the filter excludes does not matter, and is not read again.
                _ => {
                    self.having.remove(least);
                }
            }
        }
        let Some((holder, address)) = self.first.clone().filter(|(holder, _)| holder.offset < offset) else {
            return Ok(());
        };
        let Some(Named { source_pk, name: Some(name), .. }) = self.read(model, offset)? else {
            return Ok(());
        };
        if name != address {
            return Ok(());
        }
        let found = self.found.entry(model.position).or_default();
        if found.len() < self.most {
            found.insert(offset, holder);
            return Ok(());
        }
        self.more += 1;
        if self.first_more.is_none() {
            let column = model.rules.warn_of_address.and_then(|(column, _)| model.columns.get(column));
            let field = &column.ok_or_else(|| ExportError::inconsistent(NO_COLUMN))?.field;
            let finding = Finding::new(FindingKind::UsernameIsAddress, "").model(&model.name).field(field);
            let mut finding = finding.at(offset);
            finding.source_pk = Some(source_pk);
            self.first_more = Some(finding);
        }
        Ok(())
    }

    /// The primary key, name and address of a record, if the filter selects it.
    fn read(&self, model: &Model, offset: u64) -> Result<Option<Named>, ExportError> {
        let Some((name, address)) = model.rules.warn_of_address else { return Ok(None) };
        let [Some(name_of), Some(address_of)] =
            [name, address].map(|column| model.columns.get(column).map(|column| column.field.as_str()))
        else {
            return Err(ExportError::inconsistent(NO_COLUMN));
        };
        let decoder = Decoder::new(self.env, self.plan.now);
        read_raw_at(&self.plan.source, offset, self.plan.limits, |raw, _| {
            let selection = self.plan.selection.as_ref();
            if selection.is_some_and(|selection| !selection.takes(model, raw.pk, None)) {
                return Ok(None);
            }
            let wanted = |field: &str| field == name_of || field == address_of;
            let values = decoder.salvage(model, raw.fields, |column| wanted(&column.field));
            let (name, address) = (folded(&values, name), folded(&values, address));
            Ok(Some(Named { source_pk: raw.pk, name, address }))
        })
    }

    /// The names that were found, by the position of the model, and the finding about names beyond the limit.
    pub(super) fn end(self) -> (BTreeMap<usize, Holders>, Option<Finding>) {
        let more = self.more;
        let reported = self.first_more.map(|mut finding| {
            finding.reason = format!(
                "is the e-mail address of another record of the file; so are {more} names, this one among them, which get no finding of their own"
            );
            finding
        });
        (self.found, reported)
    }
}

impl Plan {
    /// The first record of the file with an address that is the name of the record at this offset; `None` if no earlier
    /// record has the address.
    #[must_use]
    pub fn earlier_holder(&self, model: &Model, offset: u64) -> Option<Holder> {
        self.models.get(model.position)?.addresses.get(&offset).copied()
    }
}
