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
        /// The column, and the carried field of the model referred to.
        copies: Vec<(usize, String)>,
    },
    /// Exactly one of these columns is neither null nor empty.
    ExactlyOne {
        /// The columns.
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
    /// Written after the slugs are final.
    Defer,
    /// Written with this value; its own value comes back when the import finishes.
    HideUntilFinished {
        /// The column.
        column: usize,
        /// The value that hides.
        hidden: i64,
    },
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
