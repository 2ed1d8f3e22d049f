//! Settings with a unit.

use std::{fmt, time::Duration};

use bytesize::ByteSize;

/// The longest time that a setting takes: small enough that the clock plus a few of these cannot overflow.
const LONGEST: Duration = Duration::from_secs(1_000 * 3_600);

/// A time with units, such as `250ms`, `10s` or `1h 30m`, or a number of seconds. At most 1000h.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text),
    };
    match duration {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) => Err("it is more than 1000h".to_owned()),
        Err(_) => Err("it must be a number followed by ms, s, m or h, e.g. 10s".to_owned()),
    }
}

/// A time that is not zero.
pub(crate) fn nonzero_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be more than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// The longest time for which something is stored: 100 years.
const LONGEST_RETENTION: Duration = Duration::from_secs(100 * 366 * 24 * 3_600);

/// For how long something is stored, with units such as `400d`, `1y` or `36h`, or a number of seconds. At
/// least an hour.
pub(crate) fn retention(text: &str) -> Result<Duration, String> {
    let retention = match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text),
    };
    match retention {
        Ok(retention) if retention > LONGEST_RETENTION => Err("it is more than 100 years".to_owned()),
        Ok(retention) if retention < Duration::from_secs(3_600) => Err("it is less than an hour".to_owned()),
        Ok(retention) => Ok(retention),
        Err(_) => Err("it must be a number followed by h, d or y, e.g. 400d".to_owned()),
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

impl Size {
    const UNITS: [(&'static str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = Self::UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        let (name, unit) = fits.copied().unwrap_or(("", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    /// Reads a number of bytes, or a number with a unit such as `KiB`, `MiB` or `GB`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<ByteSize>() {
            Ok(size) => Ok(Self(size.as_u64())),
            Err(_) => Err("it must be a number of bytes, or a number followed by KiB, MiB or GiB".to_owned()),
        }
    }
}

/// A parser for sizes from `least` to `most` bytes.
pub(crate) fn size(least: u64, most: u64) -> impl Fn(&str) -> Result<Size, String> + Clone {
    move |text| match text.parse::<Size>()? {
        size if size < Size(least) || size > Size(most) => {
            Err(format!("it must be between {} and {}", Size(least), Size(most)))
        }
        size => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, milliseconds) in [
            ("10", 10_000),
            ("10s", 10_000),
            ("250ms", 250),
            ("2 m", 120_000),
            ("1h", 3_600_000),
            ("1m 5s", 65_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in
            ["", "s", "-1", "1x", "42d", "99999999999999999999s", "18446744073709551615h", "1001h", "1 s s"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(nonzero_duration("0ms").is_err());
    }

    #[test]
    fn what_is_kept_is_kept_for_days() {
        assert_eq!(retention("400d"), Ok(Duration::from_secs(400 * 86_400)));
        assert_eq!(retention("3600"), Ok(Duration::from_secs(3_600)));
        for text in ["", "0", "59m", "101y", "d", "forever"] {
            assert!(retention(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_units_and_are_shown_with_the_largest_that_fits() {
        for (text, bytes, shown) in [
            ("0", 0, "0"),
            ("1000", 1_000, "1000"),
            ("64MiB", 64 << 20, "64MiB"),
            ("67108864", 64 << 20, "64MiB"),
            ("1 GiB", 1 << 30, "1GiB"),
            ("3KiB", 3 << 10, "3KiB"),
            ("1.5MiB", 3 << 19, "1536KiB"),
            ("1MB", 1_000_000, "1000000"),
            ("99999999999GiB", u64::MAX, "18446744073709551615"),
        ] {
            let size: Size = text.parse().expect("it is a size");
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
        }
        for text in ["", "MiB", "1XB", "-1"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        let bounded = size(10, 20);
        assert!(
            bounded("9").is_err() && bounded("10").is_ok() && bounded("20").is_ok() && bounded("21").is_err()
        );
    }
}
