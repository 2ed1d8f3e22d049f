//! What the feed of a region says.

use uuid::Uuid;

use super::reservation::ReservationType;

/// A slug and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedReservation {
    /// The slug.
    pub slug: String,
    /// The organization.
    pub organization_id: i64,
    /// What it is for; `None` if nobody has it any more.
    pub kind: Option<ReservationType>,
    /// The slug by which the organization is known, if it is known by one.
    pub canonical_slug: Option<String>,
    /// The operation that made it, or that wants it.
    pub operation_id: Uuid,
    /// The region is to give the organization this slug, and to confirm the operation.
    pub wanted: bool,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// One more than that of the event before.
    pub version: i64,
    /// What is the case from now on.
    pub reservation: FeedReservation,
}
