//! The rule for the names of regions.

/// The rule in words, for messages.
pub const RULE: &str = "1 to 32 lowercase letters, digits and hyphens, with no hyphen at either end";

/// Whether a text can be a region's name, by [`RULE`].
#[must_use]
pub fn is_valid(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_regions() {
        for name in ["a", "7", "us", "us-east-1", "a--b", &"a".repeat(32)] {
            assert!(is_valid(name), "{name}");
        }
        for name in ["", "-", "-us", "us-", "US", "us_east", "us.east", "ü", "us east", &"a".repeat(33)] {
            assert!(!is_valid(name), "{name}");
        }
    }
}
