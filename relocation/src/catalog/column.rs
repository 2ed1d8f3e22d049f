//! Columns: the field in an export, the column in the database, and which values are allowed.

use super::SqlType;

/// The data type of a column. It decides how the field is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// 64-bit integer, such as a primary key; a number in an export.
    BigInt,
    /// 32-bit integer; a number in an export, not below the least value of the column if it has one.
    Integer,
    /// 16-bit integer; a number in an export, not below the least value of the column if it has one.
    SmallInt,
    /// 64-bit integer whose bits are flags; a decimal string or an integer in an export.
    BitField,
    /// `true` or `false`.
    Boolean,
    /// Text; also slugs, e-mail addresses and URLs. Real exports contain malformed ones, so only the length is checked.
    Text,
    /// Point in time; a string in an export, in UTC if it names no offset.
    DateTime,
    /// Any JSON value, stored as its text.
    Json,
    /// UUID; a string in an export.
    Uuid,
    /// IP address of version 4 or 6, perhaps with the bits of a network; a string in an export.
    Inet,
    /// 64-bit floating point number.
    Float,
    /// List of elements of one type.
    Array(ArrayOf),
}

/// The element type of an array column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrayOf {
    /// Texts of at most this many characters.
    Text(Option<usize>),
    /// Rows of floating point numbers.
    FloatRows,
}

/// The value of a column if its field is missing in a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Default {
    /// No default: a missing field is an error.
    Required,
    /// A missing field means null.
    Null,
    /// The time at which the import began.
    Now,
    /// A fixed value, as JSON text in the form of an export.
    Literal(String),
    /// A new value for each record, such as a token.
    Generated(super::Generator),
    /// What the record has in the column at this position; see [`super::Catalog::fitted`].
    SameAs(usize),
}

/// A column of a model's table.
#[derive(Debug, Clone)]
pub struct Column {
    /// The key of the field in an export.
    pub field: String,
    /// The name of the column in the database.
    pub column: String,
    /// The names that the column has in databases of other releases.
    pub other_columns: Vec<String>,
    /// Whether the column of this database says the opposite of the field; see [`super::Catalog::fitted`].
    pub is_opposite: bool,
    /// The data type.
    pub kind: ColumnType,
    /// The SQL type on PostgreSQL. The type on SQLite follows from it.
    pub sql: String,
    /// The maximum number of characters of a text; `None` for no limit.
    pub max_length: Option<usize>,
    /// Whether the text may also be an integer in an export, as it is in those of some releases.
    pub or_integer: bool,
    /// Names of boolean fields of older releases with the opposite meaning. The field itself counts if a
    /// record has both.
    pub opposite_of: Vec<String>,
    /// The least allowed number; `None` for the least number of the data type.
    pub min: Option<i64>,
    /// Whether it may be null.
    pub null: bool,
    /// Whether this database needs a value although some releases allow null; see [`super::Catalog::fitted`]. A record
    /// without one is left out.
    pub is_needed: bool,
    /// The value if the field is missing in a record.
    pub default: Default,
    /// The values that the application knows, as JSON texts; empty if it accepts any. Other values are written with a
    /// finding.
    pub choices: Vec<String>,
    /// The model that the column refers to by primary key; `None` if the column is not a reference.
    pub references: Option<String>,
    /// Whether the product's database has a foreign key for the reference, if both tables are in one silo. Without a
    /// foreign key, only the product's code shows that the number is an id.
    pub has_foreign_key: bool,
    /// The first release that has the field; `None` if the first release of the catalog, 24.8, or an older one has it.
    pub since: Option<String>,
    /// The first release that no longer has the field; `None` if the newest one has it.
    pub until: Option<String>,
    /// Whether the database has the column; see [`super::Catalog::fitted`]. Without it, no value is written.
    pub is_stored: bool,
    /// Which releases have a column that is missing in this database, as the end of a sentence.
    pub not_stored: String,
    /// The position of the referenced model in the order of writing; `None` if the catalog has no such model.
    pub target: Option<usize>,
}

impl Column {
    /// Whether this database has numbers where the export has texts: older releases number what newer ones name.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        self.kind == ColumnType::Text && SqlType::parse(&self.sql).is_some_and(|sql| sql.integer().is_some())
    }

    /// Whether a column of this type takes the values of the field, as [`crate::writer`] sends them. A text that may be a
    /// number in an export may be one in a database.
    #[must_use]
    pub fn fits(&self, sql: &SqlType) -> bool {
        sql.takes(self.kind) || (self.or_integer && sql.integer().is_some())
    }
}
