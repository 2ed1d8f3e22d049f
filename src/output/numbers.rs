//! Numbers for people: counts with separators, sizes and times with units.

use std::time::Duration;

use chrono::{DateTime, Utc};
use indicatif::HumanCount;

/// A count with separators: `1,234,567`.
pub(crate) fn count(count: i64) -> String {
    let number = HumanCount(count.unsigned_abs());
    if count < 0 { format!("-{number}") } else { number.to_string() }
}

/// The same, for counts that are never negative.
pub(super) fn count_of(count: u64) -> String {
    HumanCount(count).to_string()
}

/// A count and what is counted: `1 record`, `2 records`.
pub(crate) fn counted(number: i64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {one}s", count(number)) }
}

/// A number of bytes with a unit: `61.57 KiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    causeway_silo::size::shown(bytes)
}

/// A time with units: `0.4s`, `12s`, `1m 20s`, `2h 3m 4s`.
pub(crate) fn duration(duration: Duration) -> String {
    if duration < Duration::from_secs(10) {
        return format!("{:.1}s", duration.as_secs_f64());
    }
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

/// How much was done per second, if that says something.
pub(super) fn rate(done: u64, within: Duration) -> Option<u64> {
    let millis = u64::try_from(within.as_millis()).ok()?;
    done.saturating_mul(1_000).checked_div(millis).filter(|rate| *rate > 0)
}

/// A time to the second, for a sentence: `2026-11-30 19:57:00 UTC`.
pub(crate) fn moment(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators_and_units() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567, -1_000].map(count),
            ["0", "999", "1,000", "1,234,567", "-1,000"]
        );
        assert_eq!(count(i64::MIN), "-9,223,372,036,854,775,808");
        assert_eq!(
            [1, 2, 1_000].map(|number| counted(number, "record")),
            ["1 record", "2 records", "1,000 records"]
        );
        assert_eq!([0, 500, 61_557, 3 << 30].map(bytes), ["0 B", "500 B", "60.11 KiB", "3.00 GiB"]);
        let times = [0, 400, 9_949, 12_345, 80_000, 7_384_000].map(Duration::from_millis).map(duration);
        assert_eq!(times, ["0.0s", "0.4s", "9.9s", "12s", "1m 20s", "2h 3m 4s"]);
        assert_eq!(rate(500, Duration::from_secs(2)), Some(250));
        assert_eq!((rate(5, Duration::ZERO), rate(0, Duration::from_secs(1))), (None, None));
    }
}
