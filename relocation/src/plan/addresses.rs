//! Usernames that are the e-mail address of an earlier user of the file. Whoever writes a chunk sees its own users, and the
//! names of those before; which addresses those had, it would have to look for in a column without an index. So it is
//! found out while the keys of the file pass by in the order of their hashes, however far the two are apart. Of users in
//! one chunk, and of addresses that come after the name, the writer tells.

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

/// Marks the set of an entry that is a name or an address. Behind it, the position of the model and what the entry is.
const MARK: u32 = 1 << 30;
/// An address, one that is the name of the same record too, and a name: in this order they pass by.
const ADDRESS: u32 = 0;
const BOTH: u32 = 1;
const NAME: u32 = 2;

/// Names of which the holder of the address is remembered, 40 bytes each. The others are counted.
const MOST: usize = 100_000;

/// The first record of the file that has an address which is the name of a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its primary key.
    pub source_pk: i64,
}

/// What a record is called, and its address, in lower case.
struct Named {
    source_pk: i64,
    name: Option<String>,
    address: Option<String>,
}

/// Names that are an address of an earlier record: where their records begin, and that record.
pub(super) type Holders = BTreeMap<u64, Holder>;

/// Both in lower case, as the application compares them; nothing for what is no address.
fn folded(values: &[Value], column: usize) -> Option<String> {
    values.get(column)?.as_text().filter(|text| text.contains('@')).map(str::to_lowercase)
}

fn set(model: &Model, kind: u32) -> u32 {
    MARK | (u32::try_from(model.position).unwrap_or(0) << 2) | kind
}

/// What an entry is, if it is one of these, and of which model.
fn split(set: u32) -> Option<(usize, u32)> {
    let is_marked = set & (MARK | (1 << 31)) == MARK;
    is_marked.then(|| (usize::try_from((set & !MARK) >> 2).unwrap_or(usize::MAX), set & 3))
}

/// The entries of a record's name and address.
pub(super) fn entries(model: &Model, record: &Record) -> Vec<Entry> {
    let Some((name, address)) = model.rules.warn_of_address else { return Vec::new() };
    let (name, address) = (folded(&record.values, name), folded(&record.values, address));
    let entry = |text: &str, kind: u32| {
        let mut hasher = SipHasher13::new();
        text.hash(&mut hasher);
        Entry { hash: hasher.finish(), set: set(model, kind), offset: record.offset }
    };
    match (name, address) {
        (Some(name), Some(address)) if name == address => vec![entry(&name, BOTH)],
        (name, address) => {
            let name = name.map(|name| entry(&name, NAME));
            name.into_iter().chain(address.map(|address| entry(&address, ADDRESS))).collect()
        }
    }
}

/// Whether an entry is a name or an address, and no key.
pub(super) fn is_one(entry: Entry) -> bool {
    split(entry.set).is_some()
}

/// Finds out while entries pass by in their order.
pub(super) struct Addresses<'a> {
    catalog: &'a Catalog,
    env: &'a Environment,
    plan: &'a Plan,
    /// The hash and the model of the entries that are looked at.
    at: (u64, usize),
    /// Where those begin that have the address.
    having: RoaringTreemap,
    /// The first of them that is imported, once somebody has asked.
    first: Option<(Holder, String)>,
    found: BTreeMap<usize, Holders>,
    most: usize,
    /// How many more there are, and the first of them.
    more: u64,
    first_more: Option<Finding>,
}

impl<'a> Addresses<'a> {
    pub(super) fn new(catalog: &'a Catalog, env: &'a Environment, plan: &'a Plan) -> Self {
        Self::remembering(catalog, env, plan, MOST)
    }

    /// One that remembers at most so many names.
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

    /// Looks at the next entry.
    pub(super) fn see(&mut self, entry: Entry) -> Result<(), ExportError> {
        let Some((position, kind)) = split(entry.set) else { return Ok(()) };
        let Some(model) = self.catalog.models().get(position) else { return Ok(()) };
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
            // Those that are a name too come after those that are not, wherever they stand in the file.
            self.first.take_if(|(holder, _)| entry.offset < holder.offset);
        }
        Ok(())
    }

    /// Looks for an earlier record with the address that the name of this one is.
    fn name(&mut self, model: &Model, offset: u64) -> Result<(), ExportError> {
        while self.first.is_none()
            && let Some(least) = self.having.min().filter(|least| *least < offset)
        {
            match self.read(model, least)? {
                Some(Named { source_pk, address: Some(address), .. }) => {
                    self.first = Some((Holder { offset: least, source_pk }, address));
                }
                // Of what the filter leaves out, nobody needs to hear, and nobody looks at it again.
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
            let field = column.map_or("", |column| column.field.as_str());
            let finding = Finding::new(FindingKind::UsernameIsAddress, "").model(&model.name).field(field);
            let mut finding = finding.at(offset);
            finding.source_pk = Some(source_pk);
            self.first_more = Some(finding);
        }
        Ok(())
    }

    /// The primary key, name and address of a record, if the filter takes it.
    fn read(&self, model: &Model, offset: u64) -> Result<Option<Named>, ExportError> {
        let Some((name, address)) = model.rules.warn_of_address else { return Ok(None) };
        let [name_of, address_of] =
            [name, address].map(|column| model.columns.get(column).map_or("", |it| it.field.as_str()));
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

    /// What was found, by the position of the model, and what there is to tell of those that are too many to be remembered.
    pub(super) fn end(self) -> (BTreeMap<usize, Holders>, Option<Finding>) {
        let more = self.more;
        let told = self.first_more.map(|mut finding| {
            finding.reason = format!(
                "is the e-mail address of another record of the file; so are {more} names, this one among them, which get no finding of their own"
            );
            finding
        });
        (self.found, told)
    }
}

impl Plan {
    /// The first record of the file with an address that is the name of this one, which is known by where it begins; nothing
    /// if no record before it has the address.
    #[must_use]
    pub fn earlier_holder(&self, model: &Model, offset: u64) -> Option<Holder> {
        self.models.get(model.position)?.addresses.get(&offset).copied()
    }
}
