//! Between the contract's timestamps and chrono's.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

/// `time` as a protobuf timestamp.
#[must_use]
pub fn to_proto(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0) }
}

/// A protobuf timestamp as a time; `None` if it is outside what chrono knows.
#[must_use]
pub fn from_proto(timestamp: &Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(timestamp.seconds, u32::try_from(timestamp.nanos).ok()?)
}
