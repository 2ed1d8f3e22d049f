//! Import rules: where a model differs from the default. The catalog file names rules by verbs. Here they are grouped
//! by the phase of an import that applies them. Columns are positions in [`super::Model::columns`].

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::value::Value;

/// How a new value is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generator {
    /// A random UUID of version 4.
    Uuid,
    /// 32 random hex digits.
    Hex32,
    /// 64 random hex digits.
    Hex64,
    /// 32 random letters and digits.
    SecureToken,
    /// A password hash that no password matches.
    UnusablePassword,
    /// The hash of a new organization auth token.
    OrgAuthToken,
}

/// Columns of which exactly one is neither null nor empty.
#[derive(Debug, Clone)]
pub struct ExactlyOne {
    /// The columns, as positions in [`Model::columns`](super::Model::columns).
    pub columns: Vec<usize>,
    /// Whether none may be set either.
    pub or_none: bool,
}

/// The rules of one model.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    // Reading: rules that a single record can break.
    /// Columns of which exactly one is neither null nor empty.
    pub exactly_one: Vec<ExactlyOne>,
    /// The known options, and the values that the product accepts for them.
    pub known_options: Option<KnownOptions>,
    /// Removed fields whose values move to other fields.
    pub moves: Vec<Move>,

    // Planning: which records of the file are imported.
    /// If one of these columns is set, the record is out of scope for an import of organizations.
    pub other_scope_when_set: Vec<usize>,
    /// A record has the scope of the record that this reference points to.
    pub scope_follows: Option<usize>,
    /// Of the records that have the same values in these columns (null equals null), only the first one in the file is
    /// imported.
    pub keep_first: Vec<Vec<usize>>,
    /// A record is dropped if no imported record refers to it, because by itself it is of no use.
    pub only_if_referred: bool,
    /// A record without a slug gets one that is generated from another column and that no other record of its unique
    /// set has.
    pub generated_slug: Option<FromColumn>,
    /// A removed field names an actor. The reference to the record that the actor stands for is set instead.
    pub from_actor: Option<FromActor>,
    /// Rows that are added although the file has no records for them.
    pub added_for: Option<AddedFor>,
    /// The column that should not contain the e-mail address of another record, and the column with the record's own
    /// address.
    pub warn_of_address: Option<(usize, usize)>,

    // Mapping: what happens to a record when its references are rewritten.
    /// Records with one of these values are not imported.
    pub skip_when: Vec<SkipWhen>,
    /// In each of these lists, a row can have at most one reference set. If several are set, the first one in this
    /// order stays.
    pub at_most_one: Vec<Vec<usize>>,
    /// A record is not imported if this reference points to a record that was mapped to an existing row.
    pub skip_when_existing: Vec<usize>,
    /// If one of these references points to a record that is not imported, it becomes null.
    pub clear_if_unmapped: Vec<usize>,
    /// Texts that hold primary keys, of models that another column names.
    pub references_by_type: Vec<ReferenceByType>,
    /// Primary keys inside values.
    pub nested_ids: Vec<NestedIds>,
    /// Columns with the MD5 hash, in hex, of another column's text: they follow if primary keys in that text change.
    pub hashes: Vec<(usize, usize)>,

    // Writing: which values a row gets.
    /// Columns whose value is replaced in every row.
    pub replace: Vec<Replace>,
    /// Columns that copy values of a row of control.
    pub copied_columns: Vec<CopiedColumns>,
    /// What happens if another row has the name, compared without regard to case.
    pub taken_name: Option<TakenName>,
    /// What happens if another row has one of these other values.
    pub if_taken: Vec<IfTaken>,
    /// Rows with the same references after rewriting are merged into one.
    pub merge_alike: Option<MergeAlike>,

    // Finishing.
    /// The column with a slug that control decides, and the column that the slug is made from if it is empty.
    pub global_slug: Option<FromColumn>,
    /// Whether the model is written only after the slugs are final.
    pub deferred: bool,
    /// How its rows are hidden until the import finishes.
    pub hide: Option<Hide>,
    /// A row that each organization needs; an organization without one gets a finding.
    pub needs_one: Option<NeedsOne>,
}

impl Rules {
    /// Whether every row gets a new value in this column, whatever the file has.
    #[must_use]
    pub fn always_replaces(&self, column: usize) -> bool {
        let global_slug = self.global_slug.is_some_and(|slug| slug.column == column);
        global_slug
            || self.replace.iter().any(|replace| match replace.with {
                With::Generated { if_set, .. } => replace.column == column && !if_set,
                With::Literal(_) | With::Now => replace.column == column,
            })
    }

    /// Whether a row without a value in this column gets a generated one.
    #[must_use]
    pub fn makes_missing(&self, column: usize) -> bool {
        self.if_taken
            .iter()
            .any(|taken| taken.column == column && matches!(taken.then, Then::Regenerate { .. }))
    }

    /// Whether a record with these values is out of scope for an import of organizations.
    #[must_use]
    pub fn is_of_another_scope(&self, values: &[Value]) -> bool {
        self.other_scope_when_set
            .iter()
            .any(|column| values.get(*column).is_some_and(|value| !value.is_null()))
    }
}

/// A column, and the column that a missing value is generated from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FromColumn {
    /// The column that gets the value.
    pub column: usize,
    /// The column that the value is generated from.
    pub from: usize,
}

/// The options that the catalog knows, and which values they accept.
#[derive(Debug, Clone)]
pub struct KnownOptions {
    /// The column with the option's name.
    pub key: usize,
    /// The column with the option's value.
    pub value: usize,
    /// Which values each option accepts, by name.
    pub options: Vec<(String, KnownOption)>,
}

/// Which values a known option accepts.
#[derive(Debug, Clone, PartialEq)]
pub enum KnownOption {
    /// The name of a time zone.
    TimeZone,
    /// A language code: two or three letters, perhaps with further parts, such as `pt-br`.
    Language,
    /// A boolean; also 0, 1, or one of these as a string.
    Boolean,
    /// One of these values.
    OneOf(Vec<serde_json::Value>),
}

/// A text with the primary key of a record whose model depends on another column. A record whose target is not imported
/// is dropped.
#[derive(Debug, Clone)]
pub struct ReferenceByType {
    /// The column with the primary key, as decimal digits.
    pub column: usize,
    /// The column that defines which model it is: a text or a number.
    pub kind: usize,
    /// The model of each known type, by the type's name or number.
    pub targets: BTreeMap<String, String>,
    /// Whether the text of another type is not a primary key, and stays. Otherwise a record of another type is dropped.
    pub keeps_other_types: bool,
    /// The names of types by the names that they have in older releases. A row gets the newer one.
    pub older_types: BTreeMap<String, String>,
}

impl ReferenceByType {
    /// The type of a record with these values, by its name or number.
    pub(crate) fn kind_of(&self, values: &[Value]) -> Option<String> {
        match values.get(self.kind) {
            Some(Value::Text(name)) => Some(name.clone()),
            Some(Value::Int(number)) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Gives a record the newer name of its type, and the usual digits of its primary key: two records with the same
    /// target must be alike before their targets have new keys.
    pub(crate) fn normalize(&self, values: &mut [Value]) {
        if let Some(slot) = values.get_mut(self.kind)
            && let Some(newer) = slot.as_text().and_then(|older| self.older_types.get(older))
        {
            *slot = Value::Text(newer.clone());
        }
        let names_record = self.kind_of(values).is_some_and(|kind| self.targets.contains_key(&kind));
        if let Some(slot) = values.get_mut(self.column).filter(|_| names_record)
            && let Some(pk) = slot.as_text().and_then(|digits| digits.parse::<i64>().ok())
        {
            *slot = Value::Text(pk.to_string());
        }
    }

    /// The number of a type in releases that number types, as a text: the one by which they know it, or itself if it is a
    /// number.
    #[must_use]
    pub fn number_of<'a>(&'a self, kind: &'a str) -> Option<&'a str> {
        let is_number = |text: &str| text.parse::<i32>().is_ok();
        let mut older = self.older_types.iter().filter(|(older, newer)| *newer == kind && is_number(older));
        older.next().map(|(older, _)| older.as_str()).or_else(|| Some(kind).filter(|kind| is_number(kind)))
    }
}

/// Primary keys inside a value: in JSON at some paths, or in a search.
#[derive(Debug, Clone)]
pub struct NestedIds {
    /// The column with the value: JSON, or a text that is a search.
    pub column: usize,
    /// If present, the rule is only for records that meet this condition.
    pub when: Option<WhenText>,
    /// Where the primary keys are in JSON; one empty path if the value itself is one, or is a search.
    pub paths: Vec<Vec<PathStep>>,
    /// The model of the primary keys.
    pub of: IdsOf,
    /// Whether what is there is no primary key if the key names another type, and stays silently.
    pub keeps_other_types: bool,
    /// Whether the whole element of the nearest list is removed if the record is not imported.
    pub removes_element: bool,
}

/// A step of a path in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathStep {
    /// Into the value of this key.
    Key(String),
    /// Into each element of a list.
    Each,
}

/// The model of primary keys inside a value.
#[derive(Debug, Clone)]
pub enum IdsOf {
    /// The model with this name, for every value.
    Model(String),
    /// The one that the value of another key of the same object names.
    ByKey {
        /// The key whose value names the model.
        key: String,
        /// The model of each known value; `None` if it has no primary key.
        targets: BTreeMap<String, Option<String>>,
    },
    /// What is there is a search, and the primary keys are in terms with these names, as
    /// `project.id:5` or `!project.id:[5, 6]`: the model of each.
    Terms(BTreeMap<String, String>),
    /// The primary keys become null without a finding: those of records that are written after this one, of which a copy
    /// can do without.
    Nothing,
}

impl IdsOf {
    /// The key whose value names the model.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::ByKey { key, .. } => Some(key),
            Self::Model(_) | Self::Terms(_) | Self::Nothing => None,
        }
    }

    /// The names of all models that it can be.
    pub fn models(&self) -> impl Iterator<Item = &String> {
        let (one, by_key, terms) = match self {
            Self::Model(model) => (Some(model), None, None),
            Self::ByKey { targets, .. } => (None, Some(targets.values().flatten()), None),
            Self::Terms(terms) => (None, None, Some(terms.values())),
            Self::Nothing => (None, None, None),
        };
        one.into_iter().chain(by_key.into_iter().flatten()).chain(terms.into_iter().flatten())
    }
}

/// A condition on a text.
#[derive(Debug, Clone)]
pub struct WhenText {
    /// The column with the text, as a position in [`Model::columns`](super::Model::columns).
    pub column: usize,
    /// The texts that meet it. One that begins with `*` stands for all texts that end with the rest.
    pub is: Vec<String>,
}

impl WhenText {
    /// Whether a record with these values meets the condition.
    #[must_use]
    pub fn holds(&self, values: &[Value]) -> bool {
        let text = values.get(self.column).and_then(Value::as_text);
        text.is_some_and(|text| {
            self.is.iter().any(|is| match is.strip_prefix('*') {
                Some(end) => text.ends_with(end),
                None => text == is,
            })
        })
    }
}

/// A removed field whose value moves to another field.
#[derive(Debug, Clone)]
pub struct Move {
    /// The name of the removed field.
    pub from: String,
    /// The column that gets the value, whatever the record has there.
    pub to: usize,
    /// If present, the removed field is a list, and the column becomes true if this number is in it. Otherwise a text
    /// moves.
    pub if_contains: Option<i32>,
}

/// A removed field that names an actor.
#[derive(Debug, Clone)]
pub struct FromActor {
    /// The name of the removed field.
    pub field: String,
    /// The references that can replace it. The one that points to the model that the actor stands for is set.
    pub columns: Vec<usize>,
}

/// A value that keeps a record out of the import.
#[derive(Debug, Clone)]
pub struct SkipWhen {
    /// The column that is compared.
    pub column: usize,
    /// The value, as JSON text in the form of an export.
    pub equals: String,
}

/// A column whose value is replaced in every row.
#[derive(Debug, Clone)]
pub struct Replace {
    /// The column that is replaced.
    pub column: usize,
    /// How the new value is made.
    pub with: With,
}

/// The new value of a replaced column.
#[derive(Debug, Clone)]
pub enum With {
    /// This value, as JSON text in the form of an export.
    Literal(String),
    /// The time of the import.
    Now,
    /// A new value for each row.
    Generated {
        /// How the value is generated.
        by: Generator,
        /// If `true`, a row with null keeps null.
        if_set: bool,
    },
}

/// Columns that copy values of the row that a reference points to.
#[derive(Debug, Clone)]
pub struct CopiedColumns {
    /// The column with the reference.
    pub reference: usize,
    /// Each column that is set, and the returned field of the referenced model that it copies.
    pub copies: Vec<(usize, String)>,
}

/// What happens to a name that another row has, compared without regard to case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenName {
    /// The column with the name.
    pub column: usize,
    /// The maximum number of characters of the name with a suffix. The record gets the suffix unless the import merges
    /// users. `None`: the record is always mapped to the existing row.
    pub suffix_up_to: Option<usize>,
}

/// What happens to a value that another row has.
#[derive(Debug, Clone)]
pub struct IfTaken {
    /// The column whose value another row may have.
    pub column: usize,
    /// Whether the same letters in another case are the same value.
    pub ignores_case: bool,
    /// What happens to the row.
    pub then: Then,
}

/// What happens to a row whose value another row has.
#[derive(Debug, Clone)]
pub enum Then {
    /// It gets a new value. A row without a value gets one too.
    Regenerate {
        /// How the value is generated.
        by: Generator,
        /// The column for the last four characters of the generated token.
        last_characters: Option<usize>,
    },
    /// Its value becomes null.
    Clear {
        /// Further columns that become null.
        also: Vec<usize>,
    },
}

/// Rows that have the same two references after rewriting are merged (null equals nothing). The first record of the
/// file is written. The others are mapped to its row, which gets the highest value that one of them has.
#[derive(Debug, Clone)]
pub struct MergeAlike {
    /// The two columns with the references.
    pub columns: [usize; 2],
    /// The column that keeps the highest value.
    pub highest: usize,
    /// The values of that column, highest first. All other values rank below these, and equal to each other.
    pub order: Vec<String>,
}

/// For each record that this reference could point to, and no record of the file refers to, rows are added that have no
/// record in the file: the application makes such rows itself, or older releases have their values elsewhere.
#[derive(Debug, Clone)]
pub struct AddedFor {
    /// The column with the reference to the record that the rows are added for.
    pub reference: usize,
    /// Fields with a fixed value, as JSON text in the form of an export.
    pub set: Vec<(String, String)>,
    /// Each field that copies a field of that record. If that field is null, empty or missing, no row is added.
    pub copies: Vec<(String, String)>,
    /// If present, one row is added for each element of a list of numbers, and otherwise one row.
    pub each_of: Option<EachOf>,
}

/// A list of primary keys of the record that rows are added for.
#[derive(Debug, Clone)]
pub struct EachOf {
    /// The field of that record with the list.
    pub list: String,
    /// The field of the added rows that gets one of the primary keys.
    pub to: String,
}

impl AddedFor {
    /// The fields of the record that rows are added for whose values the rows get.
    pub fn passed_on(&self) -> impl Iterator<Item = &str> {
        let list = self.each_of.as_ref().map(|each| each.list.as_str());
        self.copies.iter().map(|(_, from)| from.as_str()).chain(list)
    }
}

/// Rows are written with a value that hides them, and get their own value when the import finishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hide {
    /// The column that hides or shows a row.
    pub column: usize,
    /// The value that hides.
    pub hidden: i64,
    /// The value of a visible row.
    pub shown: i64,
}

/// Each organization needs a row of this model with a certain value, e.g. a member who is an owner.
#[derive(Debug, Clone)]
pub struct NeedsOne {
    /// The column that refers to the organization.
    pub of: usize,
    /// The column with the required value.
    pub column: usize,
    /// The required value, a text.
    pub equals: String,
    /// A column that must not be null.
    pub set: usize,
}

impl NeedsOne {
    /// The organization for which a row with these values is the required row; `None` if it is not.
    #[must_use]
    pub fn met(&self, values: &[Value]) -> Option<i64> {
        let is_set = values.get(self.set).is_some_and(|value| !value.is_null());
        let equals = values.get(self.column).and_then(Value::as_text) == Some(self.equals.as_str());
        values.get(self.of).and_then(Value::as_int).filter(|_| is_set && equals)
    }
}
