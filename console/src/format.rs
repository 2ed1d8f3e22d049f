//! Numbers, sizes and times for people.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// A number with a separator between thousands: `1,234,567`.
pub(crate) fn number(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in bytes: `512 B`, `1.50 MiB`.
pub(crate) fn bytes(bytes: i64) -> String {
    causeway_silo::size::shown(u64::try_from(bytes).unwrap_or(0))
}

/// A length of time in its two largest units: `2 min 5 s`, `3 d 4 h`.
pub(crate) fn duration(length: TimeDelta) -> String {
    let seconds = length.num_seconds().max(0);
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    let shown = parts.iter().skip(first).take(2).filter(|(count, _)| *count > 0);
    let shown: Vec<String> = shown.map(|(count, unit)| format!("{count} {unit}")).collect();
    if shown.is_empty() { "0 s".to_owned() } else { shown.join(" ") }
}

/// How long ago something was: `5 s ago`. Clocks differ, so it may be a little ahead.
pub(crate) fn ago(now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    match now.signed_duration_since(then) {
        length if length < TimeDelta::seconds(-60) => format!("in {}", duration(-length)),
        length if length < TimeDelta::seconds(1) => "just now".to_owned(),
        length => format!("{} ago", duration(length)),
    }
}

/// A time for people: `2030-06-15 12:00:00 UTC`.
pub(crate) fn time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A time for machines.
pub(crate) fn machine_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A state, kind or reason for people: `RESOLVING_SLUGS` becomes `resolving slugs`.
pub(crate) fn words(name: &str) -> String {
    name.to_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sizes_and_times_are_short() {
        assert_eq!(
            [0, 999, 1_000, -1_234_567].map(number),
            ["0", "999", "1,000", "-1,234,567"].map(str::to_owned)
        );
        assert_eq!(number(i64::MIN), "-9,223,372,036,854,775,808");
        assert_eq!(
            [0, 1_023, 1_024, 1_572_864, i64::MAX].map(bytes),
            ["0 B", "1023 B", "1.00 KiB", "1.50 MiB", "8.00 EiB"].map(str::to_owned)
        );
        let seconds = |seconds| duration(TimeDelta::seconds(seconds));
        assert_eq!(
            [-5, 0, 59, 60, 125, 3_600, 3_605, 100_000].map(seconds),
            ["0 s", "0 s", "59 s", "1 min", "2 min 5 s", "1 h", "1 h", "1 d 3 h"].map(str::to_owned)
        );
        let now = DateTime::UNIX_EPOCH;
        let of = |seconds| ago(now, now - TimeDelta::seconds(seconds));
        assert_eq!([of(0), of(-30), of(5), of(-120)], ["just now", "just now", "5 s ago", "in 2 min"]);
    }
}
