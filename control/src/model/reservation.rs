//! Reservations of slugs.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// What a reservation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationType {
    /// The slug by which the organization is known.
    Primary,
    /// Taken for an organization whose region has not yet confirmed that it uses it.
    TemporaryRenameAlias,
    /// A slug that the organization had before, and that still leads to it.
    VanityAlias,
}

impl ReservationType {
    const ALL: [Self; 3] = [Self::Primary, Self::TemporaryRenameAlias, Self::VanityAlias];

    /// Its name in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::TemporaryRenameAlias => "temporary_rename_alias",
            Self::VanityAlias => "vanity_alias",
        }
    }

    /// The type of that name in the store.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A slug that belongs to an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Valid: 1 to 50 lowercase characters. Unique across regions.
    pub slug: String,
    /// The name of the region that owns the organization.
    pub region: String,
    /// The id of the organization, 1 to 2^53 - 1.
    pub organization_id: i64,
    /// What it is for.
    pub kind: ReservationType,
    /// The operation that made it: a bulk creation of the region, or a rename.
    pub operation_id: Uuid,
    /// When it was made, by control's clock.
    pub created_at: DateTime<Utc>,
}

/// One organization that needs a slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedSlug {
    /// Its id, 1 to 2^53 - 1.
    pub organization_id: i64,
    /// The slug that it wants, of any form; at most 255 bytes.
    pub slug: String,
    /// What a slug is made from if `slug` is empty; at most 255 bytes.
    pub name: String,
    /// The region has an organization under this slug that control does not know of.
    pub taken_in_region: bool,
}

/// Why an organization has, or would have, the slug that it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlugReason {
    /// It is the one that was wanted.
    Free,
    /// The wanted one is not valid, and became this.
    Normalized,
    /// Somebody else has the wanted one, or what that was normalized to.
    Taken,
    /// The wanted one is a reserved word.
    ReservedWord,
    /// The wanted one has no letter, or nothing is left of it.
    Invalid,
}

/// Who has a slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The name of the region that owns the organization.
    pub region: String,
    /// The id of the organization.
    pub organization_id: i64,
}

/// The slug that an organization got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedSlug {
    /// The id of the organization.
    pub organization_id: i64,
    /// The slug that it wanted, as it was asked for.
    pub wanted_slug: String,
    /// The slug that it got: valid, 1 to 50 characters.
    pub slug: String,
    /// Why it is that one.
    pub reason: SlugReason,
    /// What it would have got without a suffix: the wanted slug, or what that was normalized to.
    pub candidate: String,
    /// Who had the candidate, if it was taken by one that control knew: of another operation, or of the same one.
    pub taken_by: Option<Owner>,
}

/// Which reservations a list is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Only those of this region.
    pub region: Option<String>,
    /// Only those of this type.
    pub kind: Option<ReservationType>,
}
