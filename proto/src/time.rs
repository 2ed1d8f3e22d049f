//! Converts between the contract's times and those of chrono and std.

use chrono::{DateTime, TimeDelta, Utc};
use prost_types::{Duration, Timestamp};

/// `time` as a protobuf timestamp.
#[must_use]
pub fn to_proto(time: DateTime<Utc>) -> Timestamp {
    // Less than 2^31: chrono counts up to 2 seconds in it, because of leap seconds.
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}

/// A protobuf timestamp as a time; `None` if it is outside what chrono knows.
#[must_use]
pub fn from_proto(timestamp: &Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(timestamp.seconds, u32::try_from(timestamp.nanos).ok()?)
}

/// A protobuf duration as a `std` duration; `None` if it is negative or not a valid one.
#[must_use]
pub fn duration_from_proto(duration: &Duration) -> Option<std::time::Duration> {
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(std::time::Duration::new(u64::try_from(duration.seconds).ok()?, nanos))
}

/// `seconds` as a protobuf duration.
#[must_use]
pub fn seconds(seconds: u32) -> Duration {
    Duration { seconds: seconds.into(), nanos: 0 }
}

/// `length` as a protobuf duration.
#[must_use]
pub fn duration_to_proto(length: TimeDelta) -> Duration {
    Duration { seconds: length.num_seconds(), nanos: length.subsec_nanos() }
}
