//! Writes the rows of a chunk. First as if nothing were taken, by the fastest way that the database has; a chunk that
//! hits a unique set is written again with its conflicts resolved: values that exist are looked up, and the rules for them applied.
//!
//! The caller owns the transaction, so that it can record the chunk in the same one.

mod addresses;
mod alike;
mod bulk;
mod chunk;
mod conflicts;
mod copy;
mod dry_run;
mod ids;
mod spill_map;
mod table;

use std::{borrow::Cow, collections::HashMap};

use causeway_silo::{
    db::{DbError, HasDbError, Tx},
    env::Environment,
};
use chrono::{DateTime, Utc};
pub use chunk::{ChunkSilo, HasWriteError, write_chunk};
pub use copy::LEAST_COPY;
pub use dry_run::{DryRun, LookUp, ScratchError};
pub use table::find_rows;

use crate::{
    catalog::{Generator, Model, Replace, TakenName, Then, With},
    export::decode_literal,
    finding::{Finding, FindingKind, Tense},
    generate::{self, TokenOwner},
    keys::ChunkKeys,
    plan::Record,
    revert,
    value::Value,
};

/// Why a chunk was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The database.
    #[error(transparent)]
    Database(#[from] DbError),
    /// Rows with these ids are there already: somebody else gives out ids too. Take others.
    #[error("rows of {table} have some of the ids that were to be given out")]
    IdsTaken {
        /// The table.
        table: String,
    },
    /// A value does not fit where the catalog says that it goes.
    #[error("{0}")]
    Value(Box<Finding>),
    /// Values were taken again and again while they were being replaced.
    #[error("unique values of {table} were taken again and again while they were being replaced")]
    UniqueConflict {
        /// The table.
        table: String,
    },
}

impl HasDbError for WriteError {
    fn db_error(&self) -> Option<&DbError> {
        match self {
            Self::Database(error) => Some(error),
            _ => None,
        }
    }
}

/// How a chunk is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As if nothing were taken.
    Optimistic,
    /// After looking up what is.
    ResolveConflicts,
}

/// A row to write.
#[derive(Debug, Clone)]
pub struct Row {
    /// The record's number among those of its model.
    pub ordinal: i64,
    /// Its primary key in the export.
    pub source_pk: i64,
    /// Where the record begins in the file.
    pub offset: u64,
    /// Its new primary key.
    pub id: i64,
    /// Its values, by column.
    pub values: Vec<Value>,
}

impl Row {
    /// The values that the model carries, in the order of the catalog.
    fn returned(&self, model: &Model) -> Vec<Value> {
        model.returned_columns.iter().filter_map(|column| self.values.get(*column).cloned()).collect()
    }

    fn place(&self, model: &Model, finding: Finding) -> Finding {
        finding.model(&model.name).record(self.ordinal, self.source_pk).at(self.offset)
    }
}

/// What became of the rows of a chunk.
#[derive(Debug, Default)]
pub struct Written {
    /// The new keys.
    pub keys: ChunkKeys,
    /// What there is to know, among it one finding for each row that was dropped.
    pub findings: Vec<Finding>,
    /// How many rows were not written because another row is the same to a unique set.
    pub dropped: i64,
    /// Of each row that was inserted, its primary key and the values that the model carries; nothing if it carries none.
    pub returned: Vec<(i64, Vec<Value>)>,
}

impl Written {
    /// Notes rows as inserted.
    fn insert(&mut self, model: &Model, rows: &[Row]) {
        self.keys.inserted.extend(rows.iter().map(|row| (row.source_pk, row.id)));
        if !model.returned_columns.is_empty() {
            self.returned.extend(rows.iter().map(|row| (row.id, row.returned(model))));
        }
    }
}

/// Applies the rules of one import and writes its rows.
#[derive(Debug)]
pub struct Writer<'a> {
    /// Randomness.
    pub env: &'a Environment,
    /// The time that rules of this import use.
    pub now: DateTime<Utc>,
    /// Whether a user whose name is taken is the one who has it.
    pub merge_users: bool,
    /// Whether the rows are written, or would be. Findings are worded so.
    pub tense: Tense,
    /// The model of all e-mail addresses, where users are written or gone through.
    pub emails: Option<&'a Model>,
    /// Whose the auth tokens are that may have to be made anew, by organization id.
    pub token_owners: HashMap<i64, TokenOwner>,
}

impl Writer<'_> {
    /// Applies the rules that hold for every row, and sorts the rows by source pk: so the ids of a chunk, given in this
    /// order, are a block.
    ///
    /// # Errors
    /// If the catalog sets a value that its column cannot take, which is a defect of the catalog.
    pub fn prepare(&self, model: &Model, records: Vec<Record>) -> Result<Vec<Row>, WriteError> {
        let mut rows: Vec<Row> = records
            .into_iter()
            .map(|record| Row {
                ordinal: record.ordinal,
                source_pk: record.source_pk,
                offset: record.offset,
                id: 0,
                values: record.values,
            })
            .collect();
        rows.sort_by_key(|row| row.source_pk);
        for Replace { column, with } in &model.rules.replace {
            match with {
                With::Literal(to) => {
                    let Some(definition) = model.columns.get(*column) else { continue };
                    let value = decode_literal(definition, to)
                        .map_err(|finding| WriteError::Value(Box::new(finding.model(&model.name))))?;
                    set(&mut rows, *column, |_| Some(value.clone()));
                }
                With::Now => set(&mut rows, *column, |_| Some(Value::Time(self.now))),
                With::Generated { by, if_set } => {
                    set(&mut rows, *column, |old| {
                        (!if_set || !old.is_null()).then(|| generate::value(*by, self.env))
                    });
                }
            }
        }
        if let Some(hide) = model.rules.hide {
            set(&mut rows, hide.column, |_| Some(Value::Int(hide.hidden)));
        }
        Ok(rows)
    }

    /// Gives each row its id, and what follows from it: an organization whose slug is not yet decided gets one that no
    /// organization can have.
    pub fn give_ids(&self, model: &Model, rows: &mut [Row], ids: impl IntoIterator<Item = i64>) {
        let slug = model.rules.global_slug.map(|slug| slug.column);
        for (row, id) in rows.iter_mut().zip(ids) {
            row.id = id;
            if let Some(value) = slug.and_then(|column| row.values.get_mut(column)) {
                *value = Value::Text(undecided_slug(id));
            }
        }
    }

    /// Whether the conflicts of a model's rows are resolved from the start, because a rule asks for what no unique set of
    /// the database would show.
    #[must_use]
    pub fn first_mode(model: &Model) -> Mode {
        let shows =
            |column: usize| model.unique.iter().any(|set| set.condition.is_none() && set.columns == [column]);
        // Names that get a suffix are compared without regard to case, which the set of their column is not.
        let is_hidden = |name: TakenName| name.suffix_up_to.is_some() || !shows(name.column);
        if model.rules.taken_name.is_some_and(is_hidden) { Mode::ResolveConflicts } else { Mode::Optimistic }
    }

    /// Writes rows that have their ids.
    ///
    /// # Errors
    /// A unique set that is hit in optimistic mode means: roll back, and write again with the conflicts resolved.
    pub async fn write(
        &self,
        tx: &mut Tx,
        model: &Model,
        rows: &[Row],
        mode: Mode,
    ) -> Result<Written, WriteError> {
        let mut rows = Cow::Borrowed(rows);
        let mut findings = self.fill_missing(model, &mut rows);
        let mut written = match mode {
            Mode::Optimistic => {
                if model.merges() {
                    // Others may want the same values in another order: each would wait for the other.
                    revert::lock_table(tx, &model.table, self.env.now()).await?;
                }
                bulk::insert(tx, model, &rows).await?;
                let mut written = Written::default();
                written.insert(model, &rows);
                written
            }
            Mode::ResolveConflicts => self.write_resolving_conflicts(tx, model, rows.into_owned()).await?,
        };
        findings.append(&mut written.findings);
        written.findings = findings;
        Ok(written)
    }

    /// Makes the values that a rule wants and that are missing.
    fn fill_missing(&self, model: &Model, rows: &mut Cow<'_, [Row]>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for rule in &model.rules.if_taken {
            let Then::Regenerate { by, last_characters } = rule.then else { continue };
            let made = Regenerated { column: rule.column, by, last_characters };
            let missing = |row: &Row| match row.values.get(rule.column) {
                Some(Value::Text(text)) => text.is_empty(),
                Some(value) => value.is_null(),
                None => false,
            };
            // Mostly there is none, and then the rows need not be copied.
            if !rows.iter().any(missing) {
                continue;
            }
            for row in rows.to_mut().iter_mut().filter(|row| missing(row)) {
                findings.extend(self.regenerate(model, row, made, "is missing in the file"));
            }
        }
        findings
    }

    /// Gives a row a new value.
    fn regenerate(&self, model: &Model, row: &mut Row, made: Regenerated, why: &str) -> Option<Finding> {
        let Regenerated { column, by, last_characters } = made;
        let field = &model.columns.get(column)?.field;
        let owner = self.owner_of(model, row);
        let value = match (by, owner) {
            (crate::catalog::Generator::OrgAuthToken, Some(owner)) => {
                let token = generate::OrgAuthToken::new(owner, self.env);
                if let Some(last) = last_characters.and_then(|column| row.values.get_mut(column)) {
                    *last = Value::Text(token.last_characters);
                }
                Value::Text(token.hashed)
            }
            _ => generate::value(by, self.env),
        };
        *row.values.get_mut(column)? = value;
        let reason = format!("{why}; {}", self.tense.words("a new one was made", "a new one would be made"));
        Some(row.place(model, Finding::new(FindingKind::KeyRegenerated, reason).field(field)))
    }

    /// Whose the tokens of a row are: the first reference that leads to a known organization.
    fn owner_of(&self, model: &Model, row: &Row) -> Option<&TokenOwner> {
        let column = model
            .columns
            .iter()
            .position(|column| column.references.as_deref() == Some(crate::catalog::ORGANIZATION))?;
        self.token_owners.get(&row.values.get(column)?.as_int()?)
    }
}

/// What [`Then::Regenerate`] says of a column.
#[derive(Clone, Copy)]
struct Regenerated {
    column: usize,
    by: Generator,
    last_characters: Option<usize>,
}

fn set(rows: &mut [Row], column: usize, value: impl Fn(&Value) -> Option<Value>) {
    for row in rows {
        if let Some(slot) = row.values.get_mut(column)
            && let Some(value) = value(slot)
        {
            *slot = value;
        }
    }
}

/// The slug of an organization whose slug control has not decided yet. No valid slug has a tilde.
#[must_use]
pub fn undecided_slug(id: i64) -> String {
    format!("~relocating-{id}")
}
