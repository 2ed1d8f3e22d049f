//! What a region knows of its slugs at control, and what it has to answer: plain types.

use causeway_proto::relocation::v1::ErrorReason;
use uuid::Uuid;

/// What a reservation of the replica is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplicaType {
    /// The slug by which the organization is known.
    Primary,
    /// Reserved for the organization, which is to have it.
    Temporary,
    /// A slug that also leads to the organization.
    Alias,
}

impl ReplicaType {
    /// Its name in the store, which is control's.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Temporary => "temporary_rename_alias",
            Self::Alias => "vanity_alias",
        }
    }
}

/// What a reservation is from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) slug: String,
    pub(crate) organization_id: i64,
    /// `None` if nobody has the slug any more.
    pub(crate) kind: Option<ReplicaType>,
    /// The slug by which the organization is known.
    pub(crate) canonical_slug: Option<String>,
    pub(crate) operation_id: Uuid,
    /// The organization is to have this slug.
    pub(crate) wanted: bool,
}

/// What is to be answered to control about a rename.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) operation_id: Uuid,
    pub(crate) organization_id: i64,
    pub(crate) slug: String,
    /// What the organization goes back to if control has given the rename up.
    pub(crate) previous_slug: Option<String>,
    /// Why it was not done; `None` if it was.
    pub(crate) refusal: Option<(ErrorReason, String)>,
}
