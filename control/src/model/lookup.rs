//! What people look up about slugs.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{directory::DirectoryOrganization, rename::Rename, reservation::Reservation};

/// An operation whose reservations have been temporary for long: its region neither confirms nor releases it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StuckOperation {
    /// The region that began it.
    pub region: String,
    /// Its id.
    pub operation_id: Uuid,
    /// Since when its oldest temporary reservation is there.
    pub since: DateTime<Utc>,
    /// How many slugs it has reserved.
    pub count: i64,
    /// The first of these slugs.
    pub slug: String,
    /// The lowest id of the organizations that these slugs are for.
    pub organization_id: i64,
    /// If it is a rename in flight: the slug that the organization has until it is confirmed.
    pub renamed_from: Option<String>,
}

/// The place of an operation in the list of those that are stuck: since when, and its id.
pub type StuckPosition = (DateTime<Utc>, Uuid);

/// A rename, and when it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRename {
    /// The rename.
    pub rename: Rename,
    /// When it was begun, by control's clock.
    pub begun_at: DateTime<Utc>,
    /// When its state last changed, by control's clock.
    pub updated_at: DateTime<Utc>,
}

/// What control knows of an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownOrganization {
    /// Its reservations, the primary one first; at most 200.
    pub reservations: Vec<Reservation>,
    /// Its last renames, the newest first; at most 200.
    pub renames: Vec<PastRename>,
    /// Its directory entry; `None` if its region has not reported it.
    pub entry: Option<DirectoryOrganization>,
}

impl KnownOrganization {
    /// Whether control has no slug of it and has never renamed it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reservations.is_empty() && self.renames.is_empty()
    }
}
