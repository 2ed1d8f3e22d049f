//! Reservations and changes, as the feed of a region sends them.

use uuid::Uuid;

use super::reservation::ReservationType;

/// A slug and its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedReservation {
    /// Valid: 1 to 50 lowercase characters.
    pub slug: String,
    /// The id of the organization that has it, or had it last.
    pub organization_id: i64,
    /// The type of the reservation; `None` if the slug is free again.
    pub kind: Option<ReservationType>,
    /// The primary slug of the organization; `None` if it has none, or if `kind` is `None`.
    pub canonical_slug: Option<String>,
    /// If `wanted`, the rename that wants the slug; otherwise the operation that made the reservation.
    pub operation_id: Uuid,
    /// Whether the region must give the organization this slug and then confirm the operation.
    pub wanted: bool,
}

/// A change of one reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// One more than the version of the previous event.
    pub version: i64,
    /// The reservation as it is from this version on.
    pub reservation: FeedReservation,
}
