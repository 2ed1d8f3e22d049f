//! PostgreSQL's binary COPY format, as its manual describes it (SQL commands, COPY, binary format).

use bytes::{BufMut as _, BytesMut};
use causeway_silo::db::DbError;
use chrono::{DateTime, Utc};
use postgres_protocol::{
    IsNull, Oid,
    types::{self, ArrayDimension},
};
use sqlx::PgConnection;

use super::{Row, WriteError, no_column};
use crate::{
    catalog::{Model, SqlType},
    finding::{Finding, FindingKind},
    value::Value,
};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// The minimum size of the data that is sent, in bytes: more than two segments of a loopback connection.
///
/// sqlx leaves Nagle's algorithm on and sends the end of a COPY by itself. After a short message that end waits until
/// the server's delayed acknowledgement, 40 ms. After several full segments, which are acknowledged at once, it travels
/// with the last piece. The header of the format has room for bytes that readers skip, so short data is filled up
/// there.
pub const LEAST_COPY: usize = 136 * 1024;
/// Microseconds from 1970 to 2000, PostgreSQL's epoch.
const EPOCH: i64 = 946_684_800_000_000;

/// The first byte of a `jsonb`, before its text.
const JSONB_VERSION: u8 = 1;

/// Type numbers (OIDs) for the header of an array.
const TEXT: Oid = 25;
const FLOAT8: Oid = 701;
const VARCHAR: Oid = 1043;

/// Copies rows into a table with the model's columns.
pub(super) async fn copy(
    connection: &mut PgConnection,
    model: &Model,
    table: &str,
    columns: &str,
    rows: &[Row],
) -> Result<(), WriteError> {
    let data = encode(model, rows)?;
    let statement = format!("COPY \"{table}\" ({columns}) FROM STDIN (FORMAT binary)");
    let mut copy = connection.copy_in_raw(&statement).await.map_err(DbError::from)?;
    copy.send(data).await.map_err(DbError::from)?;
    copy.finish().await.map_err(DbError::from)?;
    Ok(())
}

fn encode(model: &Model, rows: &[Row]) -> Result<BytesMut, WriteError> {
    let too_wide = || DbError::inconsistent(format!("{} has more columns than COPY takes", model.name));
    let stored: Vec<_> = model
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.is_stored)
        .map(|(index, column)| {
            let sql = SqlType::parse(&column.sql).ok_or_else(|| {
                DbError::inconsistent(format!("{} has a type that is not known", column.column))
            })?;
            Ok((index, column, sql))
        })
        .collect::<Result<_, DbError>>()?;
    let guess = rows.len() * (stored.len() + 1) * 16;
    let filling = LEAST_COPY.saturating_sub(guess);
    let mut out = BytesMut::with_capacity(64 + filling + guess);
    out.put_slice(SIGNATURE);
    out.put_u32(0);
    // At most LEAST_COPY.
    out.put_u32(u32::try_from(filling).map_err(|_| too_wide())?);
    out.put_bytes(0, filling);
    let fields = i16::try_from(stored.len() + 1).map_err(|_| too_wide())?;
    for row in rows {
        out.put_i16(fields);
        let id = field(&mut out, &model.id_type, &Value::Int(row.id));
        id.map_err(|_| DbError::inconsistent(format!("{} has no room for the id {}", model.table, row.id)))?;
        for (index, column, sql) in &stored {
            let value = row.values.get(*index).ok_or_else(|| no_column(model))?;
            if field(&mut out, sql, value).is_err() {
                let finding = Finding::new(
                    FindingKind::ValidationError,
                    format!("the value does not fit a column of type {}", column.sql),
                );
                return Err(WriteError::Value(Box::new(row.place(model, finding.field(&column.field)))));
            }
        }
    }
    out.put_i16(-1);
    Ok(out)
}

/// A column cannot take a value.
struct DoesNotFit;

impl From<std::num::TryFromIntError> for DoesNotFit {
    fn from(_: std::num::TryFromIntError) -> Self {
        Self
    }
}

impl From<Box<dyn std::error::Error + Sync + Send>> for DoesNotFit {
    fn from(_: Box<dyn std::error::Error + Sync + Send>) -> Self {
        Self
    }
}

/// Appends a field, its length first.
fn field(out: &mut BytesMut, sql: &SqlType, value: &Value) -> Result<(), DoesNotFit> {
    if matches!(value, Value::Null) {
        out.put_i32(-1);
        return Ok(());
    }
    let at = out.len();
    out.put_i32(0);
    match (value, sql) {
        (Value::Null, _) => {}
        (Value::Bool(value), _) => types::bool_to_sql(*value, out),
        (Value::Int(value), SqlType::SmallInt) => types::int2_to_sql(i16::try_from(*value)?, out),
        (Value::Int(value), SqlType::Integer) => types::int4_to_sql(i32::try_from(*value)?, out),
        (Value::Int(value), _) => types::int8_to_sql(*value, out),
        (Value::Float(value), _) => types::float8_to_sql(*value, out),
        // Older releases number what newer ones name.
        (Value::Text(value), SqlType::SmallInt | SqlType::Integer | SqlType::BigInt) => {
            let number = Value::Int(value.parse().map_err(|_| DoesNotFit)?);
            out.truncate(at);
            return field(out, sql, &number);
        }
        (Value::Text(value), SqlType::Jsonb) => {
            out.put_u8(JSONB_VERSION);
            types::text_to_sql(value, out);
        }
        (Value::Text(value), _) => types::text_to_sql(value, out),
        (Value::Time(value), _) => types::timestamp_to_sql(time(*value).ok_or(DoesNotFit)?, out),
        (Value::Uuid(value), _) => types::uuid_to_sql(value.into_bytes(), out),
        (Value::Inet(address, bits), _) => types::inet_to_sql(*address, *bits, out),
        (Value::Texts(values), sql) => {
            let element = match sql {
                SqlType::Array(of) if matches!(**of, SqlType::Varchar(_)) => VARCHAR,
                _ => TEXT,
            };
            let text = |value: &Option<String>, out: &mut BytesMut| {
                Ok(match value {
                    Some(text) => {
                        types::text_to_sql(text, out);
                        IsNull::No
                    }
                    None => IsNull::Yes,
                })
            };
            types::array_to_sql(dimensions(&[values.len()])?, element, values, text, out)?;
        }
        (Value::FloatRows(rows), _) => {
            let width = rows.first().map_or(0, Vec::len);
            let number = |value: &f64, out: &mut BytesMut| {
                types::float8_to_sql(*value, out);
                Ok(IsNull::No)
            };
            let dimensions = dimensions(&[rows.len(), width])?;
            types::array_to_sql(dimensions, FLOAT8, rows.iter().flatten(), number, out)?;
        }
    }
    // A field has at most 1 GiB, less what PostgreSQL needs itself.
    let length = i32::try_from(out.len() - at - 4)?;
    if length >= (1 << 30) - 4 {
        return Err(DoesNotFit);
    }
    out.get_mut(at..at + 4).ok_or(DoesNotFit)?.copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn time(time: DateTime<Utc>) -> Option<i64> {
    time.timestamp_micros().checked_sub(EPOCH)
}

/// The dimensions of an array of these lengths, each counted from 1. An empty array has none.
fn dimensions(lengths: &[usize]) -> Result<Vec<ArrayDimension>, DoesNotFit> {
    if lengths.contains(&0) {
        return Ok(Vec::new());
    }
    let dimension = |length: &usize| Ok(ArrayDimension { len: i32::try_from(*length)?, lower_bound: 1 });
    lengths.iter().map(dimension).collect()
}
