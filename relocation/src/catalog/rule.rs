//! Import rules: a small set of verbs. The catalog says which model uses which.

use serde::Deserialize;

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

/// One thing in which a model differs from the default. Columns are positions in [`super::Model::columns`].
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Every row gets this value, as an export would hold it.
    Set {
        /// The column.
        column: usize,
        /// The value as JSON text.
        to: String,
    },
    /// Every row gets the time of the import.
    SetNow {
        /// The column.
        column: usize,
    },
    /// Every row gets a new value.
    Regenerate {
        /// The column.
        column: usize,
        /// How it is made.
        with: Generator,
        /// A row whose value is null keeps it.
        if_set: bool,
    },
    /// A row whose value is null, or that another row has, gets a new one.
    RegenerateIfTaken {
        /// The column.
        column: usize,
        /// How it is made.
        with: Generator,
        /// The column that holds the last four characters of what was generated.
        last_characters: Option<usize>,
    },
    /// A row whose value another row has loses it.
    ClearIfTaken {
        /// The column.
        column: usize,
        /// Columns that become null with it.
        also: Vec<usize>,
    },
    /// A value that another row has, without regard to case, makes the record that row (if users are merged) or gets
    /// a suffix.
    MergeOrSuffix {
        /// The column.
        column: usize,
        /// The most characters with suffix.
        max_length: usize,
    },
    /// A value that another row has, without regard to case, makes the record that row.
    ReuseExisting {
        /// The column.
        column: usize,
    },
    /// A record with this value is not imported.
    SkipWhen {
        /// The column.
        column: usize,
        /// The value as JSON text.
        equals: String,
    },
    /// A record whose reference leads to a record that was there already is not imported.
    SkipWhenExisting {
        /// The reference.
        reference: usize,
    },
    /// A reference to something not imported becomes null.
    ClearIfUnmapped {
        /// The reference.
        column: usize,
    },
    /// Columns get the values of the row that a reference leads to.
    Follow {
        /// The reference.
        reference: usize,
        /// The column, and the returned field of the model referred to.
        copies: Vec<(usize, String)>,
    },
    /// Exactly one of these columns is neither null nor empty.
    ExactlyOne {
        /// The columns.
        columns: Vec<usize>,
    },
    /// At most one of these references is set in a row. Of several, the first one in this order stays.
    AtMostOne {
        /// The references.
        columns: Vec<usize>,
    },
    /// A record in which one of these is set is of another scope.
    ScopeWhenSet {
        /// The columns.
        columns: Vec<usize>,
        /// The scope.
        scope: super::Scope,
    },
    /// A record is of the scope of the record that it refers to.
    ScopeFollows {
        /// The reference.
        reference: usize,
    },
    /// Of the records that agree in these columns (null agrees with null), the first one of the file is imported.
    KeepFirst {
        /// The columns.
        columns: Vec<usize>,
    },
    /// Of the rows that agree in these columns once their references lead to rows (null agrees with nothing), the first
    /// record of the file is written. The others become it, and it gets the highest value that one of them has.
    MergeAlike {
        /// The columns, which are references.
        columns: [usize; 2],
        /// The column of which the highest value stays.
        highest: usize,
        /// Its values, the highest one first. All others are lower, and none of them is higher than another.
        order: Vec<String>,
    },
    /// Of the rows that a reference leads to, each has a row in which a column has this value; if not, somebody is told.
    NeedsOne {
        /// The reference.
        of: usize,
        /// The column.
        column: usize,
        /// The value.
        equals: String,
        /// A column that is set in such a row.
        set: usize,
    },
    /// A record without slug gets one that is made from another column, and that no other record of its unique set has.
    SlugFrom {
        /// The column with the slug.
        column: usize,
        /// What it is made from.
        from: usize,
    },
    /// A field of older releases names an actor, which stands for what one of these references leads to.
    FromActor {
        /// The field.
        field: String,
        /// The references. Of the one that leads to the model that an actor stands for, the value is set.
        columns: Vec<usize>,
    },
    /// Somebody is told of a value that is an e-mail address of another record.
    WarnOfAddress {
        /// The column.
        column: usize,
        /// The column with the record's own address.
        address: usize,
    },
    /// Written after the slugs are final.
    Defer,
    /// Written with this value; its own value comes back when the import finishes.
    HideUntilFinished {
        /// The column.
        column: usize,
        /// The value that hides.
        hidden: i64,
        /// The value of a row that everybody sees.
        shown: i64,
    },
    /// A record that nothing refers to which is imported is of no use to anybody, and is not imported.
    OnlyIfReferred,
    /// Control decides the value.
    GlobalSlug {
        /// The column.
        column: usize,
        /// What it is made from if it is empty.
        from: usize,
    },
    /// Options of these names must hold what is meant.
    KnownOptions {
        /// The column with the option's name.
        key: usize,
        /// The column with its value.
        value: usize,
        /// What each option may hold, by name.
        options: Vec<(String, KnownOption)>,
    },
}
