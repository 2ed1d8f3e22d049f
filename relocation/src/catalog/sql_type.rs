//! The types that columns have in a database, and which data they take.

use super::{ArrayOf, ColumnType};

/// The type of a column in a database. PostgreSQL's names; columns of SQLite are declared with the same names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlType {
    /// 16-bit integer: `smallint`.
    SmallInt,
    /// 32-bit integer: `integer`.
    Integer,
    /// 64-bit integer: `bigint`.
    BigInt,
    /// True or false: `boolean`.
    Boolean,
    /// Text of any length.
    Text,
    /// Text of at most this many characters; `None` for no limit.
    Varchar(Option<usize>),
    /// Text that is compared without regard to case.
    Citext,
    /// JSON that is stored as it is written.
    Json,
    /// JSON that is stored in a form of its own.
    Jsonb,
    /// Point in time without a time zone; the product stores UTC in it.
    Timestamp,
    /// Point in time, which PostgreSQL stores in UTC: `timestamp with time zone`.
    TimestampTz,
    /// 128-bit id: `uuid`.
    Uuid,
    /// IP address, perhaps with the bits of a network: `inet`.
    Inet,
    /// 64-bit floating point number.
    Double,
    /// Array of any number of dimensions.
    Array(Box<SqlType>),
}

impl SqlType {
    /// The type with this name, as `format_type` of PostgreSQL spells it, or with `varchar` for short. `None` if no
    /// column of the catalog can have it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(of) = name.strip_suffix("[]") {
            return match Self::parse(of)? {
                of @ Self::Array(_) => Some(of),
                of => Some(Self::Array(Box::new(of))),
            };
        }
        let varying = name.strip_prefix("character varying").or_else(|| name.strip_prefix("varchar"));
        if let Some(length) = varying {
            return match length {
                "" => Some(Self::Varchar(None)),
                length => {
                    let length = length.strip_prefix('(')?.strip_suffix(')')?;
                    length.parse().ok().map(|length| Self::Varchar(Some(length)))
                }
            };
        }
        Some(match name {
            "smallint" => Self::SmallInt,
            "integer" => Self::Integer,
            "bigint" => Self::BigInt,
            "boolean" => Self::Boolean,
            "text" => Self::Text,
            "citext" => Self::Citext,
            "json" => Self::Json,
            "jsonb" => Self::Jsonb,
            "timestamp without time zone" => Self::Timestamp,
            "timestamp with time zone" => Self::TimestampTz,
            "uuid" => Self::Uuid,
            "inet" => Self::Inet,
            "double precision" => Self::Double,
            _ => return None,
        })
    }

    /// Whether PostgreSQL takes values of this kind in such a column, as [`crate::writer`] sends them.
    #[must_use]
    pub fn takes(&self, kind: ColumnType) -> bool {
        match kind {
            ColumnType::BigInt | ColumnType::Integer | ColumnType::SmallInt | ColumnType::BitField => {
                matches!(self, Self::SmallInt | Self::Integer | Self::BigInt)
            }
            ColumnType::Boolean => *self == Self::Boolean,
            ColumnType::Text => matches!(self, Self::Text | Self::Varchar(_) | Self::Citext),
            ColumnType::DateTime => matches!(self, Self::Timestamp | Self::TimestampTz),
            ColumnType::Json => matches!(self, Self::Text | Self::Varchar(_) | Self::Json | Self::Jsonb),
            ColumnType::Uuid => *self == Self::Uuid,
            ColumnType::Inet => *self == Self::Inet,
            ColumnType::Float => *self == Self::Double,
            ColumnType::Array(of) => match (self, of) {
                (Self::Array(element), ArrayOf::Text(_)) => {
                    matches!(**element, Self::Text | Self::Varchar(_))
                }
                (Self::Array(element), ArrayOf::FloatRows) => **element == Self::Double,
                _ => false,
            },
        }
    }

    /// The maximum number of characters of a text, or of each text of an array; `None` for no limit.
    #[must_use]
    pub fn max_length(&self) -> Option<usize> {
        match self {
            Self::Varchar(length) => *length,
            Self::Array(element) => element.max_length(),
            _ => None,
        }
    }

    /// The kind of integers that such a column holds; `None` if it holds no integers.
    #[must_use]
    pub fn integer(&self) -> Option<ColumnType> {
        match self {
            Self::SmallInt => Some(ColumnType::SmallInt),
            Self::Integer => Some(ColumnType::Integer),
            Self::BigInt => Some(ColumnType::BigInt),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_type_are_the_same() {
        assert_eq!(SqlType::parse("character varying(75)"), Some(SqlType::Varchar(Some(75))));
        assert_eq!(SqlType::parse("varchar(75)"), Some(SqlType::Varchar(Some(75))));
        assert_eq!(SqlType::parse("character varying"), Some(SqlType::Varchar(None)));
        let texts = SqlType::Array(Box::new(SqlType::Varchar(Some(9))));
        assert_eq!(SqlType::parse("character varying(9)[]"), Some(texts));
        assert_eq!(SqlType::parse("double precision[][]"), SqlType::parse("double precision[]"));
        for unknown in ["money", "varchar(", "varchar(x)", "varchars", "", "[]", "point[]"] {
            assert_eq!(SqlType::parse(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_column_of_the_catalog_has_a_type_that_takes_it() {
        let catalog = super::super::Catalog::load().unwrap();
        for model in catalog.written() {
            for column in &model.columns {
                let known = SqlType::parse(&column.sql);
                assert!(
                    known.as_ref().is_some_and(|known| known.takes(column.kind)),
                    "{}.{} is {}",
                    model.name,
                    column.field,
                    column.sql
                );
            }
        }
    }
}
