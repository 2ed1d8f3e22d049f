//! What holds imports back, in the words that the command and the console share.

use crate::region::v1::ThrottleKind;

/// Units of bytes. A limit is shown in the largest one of which it is a whole number.
const UNITS: [(&str, i64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A number with a comma after each three digits, from the right.
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn sized(bytes: i64) -> String {
    match UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes % unit == 0) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

/// A limit with its unit: rows or bytes in a second, or milliseconds. One of an unknown kind is shown without a unit.
#[must_use]
pub fn limit(kind: ThrottleKind, limit: i64) -> String {
    match kind {
        ThrottleKind::Rows => format!("{} rows/s", grouped(limit)),
        ThrottleKind::Bytes => format!("{}/s", sized(limit)),
        ThrottleKind::Latency => format!("{limit}ms"),
        ThrottleKind::Unspecified => limit.to_string(),
    }
}

/// What holds an import back: which limit, and the part of the time in which imports write, in percent.
#[must_use]
pub fn held(by: ThrottleKind, most: i64, write_percent: i32) -> String {
    match by {
        ThrottleKind::Latency => format!(
            "held back: the application takes more than {}, so imports write {write_percent}% of the time",
            limit(by, most)
        ),
        kind => format!("held back to {}", limit(kind, most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_its_unit() {
        assert_eq!(limit(ThrottleKind::Rows, 1_234_567), "1,234,567 rows/s");
        assert_eq!(limit(ThrottleKind::Rows, 100), "100 rows/s");
        for (bytes, text) in
            [(2 << 20, "2MiB/s"), (3 << 30, "3GiB/s"), (1_536 << 10, "1536KiB/s"), (1_000, "1000 bytes/s")]
        {
            assert_eq!(limit(ThrottleKind::Bytes, bytes), text);
        }
        assert_eq!(
            held(ThrottleKind::Latency, 20, 50),
            "held back: the application takes more than 20ms, so imports write 50% of the time"
        );
        assert_eq!(held(ThrottleKind::Rows, 500, 100), "held back to 500 rows/s");
        // A newer region may have a limit that this program does not know.
        assert_eq!(held(ThrottleKind::Unspecified, 7, 100), "held back to 7");
        assert_eq!((grouped(-1_000), grouped(0)), ("-1,000".to_owned(), "0".to_owned()));
    }
}
