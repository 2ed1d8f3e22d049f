//! Columns: what a field of an export may hold and what its column takes.

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 64-bit integer.
    BigInt,
    /// 32-bit integer.
    Integer,
    /// 16-bit integer.
    SmallInt,
    /// 64-bit integer whose bits are flags; a decimal string or an integer in an export.
    BitField,
    /// Truth value.
    Boolean,
    /// Text, also slugs, e-mail addresses and URLs: real exports hold ones that are none, so only lengths are checked.
    Text,
    /// Point in time.
    DateTime,
    /// Any JSON value, stored as its text.
    Json,
    /// UUID.
    Uuid,
    /// IP address.
    Inet,
    /// 64-bit floating point number.
    Float,
    /// List.
    Array(ArrayOf),
}

/// What an array holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrayOf {
    /// Texts of at most this many characters.
    Text(Option<usize>),
    /// Rows of floating point numbers.
    FloatRows,
}

/// What a missing field becomes.
#[derive(Debug, Clone, PartialEq)]
pub enum Default {
    /// There is none: a missing field is an error.
    Required,
    /// Null.
    Null,
    /// The time of the import.
    Now,
    /// A fixed value, as an export would hold it.
    Literal(String),
    /// A generated value.
    Generated(super::Generator),
}

/// A column of a model's table.
#[derive(Debug, Clone)]
pub struct Column {
    /// The key in an export.
    pub field: String,
    /// The name in the database.
    pub column: String,
    /// What it holds.
    pub kind: Kind,
    /// Its type on PostgreSQL.
    pub sql: String,
    /// The most characters that a text may have.
    pub max_length: Option<usize>,
    /// The least number that it takes, if that is not the least of its kind.
    pub min: Option<i64>,
    /// Whether it may be null.
    pub null: bool,
    /// What a missing field becomes.
    pub default: Default,
    /// The values that the application knows, as JSON texts; none if it takes any.
    pub choices: Vec<String>,
    /// The model whose primary key it holds.
    pub references: Option<String>,
    /// Whether the product's database has a foreign key for that, where both tables are in one silo. Of a reference without
    /// one, the product says nowhere but in its code that the number is an id.
    pub constrained: bool,
    /// That model's place in the order of writing, if the catalog has it.
    pub target: Option<usize>,
}
