//! Names of finding kinds: the contract's names in lower case, without their prefix.

use crate::relocation::v1::FindingKind;

const PREFIX: &str = "FINDING_KIND_";

/// The kind of that name, such as `slug_changed`; unspecified if there is none.
#[must_use]
pub fn kind(name: &str) -> FindingKind {
    FindingKind::from_str_name(&format!("{PREFIX}{}", name.to_uppercase())).unwrap_or_default()
}

/// The name of a kind, such as `slug_changed`.
#[must_use]
pub fn name(kind: FindingKind) -> String {
    let name = kind.as_str_name();
    name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase()
}
