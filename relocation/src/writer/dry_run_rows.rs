//! Dry runs. The rows of a chunk take the conflict path, by the same rules, but the table is only read. What
//! a chunk would have written is stored, as far as later rows may conflict with it.

use std::{
    borrow::Cow,
    collections::HashMap,
    hash::{Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
};

use causeway_silo::db::{DbError, count};
use chrono::{DateTime, Utc};
use roaring::RoaringTreemap;
use siphasher::sip::SipHasher13;

use super::{
    Row, WriteError, Writer, Written,
    bisect::Inserted,
    no_column,
    spill_map::{Keys, SpillMap},
    table::{NotRaised, Table, folds},
};
use crate::{
    catalog::{Catalog, Column, Model},
    export::MAX_PK,
    plan::{Record, hash_value},
    revert,
    value::Value,
};

/// What a dry run stores about its rows cannot be written to disk, or read from it.
#[derive(Debug, thiserror::Error)]
#[error("what a dry run stores about its rows cannot be written to the disk or read from it: {0}")]
pub struct ScratchError(#[from] io::Error);

/// Looks up rows in the silo that has a model.
pub trait RowLookup: Sync {
    /// The error of a query.
    type Error: From<WriteError> + From<ScratchError> + Send;

    /// Which of these values existing rows of the model have, with the ids of those rows, as in [`super::find_rows`].
    fn rows_with(
        &self,
        model: &Model,
        column: &Column,
        values: Vec<String>,
    ) -> impl Future<Output = Result<HashMap<String, i64>, Self::Error>> + Send;
}

/// The state of a dry run. It has hashes for each user, address, key and token of the file, and for each record that
/// refers to a user who may have been merged: in memory up to a budget, in files beyond it.
#[derive(Debug)]
pub struct DryRun {
    earlier_rows: SpillMap,
    scratch_dir: PathBuf,
    /// By model: the unique sets in which records may conflict that did not conflict in the file.
    sets: Vec<Vec<usize>>,
    next_id: i64,
    /// The organizations that have the row that [`crate::catalog::Rules::needs_one`] requires.
    with_one: RoaringTreemap,
}

impl DryRun {
    /// A new dry run. The ids that it makes up are above all possible ids. What is too large for memory goes to
    /// nameless files in `scratch_dir`.
    #[must_use]
    pub fn new(catalog: &Catalog, scratch_dir: &Path) -> Self {
        let sets = catalog.models().iter().map(|model| sets_that_merge(catalog, model)).collect();
        Self {
            earlier_rows: SpillMap::new(scratch_dir),
            scratch_dir: scratch_dir.to_owned(),
            sets,
            next_id: MAX_PK + 1,
            with_one: RoaringTreemap::new(),
        }
    }

    /// Whether an organization of the dry run has the row that it needs, according to the models that have been
    /// checked.
    #[must_use]
    pub fn has_one(&self, organization: i64) -> bool {
        u64::try_from(organization).is_ok_and(|id| self.with_one.contains(id))
    }

    /// What the dry run stores about a row.
    fn keys(&self, model: &Model, row: &Row) -> Result<Keys, WriteError> {
        let sets = self.sets.get(model.position);
        let sets = sets.ok_or_else(|| DbError::inconsistent(format!("a dry run lacks {}", model.name)))?;
        let unique = sets.iter().filter_map(|index| {
            Some(hash_unique(model, *index, &model.unique.get(*index)?.key(&row.values)?))
        });
        let looked_up = model.looked_up_columns().filter_map(|index| {
            let text = row.values.get(index).and_then(Value::as_text)?;
            Some(hash_text(model, model.columns.get(index)?, index, text))
        });
        Ok(Keys { id: row.id, unique: unique.collect(), looked_up: looked_up.collect() })
    }

    /// Calls `work` with what is stored, on a thread that may wait for a disk. If it fails, everything is
    /// forgotten, and the dry run begins again.
    async fn earlier_rows<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut SpillMap) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ScratchError> {
        let mut earlier_rows = std::mem::replace(&mut self.earlier_rows, SpillMap::new(&self.scratch_dir));
        let worked =
            tokio::task::spawn_blocking(move || work(&mut earlier_rows).map(|done| (earlier_rows, done)));
        let (earlier_rows, done) = worked.await.map_err(io::Error::other)??;
        self.earlier_rows = earlier_rows;
        Ok(done)
    }
}

/// What a hash was computed from. It is part of the hash, so that hashes of different things differ.
#[derive(Hash)]
enum HashedKind {
    /// A key of a unique set.
    Unique,
    /// A value of a column.
    Asked,
}

fn hasher_of(kind: HashedKind, model: &Model, index: usize) -> SipHasher13 {
    let mut hasher = SipHasher13::new();
    (kind, model.position, index).hash(&mut hasher);
    hasher
}

/// The unique sets in which records of a model may conflict although they did not in the file. The plan has refused
/// records that share a unique set, and rewriting references keeps them apart, unless two old keys map to one row:
/// those of a model whose records may be mapped to existing rows, or to the rows of earlier records.
fn sets_that_merge(catalog: &Catalog, model: &Model) -> Vec<usize> {
    let merges = |column: &usize| {
        let target = model.columns.get(*column).and_then(|column| column.references.as_deref());
        let skipped = model.rules.skip_when_existing.contains(column);
        let merges = |target: &Model| target.merges() || target.rules.merge_alike.is_some();
        !skipped && target.and_then(|target| catalog.model(target)).is_some_and(merges)
    };
    let set = |(index, set): (usize, &crate::catalog::UniqueSet)| {
        (!model.guarantees_unique(set) && set.columns.iter().any(merges)).then_some(index)
    };
    model.unique.iter().enumerate().filter_map(set).collect()
}

fn hash_unique(model: &Model, index: usize, key: &[&Value]) -> u64 {
    let mut hasher = hasher_of(HashedKind::Unique, model, index);
    key.iter().for_each(|value| hash_value(value, &mut hasher));
    hasher.finish()
}

fn hash_text(model: &Model, column: &Column, index: usize, text: &str) -> u64 {
    let mut hasher = hasher_of(HashedKind::Asked, model, index);
    if folds(model, column) || column.sql == "citext" {
        text.to_lowercase().hash(&mut hasher);
    } else {
        text.hash(&mut hasher);
    }
    hasher.finish()
}

/// A table as a dry run sees it.
struct DryRunTable<'a, L> {
    dry_run: &'a mut DryRun,
    look: &'a L,
}

impl<L: RowLookup> Table for DryRunTable<'_, L> {
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
        let index = model.column(&column.field).ok_or_else(|| no_column(model))?;
        let others: Vec<(u64, String)> = values
            .into_iter()
            .filter(|value| !found.contains_key(value))
            .map(|value| (hash_text(model, column, index, &value), value))
            .collect();
        let existing = move |earlier_rows: &mut SpillMap| {
            let mut existing = Vec::new();
            for (hash, value) in others {
                existing.extend(earlier_rows.get(hash)?.map(|id| (value, id)));
            }
            Ok(existing)
        };
        found.extend(self.dry_run.earlier_rows(existing).await?);
        Ok(found)
    }

    async fn alike(
        &mut self,
        model: &Model,
        columns: [usize; 2],
        rows: &[Row],
    ) -> Result<HashMap<i64, i64>, L::Error> {
        let Some((index, set)) = model.unique.iter().enumerate().find(|(_, set)| set.columns == columns)
        else {
            return Err(no_column(model).into());
        };
        let hashes: Vec<(i64, u64)> = rows
            .iter()
            .filter_map(|row| Some((row.id, hash_unique(model, index, &set.key(&row.values)?))))
            .collect();
        let existing = move |earlier_rows: &mut SpillMap| {
            let mut existing = HashMap::new();
            for (id, hash) in hashes {
                existing.extend(earlier_rows.get(hash)?.map(|holder| (id, holder)));
            }
            Ok(existing)
        };
        Ok(self.dry_run.earlier_rows(existing).await?)
    }

    async fn raise(
        &mut self,
        _: &Model,
        _: usize,
        _: &[String],
        _: Vec<(i64, usize)>,
    ) -> Result<Vec<NotRaised>, L::Error> {
        Ok(Vec::new())
    }

    async fn insert_free(&mut self, model: &Model, rows: &[Row]) -> Result<Inserted, L::Error> {
        let keys = rows.iter().map(|row| self.dry_run.keys(model, row));
        let keys: Vec<Keys> = keys.collect::<Result<_, WriteError>>()?;
        let take = move |earlier_rows: &mut SpillMap| {
            let mut free = Vec::with_capacity(keys.len());
            for row in &keys {
                if earlier_rows.take(row)? {
                    free.push(row.id);
                }
            }
            Ok(free)
        };
        let ids = self.dry_run.earlier_rows(take).await?;
        Ok(Inserted { ids, breaking: Vec::new() })
    }
}

impl Writer<'_> {
    /// Treats the records of a chunk as if they were written, but writes nothing. The new ids are made up.
    ///
    /// # Errors
    /// The error of `look`, or an error as in writing.
    pub async fn dry_run<L: RowLookup>(
        &self,
        model: &Model,
        records: Vec<Record>,
        dry_run: &mut DryRun,
        look: &L,
    ) -> Result<(Vec<Row>, Written), L::Error> {
        let mut rows = self.prepare(model, records)?;
        self.give_ids(model, &mut rows, dry_run.next_id..)?;
        dry_run.next_id += count(rows.len()).map_err(WriteError::from)?;
        let mut filled = Cow::Borrowed(rows.as_slice());
        let mut findings = self.fill_missing(model, &mut filled)?;
        let table = &mut DryRunTable { dry_run, look };
        let mut written = self.write_resolving_conflicts(table, model, filled.into_owned()).await?;
        if let Some(needs) = &model.rules.needs_one {
            // This includes rows that were merged into others: those have the highest role of both.
            for organization in rows.iter().filter_map(|row| needs.met(&row.values)) {
                let organization = revert::unsigned(organization).map_err(WriteError::from)?;
                table.dry_run.with_one.insert(organization);
            }
        }
        findings.append(&mut written.findings);
        written.findings = findings;
        Ok((rows, written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why it is enough to look up single values: every other unique set has a reference to a row that an import always
    /// inserts, and such a row is new in a dry run.
    #[test]
    fn a_key_of_a_dry_run_is_never_in_the_table() {
        let catalog = Catalog::load().unwrap();
        for model in catalog.written() {
            for set in model.unique.iter().filter(|set| !model.guarantees_unique(set)) {
                let merges = |name: &str| catalog.model(name).is_some_and(Model::merges);
                let by_type = |column: &usize| {
                    let mut rules = model.rules.references_by_type.iter();
                    rules
                        .any(|rule| rule.column == *column && !rule.targets.values().any(|name| merges(name)))
                };
                let new = set.columns.iter().any(|column| {
                    let target = model.columns[*column].references.as_deref();
                    // A record that refers to an existing row is not written.
                    model.rules.skip_when_existing.contains(column)
                        || by_type(column)
                        || target
                            .and_then(|target| catalog.model(target))
                            .is_some_and(|target| !target.merges())
                });
                // With a rule that keeps the first record, the set must refer to something new as well.
                assert!(new, "{} {:?}", model.name, set.columns);
            }
        }
    }
}
