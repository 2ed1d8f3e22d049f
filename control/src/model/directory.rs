//! Organizations, as the directory has them.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::reservation::{Reservation, SlugReason};

/// An organization that has a slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedOrganization {
    /// The slug.
    pub slug: String,
    /// The slug by which the organization is known: another one if this is an alias.
    pub canonical_slug: String,
    /// The organization.
    pub organization_id: i64,
    /// The region that owns it.
    pub region: String,
    /// Where that region is reached.
    pub region_address: String,
}

/// What would become of a slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlugCheck {
    /// The slug as it was asked for.
    pub slug: String,
    /// Why it would become what it would.
    pub reason: SlugReason,
    /// What it would become; a random suffix stands as `-?`.
    pub would_become: String,
    /// What it would become without a suffix.
    pub candidate: String,
    /// Who has it, if it is taken by somebody outside the question.
    pub taken_by: Option<ResolvedOrganization>,
    /// The region that the id of the organization belongs to, if that is another one than that which asks.
    pub id_taken_by: Option<String>,
}

/// An organization as its region has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedOrganization {
    /// Its id.
    pub organization_id: i64,
    /// Its slug.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its status, 0 to 3.
    pub status: i32,
}

/// An organization in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryOrganization {
    /// Its id.
    pub organization_id: i64,
    /// Its slug.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Its status, 0 to 3.
    pub status: i32,
    /// The region that owns it.
    pub region: String,
    /// When its region last reported it.
    pub reported_at: DateTime<Utc>,
}

/// An organization for which control holds something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldOrganization {
    /// Its id.
    pub organization_id: i64,
    /// Its reservations, by slug.
    pub reservations: Vec<Reservation>,
    /// Its place in the directory.
    pub listed: Option<DirectoryOrganization>,
    /// The operation that is renaming it.
    pub rename: Option<Uuid>,
}
