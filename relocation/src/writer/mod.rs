//! Writes the rows of a chunk. At first it assumes that no value is taken, and uses the fastest way that the database
//! has. If the chunk breaks a unique set or a check, it is written again with its conflicts resolved: existing values are
//! looked up, the rules for them are applied, and rows that the database refuses all the same are left out.
//!
//! The caller owns the transaction, so that it can insert the chunk entry in the same one.

mod addresses;
mod alike;
mod bisect;
mod bulk;
mod chunk;
mod conflicts;
mod copy;
mod dry_run_rows;
mod ids;
mod left_out;
mod skipped_ids;
mod spill_map;
mod stage;
mod table;

use std::{borrow::Cow, collections::HashMap};

use causeway_silo::{
    db::{DbError, HasDbError, Tx},
    env::Environment,
};
use chrono::{DateTime, Utc};
pub use chunk::{ChunkSilo, HasWriteError, write_chunk};
pub use copy::LEAST_COPY;
pub use dry_run_rows::{DryRun, RowLookup, ScratchError};
pub use skipped_ids::skip_own_ids;
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
    /// The database refused or failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// Rows with some of these ids exist already, because something else assigns ids too. Retry with other ids.
    #[error("rows of {table} have some of the ids that were to be given out")]
    IdsTaken {
        /// The name of the table.
        table: String,
    },
    /// A value does not fit the column that the catalog has for it.
    #[error("{0}")]
    Value(Box<Finding>),
    /// Other rows took the new values again and again.
    #[error("unique values of {table} were taken again and again while they were being replaced")]
    UniqueConflict {
        /// The name of the table.
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
    /// Assumes that no value is taken.
    Optimistic,
    /// Looks up first which values are taken.
    ResolveConflicts,
}

/// A row to write.
#[derive(Debug, Clone)]
pub struct Row {
    /// The record's number among those of its model, from 1.
    pub ordinal: i64,
    /// Its primary key in the export.
    pub source_pk: i64,
    /// Where the record begins in the file, in bytes.
    pub offset: u64,
    /// Its new primary key.
    pub id: i64,
    /// Its values, by column.
    pub values: Vec<Value>,
}

/// The error that a rule of a model is about a column that the model, or one of its rows, does not have.
fn no_column(model: &Model) -> WriteError {
    DbError::inconsistent(format!("a rule of {} is about a column that there is not", model.name)).into()
}

impl Row {
    /// The values of the returned columns, in the order of the catalog.
    fn returned(&self, model: &Model) -> Vec<Value> {
        model.returned_columns.iter().filter_map(|column| self.values.get(*column).cloned()).collect()
    }

    fn place(&self, model: &Model, finding: Finding) -> Finding {
        finding.model(&model.name).record(self.ordinal, self.source_pk).at(self.offset)
    }
}

/// The result of writing a chunk.
#[derive(Debug, Default)]
pub struct Written {
    /// The old and new primary keys.
    pub keys: ChunkKeys,
    /// All findings, including one for each row that was dropped.
    pub findings: Vec<Finding>,
    /// How many rows were dropped: another row has the same values in a unique set, or they break a check.
    pub dropped: i64,
    /// For each inserted row: its primary key and the values of the returned columns. Empty if the model has no such
    /// columns.
    pub returned: Vec<(i64, Vec<Value>)>,
    /// The rows that became another one, each with the id of that one.
    merged: Vec<(i64, Row)>,
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
    /// The clock, and the randomness from which values are generated.
    pub env: &'a Environment,
    /// The time that rules of this import use.
    pub now: DateTime<Utc>,
    /// Whether a user whose name is taken is merged into the user who has it.
    pub merge_users: bool,
    /// Whether the rows are written, or would be after a dry run. Decides the wording of findings.
    pub tense: Tense,
    /// The model of e-mail addresses, if users are written or checked by a dry run.
    pub emails: Option<&'a Model>,
    /// The owners of auth tokens, by organization id. An auth token that is taken or missing gets a new value, which
    /// names its owner.
    pub token_owners: HashMap<i64, TokenOwner>,
}

impl Writer<'_> {
    /// Applies the rules that apply to every row, and sorts the rows by source pk. Ids are assigned in this order, so
    /// those of a chunk are one block.
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
                    let definition = model.columns.get(*column).ok_or_else(|| no_column(model))?;
                    let value = decode_literal(definition, to)
                        .map_err(|finding| WriteError::Value(Box::new(finding.model(&model.name))))?;
                    set(model, &mut rows, *column, |_| Some(value.clone()))?;
                }
                With::Now => set(model, &mut rows, *column, |_| Some(Value::Time(self.now)))?,
                With::Generated { by, if_set } => {
                    set(model, &mut rows, *column, |old| {
                        (!if_set || !old.is_null()).then(|| generate::value(*by, self.env))
                    })?;
                }
            }
        }
        if let Some(hide) = model.rules.hide {
            set(model, &mut rows, hide.column, |_| Some(Value::Int(hide.hidden)))?;
        }
        Ok(rows)
    }

    /// Sets the id of each row. An organization also gets a placeholder as its slug, which control has not decided yet.
    /// No organization can have the placeholder as its slug.
    ///
    /// # Errors
    /// If there are fewer ids than rows.
    pub fn give_ids(
        &self,
        model: &Model,
        rows: &mut [Row],
        ids: impl IntoIterator<Item = i64>,
    ) -> Result<(), WriteError> {
        let mut ids = ids.into_iter();
        for row in rows {
            let id = ids.next().ok_or_else(|| {
                DbError::inconsistent(format!("there are fewer new ids than rows of {}", model.name))
            })?;
            row.id = id;
            if let Some(slug) = model.rules.global_slug {
                let value = row.values.get_mut(slug.column).ok_or_else(|| no_column(model))?;
                *value = Value::Text(undecided_slug(id));
            }
        }
        Ok(())
    }

    /// The mode to begin with. Conflicts are resolved from the start if a rule must know of existing rows that no
    /// unique set of the database would show.
    #[must_use]
    pub fn first_mode(model: &Model) -> Mode {
        let shows =
            |column: usize| model.unique.iter().any(|set| set.condition.is_none() && set.columns == [column]);
        // Names that may get a suffix are compared without regard to case; the unique set of their column is not.
        let is_hidden = |name: TakenName| name.suffix_up_to.is_some() || !shows(name.column);
        if model.rules.taken_name.is_some_and(is_hidden) { Mode::ResolveConflicts } else { Mode::Optimistic }
    }

    /// Writes rows that have their ids.
    ///
    /// # Errors
    /// If a row breaks a unique set or a check in optimistic mode: roll back, and write again with the conflicts resolved.
    pub async fn write(
        &self,
        tx: &mut Tx,
        model: &Model,
        rows: &[Row],
        mode: Mode,
    ) -> Result<Written, WriteError> {
        // The database may not even have the table.
        if rows.is_empty() {
            return Ok(Written::default());
        }
        let mut rows = Cow::Borrowed(rows);
        let mut findings = self.fill_missing(model, &mut rows)?;
        let mut written = match mode {
            Mode::Optimistic => {
                if model.merges() {
                    // Another writer may insert the same values in another order, and without the lock the two would
                    // wait for each other.
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

    /// Generates the values that are missing and for which there is a rule.
    fn fill_missing(&self, model: &Model, rows: &mut Cow<'_, [Row]>) -> Result<Vec<Finding>, WriteError> {
        let mut findings = Vec::new();
        for rule in &model.rules.if_taken {
            let Then::Regenerate { by, last_characters } = rule.then else { continue };
            let regenerated = Regenerated { column: rule.column, by, last_characters };
            let missing = |row: &Row| match row.values.get(rule.column) {
                Some(Value::Text(text)) => text.is_empty(),
                Some(value) => value.is_null(),
                None => false,
            };
            // Usually no value is missing. Then the rows need not be copied.
            if !rows.iter().any(missing) {
                continue;
            }
            for row in rows.to_mut().iter_mut().filter(|row| missing(row)) {
                findings.push(self.regenerate(model, row, regenerated, "is missing in the file")?);
            }
        }
        Ok(findings)
    }

    /// Replaces a value of a row by a new one, and returns the finding.
    fn regenerate(
        &self,
        model: &Model,
        row: &mut Row,
        regenerated: Regenerated,
        why: &str,
    ) -> Result<Finding, WriteError> {
        let Regenerated { column, by, last_characters } = regenerated;
        let field = &model.columns.get(column).ok_or_else(|| no_column(model))?.field;
        let owner = self.owner_of(model, row);
        let value = match (by, owner) {
            (crate::catalog::Generator::OrgAuthToken, Some(owner)) => {
                let token = generate::OrgAuthToken::new(owner, self.env);
                if let Some(column) = last_characters {
                    let last = row.values.get_mut(column).ok_or_else(|| no_column(model))?;
                    *last = Value::Text(token.last_characters);
                }
                Value::Text(token.hashed)
            }
            _ => generate::value(by, self.env),
        };
        *row.values.get_mut(column).ok_or_else(|| no_column(model))? = value;
        let reason = format!("{why}; {}", self.tense.words("a new one was made", "a new one would be made"));
        Ok(row.place(model, Finding::new(FindingKind::KeyRegenerated, reason).field(field)))
    }

    /// The owner of a row's token: the organization that its first reference to an organization points to, if it is
    /// known.
    fn owner_of(&self, model: &Model, row: &Row) -> Option<&TokenOwner> {
        let column = model
            .columns
            .iter()
            .position(|column| column.references.as_deref() == Some(crate::catalog::ORGANIZATION))?;
        self.token_owners.get(&row.values.get(column)?.as_int()?)
    }
}

/// A [`Then::Regenerate`] rule with its column.
#[derive(Clone, Copy)]
struct Regenerated {
    column: usize,
    by: Generator,
    last_characters: Option<usize>,
}

fn set(
    model: &Model,
    rows: &mut [Row],
    column: usize,
    value: impl Fn(&Value) -> Option<Value>,
) -> Result<(), WriteError> {
    for row in rows {
        let slot = row.values.get_mut(column).ok_or_else(|| no_column(model))?;
        if let Some(value) = value(slot) {
            *slot = value;
        }
    }
    Ok(())
}

/// How the placeholder for an undecided slug begins. No valid slug has a tilde.
pub const PLACEHOLDER_PREFIX: &str = "~relocating-";

/// The placeholder for the slug of an organization until control has decided the slug.
#[must_use]
pub fn undecided_slug(id: i64) -> String {
    format!("{PLACEHOLDER_PREFIX}{id}")
}

/// Whether a slug is the placeholder for one that has not been decided.
#[must_use]
pub fn is_placeholder(slug: &str) -> bool {
    slug.starts_with(PLACEHOLDER_PREFIX)
}
