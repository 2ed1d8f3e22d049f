//! Which tables of models a catalog describes, in an order: an older catalog must not be used on tables of a newer one.

use std::fmt;

use super::{Catalog, check::release};

/// The version of the tables that a catalog describes. That of a newer catalog is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TablesVersion {
    /// The year of the newest release of the product that the catalog knows: 26 of `26.6`.
    pub year: u32,
    /// The month of that release: 6 of `26.6`.
    pub month: u32,
    /// How often tables that exist have changed since the catalog has known this release.
    pub revision: u32,
}

impl fmt::Display for TablesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}, revision {}", self.year, self.month, self.revision)
    }
}

impl TablesVersion {
    /// That of a catalog whose newest release is this one; `None` if that is not a release.
    pub(super) fn of(newest_release: &str, revision: u32) -> Option<Self> {
        let (year, month) = release(newest_release)?;
        Some(Self { year, month, revision })
    }

    /// Whether the catalog knows a release, such as `24.11`. What is no release is not known.
    pub(super) fn knows(self, text: &str) -> bool {
        release(text).is_some_and(|release| release <= (self.year, self.month))
    }
}

impl Catalog {
    /// The version of the tables that it describes.
    #[must_use]
    pub fn tables_version(&self) -> TablesVersion {
        self.tables_version
    }
}
