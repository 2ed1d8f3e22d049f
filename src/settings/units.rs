//! Settings with a unit.

use std::{fmt, time::Duration};

/// Splits a text into a number and the unit after it. `None` if it does not begin with a number.
fn parts(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// A time: a number with the unit `ms`, `s`, `m` or `h`, or a number of seconds. At most 1000h.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let milliseconds = parts(text).and_then(|(number, unit)| {
        let unit = match unit {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number.checked_mul(unit)
    });
    match milliseconds {
        // Small enough that the clock plus a few of these cannot overflow.
        Some(milliseconds) if milliseconds <= 1_000 * 3_600_000 => Ok(Duration::from_millis(milliseconds)),
        Some(_) => Err("it is more than 1000h".to_owned()),
        None => Err("it must be a number with ms, s, m or h behind it, e.g. 10s".to_owned()),
    }
}

/// A time that is not zero.
pub(crate) fn nonzero_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be more than zero".to_owned()),
        duration => Ok(duration),
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

    /// Reads a number of bytes, or a number with the unit `KiB`, `MiB` or `GiB`.
    fn from_str(text: &str) -> Result<Self, String> {
        parts(text)
            .and_then(|(number, unit)| {
                let (_, bytes) = Self::UNITS.into_iter().find(|(name, _)| *name == unit)?;
                number.checked_mul(bytes).map(Self)
            })
            .ok_or_else(|| "it must be a number of bytes, or one with KiB, MiB or GiB behind it".to_owned())
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
        for (text, milliseconds) in
            [("10", 10_000), ("10s", 10_000), ("250ms", 250), ("2 m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in
            ["", "s", "-1", "1.5s", "1d", "99999999999999999999s", "18446744073709551615h", "1001h", "1 s s"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(nonzero_duration("0ms").is_err());
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
        ] {
            let size: Size = text.parse().expect("it is a size");
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
        }
        for text in ["", "MiB", "1MB", "1.5MiB", "99999999999GiB", "-1"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        let bounded = size(10, 20);
        assert!(
            bounded("9").is_err() && bounded("10").is_ok() && bounded("20").is_ok() && bounded("21").is_err()
        );
    }
}
