//! A dry run: chunks go the careful way of writing, through the same rules, to a table that is only looked at. What
//! they would have written is remembered, as far as it may be in the way of what comes behind.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use chrono::{DateTime, Utc};

use super::{
    Row, WriteError, Writer, Written,
    table::{Table, folds},
};
use crate::{
    catalog::{Catalog, Column, Model, Rule},
    export::MAX_PK,
    plan::{Record, hash_value},
    value::Value,
};

/// Looks up rows of the silo that holds a model.
pub trait LookUp: Sync {
    /// What it fails with.
    type Error: From<WriteError> + Send;

    /// Which of these values rows of the model have, and the ids of those rows, as [`super::find_rows`] says.
    fn rows_with(
        &self,
        model: &Model,
        column: &Column,
        values: Vec<String>,
    ) -> impl Future<Output = Result<HashMap<String, i64>, Self::Error>> + Send;
}

/// What a dry run has gone through. It holds hashes: some 30 bytes for each user, address, key and token of the file,
/// and for each record that hangs from a user who may have been merged.
#[derive(Debug)]
pub struct Rehearsal {
    /// Values that rules ask for, by model and column: their hashes, and the ids of the rows that would have them.
    values: HashMap<(usize, usize), HashMap<u64, i64>>,
    /// Keys of unique sets, by model and set.
    keys: HashMap<(usize, usize), HashSet<u64>>,
    /// The unique sets of each model in which records may meet that did not meet in the file.
    sets: Vec<Vec<usize>>,
    next_id: i64,
}

impl Rehearsal {
    /// A dry run that begins. The ids that it makes up lie above all that there can be.
    #[must_use]
    pub fn new(catalog: &Catalog) -> Self {
        let sets = catalog.models().iter().map(|model| sets_that_merge(catalog, model)).collect();
        Self { values: HashMap::new(), keys: HashMap::new(), sets, next_id: MAX_PK + 1 }
    }

    /// Remembers a row, unless a unique set is against it.
    fn take(&mut self, model: &Model, row: &Row) -> bool {
        let sets = self.sets.get(model.position).map(Vec::as_slice).unwrap_or_default();
        let mut keys = Vec::with_capacity(sets.len());
        for index in sets {
            let Some(key) = model.unique.get(*index).and_then(|set| set.key(&row.values)) else { continue };
            let mut hasher = DefaultHasher::new();
            key.into_iter().for_each(|value| hash_value(value, &mut hasher));
            keys.push(((model.position, *index), hasher.finish()));
        }
        if keys.iter().any(|(set, key)| self.keys.get(set).is_some_and(|taken| taken.contains(key))) {
            return false;
        }
        for (set, key) in keys {
            self.keys.entry(set).or_default().insert(key);
        }
        for index in model.asked_columns() {
            let (Some(column), Some(text)) =
                (model.columns.get(index), row.values.get(index).and_then(Value::as_text))
            else {
                continue;
            };
            let values = self.values.entry((model.position, index)).or_default();
            values.entry(hash_text(model, column, text)).or_insert(row.id);
        }
        true
    }

    fn holder(&self, model: &Model, column: &Column, text: &str) -> Option<i64> {
        let index = model.column(&column.field)?;
        self.values.get(&(model.position, index))?.get(&hash_text(model, column, text)).copied()
    }
}

/// The plan has refused records that share a unique set as they are in the file, and rewriting references keeps them
/// apart, unless two old keys lead to one row: those of a model whose records may become rows that are there.
fn sets_that_merge(catalog: &Catalog, model: &Model) -> Vec<usize> {
    let merges = |column: &usize| {
        let target = model.columns.get(*column).and_then(|column| column.references.as_deref());
        let skipped = model.rules.contains(&Rule::SkipWhenExisting { reference: *column });
        !skipped && target.and_then(|target| catalog.model(target)).is_some_and(Model::merges)
    };
    let set = |(index, set): (usize, &crate::catalog::UniqueSet)| {
        (!model.keeps_apart(set) && set.columns.iter().any(merges)).then_some(index)
    };
    model.unique.iter().enumerate().filter_map(set).collect()
}

fn hash_text(model: &Model, column: &Column, text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    if folds(model, column) || column.sql == "citext" {
        text.to_lowercase().hash(&mut hasher);
    } else {
        text.hash(&mut hasher);
    }
    hasher.finish()
}

/// A table as a dry run sees it.
struct Stage<'a, L> {
    rehearsal: &'a mut Rehearsal,
    look: &'a L,
}

impl<L: LookUp> Table for Stage<'_, L> {
    type Error = L::Error;

    async fn check_ids(&mut self, _: &Model, _: &[Row]) -> Result<(), L::Error> {
        Ok(())
    }

    async fn lock(&mut self, _: &Model, _: DateTime<Utc>) -> Result<(), L::Error> {
        Ok(())
    }

    async fn rows_with(
        &mut self,
        model: &Model,
        column: &Column,
        values: Vec<String>,
    ) -> Result<HashMap<String, i64>, L::Error> {
        if values.is_empty() {
            return Ok(HashMap::new());
        }
        let mut found = self.look.rows_with(model, column, values.clone()).await?;
        for value in values {
            if !found.contains_key(&value)
                && let Some(id) = self.rehearsal.holder(model, column, &value)
            {
                found.insert(value, id);
            }
        }
        Ok(found)
    }

    async fn insert_free(&mut self, model: &Model, rows: &[Row]) -> Result<Vec<i64>, L::Error> {
        Ok(rows.iter().filter(|row| self.rehearsal.take(model, row)).map(|row| row.id).collect())
    }
}

impl Writer<'_> {
    /// Goes through the records of a chunk as if they were written, and writes nothing. The new ids are made up.
    ///
    /// # Errors
    /// If `look` fails, or as writing does.
    pub async fn rehearse<L: LookUp>(
        &self,
        model: &Model,
        records: Vec<Record>,
        rehearsal: &mut Rehearsal,
        look: &L,
    ) -> Result<(Vec<Row>, Written), L::Error> {
        let mut rows = self.prepare(model, records)?;
        self.give_ids(model, &mut rows, rehearsal.next_id..);
        rehearsal.next_id += i64::try_from(rows.len()).unwrap_or(0);
        let mut filled = Cow::Borrowed(rows.as_slice());
        let mut findings = self.fill_missing(model, &mut filled);
        let stage = &mut Stage { rehearsal, look };
        let mut written = self.write_carefully(stage, model, filled.into_owned()).await?;
        findings.append(&mut written.findings);
        written.findings = findings;
        Ok((rows, written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What makes it enough to look up single values: every other unique set has a reference to a row that an import
    /// always makes, and such a row is new in a dry run.
    #[test]
    fn a_key_of_a_dry_run_is_never_in_the_table() {
        let catalog = Catalog::load().unwrap();
        for model in catalog.written() {
            for set in model.unique.iter().filter(|set| !model.keeps_apart(set)) {
                let new = set.columns.iter().any(|column| {
                    let target = model.columns[*column].references.as_deref();
                    // What hangs from a row that was there is not written.
                    model.rules.contains(&Rule::SkipWhenExisting { reference: *column })
                        || target
                            .and_then(|target| catalog.model(target))
                            .is_some_and(|target| !target.merges())
                });
                // A record of which a rule keeps the first hangs from something new as well.
                assert!(new, "{} {:?}", model.name, set.columns);
            }
        }
    }
}
