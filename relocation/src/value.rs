//! A value between decoding and writing: it comes from a field of the export and goes to a column.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// A decoded value, ready to be written to a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value: SQL `NULL`.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer of any width; also the primary key in a reference, or a bit field.
    Int(i64),
    /// A finite 64-bit floating point number.
    Float(f64),
    /// A text; also a JSON value, as its text.
    Text(String),
    /// A point in time in UTC, to the microsecond.
    Time(DateTime<Utc>),
    /// A UUID; PostgreSQL has a type for it, SQLite stores its hyphenated text.
    Uuid(Uuid),
    /// An IP address and its prefix length in bits: 32 or 128 for a single host.
    Inet(IpAddr, u8),
    /// A list of texts; `None` is a null element.
    Texts(Vec<Option<String>>),
    /// Rows of numbers, all of the same length.
    FloatRows(Vec<Vec<f64>>),
}

impl Value {
    /// Whether this is [`Value::Null`].
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The integer, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }
}
