//! PostgreSQL's binary COPY format, as its manual describes it (SQL commands, COPY, binary format; and the `_send`
//! functions of each type for the fields).

use std::net::IpAddr;

use causeway_silo::db::DbError;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Row, WriteError};
use crate::{
    catalog::{ArrayOf, Column, Kind, Model},
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

/// Type numbers (OIDs) for the header of an array.
const TEXT: u32 = 25;
const FLOAT8: u32 = 701;
const VARCHAR: u32 = 1043;

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

fn encode(model: &Model, rows: &[Row]) -> Result<Vec<u8>, WriteError> {
    let guess = rows.len() * (model.columns.len() + 1) * 16;
    let filling = LEAST_COPY.saturating_sub(guess);
    let mut out = Vec::with_capacity(64 + filling + guess);
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&u32::try_from(filling).unwrap_or(0).to_be_bytes());
    out.resize(out.len() + filling, 0);
    let fields = i16::try_from(model.columns.len() + 1).unwrap_or(i16::MAX);
    for row in rows {
        out.extend_from_slice(&fields.to_be_bytes());
        sized(&mut out, |out| out.extend_from_slice(&row.id.to_be_bytes()));
        for (column, value) in model.columns.iter().zip(&row.values) {
            if !field(&mut out, column, value) {
                let finding = Finding::new(
                    FindingKind::ValidationError,
                    format!("the value does not fit a column of type {}", column.sql),
                );
                return Err(WriteError::Value(Box::new(row.place(model, finding.field(&column.field)))));
            }
        }
    }
    out.extend_from_slice(&(-1_i16).to_be_bytes());
    Ok(out)
}

/// Appends what `write` appends, with its length before it.
fn sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = i32::try_from(out.len() - at - 4).unwrap_or(i32::MAX);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a field. `false` if the column cannot take the value.
fn field(out: &mut Vec<u8>, column: &Column, value: &Value) -> bool {
    let before = out.len();
    let fits = match (value, column.kind) {
        (Value::Null, _) => {
            out.extend_from_slice(&(-1_i32).to_be_bytes());
            true
        }
        (Value::Bool(value), _) => {
            sized(out, |out| out.push(u8::from(*value)));
            true
        }
        (Value::Int(value), Kind::SmallInt) => number(out, i16::try_from(*value).ok().map(i16::to_be_bytes)),
        (Value::Int(value), Kind::Integer) => number(out, i32::try_from(*value).ok().map(i32::to_be_bytes)),
        (Value::Int(value), _) => number(out, Some(value.to_be_bytes())),
        (Value::Float(value), _) => number(out, Some(value.to_be_bytes())),
        (Value::Text(value), _) => {
            sized(out, |out| out.extend_from_slice(value.as_bytes()));
            true
        }
        (Value::Time(value), _) => number(out, time(*value).map(i64::to_be_bytes)),
        (Value::Uuid(value), _) => number(out, Some(value.into_bytes())),
        (Value::Inet(address, bits), _) => {
            sized(out, |out| inet(out, *address, *bits));
            true
        }
        (Value::Texts(values), kind) => {
            let element = if matches!(kind, Kind::Array(ArrayOf::Text(Some(_)))) { VARCHAR } else { TEXT };
            sized(out, |out| {
                array_header(out, &[values.len()], values.iter().any(Option::is_none), element);
                for value in values {
                    match value {
                        Some(text) => sized(out, |out| out.extend_from_slice(text.as_bytes())),
                        None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
                    }
                }
            });
            true
        }
        (Value::FloatRows(rows), _) => {
            let width = rows.first().map_or(0, Vec::len);
            sized(out, |out| {
                array_header(out, &[rows.len(), width], false, FLOAT8);
                for value in rows.iter().flatten() {
                    sized(out, |out| out.extend_from_slice(&value.to_be_bytes()));
                }
            });
            true
        }
    };
    // A field has at most 1 GiB, less what PostgreSQL needs itself.
    fits && out.len() - before < 1 << 30
}

fn number<const N: usize>(out: &mut Vec<u8>, bytes: Option<[u8; N]>) -> bool {
    let Some(bytes) = bytes else { return false };
    sized(out, |out| out.extend_from_slice(&bytes));
    true
}

fn time(time: DateTime<Utc>) -> Option<i64> {
    time.timestamp_micros().checked_sub(EPOCH)
}

/// Address family (2 and 3 are PostgreSQL's own numbers), bits, not a cidr, length, address.
fn inet(out: &mut Vec<u8>, address: IpAddr, bits: u8) {
    match address {
        IpAddr::V4(address) => {
            out.extend_from_slice(&[2, bits, 0, 4]);
            out.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            out.extend_from_slice(&[3, bits, 0, 16]);
            out.extend_from_slice(&address.octets());
        }
    }
}

/// Dimensions, whether there are nulls, the type, and each dimension's length and lower bound. An empty array has no
/// dimensions.
fn array_header(out: &mut Vec<u8>, lengths: &[usize], nulls: bool, element: u32) {
    let empty = lengths.contains(&0);
    let dimensions = if empty { 0 } else { i32::try_from(lengths.len()).unwrap_or(0) };
    out.extend_from_slice(&dimensions.to_be_bytes());
    out.extend_from_slice(&i32::from(nulls).to_be_bytes());
    out.extend_from_slice(&element.to_be_bytes());
    if !empty {
        for length in lengths {
            out.extend_from_slice(&i32::try_from(*length).unwrap_or(i32::MAX).to_be_bytes());
            out.extend_from_slice(&1_i32.to_be_bytes());
        }
    }
}
