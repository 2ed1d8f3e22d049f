//! Organizations, as the directory stores and shows them.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::reservation::{Reservation, SlugReason};

/// An organization that has a slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedOrganization {
    /// The slug that was asked for, in lowercase.
    pub slug: String,
    /// The slug by which the organization is known: another one if this is an alias.
    pub canonical_slug: String,
    /// The id of the organization, 1 to 2^53 - 1.
    pub organization_id: i64,
    /// The name of the region that owns it.
    pub region: String,
    /// Where that region is reached: a URL, at most 2,048 bytes.
    pub region_address: String,
}

/// What control would give an organization that asked for a slug now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlugCheck {
    /// The slug as the caller sent it.
    pub slug: String,
    /// Why control would give `would_become`.
    pub reason: SlugReason,
    /// The slug that control would give. `-?` stands for a random suffix.
    pub would_become: String,
    /// The slug that control would give without a suffix.
    pub candidate: String,
    /// The organization that has the candidate; `None` if it is free, or taken only within the same request or region.
    pub taken_by: Option<ResolvedOrganization>,
    /// Whether everybody can learn that it has the candidate, because the slug resolves: it is not one that is only
    /// temporarily reserved, and not one that only the product knows.
    pub owner_is_public: bool,
    /// The region that the id of the organization belongs to, if that is not the region that asks.
    pub id_taken_by: Option<String>,
}

/// An organization as its region reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedOrganization {
    /// Its id, 1 to 2^53 - 1.
    pub organization_id: i64,
    /// Its slug in the region's table; at most 255 bytes. The directory shows the reserved slug instead.
    pub slug: String,
    /// Its name, for people; at most 1,024 bytes.
    pub name: String,
    /// 0 active, 1 pending deletion, 2 deletion in progress, 3 hidden until it is approved.
    pub status: i64,
}

/// An organization in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryOrganization {
    /// Its id, 1 to 2^53 - 1.
    pub organization_id: i64,
    /// The slug of its primary reservation.
    pub slug: String,
    /// Its name, as its region last reported it.
    pub name: String,
    /// 0 active, 1 pending deletion, 2 deletion in progress, 3 hidden until it is approved.
    pub status: i64,
    /// The name of the region that owns it.
    pub region: String,
    /// When its region last reported it, by control's clock.
    pub reported_at: DateTime<Utc>,
}

/// Everything that control stores for one organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldOrganization {
    /// Its id, 1 to 2^53 - 1.
    pub organization_id: i64,
    /// Its reservations, sorted by slug.
    pub reservations: Vec<Reservation>,
    /// Its directory entry; `None` if it has none.
    pub listed: Option<DirectoryOrganization>,
    /// The operation that is renaming it; `None` if no rename is in flight.
    pub rename: Option<Uuid>,
    /// What the product's own tables have of it; `None` if the database is not the product's.
    pub product: Option<ProductState>,
}

/// What the product's own tables have of an organization.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProductState {
    /// The slug that the product has reserved for it; `None` if it has reserved none.
    pub slug: Option<String>,
    /// The region that the reservation is for, as the product calls it, if that is another one.
    pub other_region: Option<String>,
    /// Whether messages about it wait for the product's workers.
    pub waiting: bool,
    /// Its mapping; `None` if it has none.
    pub mapping: Option<ProductMapping>,
    /// Its mappings of members; `None` if the product keeps none.
    pub members: Option<ProductRows>,
    /// Its copies of teams; `None` if the product keeps none.
    pub teams: Option<ProductRows>,
    /// Its copies of memberships of teams; `None` if the product keeps none.
    pub team_members: Option<ProductRows>,
    /// Its auth tokens, which the product copies into the region.
    pub tokens: Option<ProductRows>,
}

/// Rows of an organization, to be compared with those that they are copies of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRows {
    /// How many there are.
    pub count: i64,
    /// The sum of a hash of each.
    pub digest: String,
}

/// The product's mapping of an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductMapping {
    /// The slug of the organization, as the product has mapped it.
    pub slug: String,
    /// The name of the organization, as the product has mapped it.
    pub name: String,
    /// Its status, as the product stores it.
    pub status: Option<i64>,
    /// The region that it leads to, as the product calls it, if that is another one.
    pub other_region: Option<String>,
}
