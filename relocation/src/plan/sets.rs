//! The sets of columns in which the records of a file must differ.

use std::hash::{Hash as _, Hasher as _};

use super::Record;
use crate::{
    catalog::{Catalog, UniqueSet},
    value::Value,
};
use siphasher::sip::SipHasher13;

/// Columns whose values must differ between the records of a file.
#[derive(Debug)]
pub(super) struct KeySet {
    pub(super) model: usize,
    /// The columns; empty for the primary key.
    pub(super) columns: Vec<usize>,
    condition: Option<UniqueSet>,
    /// Records with the same key are not an error: the first one is imported. Null equals null.
    pub(super) keep_first: bool,
}

impl KeySet {
    /// The values that must differ, or `None` if the set does not apply to this record.
    pub(super) fn key<'r>(&self, record: &'r Record) -> Option<Vec<&'r Value>> {
        match &self.condition {
            Some(set) => set.key(&record.values),
            None => Some(self.columns.iter().filter_map(|column| record.values.get(*column)).collect()),
        }
    }

    /// Whether two records have the same key.
    pub(super) fn agree(&self, one: &Record, other: &Record) -> bool {
        match self.columns.is_empty() {
            true => one.source_pk == other.source_pk,
            false => self.key(one) == self.key(other),
        }
    }
}

/// All sets in which the records of a file must differ: primary keys, and the unique sets that no rule handles.
pub(super) fn key_sets(catalog: &Catalog) -> Vec<KeySet> {
    let mut sets = Vec::new();
    for model in catalog.written() {
        sets.push(KeySet { model: model.position, columns: Vec::new(), condition: None, keep_first: false });
        for columns in &model.rules.keep_first {
            sets.push(KeySet {
                model: model.position,
                columns: columns.clone(),
                condition: None,
                keep_first: true,
            });
        }
        for set in &model.unique {
            if !model.guarantees_unique(set) {
                sets.push(KeySet {
                    model: model.position,
                    columns: set.columns.clone(),
                    condition: Some(set.clone()),
                    keep_first: false,
                });
            }
        }
    }
    sets
}

/// The hash of a record's key in a set.
pub(super) fn hash_key(set: &KeySet, pk: i64, key: Vec<&Value>) -> u64 {
    let mut hasher = SipHasher13::new();
    if set.columns.is_empty() {
        pk.hash(&mut hasher);
    }
    for value in key {
        hash_value(value, &mut hasher);
    }
    hasher.finish()
}

pub(crate) fn hash_value(value: &Value, hasher: &mut SipHasher13) {
    match value {
        Value::Null => 0_u8.hash(hasher),
        Value::Bool(value) => (1_u8, value).hash(hasher),
        Value::Int(value) => (2_u8, value).hash(hasher),
        Value::Text(value) => (3_u8, value).hash(hasher),
        Value::Time(value) => (4_u8, value).hash(hasher),
        Value::Uuid(value) => (5_u8, value).hash(hasher),
        // No unique set has such columns; equal values still get equal hashes.
        Value::Float(_) | Value::Inet(..) | Value::Texts(_) | Value::FloatRows(_) => 6_u8.hash(hasher),
    }
}
