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

/// Why an organization has a slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlugOrigin {
    /// The slug that it has.
    pub slug: String,
    /// The slug that was wanted, as it was sent.
    pub wanted_slug: String,
    /// Why it did not get that; `None` if it did.
    pub changed: Option<SlugChange>,
    /// The import that asked for it; `None` if none that its region has reported did.
    pub import_id: Option<Uuid>,
}

/// Why an organization did not get the slug that it wanted, as far as control knows now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlugChange {
    /// It is no valid slug, and was normalized.
    Normalized,
    /// It is a reserved word.
    ReservedWord,
    /// It has no letter, or normalization leaves nothing of it.
    Invalid,
    /// Another organization has it, or what it was normalized to.
    Taken(Reservation),
    /// It was taken by an organization that has it no more, or that control does not know.
    TakenThen,
}

/// What control knows of an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownOrganization {
    /// Its reservations, the primary one first; at most 200.
    pub reservations: Vec<Reservation>,
    /// Where each of these slugs comes from, in the same order.
    pub origins: Vec<SlugOrigin>,
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
