//! Organizations, as the directory has them.

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
    /// Its id, 1 to 2^53 - 1.
    pub organization_id: i64,
    /// Its slug as the region has it; at most 255 bytes. The directory shows the one that is reserved.
    pub slug: String,
    /// Its name, for people; at most 1,024 bytes.
    pub name: String,
    /// 0 active, 1 pending deletion, 2 deletion in progress, 3 hidden until it is approved.
    pub status: i32,
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
    pub status: i32,
    /// The name of the region that owns it.
    pub region: String,
    /// When its region last reported it, by control's clock.
    pub reported_at: DateTime<Utc>,
}

/// An organization for which control holds something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldOrganization {
    /// Its id, 1 to 2^53 - 1.
    pub organization_id: i64,
    /// Its reservations, by slug.
    pub reservations: Vec<Reservation>,
    /// What the directory says of it; `None` if it is not listed.
    pub listed: Option<DirectoryOrganization>,
    /// The operation that is renaming it.
    pub rename: Option<Uuid>,
}
