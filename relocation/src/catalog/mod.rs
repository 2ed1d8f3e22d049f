//! The models of an export: tables, columns, references, unique sets, silos, scopes and import rules. The facts are in
//! `catalog.json`. This module gives them types, computes the order of writing, and refuses a catalog that contradicts
//! itself. A new model is one entry in that file.

mod build;
mod check;
mod column;
mod file;
mod lack;
#[cfg(test)]
mod page;
mod rules;
mod sql_type;
mod tables_version;

use std::collections::{HashMap, HashSet};

pub use causeway_silo::Silo;
pub use check::CatalogError;
pub(crate) use check::release;
pub use column::{ArrayOf, Column, ColumnType, Default};
pub use lack::Lack;
pub use rules::{
    AddedFor, CopiedColumns, EachOf, ExactlyOne, FromActor, FromColumn, Generator, Hide, IdsOf, IfTaken,
    KnownOption, KnownOptions, MergeAlike, Move, NeedsOne, NestedIds, PathStep, ReferenceByType, Replace,
    Rules, SkipWhen, TakenName, Then, WhenText, With,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
pub use sql_type::SqlType;
pub use tables_version::TablesVersion;

use crate::value::Value;

/// The model of organizations. The slug filter selects its records.
pub const ORGANIZATION: &str = "sentry.organization";
/// The model of memberships. The filter reads from it which users belong to an organization.
pub const ORGANIZATION_MEMBER: &str = "sentry.organizationmember";
/// The model of users.
pub const USER: &str = "sentry.user";
/// The model of projects.
pub const PROJECT: &str = "sentry.project";
/// The model of e-mail addresses. It has no reference to a user, so the filter selects the addresses that an imported
/// user has.
pub const EMAIL: &str = "sentry.email";
/// The model that links users to their e-mail addresses.
pub const USER_EMAIL: &str = "sentry.useremail";

/// The scope of a model: which imports take its records. An import of organizations takes the first two scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Users, and records that belong to users only.
    User,
    /// Organizations, and records that belong to them.
    Organization,
    /// Settings of an installation.
    Config,
    /// Records of no other scope, which an import of organizations leaves out.
    Global,
}

impl Scope {
    /// Whether an import of organizations takes records of this scope.
    #[must_use]
    pub fn in_organization_scope(self) -> bool {
        matches!(self, Self::User | Self::Organization)
    }
}

/// Where the primary keys of a model come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, std::default::Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ids {
    /// The silo that has the table generates them.
    #[default]
    Own,
    /// Leased from control, because they must be unique across regions.
    Leased,
}

/// A unique set: columns that together must have different values in all rows of a table.
#[derive(Debug, Clone)]
pub struct UniqueSet {
    /// The columns, as positions in [`Model::columns`].
    pub columns: Vec<usize>,
    /// If present, the set applies only to rows that meet this condition.
    pub condition: Option<Condition>,
}

impl UniqueSet {
    /// The key of a row with these values, which no other row may have. `None` if the set does not apply to the row:
    /// the row does not meet the condition, or one of the values is null. Null never equals anything.
    #[must_use]
    pub fn key<'v>(&self, values: &'v [Value]) -> Option<Vec<&'v Value>> {
        let key: Vec<&Value> = self.columns.iter().filter_map(|column| values.get(*column)).collect();
        let holds = match &self.condition {
            Some(condition) => condition.holds(values),
            None => true,
        };
        (holds && !key.iter().any(|value| value.is_null())).then_some(key)
    }
}

/// A condition on one column.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The column, as a position in [`Model::columns`].
    pub column: usize,
    /// The value that the column must have; `None` if it must be null.
    pub equals: Option<serde_json::Value>,
}

impl Condition {
    fn holds(&self, values: &[Value]) -> bool {
        let Some(value) = values.get(self.column) else { return false };
        match &self.equals {
            None => value.is_null(),
            Some(serde_json::Value::Bool(expected)) => value == &Value::Bool(*expected),
            Some(serde_json::Value::String(expected)) => value.as_text() == Some(expected),
            Some(expected) => expected.as_i64().is_some() && value.as_int() == expected.as_i64(),
        }
    }
}

/// One kind of record, and the table that it is written to.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its name, e.g. `sentry.organization`.
    pub name: String,
    /// Its position in the order of writing, from 0.
    pub position: usize,
    /// Other names of the model, in exports of other releases.
    pub also: Vec<String>,
    /// The first release that has the model; `None` if the first release of the catalog, 24.8, or an older one has it.
    pub since: Option<String>,
    /// The first release that no longer has the model; `None` if the newest one has it.
    pub until: Option<String>,
    /// The name of its table, unquoted.
    pub table: String,
    /// Whether the database has the table; see [`Catalog::fitted`].
    pub has_table: bool,
    /// Why the database takes no records of the model, which are dropped then; `None` if it takes them.
    pub not_importable: Option<String>,
    /// Whether names that are compared without regard to case are looked up by an index. A table of the product has none.
    pub has_folded_index: bool,
    /// The type of its primary key in the database: 64-bit or 32-bit integer.
    pub id_type: SqlType,
    /// The kind of silo that has the table.
    pub silo: Silo,
    /// The scopes that its records can have. If an import of organizations takes only some of them, a rule decides for
    /// each record.
    pub scopes: Vec<Scope>,
    /// Its columns except `id`, in the order of the catalog.
    pub columns: Vec<Column>,
    /// Whether this database checks one of its unique indexes at the end of a transaction only.
    pub has_deferred_index: bool,
    /// Its unique sets, without the primary key.
    pub unique: Vec<UniqueSet>,
    /// Where its primary keys come from.
    pub ids: Ids,
    /// Columns that control returns to the region, because rows of the region copy their values.
    pub returned_columns: Vec<usize>,
    /// Its import rules: where it differs from the default.
    pub rules: Rules,
    /// A sentence for a finding: what is missing in the application if a record of this model is out of scope
    /// and is not imported. Empty if nothing particular is missing.
    pub left_behind: String,
    /// Models that must be written first although no column refers to them: those of rules, and those of its entry.
    after: Vec<String>,
    /// Fields that only older releases have.
    removed_fields: HashSet<String>,
    /// The positions of the models of which rows are added for records of this one.
    pub adds: Vec<usize>,
    /// Fields whose values go on in rows that are added, so that nothing is lost if this table has no column for them.
    passed_on: HashSet<String>,
    /// The removed field that contains the primary key of an actor, if there is one.
    actor_field: Option<String>,
    by_field: HashMap<String, usize>,
}

impl Model {
    /// The column that a field of the export goes to.
    #[must_use]
    pub fn column(&self, field: &str) -> Option<usize> {
        self.by_field.get(field).copied()
    }

    /// Whether this is a field that only older releases have.
    #[must_use]
    pub fn is_removed_field(&self, field: &str) -> bool {
        self.removed_fields.contains(field)
    }

    /// Whether the value of a field goes on in rows of another model that are added for the record.
    pub(crate) fn passes_on(&self, field: &str) -> bool {
        self.passed_on.contains(field)
    }

    /// Whether this removed field contains the primary key of an actor: the record's own actor ([`Actors`]), or the
    /// actor that stands for what the record refers to ([`FromActor`]).
    #[must_use]
    pub fn names_actor(&self, field: &str) -> bool {
        self.actor_field.as_deref() == Some(field)
    }

    /// The models that must be written before this one: those that it refers to by columns or rules, and those that its
    /// entry lists in `after`.
    pub fn needs(&self) -> impl Iterator<Item = &str> {
        let references = self.columns.iter().filter_map(|column| column.references.as_deref());
        references.chain(self.after.iter().map(String::as_str))
    }

    /// Whether an import needs its table, with the columns of release 24.8. All other models and columns may
    /// be missing in a database.
    #[must_use]
    pub fn is_essential(&self) -> bool {
        [ORGANIZATION, ORGANIZATION_MEMBER, USER, USER_EMAIL].contains(&self.name.as_str())
    }

    /// Whether an import of organizations takes at least some of its records.
    #[must_use]
    pub fn in_organization_scope(&self) -> bool {
        self.scopes.iter().any(|scope| scope.in_organization_scope())
    }

    /// Whether its records belong to users only.
    #[must_use]
    pub fn is_user_scoped(&self) -> bool {
        self.scopes.contains(&Scope::User)
    }

    /// Whether its primary keys are leased from control.
    #[must_use]
    pub fn leases_ids(&self) -> bool {
        self.ids == Ids::Leased
    }

    /// Whether a rule guarantees that no two rows have the same key in this set, whatever the records contain.
    #[must_use]
    pub fn guarantees_unique(&self, set: &UniqueSet) -> bool {
        let rules = &self.rules;
        let is_value = |replace: &&Replace| !matches!(replace.with, With::Now);
        let replaced = rules.replace.iter().filter(is_value).map(|replace| replace.column);
        let taken = rules.if_taken.iter().map(|taken| taken.column);
        let mut single = replaced
            .chain(taken)
            .chain(rules.taken_name.map(|name| name.column))
            .chain(rules.global_slug.map(|slug| slug.column));
        single.any(|column| set.columns.contains(&column))
            || rules
                .skip_when
                .iter()
                .any(|skip| set.condition.as_ref().is_some_and(|condition| condition.column == skip.column))
            || rules.keep_first.iter().any(|first| set.columns.iter().all(|column| first.contains(column)))
    }

    /// Whether a rule is about this set: it merges records that are alike in it, makes a slug for it, or keeps the records
    /// of a file apart in it.
    #[must_use]
    pub fn has_rule_about(&self, set: &UniqueSet) -> bool {
        let rules = &self.rules;
        self.guarantees_unique(set)
            || rules.merge_alike.as_ref().is_some_and(|alike| set.columns == alike.columns)
            || rules.generated_slug.is_some_and(|slug| set.columns.contains(&slug.column))
    }

    /// Gives the text of a removed field the column that this database still has for it, instead of moving it to another
    /// field. A record without the field has there what it has in that other one.
    pub(crate) fn keep_moved(&mut self, from: &str, column: Column) {
        self.rules.moves.retain(|rule| rule.from != from);
        self.removed_fields.remove(from);
        self.by_field.insert(from.to_owned(), self.columns.len());
        self.columns.push(column);
    }

    /// The columns for which a rule must know whether another row has the value.
    pub fn looked_up_columns(&self) -> impl Iterator<Item = usize> {
        let taken = self.rules.if_taken.iter().map(|taken| taken.column);
        taken.chain(self.rules.taken_name.map(|name| name.column))
    }

    /// Whether its records can be mapped to rows that exist already.
    #[must_use]
    pub fn merges(&self) -> bool {
        self.rules.taken_name.is_some()
    }
}

/// Actors: records of older releases, each of which stands for a record of another model. Those releases named owners
/// by their actors.
#[derive(Debug, Clone)]
pub struct Actors {
    /// The model of actors, which is one of the removed models.
    pub model: String,
    /// The models that an actor can stand for.
    pub stands_for: Vec<StandsFor>,
}

/// One model that an actor can stand for.
#[derive(Debug, Clone)]
pub struct StandsFor {
    /// The position of the model in the order of writing.
    pub position: usize,
    /// The value of the actor's field `type` for this model.
    pub kind: i64,
    /// The actor's field with the primary key of the record. If the actor does not name the record, the record may name
    /// its actor.
    pub field: String,
}

/// What a model name in an export means.
#[derive(Debug, Clone, Copy)]
pub enum Known<'a> {
    /// A model of the catalog, of any scope.
    Model(&'a Model),
    /// A model of another scope, of which the catalog does not know more.
    OutOfScope,
    /// A model that is never imported.
    Excluded,
    /// A model that only older releases have. It is not imported.
    Removed,
    /// The catalog does not know the name.
    Unknown,
}

/// Every model, in the order of writing.
#[derive(Debug, Clone)]
pub struct Catalog {
    models: Vec<Model>,
    by_name: HashMap<String, usize>,
    excluded: HashSet<String>,
    out_of_scope: HashSet<String>,
    removed: HashSet<String>,
    actors: Option<Actors>,
    newest_release: String,
    tables_version: TablesVersion,
}

impl Catalog {
    /// Reads and checks the catalog that is part of the program.
    ///
    /// # Errors
    /// If it contradicts itself; the error names model and field.
    pub fn load() -> Result<Self, CatalogError> {
        Self::parse(include_str!("../../catalog.json"))
    }

    /// Identifies the catalog that is part of the program: another release has another one.
    #[must_use]
    pub fn identity() -> String {
        hex::encode(Sha256::digest(include_bytes!("../../catalog.json")))
    }

    /// The newest release of the product that the catalog knows, such as `26.6`.
    #[must_use]
    pub fn newest_release(&self) -> &str {
        &self.newest_release
    }

    /// Reads and checks a catalog.
    ///
    /// # Errors
    /// If it is not in the form of a catalog, or contradicts itself.
    pub fn parse(json: &str) -> Result<Self, CatalogError> {
        build::build(serde_json::from_str(json)?)
    }

    /// The models in the order of writing: each after those that it refers to.
    #[must_use]
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// Changes the models that an import of organizations writes into a silo. Names and positions must stay.
    pub(crate) fn change_written(&mut self, silo: Silo, change: impl Fn(&mut Model)) {
        let written = self.models.iter_mut().filter(|model| model.in_organization_scope());
        written.filter(|model| model.silo == silo).for_each(change);
    }

    /// Notes in each model of which others rows are added for its records, as far as the database has their tables.
    pub(crate) fn note_added(&mut self) {
        let mut noted: HashMap<usize, (Vec<usize>, HashSet<String>)> = HashMap::new();
        for model in self.written().filter(|model| model.not_importable.is_none()) {
            let Some(added) = &model.rules.added_for else { continue };
            let of = model.columns.get(added.reference).and_then(|column| column.target);
            if let Some(of) = of {
                let (positions, fields) = noted.entry(of).or_default();
                positions.push(model.position);
                fields.extend(added.passed_on().map(str::to_owned));
            }
        }
        for model in &mut self.models {
            (model.adds, model.passed_on) = noted.remove(&model.position).unwrap_or_default();
        }
    }

    /// A model by its name, case-insensitively.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.position(name).and_then(|position| self.models.get(position))
    }

    /// A model's position in the order of writing, by its name, case-insensitively.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).or_else(|| self.by_name.get(&name.to_ascii_lowercase())).copied()
    }

    /// What a model name means, case-insensitively.
    #[must_use]
    pub fn known(&self, name: &str) -> Known<'_> {
        if let Some(model) = self.model(name) {
            return Known::Model(model);
        }
        let name = name.to_ascii_lowercase();
        if self.removed.contains(&name) {
            Known::Removed
        } else if self.lists(&self.out_of_scope, &name) {
            Known::OutOfScope
        } else if self.lists(&self.excluded, &name) {
            Known::Excluded
        } else {
            Known::Unknown
        }
    }

    /// Whether a model is in a list, which may have all models of its app, as `uptime.*`. That does not stand for the name
    /// of a model of the catalog: under a label that nobody ever used, it is somebody's mistake.
    fn lists(&self, list: &HashSet<String>, name: &str) -> bool {
        let is_of_listed_app = |(app, bare): (&str, &str)| {
            list.contains(&format!("{app}.*"))
                && !self.by_name.keys().any(|known| known.rsplit_once('.').is_some_and(|(_, it)| it == bare))
        };
        list.contains(name) || name.split_once('.').is_some_and(is_of_listed_app)
    }

    /// The actors of older releases; `None` if the catalog does not describe them.
    #[must_use]
    pub fn actors(&self) -> Option<&Actors> {
        self.actors.as_ref()
    }

    /// The model of e-mail addresses, if the database has its table.
    #[must_use]
    pub fn emails(&self) -> Option<&Model> {
        self.model(EMAIL).filter(|model| model.has_table)
    }

    /// The models that an import of organizations writes, in the order of writing.
    pub fn written(&self) -> impl Iterator<Item = &Model> {
        self.models.iter().filter(|model| model.in_organization_scope())
    }
}

/// The words that no organization may have as its slug, in lower case.
pub fn reserved_organization_slugs() -> impl Iterator<Item = &'static str> {
    lines(include_str!("../../reserved-organization-slugs.txt"))
}

/// The words that the product gives no project as its slug, in lower case. A project that has one in a file keeps it.
pub fn reserved_project_slugs() -> impl Iterator<Item = &'static str> {
    lines(include_str!("../../reserved-project-slugs.txt"))
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests;
