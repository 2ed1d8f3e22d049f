//! What a region has stored about organizations, for a comparison with control.

use std::collections::BTreeMap;

/// The columns of `sentry_organization` that control also stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ComparedOrganization {
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) status: i64,
}

/// The replica's entry for a slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replicated {
    /// The name of the reservation's type in the store.
    pub(crate) kind: String,
    /// The primary slug of the organization; `None` if it has none.
    pub(crate) canonical_slug: Option<String>,
}

/// What the region stores for an organization.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RegionState {
    /// The row; `None` if the region does not have the organization.
    pub(crate) organization: Option<ComparedOrganization>,
    /// Whether work is in progress: an import of the organization has not ended, has failed, or has not been reported
    /// to control, or the answer to a rename has not been sent.
    pub(crate) under_way: bool,
    /// The replica's entries for the organization, by slug.
    pub(crate) replica: BTreeMap<String, Replicated>,
    /// What the product's own tables have; `None` if the database is not the product's.
    pub(crate) product: Option<ProductState>,
}

/// Rows of an organization, to be compared with their copies: how many, and the sum of a hash of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) count: i64,
    pub(crate) digest: String,
}

/// What the product's own tables in the region have of an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProductState {
    /// Its members.
    pub(crate) members: Rows,
    /// Its teams.
    pub(crate) teams: Rows,
    /// The memberships of its teams.
    pub(crate) team_members: Rows,
    /// The copies of its auth tokens; `None` if the product keeps no copies.
    pub(crate) tokens: Option<Rows>,
    /// Whether messages about it wait for the product's workers.
    pub(crate) waiting: bool,
    /// The copy of its slug reservation, empty if it is missing; `None` if the product keeps no copies.
    pub(crate) slug: Option<String>,
}
