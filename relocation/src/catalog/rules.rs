//! Import rules: in what a model differs from the default. The catalog names them by verbs; here they stand as each
//! phase of an import asks for them. Columns are positions in [`super::Model::columns`].

use serde::Deserialize;

use crate::value::Value;

/// How a value is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generator {
    /// A random UUID.
    Uuid,
    /// 32 random hex digits.
    Hex32,
    /// 32 random letters and digits.
    SecureToken,
    /// A password hash that no password has.
    UnusablePassword,
    /// The hash of a new organization auth token.
    OrgAuthToken,
}

/// The rules of one model.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    // Reading: what one record can break by itself.
    /// Of each of these lists, exactly one column is neither null nor empty.
    pub exactly_one: Vec<Vec<usize>>,
    /// Options of known names, which must hold what the product takes.
    pub known_options: Option<KnownOptions>,

    // Planning: which records of the file are wanted.
    /// A record in which one of these columns is set is of a scope that an import of organizations does not take.
    pub other_scope_when_set: Vec<usize>,
    /// A record is of the scope of the record that this reference leads to.
    pub scope_follows: Option<usize>,
    /// Of the records that agree in these columns (null agrees with null), the first one of the file is imported.
    pub keep_first: Vec<Vec<usize>>,
    /// A record that nothing refers to which is imported is of no use to anybody, and is not imported.
    pub only_if_referred: bool,
    /// A record without slug gets one that is made from another column, and that no other record of its unique set has.
    pub made_slug: Option<FromColumn>,
    /// A removed field names an actor, which stands for what one of some references leads to.
    pub from_actor: Option<FromActor>,
    /// The column whose value should be nobody else's e-mail address, and the column with the record's own.
    pub warn_of_address: Option<(usize, usize)>,

    // Mapping: what becomes of a record when its references are rewritten.
    /// Records with one of these values are not imported.
    pub skip_when: Vec<SkipWhen>,
    /// Of the references of each list, at most one is set in a row. Of several, the first one in this order stays.
    pub at_most_one: Vec<Vec<usize>>,
    /// A record is not imported if this reference leads to a record that was there already.
    pub skip_when_existing: Vec<usize>,
    /// If these references lead to something that is not imported, they become null.
    pub clear_if_unmapped: Vec<usize>,

    // Writing: what a row gets.
    /// Columns whose value is replaced in every row.
    pub replace: Vec<Replace>,
    /// Columns that get the values of a row of the control silo.
    pub follow: Vec<Follow>,
    /// A name that another row has, without regard to case.
    pub taken_name: Option<TakenName>,
    /// Other values that another row may have.
    pub if_taken: Vec<IfTaken>,
    /// Rows that agree once their references are rewritten become one.
    pub merge_alike: Option<MergeAlike>,

    // Finishing.
    /// The column with a slug that control decides, and what it is made from if it is empty.
    pub global_slug: Option<FromColumn>,
    /// Whether it is written after the slugs are final.
    pub deferred: bool,
    /// How its rows are hidden until the import finishes.
    pub hide: Option<Hide>,
    /// A row that each organization must have; a finding names those that have none.
    pub needs_one: Option<NeedsOne>,
}

impl Rules {
    /// Whether every row gets another value in this column than the file has.
    #[must_use]
    pub fn always_replaces(&self, column: usize) -> bool {
        let global_slug = self.global_slug.is_some_and(|slug| slug.column == column);
        global_slug
            || self.replace.iter().any(|replace| match replace.with {
                With::Generated { if_set, .. } => replace.column == column && !if_set,
                With::Literal(_) | With::Now => replace.column == column,
            })
    }

    /// Whether a row without a value in this column gets a new one.
    #[must_use]
    pub fn makes_missing(&self, column: usize) -> bool {
        self.if_taken
            .iter()
            .any(|taken| taken.column == column && matches!(taken.then, Then::Regenerate { .. }))
    }

    /// Whether a record with these values is of a scope that an import of organizations does not take.
    #[must_use]
    pub fn is_of_another_scope(&self, values: &[Value]) -> bool {
        self.other_scope_when_set
            .iter()
            .any(|column| values.get(*column).is_some_and(|value| !value.is_null()))
    }
}

/// A column, and the column from which a missing value is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FromColumn {
    /// The column.
    pub column: usize,
    /// What it is made from.
    pub from: usize,
}

/// Options of these names must hold what is meant.
#[derive(Debug, Clone)]
pub struct KnownOptions {
    /// The column with the option's name.
    pub key: usize,
    /// The column with its value.
    pub value: usize,
    /// What each option may hold, by name.
    pub options: Vec<(String, KnownOption)>,
}

/// What a known option may hold.
#[derive(Debug, Clone, PartialEq)]
pub enum KnownOption {
    /// The name of a time zone.
    TimeZone,
    /// A language code.
    Language,
    /// A truth value.
    Boolean,
    /// One of these values.
    OneOf(Vec<serde_json::Value>),
}

/// A field of older releases that names an actor.
#[derive(Debug, Clone)]
pub struct FromActor {
    /// The field.
    pub field: String,
    /// The references. Of the one that leads to the model that an actor stands for, the value is set.
    pub columns: Vec<usize>,
}

/// A value with which a record is not imported.
#[derive(Debug, Clone)]
pub struct SkipWhen {
    /// The column.
    pub column: usize,
    /// The value, as an export would hold it.
    pub equals: String,
}

/// A column whose value is replaced in every row.
#[derive(Debug, Clone)]
pub struct Replace {
    /// The column.
    pub column: usize,
    /// What it gets.
    pub with: With,
}

/// What a replaced column gets.
#[derive(Debug, Clone)]
pub enum With {
    /// This value, as an export would hold it.
    Literal(String),
    /// The time of the import.
    Now,
    /// A new value for each row.
    Generated {
        /// How it is made.
        by: Generator,
        /// A row whose value is null keeps it.
        if_set: bool,
    },
}

/// Columns that get the values of the row that a reference leads to.
#[derive(Debug, Clone)]
pub struct Follow {
    /// The reference.
    pub reference: usize,
    /// The column, and the returned field of the model referred to.
    pub copies: Vec<(usize, String)>,
}

/// What happens to a name that another row has, without regard to case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenName {
    /// The column.
    pub column: usize,
    /// If the import does not merge users, the record gets a suffix, with which it has at most this many characters.
    /// Without a number the record always becomes the row that is there.
    pub suffix_up_to: Option<usize>,
}

/// What happens to a value that another row has.
#[derive(Debug, Clone)]
pub struct IfTaken {
    /// The column.
    pub column: usize,
    /// What happens.
    pub then: Then,
}

/// What happens to a row whose value another row has.
#[derive(Debug, Clone)]
pub enum Then {
    /// It gets a new value, also if it has none.
    Regenerate {
        /// How it is made.
        by: Generator,
        /// The column that holds the last four characters of what was generated.
        last_characters: Option<usize>,
    },
    /// It loses the value.
    Clear {
        /// Columns that become null with it.
        also: Vec<usize>,
    },
}

/// Of the rows that agree in two references once these lead to rows (null agrees with nothing), the first record of the
/// file is written. The others become it, and it gets the highest value that one of them has.
#[derive(Debug, Clone)]
pub struct MergeAlike {
    /// The references.
    pub columns: [usize; 2],
    /// The column of which the highest value stays.
    pub highest: usize,
    /// Its values, the highest one first. All others are lower, and none of them is higher than another.
    pub order: Vec<String>,
}

/// Rows are written with one value, and their own comes back when the import finishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hide {
    /// The column.
    pub column: usize,
    /// The value that hides.
    pub hidden: i64,
    /// The value of a row that everybody sees.
    pub shown: i64,
}

/// That each organization needs a row of a model in which something is so, e.g. a member who is an owner.
#[derive(Debug, Clone)]
pub struct NeedsOne {
    /// The column that refers to the organization.
    pub of: usize,
    /// The column that has the value.
    pub column: usize,
    /// The value.
    pub equals: String,
    /// A column that is set.
    pub set: usize,
}

impl NeedsOne {
    /// The organization of which a row with these values says what is needed.
    #[must_use]
    pub fn met(&self, values: &[Value]) -> Option<i64> {
        let is_set = values.get(self.set).is_some_and(|value| !value.is_null());
        let equals = values.get(self.column).and_then(Value::as_text) == Some(self.equals.as_str());
        values.get(self.of).and_then(Value::as_int).filter(|_| is_set && equals)
    }
}
