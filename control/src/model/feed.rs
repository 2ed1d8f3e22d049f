//! What the feed of a region says.

use uuid::Uuid;

use super::reservation::ReservationType;

/// A slug and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedReservation {
    /// Valid: 1 to 50 lowercase characters.
    pub slug: String,
    /// The id of the organization that has it, or had it last.
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

/// A change of one reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// One more than that of the event before.
    pub version: i64,
    /// The reservation as it is from this version on.
    pub reservation: FeedReservation,
}
