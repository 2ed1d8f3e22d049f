//! Sizes for people, the same in reports and on web pages.

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A number of bytes with a unit, rounded to hundredths of it: `512 B`, `61.57 KiB`.
#[must_use]
pub fn shown(bytes: u64) -> String {
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut unit = 1_024_u128;
    let mut names = UNITS.iter().peekable();
    loop {
        let name = names.next().unwrap_or(&"EiB");
        let hundredths = (u128::from(bytes) * 100 + unit / 2) / unit;
        if hundredths < 102_400 || names.peek().is_none() {
            return format!("{}.{:02} {name}", hundredths / 100, hundredths % 100);
        }
        unit *= 1_024;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_and_not_cut() {
        assert_eq!(
            [0, 1_023, 1_024, 1_572_864, 61_557, 8_069_000, 1_048_575, u64::MAX].map(shown),
            ["0 B", "1023 B", "1.00 KiB", "1.50 MiB", "60.11 KiB", "7.70 MiB", "1.00 MiB", "16.00 EiB"]
        );
    }
}
