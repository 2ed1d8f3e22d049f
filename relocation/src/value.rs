//! A value on its way from a field of the export to a column.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// What a column gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer of any width, also a reference or flags.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text, also JSON as text.
    Text(String),
    /// A time, to the microsecond.
    Time(DateTime<Utc>),
    /// A UUID.
    Uuid(Uuid),
    /// An address, perhaps of a network of this many bits.
    Inet(IpAddr, u8),
    /// A list of texts.
    Texts(Vec<Option<String>>),
    /// Rows of numbers, all of the same length.
    FloatRows(Vec<Vec<f64>>),
}

impl Value {
    /// Whether it is null.
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
